//! Values as texts in other notations, and their digests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

use super::super::value::Value;
use super::given::{Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("base64encode", 1, 1, false, |given| {
        Ok(Value::text(STANDARD.encode(Given(given).text(0)?.as_bytes())))
    }),
    Entry("base64decode", 1, 1, false, |given| {
        let text = Given(given).text(0)?;
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|error| format!("failed to decode base64 data: {error}"))?;
        String::from_utf8(bytes).map(Value::text).map_err(|_| "the result is no UTF-8".to_owned())
    }),
    Entry("jsonencode", 1, 1, true, |given| {
        let text =
            serde_json::to_string(&Given(given).value(0).to_json()).map_err(|error| error.to_string())?;
        // As Go's encoder has it.
        Ok(Value::text(escape_html(&text)))
    }),
    Entry("jsondecode", 1, 1, false, |given| {
        let json = rbox_spec::json::from_slice(Given(given).text(0)?.as_bytes())
            .map_err(|error| error.to_string())?;
        Value::of_json(&json)
    }),
    Entry("urlencode", 1, 1, false, |given| {
        let mut made = String::new();
        for byte in Given(given).text(0)?.bytes() {
            match byte {
                b' ' => made.push('+'),
                b'-' | b'_' | b'.' | b'~' => made.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => made.push(char::from(byte)),
                byte => drop(write!(made, "%{byte:02X}")),
            }
        }
        Ok(Value::text(made))
    }),
    Entry("csvdecode", 1, 1, false, |given| csv(&Given(given).text(0)?)),
    Entry("md5", 1, 1, false, |given| Ok(hex(&md5::Md5::digest(Given(given).text(0)?.as_bytes())))),
    Entry("sha1", 1, 1, false, |given| Ok(hex(&sha1::Sha1::digest(Given(given).text(0)?.as_bytes())))),
    Entry("sha256", 1, 1, false, |given| Ok(hex(&sha2::Sha256::digest(Given(given).text(0)?.as_bytes())))),
    Entry("sha512", 1, 1, false, |given| Ok(hex(&sha2::Sha512::digest(Given(given).text(0)?.as_bytes())))),
    Entry("uuidv4", 0, 0, false, |_| {
        let bytes: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
        Ok(Value::text(uuid(bytes, 4)))
    }),
    Entry("uuidv5", 2, 2, false, |given| {
        let space = Given(given).text(0)?;
        let number = match &*space {
            "dns" | "6ba7b810-9dad-11d1-80b4-00c04fd430c8" => 0x10,
            "url" => 0x11,
            "oid" => 0x12,
            "x500" => 0x14,
            _ => 0,
        };
        let space = if number == 0 {
            let digits: String = space.chars().filter(|one| *one != '-').collect();
            let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32);
            number.ok_or_else(|| format!("{space:?} is no namespace: it is dns, url, oid, x500 or a UUID"))?
        } else {
            0x6ba7_b800_9dad_11d1_80b4_00c0_4fd4_30c8 | (number << 96)
        };
        let digest = sha1::Sha1::new()
            .chain_update(space.to_be_bytes())
            .chain_update(Given(given).text(1)?.as_bytes());
        let digest = digest.finalize();
        Ok(Value::text(uuid(std::array::from_fn(|place| digest.get(place).copied().unwrap_or_default()), 5)))
    }),
];

/// `<`, `>` and `&` in a JSON text, as Go writes them.
pub(crate) fn escape_html(json: &str) -> String {
    let mut made = String::with_capacity(json.len());
    for one in json.chars() {
        match one {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => drop(write!(made, "\\u{:04x}", one as u32)),
            other => made.push(other),
        }
    }
    made
}

fn hex(bytes: &[u8]) -> Value {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Value::text(text)
}

fn uuid(bytes: [u8; 16], version: u128) -> String {
    let plain = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62);
    let text = format!("{:032x}", plain | (version << 76) | (0x2 << 62));
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Rows as objects, with the first one's fields as names.
fn csv(text: &str) -> Outcome {
    let mut rows = rows(text)?.into_iter();
    let names = rows.next().ok_or("missing header line")?;
    let mut all = Vec::new();
    for (place, row) in rows.enumerate() {
        if row.len() != names.len() {
            return Err(format!("record {} has {} fields, not {}", place + 2, row.len(), names.len()));
        }
        let fields: BTreeMap<String, Value> =
            names.iter().cloned().zip(row.into_iter().map(Value::text)).collect();
        if fields.len() != names.len() {
            return Err("a name is there twice in the header line".to_owned());
        }
        all.push(Value::map(fields)?);
    }
    Value::list(all)
}

/// RFC 4180.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut is_quoted, mut was_quoted) = (false, false);
    let text = text.replace("\r\n", "\n");
    let mut letters = text.chars().peekable();
    while let Some(one) = letters.next() {
        match one {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() && !was_quoted => (is_quoted, was_quoted) = (true, true),
            ',' | '\n' if !is_quoted => {
                let is_blank = one == '\n' && row.is_empty() && field.is_empty() && !was_quoted;
                if !is_blank {
                    row.push(std::mem::take(&mut field));
                }
                was_quoted = false;
                if one == '\n' && !is_blank {
                    rows.push(std::mem::take(&mut row));
                }
            }
            '"' => return Err("a quote is in the middle of a field".to_owned()),
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("a quote has no end".to_owned());
    }
    if !row.is_empty() || !field.is_empty() || was_quoted {
        row.push(field);
        rows.push(row);
    }
    Ok(rows)
}

/// The fields of one line, as flags have them.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    Ok(rows(line)?.into_iter().next().unwrap_or_default())
}
