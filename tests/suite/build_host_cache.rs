//! `RUN --mount=type=cache,source=host:/DIR`: caches that are directories of the host.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::Duration;

use crate::build::Builds;
use crate::harness::{BUSYBOX, Output, Test, wait_until};

fn last(out: &Output) -> &str {
    assert_eq!(out.code, 1, "{}", out.stderr);
    out.stderr.lines().last().unwrap_or_default()
}

#[test]
fn a_directory_of_the_host_is_a_cache_for_who_allows_it() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let dir = t.dir("shared");
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(dir.join("file"), "of the host\n").unwrap();
    std::os::unix::fs::chown(&dir, Some(7), Some(8)).unwrap();
    let path = dir.to_str().unwrap();
    let allow = format!("--allow=cache.host={path}");
    let run = |mount: &str, what: &str| {
        format!("FROM {BUSYBOX}\nRUN --mount=type=cache,target=/c/deep,{mount} {what}\n")
    };
    let text = run(
        &format!("source=host:{path}"),
        "cat /c/deep/file > /seen; echo made >> /c/deep/made; stat -c %u:%g /c/deep",
    );
    let said = b.built(&text, &[&allow]);
    assert!(said.contains(" 7:8\n"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("made")).unwrap(), "made\n");
    assert_eq!(b.sh("cat /seen; ls -d /c 2>/dev/null || true"), "of the host");
    // What is in it decides nothing, and it is no cache of rbox's.
    fs::write(dir.join("file"), "changed\n").unwrap();
    assert!(b.built(&text, &[&allow]).contains(" CACHED\n"));
    assert_eq!(b.own.run(&["builder", "cache", "ls", "--format", "{{.Description}}"]).ok(), "");
    // But without leave it is not to be had from the cache either.
    let said = b.build(&text, &[]);
    assert!(
        last(&said).ends_with(&format!(
            "cache mount of the host's directory {path} is not allowed: give --allow cache.host={path} to the build"
        )),
        "{}",
        said.stderr
    );
    // A directory below, a variable, and one that is read only.
    let text = format!(
        "FROM {BUSYBOX}\nARG PLACE=below\nRUN --mount=type=cache,target=/c,source=host:{path}/$PLACE,ro touch /c/x || touch /kept\n"
    );
    b.built(&text, &[&allow]);
    assert!(!below.join("x").exists());
    assert_eq!(b.sh("ls /kept"), "/kept");
    symlink("/etc", dir.join("link")).unwrap();
    let named = t.dir("other").join("named");
    symlink(&dir, &named).unwrap();
    let named = named.to_str().unwrap();
    // The caller's own links are followed.
    b.built(
        &run(&format!("source=host:{named}"), "ls /c/deep/file"),
        &[&format!("--allow=cache.host={named}")],
    );
    let siblings = format!("{path}-more");
    for (mount, why) in [
        (format!("source=host:{path}/link"), "/link: "),
        (format!("source=host:{path}/link/ssl"), "/link/ssl: "),
        (format!("source=host:{path}/none"), "/none: No such file or directory"),
        (format!("source=host:{path}/file"), "/file: Not a directory"),
        (format!("source=host:{siblings}"), "--allow cache.host="),
        ("source=host:/".to_owned(), "give --allow cache.host=/ to"),
        (format!("source=host:{path}/../x"), "without '..'"),
        (format!("source=host:{path},from=busybox"), "it cannot have a from"),
        (format!("source=host:{path},sharing=private"), "use locked or shared"),
    ] {
        let said = b.build(&run(&mount, "true"), &[&allow]);
        assert!(last(&said).contains(why), "{mount}: {}", said.stderr);
    }
    let dir = b.dir.to_str().unwrap();
    b.own
        .run(&["build", "--allow", "cache.host=/none/such", dir])
        .refused(125, &["cache.host=/none/such: no such file"]);
    b.is_tidy();
}

#[test]
fn nothing_put_in_its_place_is_seen_and_who_shares_it_waits() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let (all, secret) = (t.dir("all"), t.dir("secret"));
    fs::write(secret.join("key"), "secret").unwrap();
    let sub = all.join("sub");
    fs::create_dir(&sub).unwrap();
    let path = all.to_str().unwrap();
    let allow = format!("--allow=cache.host={path}");
    // A step replaces the directory by a link; a later one gets what was opened, or nothing.
    let text = format!(
        "FROM {BUSYBOX}\nRUN --mount=type=cache,target=/s,source=host:{path}/sub --mount=type=cache,target=/a,source=host:{path} mv /a/sub /a/was && ln -s {} /a/sub && touch /s/first\n\
         RUN --mount=type=cache,target=/s,source=host:{path}/sub ls /s && touch /s/second\n",
        secret.display()
    );
    let said = b.built(&text, &[&allow]);
    assert!(said.contains(" first\n"), "{said}");
    assert!(all.join("was/second").exists() && !secret.join("second").exists());
    let out = b.build(&format!("{text}RUN true\n").replace("ls /s", "ls  /s"), &[&allow]);
    assert_eq!(out.code, 1, "{}", out.stderr);
    assert!(!secret.join("second").exists());
    // One at a time, whatever they call it.
    let other = t.dir("names").join("other");
    symlink(&all, &other).unwrap();
    let locked = |place: &str, what: &str| {
        format!(
            "FROM {BUSYBOX}\nRUN --mount=type=cache,target=/a,sharing=locked,source=host:{place} {what}\n"
        )
    };
    b.file(
        "one/Dockerfile",
        &locked(path, "touch /a/in; while test ! -e /a/go; do usleep 10000; done; rm /a/in"),
    );
    b.file("two/Dockerfile", &locked(other.to_str().unwrap(), "ls /a/in 2>&1; true"));
    let at = |name: &str| b.dir.join(name).to_str().unwrap().to_owned();
    let first = b.own.cmd(&["build", &allow, &at("one")]).spawn();
    wait_until("the first has it", || all.join("in").exists());
    let allow = format!("--allow=cache.host={}", other.display());
    let second = b.own.cmd(&["build", &allow, &at("two")]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    fs::write(all.join("go"), "").unwrap();
    assert_eq!(first.finish(Duration::from_mins(1)).code, 0);
    let said = second.finish(Duration::from_mins(1));
    assert!(said.stderr.contains("waiting for cache host:"), "{}", said.stderr);
    assert!(said.stderr.contains("/a/in: No such file"), "{}", said.stderr);
    assert_eq!(fs::metadata(&all).unwrap().uid(), 0);
    b.is_tidy();
}
