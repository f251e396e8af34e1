//! Keys of JSON documents that two readers take for different ones.
//!
//! Go, in which nearly all other readers are written, takes `Layers`, `LAYERS` and even `layerſ` for `layers`, and the last of
//! them wins. Here only the exact key counts. So that no document means one image here and another one elsewhere, a key that
//! only Go would know is refused. Source: Go, package `encoding/json`, `Unmarshal`.
use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What is known of a value's keys.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Nothing: a map from names that anyone may choose, or no object at all.
    Any,
    /// An object with these keys, and others that mean nothing here.
    Object(&'static [(&'static str, &'static Self)]),
    /// A list of such values.
    List(&'static Self),
}

/// Refuses a document with a key that is a known one in another case.
pub(crate) fn check(bytes: &[u8], shape: &Shape) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    shape.deserialize(&mut json)?;
    json.end()
}

/// As Go folds it: ASCII letters, and the two others that fold to one.
fn fold(key: &str) -> String {
    let one = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(one).collect()
}

impl<'de> DeserializeSeed<'de> for &Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self {
            Shape::Any => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

/// A key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// Values of another type than the shape's are for whoever reads them in earnest to refuse.
impl<'de> Visitor<'de> for &Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let known = match self {
            Shape::Object(known) => *known,
            _ => &[],
        };
        while let Some(key) = map.next_key_seed(Key)? {
            let Some((_, inner)) = known.iter().find(|(name, _)| *name == key) else {
                let folded = fold(&key);
                if let Some((name, _)) = known.iter().find(|(name, _)| fold(name) == folded) {
                    let shown: String = key.chars().take(60).collect();
                    return Err(A::Error::custom(format!(
                        "ambiguous: the key {shown:?}, which some readers take for {name:?}"
                    )));
                }
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            map.next_value_seed(*inner)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = match self {
            Shape::List(inner) => inner,
            _ => &Shape::Any,
        };
        while list.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn only_known_keys_in_another_case_are_refused() {
        static INNER: Shape = Shape::Object(&[("size", &Shape::Any), ("kind", &Shape::Any)]);
        static OUTER: Shape =
            Shape::Object(&[("layers", &Shape::List(&INNER)), ("labels", &Shape::Any), ("os", &INNER)]);
        for good in [
            r#"{"layers":[{"size":1,"other":{"Size":2}},3,null],"labels":{"Size":1,"size":2},"os":"x","X":1.5}"#,
            r#"{"layers":{"Layers":1},"os":[{"Size":1}]}"#,
            "[]",
            "null",
        ] {
            assert!(check(good.as_bytes(), &OUTER).is_ok(), "{good}");
        }
        for (bad, name) in [
            (r#"{"Layers":[]}"#, "layers"),
            (r#"{"layers":[],"LAYERS":[]}"#, "layers"),
            (r#"{"layer\u017f":[]}"#, "layers"),
            (r#"{"layers":[{"Size":1}]}"#, "size"),
            (r#"{"os":{"\u212aind":1}}"#, "kind"),
            (r#"{"O\u0053":1}"#, "os"),
        ] {
            let error = check(bad.as_bytes(), &OUTER).expect_err(bad).to_string();
            assert!(error.contains(&format!("take for \"{name}\"")), "{bad}: {error}");
        }
        assert!(check(br#"{"layers":[]} x"#, &OUTER).is_err());
    }
}
