//! A database whose volume outlives its containers, is backed up while it is written to, and comes back.

use std::fs;
use std::time::Duration;

use crate::harness::{BUSYBOX, Test, poll, rounds, wait_until};

/// Starts a `PostgreSQL` on a volume, and waits until it answers.
fn database(t: &Test, name: &str, volume: &str) {
    let mount = format!("{volume}:/var/lib/postgresql/data");
    t.ok(["run", "-d", "--name", name, "-e", "POSTGRES_PASSWORD=x", "-v", &mount, "postgres:15"]);
    let answers = || t.rbox(["exec", name, "pg_isready", "-h", "127.0.0.1", "-U", "postgres"]).code == 0;
    assert!(poll(Duration::from_mins(2), answers), "it does not answer: {}", t.ok(["logs", name]));
}

fn sql(t: &Test, name: &str, query: &str) -> String {
    t.ok(["exec", name, "psql", "-U", "postgres", "-qtAc", query])
}

/// Each transaction adds a row to both tables: after a restore both have the same, all that were committed before the moment.
#[test]
fn a_database_and_its_backup() {
    let Some(t) = Test::start() else { return };
    let (db, volume, restored) = (t.name("db"), t.name("rows"), t.name("restored"));
    database(&t, &db, &volume);
    sql(&t, &db, "CREATE TABLE a (n int); CREATE TABLE b (n int)");
    sql(&t, &db, "INSERT INTO a VALUES (-1); INSERT INTO b VALUES (-1)");
    t.ok(["rm", "-f", &db]);
    database(&t, &db, &volume);
    assert_eq!(sql(&t, &db, "SELECT n FROM a"), "-1", "it outlives its container");

    let writer = "i=0; while [ ! -e /tmp/enough ]; do i=$((i+1)); \
                  echo \"BEGIN; INSERT INTO a VALUES ($i); INSERT INTO b VALUES ($i); COMMIT;\"; done \
                  | psql -q -U postgres";
    t.ok(["exec", "-d", &db, "sh", "-c", writer]);
    let rows = || sql(&t, &db, "SELECT count(*) FROM b").parse::<u64>().unwrap();
    wait_until("rows come in", || rows() > 50);
    let before = rows();
    let archive = t.dir("backup").join("rows.tar");
    t.ok(["volume", "export", "--pause", "-o", archive.to_str().unwrap(), &volume]);
    let after = rows();
    wait_until("it goes on", || rows() > after);
    t.ok(["exec", &db, "touch", "/tmp/enough"]);
    t.ok(["rm", "-f", &db]);
    // The original is lost.
    t.ok(["volume", "rm", &volume]);
    assert_eq!(t.ok(["volume", "import", &restored, archive.to_str().unwrap()]), restored);
    fs::remove_file(&archive).unwrap();
    database(&t, &db, &restored);
    let counts = ["a", "b"].map(|table| sql(&t, &db, &format!("SELECT count(*) FROM {table}")));
    assert_eq!(counts[0], counts[1]);
    let found = counts[0].parse::<u64>().unwrap();
    assert!((before..=after).contains(&found), "{found} rows, of {before} before and {after} after");
    assert_eq!(sql(&t, &db, "SELECT count(*) FROM a WHERE n NOT IN (SELECT n FROM b)"), "0");
    t.ok(["rm", "-f", &db]);
    t.ok(["volume", "rm", &restored]);
}

/// Who starts a container while all of a volume are to stand still waits for that to be over.
#[test]
fn nobody_starts_meanwhile() {
    let Some(t) = Test::start() else { return };
    let (volume, writer, late) = (t.name("vol"), t.name("writer"), t.name("late"));
    let mount = format!("{volume}:/d");
    t.ok([
        "run",
        "-d",
        "--name",
        &writer,
        "-v",
        &mount,
        BUSYBOX,
        "sh",
        "-c",
        "head -c 3000000 /dev/zero > /d/big; exec sleep 1000",
    ]);
    t.ok(["create", "--name", &late, "-v", &mount, BUSYBOX, "sh", "-c", "echo late > /d/late"]);
    let big = t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]) + "/big";
    wait_until("it is written", || fs::metadata(&big).is_ok_and(|meta| meta.len() == 3_000_000));
    // More than a pipe holds, and read by nobody until told to: the export stands in the middle.
    let (to, go) = (t.dir("out").join("a.tar"), t.dir("out").join("go"));
    let script = "\"$RBOX\" volume export --pause \"$1\" | { while [ ! -e \"$2\" ]; do sleep 0.05; done; cat > \"$3\"; }";
    let export = t
        .program("sh", ["-c", script, "sh", &volume, go.to_str().unwrap(), to.to_str().unwrap()])
        .env("RBOX", crate::harness::binary())
        .spawn();
    wait_until("they stand still", || t.status(&writer) == "paused");
    let mut started = t.cmd(["start", "-a", &late]).spawn();
    std::thread::sleep(Duration::from_millis(700));
    assert!(!started.ended(), "it ran while the volume was to stand still");
    fs::write(&go, "").unwrap();
    export.finish(Duration::from_mins(1)).code(0);
    started.finish(Duration::from_mins(1)).code(0);
    assert_eq!(t.status(&writer), "running");
    let listed = t.program("tar", ["-tf", to.to_str().unwrap()]).run().ok();
    assert!(listed.contains("big") && !listed.contains("late"), "{listed}");
    assert_eq!(t.ok(["run", "--rm", "-v", &mount, BUSYBOX, "cat", "/d/late"]), "late");
    t.ok(["rm", "-f", &writer, &late]);
    t.ok(["volume", "rm", &volume]);
}

