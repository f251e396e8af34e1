//! A record as Docker's templates see it: a value of a Go type, not a bag of JSON keys.
//!
//! What follows from the type: an empty list of the JSON's `null` has a length and prints `[]`; a key that the JSON leaves
//! out while it holds nothing is a field all the same; Go's own field names (`ID`, `NanoCPUs`) are known; a field of what is
//! not there is an error; a structure prints as `{a b}`. `json` gives the keys in their own order, and nothing that
//! the JSON has not.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use gotmpl::Value;
use serde_json::Value as Json;

use crate::output::escape;

/// Lists that are `null` while they are empty.
const LISTS: [&str; 25] = [
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "Peers",
    "ReadonlyPaths",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "VolumesFrom",
];

/// Maps, whose keys are the user's own: one that is absent is no error.
const MAPS: [&str; 21] = [
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Config.Config",
    "Containers",
    "Data",
    "Details",
    "DriverOpts",
    "Endpoints",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Services",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volume.Status",
    "Volumes",
];

/// Structures that are not there, and single numbers and truths that may be unset.
const POINTERS: [&str; 9] = [
    "ClusterVolume",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "Init",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "UsageData",
];

/// Fields that the JSON leaves out while they hold nothing, by the field their structure is in ("" for the record itself).
const ABSENT: [(&str, &[&str]); 8] = [
    ("Message", &["From", "ID", "Status"]),
    ("State", &["Health"]),
    ("HostConfig", &["Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs"]),
    (
        "Config",
        &[
            "Cmd",
            "Entrypoint",
            "Env",
            "ExposedPorts",
            "Healthcheck",
            "Labels",
            "OnBuild",
            "Shell",
            "StopSignal",
            "StopTimeout",
            "User",
            "Volumes",
            "WorkingDir",
        ],
    ),
    (IPAM_CONFIG, &["Subnet", "IPRange", "Gateway", "AuxiliaryAddresses"]),
    ("Network", &["Peers", "Services"]),
    ("Volume", &["ClusterVolume", "CreatedAt", "Status", "UsageData"]),
    ("", &["SizeRw", "SizeRootFs", "Variant"]),
];

/// The name of a container's configuration is `Config`, too. Of this one the list above has all fields, in their order.
const IPAM_CONFIG: &str = "IPAM.Config";

/// Fields that are texts, empty while they are unset.
const TEXTS: [&str; 11] = [
    "CreatedAt",
    "From",
    "Gateway",
    "ID",
    "IPRange",
    "Status",
    "StopSignal",
    "Subnet",
    "User",
    "Variant",
    "WorkingDir",
];

/// What Go calls a field, and what its JSON does.
const GO_NAMES: [(&str, &str); 29] = [
    ("ApiVersion", "APIVersion"),
    ("AuxiliaryAddresses", "AuxAddress"),
    ("CpuCfsPeriod", "CPUCfsPeriod"),
    ("CpuCfsQuota", "CPUCfsQuota"),
    ("CpuCount", "CPUCount"),
    ("CpuPercent", "CPUPercent"),
    ("CpuPeriod", "CPUPeriod"),
    ("CpuQuota", "CPUQuota"),
    ("CpuRealtimePeriod", "CPURealtimePeriod"),
    ("CpuRealtimeRuntime", "CPURealtimeRuntime"),
    ("CpuShares", "CPUShares"),
    ("Dns", "DNS"),
    ("DnsOptions", "DNSOptions"),
    ("DnsSearch", "DNSSearch"),
    ("HostIp", "HostIP"),
    ("HttpProxy", "HTTPProxy"),
    ("HttpsProxy", "HTTPSProxy"),
    ("Id", "ID"),
    ("NanoCpus", "NanoCPUs"),
    ("mediaType", "MediaType"),
    ("digest", "Digest"),
    ("size", "Size"),
    ("platform", "Platform"),
    ("from", "From"),
    ("id", "ID"),
    ("scope", "Scope"),
    ("status", "Status"),
    ("time", "Time"),
    ("timeNano", "TimeNano"),
];

type Order = Vec<(Arc<str>, bool)>;
type Fields = Arc<BTreeMap<Arc<str>, Value>>;

static NIL_LIST: LazyLock<Arc<[Value]>> = LazyLock::new(|| Arc::from(Vec::new()));
static NIL_MAP: LazyLock<Fields> = LazyLock::new(Fields::default);
static NIL_POINTER: LazyLock<Fields> = LazyLock::new(Fields::default);

thread_local! {
    /// The structures of the record that is shown: their fields in order, and whether the JSON has them, by where they lie.
    static STRUCTURES: RefCell<HashMap<usize, Order>> = RefCell::default();
}

fn key(fields: &Fields) -> usize {
    Arc::as_ptr(fields) as usize
}

/// A record of a Go type, which `of` names if it is none that `inspect` shows. With `safe`, its texts are made safe for a terminal.
pub(crate) fn record(json: &Json, of: &str, safe: bool) -> Value {
    STRUCTURES.with_borrow_mut(HashMap::clear);
    value(json, of, safe)
}

/// JSON as it is, for a template that asks for what the type has not.
pub(crate) fn raw(json: &Json, safe: bool) -> Value {
    STRUCTURES.with_borrow_mut(HashMap::clear);
    plain(json, safe)
}

fn text(text: &str, safe: bool) -> Value {
    if safe { Value::String(escape::multiline(text).into()) } else { Value::String(text.into()) }
}

fn plain(json: &Json, safe: bool) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::Uint))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or_default())),
        Json::String(shown) => text(shown, safe),
        Json::Array(items) => Value::List(items.iter().map(|item| plain(item, safe)).collect()),
        Json::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| (Arc::from(key.as_str()), plain(value, safe)));
            let map: Fields = Arc::new(pairs.collect());
            remember(&map, fields);
            Value::Map(map)
        }
    }
}

