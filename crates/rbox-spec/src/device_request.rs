//! Requests for devices that are found when a container starts: `--gpus`, and names of devices in CDI (the Container Device Interface).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::csv;
use crate::kind::Kind;

/// The driver of requests that name devices in CDI.
pub const CDI: &str = "cdi";
/// What a request for GPUs asks of them, whatever else it does.
pub const GPU: &str = "gpu";

/// A request, with the fields of Docker's `DeviceRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Who gives them; empty for whoever has some.
    pub driver: String,
    /// How many; -1 for all.
    pub count: i64,
    /// Which.
    pub ids: Vec<String>,
    /// What they can do: all of one of these lists.
    pub capabilities: Vec<Vec<String>>,
    /// For the driver; none were asked for in `None`.
    pub options: Option<BTreeMap<String, String>>,
}

/// `--gpus` of another form: Docker's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid argument \"{text}\" for \"--gpus\" flag: {why}")]
pub struct InvalidGpus {
    text: String,
    why: String,
}

impl InvalidGpus {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl DeviceRequest {
    /// For devices by their names in CDI.
    pub fn of_names(names: Vec<String>) -> Self {
        Self { driver: CDI.to_owned(), ids: names, ..Self::default() }
    }

    /// `--gpus all|N|[driver=…][,count=…][,device=…][,capabilities=…][,options=…]`.
    ///
    /// # Errors
    /// Another form.
    pub fn parse_gpus(text: &str) -> Result<Self, InvalidGpus> {
        let refused = |why: String| InvalidGpus { text: text.chars().take(200).collect(), why };
        let mut request = Self::default();
        let mut seen = Vec::new();
        for field in fields(text).map_err(refused)? {
            let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
            if seen.iter().any(|before| before == key) {
                return Err(refused(format!("gpu request key '{key}' can be specified only once")));
            }
            seen.push(key.to_owned());
            let Some(value) = value else {
                request.count = count(key).map_err(refused)?;
                seen.push("count".to_owned());
                continue;
            };
            match key {
                "driver" => value.clone_into(&mut request.driver),
                "count" => request.count = count(value).map_err(refused)?,
                "device" => request.ids = words(value),
                "capabilities" => {
                    request.capabilities = vec![[words(value), vec![GPU.to_owned()]].concat()];
                }
                "options" => {
                    let pairs = fields(value).map_err(refused)?.into_iter().map(|field| {
                        let pair = field.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
                        pair.unwrap_or_else(|| (field, String::new()))
                    });
                    request.options = Some(pairs.collect());
                }
                _ => return Err(refused(format!("unexpected key '{key}' in '{field}'"))),
            }
        }
        let has = |what: &str| seen.iter().any(|key| key == what);
        if has("count") && has("device") {
            return Err(refused("cannot set both Count and DeviceIDs on device request".to_owned()));
        }
        if !has("count") && !has("device") {
            request.count = 1;
        }
        if request.capabilities.is_empty() {
            request.capabilities = vec![vec![GPU.to_owned()]];
        }
        request.options.get_or_insert_default();
        Ok(request)
    }

    /// As `--gpus` takes it.
    pub fn as_gpus(&self) -> String {
        let mut fields = Vec::new();
        if !self.driver.is_empty() {
            fields.push(format!("driver={}", self.driver));
        }
        match (self.count, self.ids.is_empty()) {
            (_, false) => fields.push(format!("device={}", self.ids.join(","))),
            (-1, _) => fields.push("all".to_owned()),
            (count, _) => fields.push(count.to_string()),
        }
        let capabilities = self.capabilities.first().map_or(&[][..], Vec::as_slice);
        let further: Vec<&str> =
            capabilities.iter().map(String::as_str).filter(|capability| *capability != GPU).collect();
        if !further.is_empty() {
            fields.push(format!("capabilities={}", further.join(",")));
        }
        let options = self.options.iter().flatten().map(|(key, value)| quoted(&format!("{key}={value}")));
        let options = options.collect::<Vec<_>>().join(",");
        if !options.is_empty() {
            fields.push(format!("options={options}"));
        }
        fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",")
    }

