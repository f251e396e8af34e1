//! JSON to what it says, by HCL's rules for it: texts are templates, and objects in objects are blocks with labels.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::hcl::{Fault, Lines, template};
use super::number::Number;
use super::syntax::{Attribute, Block, Body, Expr, Kind};
use super::value::Value;
use crate::yaml::At;

/// Objects in objects, at most: each level is read again for the next one.
const DEEPEST: usize = 64;

/// A value with the texts of what is in it.
enum Raw<'a> {
    Null,
    Bool(bool),
    Text(Cow<'a, str>),
    /// A number: its text says which.
    Number,
    List(Vec<&'a RawValue>),
    /// Keys can be there more than once.
    Fields(Vec<(String, &'a RawValue)>),
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Raw::Bool(truth))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Raw::Text(text.to_owned().into()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Raw::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = all.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = all.next_entry()? {
            fields.push(field);
        }
        Ok(Raw::Fields(fields))
    }
}

/// Reads a file, which is the one of this number.
pub(crate) fn read(text: &str, file: u32) -> Result<Body, Fault> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        (At { file, line: error.line().max(1) as u32, column: error.column().max(1) as u32 }, message)
    })?;
    let json = Json { text, lines: Lines::of(text, file) };
    let mut body = Body::default();
    for (key, raw) in json.bodies(whole, 0)?.into_iter().flatten() {
        let labels = match key.as_str() {
            "target" | "group" | "variable" | "function" => 1,
            // A comment, by HCL's rules.
            "//" => continue,
            _ => {
                body.attributes.push(json.attribute(key, raw)?);
                continue;
            }
        };
        json.blocks(&key, labels, raw, &mut Vec::new(), &mut body.blocks)?;
    }
    Ok(body)
}

struct Json<'a> {
    text: &'a str,
    lines: Lines,
}

type Fields<'a> = Vec<(String, &'a RawValue)>;

impl<'a> Json<'a> {
    fn at(&self, raw: &RawValue) -> At {
        let offset = (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.lines.at(offset.min(self.text.len()))
    }

    fn open(&self, raw: &'a RawValue) -> Result<Raw<'a>, Fault> {
        serde_json::from_str(raw.get()).map_err(|error| (self.at(raw), error.to_string()))
    }

    /// An object, or a list of them.
    fn bodies(&self, raw: &'a RawValue, depth: usize) -> Result<Vec<Fields<'a>>, Fault> {
        match self.open(raw)? {
            Raw::Fields(fields) => Ok(vec![fields]),
            Raw::List(items) if depth < 2 => {
                let mut all = Vec::new();
                for item in items {
                    all.extend(self.bodies(item, depth + 1)?);
                }
                Ok(all)
            }
            Raw::Null => Ok(Vec::new()),
            _ => Err((self.at(raw), "an object is required here".to_owned())),
        }
    }

    fn blocks(
        &self,
        kind: &str,
        left: usize,
        raw: &'a RawValue,
        labels: &mut Vec<String>,
        all: &mut Vec<Block>,
    ) -> Result<(), Fault> {
        for fields in self.bodies(raw, 0)? {
            if left > 0 {
                for (label, inner) in fields.into_iter().filter(|(label, _)| label != "//") {
                    labels.push(label);
                    self.blocks(kind, left - 1, inner, labels, all)?;
                    labels.pop();
                }
                continue;
            }
            let mut body = Body::default();
            for (key, inner) in fields {
                match (kind, key.as_str()) {
                    (_, "//") => {}
                    ("variable", "validation") => {
                        self.blocks("validation", 0, inner, &mut Vec::new(), &mut body.blocks)?;
                    }
                    _ if body.get(&key).is_some() => {
                        return Err((self.at(inner), format!("attribute {key:?} is set twice")));
                    }
                    _ => body.attributes.push(self.attribute(key, inner)?),
                }
            }
            let at = self.at(raw);
            all.push(Block { kind: kind.to_owned(), labels: labels.clone(), at, body });
        }
        Ok(())
    }

    fn attribute(&self, name: String, raw: &'a RawValue) -> Result<Attribute, Fault> {
        let value = self.expr(raw, 0)?;
        Ok(Attribute { name, at: value.at, value })
    }

    fn expr(&self, raw: &'a RawValue, depth: usize) -> Result<Expr, Fault> {
        let at = self.at(raw);
        if depth > DEEPEST {
            return Err((at, format!("more than {DEEPEST} lists and objects are in one another here")));
        }
        let kind = match self.open(raw)? {
            Raw::Null => Kind::Literal(Value::Null),
            Raw::Bool(truth) => Kind::Literal(Value::Bool(truth)),
            Raw::Number => {
                let number =
                    Number::parse(raw.get()).ok_or_else(|| (at, "the number is out of range".to_owned()))?;
                Kind::Literal(Value::Number(number))
            }
            Raw::Text(text) => return template(&text, at),
            Raw::List(items) => Kind::List(
                items.into_iter().map(|item| self.expr(item, depth + 1)).collect::<Result<_, _>>()?,
            ),
            Raw::Fields(fields) => Kind::Object(
                fields
                    .into_iter()
                    .map(|(key, inner)| Ok((template(&key, at)?, self.expr(inner, depth + 1)?)))
                    .collect::<Result<_, Fault>>()?,
            ),
        };
        Ok(Expr { at, kind })
    }
}