fn remember(map: &Fields, json: &serde_json::Map<String, Json>) {
    let order = json.keys().map(|key| (Arc::from(key.as_str()), true)).collect();
    STRUCTURES.with_borrow_mut(|all| all.insert(key(map), order));
}

/// What the field `name` holds.
fn value(json: &Json, name: &str, safe: bool) -> Value {
    match json {
        Json::Null => unset(name),
        Json::Array(items) => Value::List(items.iter().map(|item| value(item, name, safe)).collect()),
        Json::Object(fields) if MAPS.contains(&name) => {
            // A port that is exposed and not published has a list without bindings.
            let of_port = |json: &Json| {
                if json.is_null() { Value::List(Arc::clone(&NIL_LIST)) } else { value(json, "*", safe) }
            };
            let pairs = fields.iter().map(|(key, value)| (Arc::from(key.as_str()), of_port(value)));
            Value::Map(Arc::new(pairs.collect()))
        }
        Json::Object(fields) => {
            let mut map: BTreeMap<Arc<str>, Value> = fields
                .iter()
                .map(|(key, inner)| {
                    let of_ipam = name == "IPAM" && key == "Config";
                    let inner_name = if of_ipam { IPAM_CONFIG } else { key };
                    (Arc::from(key.as_str()), value(inner, inner_name, safe))
                })
                .collect();
            add_go_names(&mut map);
            let absent = ABSENT.iter().find(|(at, _)| *at == name).map_or(&[][..], |(_, absent)| absent);
            for field in absent {
                map.entry((*field).into()).or_insert_with(|| unset_in(name, field));
            }
            add_go_names(&mut map);
            let map = Arc::new(map);
            remember(&map, fields);
            if name == IPAM_CONFIG {
                let order = absent.iter().map(|field| (Arc::from(*field), fields.contains_key(*field)));
                STRUCTURES.with_borrow_mut(|all| all.insert(key(&map), order.collect()));
            }
            Value::Map(map)
        }
        other => plain(other, safe),
    }
}

/// The fields by Go's names too.
fn add_go_names(map: &mut BTreeMap<Arc<str>, Value>) {
    for (own, go) in GO_NAMES {
        if let Some(known) = map.get(own).cloned() {
            map.entry(go.into()).or_insert(known);
        }
    }
}

/// The zero of the type of a field in the structure `of`.
fn unset_in(of: &str, field: &str) -> Value {
    let whole = format!("{of}.{field}");
    if MAPS.contains(&whole.as_str()) { Value::Map(Arc::clone(&NIL_MAP)) } else { unset(field) }
}

/// The zero of a field's type.
fn unset(name: &str) -> Value {
    if LISTS.contains(&name) {
        Value::List(Arc::clone(&NIL_LIST))
    } else if MAPS.contains(&name) {
        Value::Map(Arc::clone(&NIL_MAP))
    } else if POINTERS.contains(&name) {
        Value::Map(Arc::clone(&NIL_POINTER))
    } else if TEXTS.contains(&name) {
        Value::String("".into())
    } else {
        Value::Nil
    }
}

/// Template data as JSON again, for `json`.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::String(text) => Json::String(text.to_string()),
        Value::List(items) if Arc::ptr_eq(items, &NIL_LIST) => Json::Null,
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(fields) if is_nil(fields) => Json::Null,
        Value::Map(fields) => match order(fields) {
            Some(order) => order
                .iter()
                .filter(|(_, in_json)| *in_json)
                .filter_map(|(name, _)| fields.get(name).map(|value| (name.to_string(), to_json(value))))
                .collect(),
            None => fields.iter().map(|(name, value)| (name.to_string(), to_json(value))).collect(),
        },
        _ => Json::Null,
    }
}

fn is_nil(fields: &Fields) -> bool {
    Arc::ptr_eq(fields, &NIL_MAP) || Arc::ptr_eq(fields, &NIL_POINTER)
}

fn order(fields: &Fields) -> Option<Order> {
    STRUCTURES.with_borrow(|all| all.get(&key(fields)).cloned())
}

/// What an action prints: structures as Go prints them, and all else as it is.
pub(crate) fn shown(value: &Value) -> Value {
    let holds_structure = match value {
        Value::Map(fields) => {
            Arc::ptr_eq(fields, &NIL_POINTER) || order(fields).is_some() || !fields.is_empty()
        }
        Value::List(items) => !items.is_empty(),
        _ => false,
    };
    if !holds_structure {
        return value.clone();
    }
    let mut out = String::new();
    print(value, &mut out);
    Value::String(out.into())
}

fn print(value: &Value, out: &mut String) {
    let separated = |out: &mut String, at: usize| {
        if at > 0 {
            out.push(' ');
        }
    };
    match value {
        Value::Map(fields) if Arc::ptr_eq(fields, &NIL_POINTER) => out.push_str("<nil>"),
        Value::Map(fields) => {
            if let Some(order) = order(fields) {
                out.push('{');
                for (at, (name, _)) in order.iter().enumerate() {
                    separated(out, at);
                    fields.get(name).into_iter().for_each(|value| print(value, out));
                }
                out.push('}');
            } else {
                out.push_str("map[");
                for (at, (name, value)) in fields.iter().enumerate() {
                    separated(out, at);
                    let _ = write!(out, "{name}:");
                    print(value, out);
                }
                out.push(']');
            }
        }
        Value::List(items) => {
            out.push('[');
            for (at, value) in items.iter().enumerate() {
                separated(out, at);
                print(value, out);
            }
            out.push(']');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}