/// What is made is whole or not there, nobody stays paused, and nothing is left on the way.
#[test]
fn killed_at_any_moment() {
    const FILES: usize = 300;
    let Some(t) = Test::start() else { return };
    let (mut volume, mut other, new, writer) =
        (t.name("vol"), t.name("other"), t.name("new"), t.name("writer"));
    let dir = t.dir("killed");
    let archive = dir.join("good.tar").display().to_string();
    let fill = format!("i=0; while [ $i -lt {FILES} ]; do head -c 20000 /dev/zero > /d/$i; i=$((i+1)); done");
    t.ok(["run", "--rm", "-v", &format!("{volume}:/d"), BUSYBOX, "sh", "-c", &fill]);
    t.ok(["volume", "export", "-o", &archive, &volume]);
    let paused = t.name("paused");
    t.sleeper(&writer, ["-v", &format!("{paused}:/d")]);
    t.ok(["volume", "import", &paused, &archive]);
    let there = |name: &str| t.ok(["volume", "ls", "-q"]).lines().any(|line| line == name);
    let is_whole = |name: &str| {
        let place = t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", name]);
        let sizes: Vec<u64> =
            fs::read_dir(place).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        sizes.len() == FILES && sizes.iter().all(|size| *size == 20000)
    };
    let out = dir.join("out.tar").display().to_string();
    for round in 0..rounds(60) {
        let args = match round % 4 {
            0 => vec!["volume", "export", "--pause", "-o", &out, &paused],
            1 => vec!["volume", "import", &new, &archive],
            2 => vec!["volume", "clone", &volume, &new],
            _ => vec!["volume", "rename", &volume, &other],
        };
        let what = format!("{round}: {args:?}");
        let command = t.cmd(&args).spawn();
        std::thread::sleep(Duration::from_millis((round as u64 * 7) % 90));
        command.signal("KILL");
        command.finish(Duration::from_mins(1));
        wait_until(&format!("nobody stays paused: {what}"), || t.status(&writer) == "running");
        if there(&new) {
            assert!(is_whole(&new), "{what}");
            t.ok(["volume", "rm", &new]);
        }
        if !there(&volume) {
            assert_eq!(round % 4, 3, "{what}");
            std::mem::swap(&mut volume, &mut other);
        }
        assert!(is_whole(&volume) && !there(&other), "{what}");
        if round % 4 == 0 && fs::exists(&out).unwrap() {
            let names = t.program("tar", ["-tf", &out]).run().ok();
            assert_eq!(names.lines().count(), FILES + 1, "{round}");
            fs::remove_file(&out).unwrap();
        }
    }
    t.ok(["rm", "-f", &writer]);
    t.ok(["volume", "rm", &volume, &paused]);
    t.ok(["ps"]);
    let left = fs::read_dir(t.suite.root.join("volumes/.tmp")).unwrap().count();
    assert_eq!(left, 0, "volumes on their way");
}

/// Whoever has a volume before the container is started for which it was made finds what the image has there, as with Docker.
#[test]
fn a_volume_is_filled_when_its_container_is_made() {
    let Some(t) = Test::start() else { return };
    let (name, volume, memory) = (t.name("made"), t.name("vol"), t.name("memory"));
    let inside =
        |volume: &str| t.ok(["run", "--rm", "-v", &format!("{volume}:/x:nocopy"), BUSYBOX, "ls", "/x"]);
    t.ok(["create", "--name", &name, "-v", &format!("{volume}:/bin"), BUSYBOX, "true"]);
    assert!(inside(&volume).lines().any(|file| file == "busybox"));
    assert_eq!(t.status(&name), "created");
    t.ok(["start", "-a", &name]);
    t.ok(["rm", &name]);
    t.ok(["volume", "rm", &volume]);
    // Not with `nocopy`; and no file system is mounted for it.
    t.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", &memory]);
    let flags = [format!("{volume}:/bin:nocopy"), format!("{memory}:/sbin")];
    t.ok(["create", "--name", &name, "-v", &flags[0], "-v", &flags[1], BUSYBOX, "true"]);
    assert_eq!(inside(&volume), "");
    t.ok(["rm", &name]);
    t.ok(["volume", "rm", &volume, &memory]);
}
