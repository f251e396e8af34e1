//! Published ports: many at once, and those that cannot be.

use std::time::Duration;

use crate::harness::{BUSYBOX, Cmd, PYTHON, Test, has, rounds, skipped, wait_until};
use crate::network::ask;

/// Answers on the first and the last port of a range.
const SERVER: &str = "
import socket,sys,select
all=[]
for port in map(int,sys.argv[1:]):
    s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('',port)); s.listen(); all.append(s)
import resource
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0],flush=True)
while True:
    for s in select.select(all,[],[])[0]:
        c,_=s.accept(); c.sendall(b'%d'%s.getsockname()[1]); c.close()
";

#[test]
fn two_thousand_of_them() {
    let Some(t) = Test::start() else { return };
    let name = t.name("many");
    let count = rounds(2000);
    let (first, last) = (20000, 20000 + count - 1);
    let range = format!("{first}-{last}:{first}-{last}");
    let soon = Duration::from_mins(1);
    // As little as most callers have: each port takes a descriptor of the monitor, and the program has no more for it.
    let script = "ulimit -Sn 1024; exec \"$@\"";
    let binary = crate::harness::binary();
    let run = ["-c", script, "sh", binary.to_str().unwrap(), "run", "-d", "--restart", "always"];
    let (one, other) = (first.to_string(), last.to_string());
    t.program("sh", run)
        .args(&["--name", &name, "-p", &range, PYTHON, "python3", "-c", SERVER, &one, &other])
        .limit(soon)
        .run()
        .ok();
    wait_until("it serves", || !t.ok(["logs", &name]).is_empty());
    assert_eq!(t.ok(["logs", &name]), "1024");
    for port in [first, last] {
        assert_eq!(ask(&format!("127.0.0.1:{port}")).as_deref(), Some(port.to_string().as_str()));
    }
    // Nobody else gets one of them, and all of them are shown, in one piece where that is for people.
    t.rbox(["run", "--rm", "-p", &format!("{last}:80"), PYTHON])
        .refused(125, &["port is already allocated", &name]);
    let shown = t.cmd(["ps", "--format", "{{.Ports}}"]).limit(soon).run().ok();
    assert_eq!(shown, format!("0.0.0.0:{first}-{last}->{first}-{last}/tcp"));
    assert_eq!(t.ok(["port", &name]).lines().count(), count);
    assert_eq!(t.inspect(&name)["NetworkSettings"]["Ports"].as_object().unwrap().len(), count);
    // Rules that are gone come back with all of them.
    let table = t.suite.bridge_name();
    Cmd::new("nft", ["delete", "table", "ip", &table]).run().ok();
    t.cmd(["network", "reconcile"]).limit(soon).run().ok();
    assert_eq!(ask(&format!("127.0.0.1:{last}")).as_deref(), Some(other.as_str()));
    // Others that come by `port add` while it runs, and go.
    let (low, high) = (last + 1, last + rounds(200));
    t.cmd(["port", "add", &name, &format!("{low}-{high}:{first}-{}", first + high - low)])
        .limit(soon)
        .run()
        .ok();
    assert_eq!(ask(&format!("127.0.0.1:{low}")).as_deref(), Some(one.as_str()));
    // Its monitor starts it again, with the caller's limit as before.
    t.program("kill", ["-9", &t.pid(&name).to_string()]).run().ok();
    wait_until("it serves again", || t.ok(["logs", &name]).lines().count() == 2);
    wait_until("it is reached again", || ask(&format!("127.0.0.1:{low}")).as_deref() == Some(one.as_str()));
    assert_eq!(t.ok(["logs", &name]), "1024\n1024");
    t.cmd(["rm", "-f", &name]).limit(soon).run().ok();
    assert_eq!(ask(&format!("127.0.0.1:{first}")), None);
}

#[test]
fn ports_that_cannot_be_had_say_why() {
    let Some(t) = Test::start() else { return };
    for (ports, words) in [
        (
            ["20080:80", "20080:81"],
            &["Bind for 0.0.0.0:20080 failed", "already allocated", "by this container, for its port 80/tcp"]
                [..],
        ),
        (["127.0.0.1:20080:80/udp", "20080:81/udp"], &["Bind for 0.0.0.0:20080", "for its port 80/udp"]),
        (["[fe80::1%lo]:20080:80", "80"], &["invalid IP address: fe80::1%lo", "link-local"]),
        (["[fe80::1]:20080:80", "80"], &["invalid IP address: fe80::1", "link-local"]),
    ] {
        t.rbox(["run", "--rm", "-p", ports[0], "-p", ports[1], BUSYBOX, "true"]).refused(125, words);
    }
    // The same number of another protocol is another port.
    t.ok(["run", "--rm", "-p", "20080:80", "-p", "20080:81/udp", BUSYBOX, "true"]);
    for (name, why) in [
        ("n".repeat(64), "between dots, has 63 characters at most"),
        ("n.".repeat(32) + "n", "64 characters at most"),
        ("a..b".to_owned(), "is empty"),
        ("a b".to_owned(), "letters, digits"),
    ] {
        t.rbox(["create", "--hostname", &name, BUSYBOX, "true"]).refused(125, &["invalid hostname", why]);
    }
    // As Docker says it, word for word.
    let missing = t.name("nosuch");
    let says = format!("network {missing} not found");
    for args in [["network", "rm", &missing], ["network", "inspect", &missing]] {
        t.rbox(args).refused(1, &[&says]);
    }
    t.rbox(["run", "--rm", "--network", &missing, BUSYBOX, "true"]).refused(125, &[&says]);
    t.rbox(["network", "rm", "bridge"])
        .refused(1, &["bridge is a pre-defined network and cannot be removed"]);
}

/// Each port takes a descriptor. Where there are not enough, that is known before the first one is taken.
#[test]
fn more_than_there_are_descriptors_are_refused_at_once() {
    let Some(t) = Test::start() else { return };
    if !has("setpriv") {
        return skipped("no setpriv here");
    }
    let script = "ulimit -n 500; exec setpriv --bounding-set=-sys_resource \"$RBOX\" run --rm -P --expose 1-65535 busybox true";
    let out = t.program("sh", ["-c", script]).env("RBOX", crate::harness::binary()).run();
    out.refused(125, &["65535 ports", "500", "ulimit -n"]);
}
