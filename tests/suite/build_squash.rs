//! `build --squash`: all layers that a build made become one.

use serde_json::Value;

use crate::build::Builds;
use crate::harness::{BUSYBOX, Test};

impl Builds {
    fn inspected(&self, name: &str) -> Value {
        let text = self.own.run(&["image", "inspect", name]).ok();
        let mut all: Value = serde_json::from_str(&text).unwrap();
        all[0].take()
    }

    /// The lines of history, oldest first: what it did, whether it has a layer, and what else is said.
    fn lines(&self, name: &str) -> Vec<(String, bool, String)> {
        let tar = self.own.dir.join("saved.tar");
        self.own.run(&["save", "-o", tar.to_str().unwrap(), name]).ok();
        let id = self.inspected(name)["Id"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let out = std::process::Command::new("tar").arg("-xOf").arg(&tar).arg(id).output().unwrap();
        let config: Value = serde_json::from_slice(&out.stdout).unwrap();
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let lines = config["history"].as_array().unwrap().iter();
        lines
            .map(|line| (text(line, "created_by"), line["empty_layer"] == true, text(line, "comment")))
            .collect()
    }
}

fn layers(of: &Value) -> &[Value] {
    of["RootFS"]["Layers"].as_array().unwrap()
}

#[test]
fn one_layer_on_the_base() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    // A base with what is to be hidden.
    b.built(
        &format!("FROM {BUSYBOX}\nRUN mkdir -p /base/sub /swap /cut && touch /base/gone /base/kept /base/sub/x /swap/x /cut/old && ln /base/kept /base/same\n"),
        &[],
    );
    b.own.run(&["tag", "made", "base"]).ok();
    let base = b.inspected("base");
    b.file("big", "secret");
    let text = "FROM base\nWORKDIR /w\nCOPY big /tmp/big\nRUN rm /tmp/big /base/gone && echo one > /w/one && rm -r /swap && echo file > /swap\n\
                ENV A=1\nRUN rm -r /cut && mkdir /cut && touch /cut/new && chmod 2711 /w && chown 7:8 /w && ln /w/one /w/two && echo 3 > /w/three && ln /w/three /w/four && mkdir /tmp/dir && touch /tmp/dir/x\n\
                RUN rm -r /tmp/dir && rm -r /base/sub && echo two > /w/one\n";
    b.built(text, &[]);
    b.own.run(&["tag", "made", "plain"]).ok();
    let said = b.built(text, &["--squash"]);
    assert!(said.contains("squashing 5 layers done"), "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(" CACHED")).count(), 6, "{said}");
    let (plain, made) = (b.inspected("plain"), b.inspected("made"));
    assert_eq!(layers(&plain).len(), layers(&base).len() + 5);
    assert_eq!(layers(&made).len(), layers(&base).len() + 1);
    assert!(layers(&made).starts_with(layers(&base)));
    assert_eq!(made["Config"], plain["Config"]);
    // The same tree.
    let tree = "find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc*' | LC_ALL=C sort | xargs stat -c '%n %a %u:%g %F %Y' | grep -v '^/ '; cat /w/one /w/two /swap";
    let of = |name: &str| b.own.run(&["run", "--rm", "--network", "none", name, "sh", "-c", tree]).ok();
    assert_eq!(of("made"), of("plain"));
    // What was one file is one, and has no more names than are there.
    assert_eq!(b.sh("stat -c %h /w/two /w/three; test /w/three -ef /w/four && echo one"), "1\n2\none");
    // What was made and removed is in no layer, and what hides the base is.
    let tar = b.own.dir.join("one.tar");
    b.own.run(&["save", "-o", tar.to_str().unwrap(), "made"]).ok();
    let top = layers(&made).last().unwrap().as_str().unwrap().replace("sha256:", "");
    let script = format!(
        "cd {} && mkdir -p all && tar -xf one.tar -C all && cd all && for f in blobs/sha256/*; do test $(gzip -dcf $f | sha256sum | cut -c 1-64) = {top} && gzip -dcf $f | tar -t; done; true",
        b.own.dir.display()
    );
    let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let names = String::from_utf8(out.stdout).unwrap();
    let names: Vec<&str> = names.lines().map(|name| name.trim_start_matches("./")).collect();
    for there in ["base/.wh.gone", "base/.wh.sub", "cut/.wh..wh..opq", "cut/new", "swap", "w/one", "w/two"] {
        assert!(names.contains(&there), "{there}: {names:?}");
    }
    assert!(
        !names.iter().any(|name| name.contains("big") || name.contains("tmp/dir") || name.contains("kept")),
        "{names:?}"
    );
    // History.
    let (of_base, lines) = (b.lines("base").len(), b.lines("made"));
    let last = lines.last().unwrap();
    let merged = format!("merge {} to {}", plain["Id"].as_str().unwrap(), base["Id"].as_str().unwrap());
    assert_eq!(*last, (String::new(), false, merged));
    let kept: Vec<&str> = lines[of_base..lines.len() - 1].iter().map(|(line, ..)| line.as_str()).collect();
    assert_eq!(kept.len(), 6);
    assert_eq!((kept[0], kept[1]), ("WORKDIR /w", "COPY big /tmp/big # buildkit"));
    assert!(lines[of_base..lines.len() - 1].iter().all(|(_, is_empty, _)| *is_empty));
    // Once more: all of it is there, with the same id.
    let said = b.built(text, &["--squash"]);
    assert!(said.contains("squashing 5 layers cached"), "{said}");
    assert_eq!(b.inspected("made")["Id"], made["Id"]);
    b.own.run(&["image", "rm", "plain"]).ok();
    assert_eq!(b.sh("cat /w/one"), "two");
    b.own.run(&["system", "check", "--layers"]).ok();
    b.is_tidy();
}

#[test]
fn stages_scratch_platforms_and_archives() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("one", "1");
    b.file("two", "2");
    // No layer of its own: the image as it is.
    let none = format!("FROM {BUSYBOX}\nENV A=1\n");
    b.built(&none, &[]);
    let plain = b.inspected("made")["Id"].clone();
    b.built(&none, &["--squash"]);
    assert_eq!(b.inspected("made")["Id"], plain);
    // From nothing, and from another stage: that one's layers were made as well.
    let text = "FROM scratch AS first\nCOPY one /\nFROM first\nCOPY two /\n";
    b.built(text, &["--squash"]);
    assert_eq!(layers(&b.inspected("made")).len(), 1);
    assert!(b.lines("made").last().unwrap().2.starts_with("create new from sha256:"));
    b.built(text, &["--squash", "-o", b.own.dir.join("out").to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(b.own.dir.join("out/two")).unwrap(), "2\n");
    // Bytes that are the same each time, without the cache as well.
    let epoch = ["--squash", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o"];
    let mut ids = Vec::new();
    for name in ["one.tar", "two.tar"] {
        let to = format!("type=oci,dest={},rewrite-timestamp=true", b.own.dir.join(name).display());
        b.built(text, &[&epoch[..], &[&to]].concat());
        ids.push(b.inspected("made")["Id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    b.built(text, &["--squash", "--platform", "linux/amd64,linux/arm64"]);
    for platform in ["linux/amd64", "linux/arm64"] {
        let text = b.own.run(&["image", "inspect", "--platform", platform, "made"]).ok();
        let all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(layers(&all[0]).len(), 1, "{platform}");
    }
    b.is_tidy();
}
