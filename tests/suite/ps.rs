//! `ps` and its many ways to look.

use serde_json::Value;

use crate::harness::{BUSYBOX, PYTHON, Test};

#[test]
fn has_dockers_columns() {
    let Some(t) = Test::start() else { return };
    let name = t.name("web");
    let id = t.sleeper(&name, ["-p", "127.0.0.1::8000"]);
    let out = t.ok(["ps"]);
    let header: Vec<_> =
        out.lines().next().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(header, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    let line = out.lines().nth(1).unwrap();
    assert!(line.starts_with(&id[..12]), "{line}");
    assert!(line.contains("\"sh -c 'trap 'exit 0'…\"") || line.contains("\"sh -c "), "{line}");
    assert!(
        line.contains("Up ") && line.contains("->8000/tcp") && line.trim_end().ends_with(&name),
        "{line}"
    );
}

#[test]
fn only_what_runs_unless_asked() {
    let Some(t) = Test::start() else { return };
    let (running, exited, created) = (t.name("running"), t.name("exited"), t.name("created"));
    t.sleeper(&running, []);
    t.rbox(["run", "--name", &exited, BUSYBOX, "sh", "-c", "exit 3"]).code(3);
    t.ok(["create", "--name", &created, BUSYBOX]);
    assert_eq!(t.ok(["ps", "--format", "{{.Names}}"]), running);
    // Newest first.
    assert_eq!(t.ok(["ps", "-a", "--format", "{{.Names}}"]), format!("{created}\n{exited}\n{running}"));
    assert_eq!(t.ok(["ps", "-l", "--format", "{{.Names}}"]), created);
    assert_eq!(t.ok(["ps", "-n", "2", "--format", "{{.Names}}"]), format!("{created}\n{exited}"));
    assert_eq!(t.ok(["ps", "-aq"]).lines().count(), 3);
    assert!(t.ok(["ps", "-q"]).len() == 12);
    assert!(t.ok(["ps", "-q", "--no-trunc"]).len() == 64);
    let out = t.ok(["ps", "-a", "--format", "{{.Names}}\t{{.Status}}\t{{.State}}"]);
    assert!(
        out.lines().any(|l| l.starts_with(&format!("{exited}\tExited (3) ")) && l.ends_with(" ago\texited")),
        "{out}"
    );
    assert!(out.lines().any(|l| l == format!("{created}\tCreated\tcreated")), "{out}");
}

#[test]
fn filters() {
    let Some(t) = Test::start() else { return };
    let (one, two) = (t.name("one"), t.name("two"));
    t.sleeper(&one, ["-l", "group=a", "-l", "only"]);
    t.ok(["run", "--name", &two, "-l", "group=b", PYTHON, "true"]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &one]);
    let names = |filters: &[&str]| {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        t.cmd(args).run().ok()
    };
    assert_eq!(names(&[&format!("name={one}")]), one);
    assert_eq!(names(&[&format!("id={}", &id[..8])]), one);
    assert_eq!(names(&["label=only"]), one);
    assert_eq!(names(&["label=group=b"]), two);
    assert_eq!(names(&["label=group"]), format!("{two}\n{one}"));
    assert_eq!(names(&["status=running"]), one);
    assert_eq!(names(&["status=running", "status=exited"]), format!("{two}\n{one}"));
    assert_eq!(names(&["exited=0"]), two);
    assert_eq!(names(&["ancestor=busybox"]), one);
    assert_eq!(names(&[&format!("ancestor={PYTHON}")]), two);
    assert_eq!(names(&[&format!("before={two}")]), one);
    assert_eq!(names(&[&format!("since={one}")]), two);
    assert_eq!(names(&["network=bridge"]), format!("{two}\n{one}"));
    assert_eq!(names(&["network=none"]), "");
    t.rbox(["ps", "-f", "nonsense=1"]).refused(125, &["invalid filter", "nonsense"]);
    t.rbox(["ps", "-f", "status=nonsense"]).refused(125, &["nonsense"]);
}

#[test]
fn formats() {
    let Some(t) = Test::start() else { return };
    let name = t.name("f");
    let id = t.sleeper(&name, ["-l", "k=v"]);
    let line = t.ok(["ps", "--format", "json"]);
    let json: Value = serde_json::from_str(&line).unwrap();
    for key in [
        "Command",
        "CreatedAt",
        "ID",
        "Image",
        "Labels",
        "LocalVolumes",
        "Mounts",
        "Names",
        "Networks",
        "Ports",
        "RunningFor",
        "Size",
        "State",
        "Status",
    ] {
        assert!(json[key].is_string(), "{key}: {json}");
    }
    assert_eq!(json["ID"], &id[..12]);
    let table = t.ok(["ps", "--format", "table {{.ID}}\t{{.Names}}"]);
    let lines: Vec<_> = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["CONTAINER", "ID", "NAMES"]);
    assert_eq!(lines[1], [&id[..12], &name]);
    assert_eq!(
        t.ok(["ps", "--format", "{{json .Names}} {{upper .State}} {{.Label \"k\"}}"]),
        format!("\"{name}\" RUNNING v")
    );
    t.rbox(["ps", "--format", "{{.Nonsense}}"]).refused(1, &["Nonsense"]);
    t.rbox(["ps", "--format", "{{.ID"]).refused(1, &["template"]);
}

#[test]
fn sizes() {
    let Some(t) = Test::start() else { return };
    let name = t.name("size");
    t.ok([
        "run",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "dd if=/dev/zero of=/x bs=1000 count=3000 2>/dev/null",
    ]);
    let out = t.ok(["ps", "-a", "-s", "--format", "{{.Size}}"]);
    assert!(out.starts_with("3MB (virtual "), "{out}");
    assert!(t.ok(["ps", "-as"]).lines().next().unwrap().trim_end().ends_with("SIZE"));
}

#[test]
fn what_a_container_is_called_cannot_write_to_the_terminal() {
    let Some(t) = Test::start() else { return };
    let name = t.name("esc");
    t.ok([
        "create",
        "--name",
        &name,
        "-l",
        "evil=\u{1b}]0;title\u{7}\u{202e}",
        BUSYBOX,
        "sh",
        "-c",
        "\u{1b}[31mred\r",
    ]);
    for args in [
        &["ps", "-a", "--no-trunc"][..],
        &["ps", "-a", "--format", "{{.Labels}} {{.Command}}"],
        &["inspect", &name],
    ] {
        let out = t.cmd(args).run().ok();
        let bad = out
            .chars()
            .find(|c| (c.is_control() && *c != '\n' && *c != '\t') || ('\u{202a}'..='\u{202e}').contains(c));
        assert!(bad.is_none(), "{args:?} prints {bad:?}");
    }
}
