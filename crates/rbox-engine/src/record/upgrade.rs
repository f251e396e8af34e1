//! How a container's records of older versions become those of this one: one function a step, named after the version
//! it leads to. A field that comes to a record gets its value for older ones here, not by `serde(default)`.

use rbox_spec::record::{Record, Step, fill};
use serde_json::{Map, Value};

use crate::record::container::{ContainerRecord, ExitRecord, LiveState};
use crate::record::health::{CheckResult, Health};

impl Record for ContainerRecord {
    const STEPS: &'static [Step] =
        &[container_1, container_2, container_3, container_4, container_5, container_6, container_7];
}

impl Record for LiveState {
    const STEPS: &'static [Step] = &[live_1, live_2];
}

impl Record for ExitRecord {
    const STEPS: &'static [Step] = &[exit_1, exit_2];
}

impl Record for Health {
    const STEPS: &'static [Step] = &[];
}

impl Record for CheckResult {
    const STEPS: &'static [Step] = &[];
}

/// Before there were versions, fields came one by one.
fn container_1(record: &mut Map<String, Value>) {
    fill(record, "platform", "".into());
    fill(record, "embedded", false.into());
}

/// Mounts came that version 1 would not mount: those of `--volumes-from`.
fn container_2(_: &mut Map<String, Value>) {}

/// Builds came.
fn container_3(record: &mut Map<String, Value>) {
    fill(record, "build_step", Value::Null);
}

/// Whose processes it sees became more than the host's or its own.
fn container_4(record: &mut Map<String, Value>) {
    let Some(Value::Object(host)) = record.get_mut("host") else { return };
    let of_host = host.remove("pid_host") == Some(Value::Bool(true));
    fill(host, "pid", if of_host { "host" } else { "private" }.into());
}

/// Files came that are given to it.
fn container_5(record: &mut Map<String, Value>) {
    let Some(Value::Object(host)) = record.get_mut("host") else { return };
    fill(host, "files", Value::Array(Vec::new()));
}

/// Log drivers came that version 5 does not know: syslog and journald.
fn container_6(_: &mut Map<String, Value>) {}

/// User namespaces came, without which a program of version 6 would start it as root of the host, and mounts of images.
fn container_7(_: &mut Map<String, Value>) {}

fn live_1(record: &mut Map<String, Value>) {
    fill(record, "endpoints", Value::Array(Vec::new()));
    fill(record, "restart_count", 0.into());
    fill(record, "between", Value::Null);
    if let Some(Value::Object(between)) = record.get_mut("between") {
        exit_1(between);
    }
}

/// How it ended became more than a code.
fn live_2(record: &mut Map<String, Value>) {
    if let Some(Value::Object(between)) = record.get_mut("between") {
        exit_2(between);
    }
}

fn exit_2(record: &mut Map<String, Value>) {
    fill(record, "by_signal", Value::Null);
}

fn exit_1(record: &mut Map<String, Value>) {
    fill(record, "error", "".into());
    fill(record, "restart_count", 0.into());
    fill(record, "stopped", false.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_without_a_version_get_what_came_later() {
        let exit =
            json!({"exit_code": 3, "oom_killed": false, "started": null, "finished": "2026-01-01T00:00:00Z"});
        let exit_now = json!({"exit_code": 3, "oom_killed": false, "started": null, "finished": "2026-01-01T00:00:00Z",
            "error": "", "restart_count": 0, "stopped": false});
        let table: [(&str, Step, Value, Value); 8] = [
            (
                "container",
                container_1,
                json!({"id": "x"}),
                json!({"id": "x", "platform": "", "embedded": false}),
            ),
            (
                "container that has them",
                container_1,
                json!({"platform": "linux/amd64", "embedded": true}),
                json!({"platform": "linux/amd64", "embedded": true}),
            ),
            (
                "container that sees the host's processes",
                container_4,
                json!({"host": {"pid_host": true}}),
                json!({"host": {"pid": "host"}}),
            ),
            (
                "container that sees its own",
                container_4,
                json!({"host": {"pid_host": false}}),
                json!({"host": {"pid": "private"}}),
            ),
            (
                "container that is given no files",
                container_5,
                json!({"host": {}}),
                json!({"host": {"files": []}}),
            ),
            ("exit", exit_1, exit.clone(), exit_now.clone()),
            (
                "live",
                live_1,
                json!({"pid": 7}),
                json!({"pid": 7, "endpoints": [], "restart_count": 0, "between": null}),
            ),
            (
                "live between two lives",
                live_1,
                json!({"restart_count": 2, "between": exit}),
                json!({"endpoints": [], "restart_count": 2, "between": exit_now}),
            ),
        ];
        for (name, step, before, wanted) in table {
            let Value::Object(mut record) = before else { panic!("{name}") };
            step(&mut record);
            assert_eq!(Value::Object(record), wanted, "{name}");
        }
    }
}