    /// Whether it names devices in CDI.
    pub fn is_cdi(&self) -> bool {
        self.driver == CDI
    }

    /// As Docker's API has them: `null` for none.
    pub fn all_as_docker(all: &[Self]) -> Value {
        if all.is_empty() { Value::Null } else { all.iter().map(Self::as_docker).collect() }
    }

    fn as_docker(&self) -> Value {
        let or_null = |value: Value, empty: bool| if empty { Value::Null } else { value };
        json!({
            "Driver": self.driver,
            "Count": self.count,
            "DeviceIDs": or_null(json!(self.ids), self.ids.is_empty()),
            "Capabilities": or_null(json!(self.capabilities), self.capabilities.is_empty()),
            "Options": self.options,
        })
    }
}

/// One line of CSV.
fn fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    csv::fields(text).map_err(|error| error.to_string())
}

/// A field of it.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer"))
}

/// The parts of `vendor.com/class`, if it has that form.
pub fn split_kind(kind: &str) -> Option<(&str, &str)> {
    let (vendor, class) = kind.split_once('/')?;
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && is_name(text, |byte| matches!(byte, b'_' | b'-' | b'.'))
    };
    (is_word(vendor) && is_word(class)).then_some((vendor, class))
}

/// Whether a device may be called so: what comes behind the `=`.
pub fn is_device_name(name: &str) -> bool {
    is_name(name, |byte| matches!(byte, b'_' | b'-' | b'.' | b':'))
}

/// Whether this is `vendor.com/class=name`.
pub fn is_qualified(name: &str) -> bool {
    name.split_once('=').is_some_and(|(kind, device)| split_kind(kind).is_some() && is_device_name(device))
}

fn is_name(text: &str, within: fn(u8) -> bool) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || within(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(count: i64, ids: &[&str], capabilities: &[&str]) -> DeviceRequest {
        let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let (ids, capabilities) = (texts(ids), vec![texts(capabilities)]);
        DeviceRequest { driver: String::new(), count, ids, capabilities, options: Some(BTreeMap::new()) }
    }

    #[test]
    fn forms_of_gpus() {
        for (text, wanted) in [
            ("all", gpus(-1, &[], &["gpu"])),
            ("2", gpus(2, &[], &["gpu"])),
            ("count=all", gpus(-1, &[], &["gpu"])),
            ("capabilities=compute", gpus(1, &[], &["compute", "gpu"])),
            ("device=0", gpus(0, &["0"], &["gpu"])),
            (
                "\"device=0,GPU-5f3c\",\"capabilities=compute,utility\"",
                gpus(0, &["0", "GPU-5f3c"], &["compute", "utility", "gpu"]),
            ),
            ("driver=nvidia,all", DeviceRequest { driver: "nvidia".into(), ..gpus(-1, &[], &["gpu"]) }),
            (
                "1,options=a=b",
                DeviceRequest { options: Some([("a".into(), "b".into())].into()), ..gpus(1, &[], &["gpu"]) },
            ),
        ] {
            assert_eq!(DeviceRequest::parse_gpus(text), Ok(wanted.clone()), "{text}");
            assert_eq!(DeviceRequest::parse_gpus(&wanted.as_gpus()), Ok(wanted), "{text}");
        }
        for (bad, why) in [
            ("", "EOF"),
            ("x", "invalid count (x)"),
            ("all,all", "only once"),
            ("1,device=0", "Count and DeviceIDs"),
            ("name=x", "unexpected key 'name' in 'name=x'"),
            ("device=\"0,1\"", "column 8: bare \""),
        ] {
            let said =
                DeviceRequest::parse_gpus(bad).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn names_of_devices() {
        for good in ["vendor.com/class=0", "v/c=a:b", "nvidia.com/gpu=GPU-1f.2", "v/c.d=x"] {
            assert!(is_qualified(good), "{good}");
        }
        for bad in [
            "", "/dev/x=y", "v=x", "v/c", "v/c=", "1v/c=x", "v/c=-x", "v/c=x-", "v/c=a/b", "v/c=..", "v//c=x",
        ] {
            assert!(!is_qualified(bad), "{bad}");
        }
    }
}
