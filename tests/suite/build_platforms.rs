//! `build` for several platforms at once: one name, an image for each.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::build::Builds;
use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, Cmd, Output, Test};

pub(crate) const OWN: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
pub(crate) const OTHER: &str = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
/// Neither has a machine like this one.
const THIRD: &str = "linux/s390x";

pub(crate) fn machine(platform: &str) -> &str {
    platform.strip_prefix("linux/").unwrap()
}

fn both() -> String {
    format!("--platform={OWN},{OTHER}")
}

/// A program is made by this machine for each platform: what does not depend on the platform is made once.
fn crossed() -> String {
    format!(
        "ARG KIND=of-$TARGETARCH\n\
         FROM --platform=$BUILDPLATFORM {BUSYBOX} AS build\n\
         WORKDIR /src\n\
         COPY file .\n\
         RUN cat /proc/sys/kernel/random/uuid > once\n\
         ARG TARGETARCH TARGETPLATFORM\n\
         RUN echo \"$TARGETARCH $TARGETPLATFORM\" > each\n\
         FROM --platform=$BUILDPLATFORM {BUSYBOX} AS whole\n\
         RUN cat /proc/sys/kernel/random/uuid > /whole\n\
         FROM --platform=$BUILDPLATFORM whole AS above\n\
         RUN cat /proc/sys/kernel/random/uuid > /above\n\
         FROM scratch\n\
         ARG KIND\n\
         ENV KIND=$KIND\n\
         COPY --from=build /src /src\n\
         COPY --from=above /whole /above /\n"
    )
}

/// What is told of [`crossed`], sorted.
fn crossed_steps() -> Vec<String> {
    let busybox = "docker.io/library/busybox:latest";
    let mut wanted = vec![
        format!("[{OWN} internal] load metadata for {busybox}"),
        format!("[{OWN} build 1/5] FROM {busybox}"),
        format!("[{OWN} build 2/5] WORKDIR /src"),
        format!("[{OWN} build 3/5] COPY file ."),
        format!("[{OWN} build 4/5] RUN cat /proc/sys/kernel/random/uuid > once"),
        format!("[{OWN} build 5/5] RUN echo \"{} {OWN}\" > each", machine(OWN)),
        format!("[{OWN}->{} build 5/5] RUN echo \"{} {OTHER}\" > each", machine(OTHER), machine(OTHER)),
        format!("[{OWN} whole 1/2] FROM {busybox}"),
        format!("[{OWN} whole 2/2] RUN cat /proc/sys/kernel/random/uuid > /whole"),
        format!("[{OWN} above 1/1] RUN cat /proc/sys/kernel/random/uuid > /above"),
    ];
    for platform in [OWN, OTHER] {
        wanted.push(format!("[{platform} stage-3 1/2] COPY --from=build /src /src"));
        wanted.push(format!("[{platform} stage-3 2/2] COPY --from=above /whole /above /"));
    }
    wanted.sort_unstable();
    wanted
}

/// The steps that were told, without their numbers.
fn steps(said: &str) -> Vec<&str> {
    let lines = said.lines().filter(|line| line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' ').map(|(_, text)| text))
        .filter(|text| text.starts_with('['))
        .collect()
}

fn read(b: &Builds, place: &str) -> String {
    fs::read_to_string(b.own.dir.join(place)).unwrap().trim().to_owned()
}

/// Says which platform an image of a name is for.
fn architecture(b: &Builds, platform: &str, name: &str) -> Output {
    b.own.run(&["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}{{.Variant}}", name])
}

/// A build that failed and said all of this on its way.
fn failed(out: &Output, words: &[&str]) {
    assert!(out.code == 1 && words.iter().all(|word| out.stderr.contains(word)), "{words:?}: {out:?}");
}

/// The registry has an index of both, as the metadata say.
fn is_in_registry(b: &Builds, name: &str, metadata: &Path) {
    let skopeo = |flags: &[&str]| {
        let image = format!("docker://{name}");
        Cmd::new("skopeo", [&["inspect", "--tls-verify=false"], flags, &[&image]].concat()).run().ok()
    };
    let index: Value = serde_json::from_str(&skopeo(&["--raw"])).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["annotations"]["org.example.a"], "b", "{index}");
    let of = |entry: &Value| entry["platform"]["architecture"].as_str().unwrap().to_owned();
    let machines: Vec<String> = index["manifests"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(machines, [machine(OWN), machine(OTHER)]);
    let config: Value =
        serde_json::from_str(&skopeo(&["--override-arch", machine(OTHER), "--config"])).unwrap();
    assert_eq!(config["architecture"], machine(OTHER));
    let told: Value = serde_json::from_str(&fs::read_to_string(metadata).unwrap()).unwrap();
    let listed = b.own.run(&["buildx", "imagetools", "inspect", name]).ok();
    let digest = told["containerimage.digest"].as_str().unwrap();
    assert!(listed.contains(&format!("Digest:    {digest}\n")), "{digest} {listed}");
}

#[test]
fn one_name_has_an_image_for_each_platform() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    b.file("file", "content");
    let metadata = b.own.dir.join("metadata");
    let name = format!("{}/team/app:1", registry.name);
    let out = b.own.dir.join("out");
    // With nothing of the cache too, what is shared is carried out once.
    b.file("Dockerfile", &crossed());
    let (dir, files) = (b.dir.to_str().unwrap(), out.to_str().unwrap());
    let flags = ["--no-cache", &both(), "-o", "type=image", "-o", files, "-t", &name, "--push"];
    let more = ["--annotation", "index:org.example.a=b", "--metadata-file", metadata.to_str().unwrap(), dir];
    let pushed = b.own.cmd(&[&["build"], &flags[..], &more].concat()).limit(Duration::from_mins(1)).run();
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    let said = pushed.stderr;
    let mut told = steps(&said);
    told.sort_unstable();
    assert_eq!(told, crossed_steps(), "{said}");
    // The files of each, as the exporter of BuildKit splits them.
    for platform in [OWN, OTHER] {
        let dir = format!("out/{}", platform.replace('/', "_"));
        assert_eq!(read(&b, &format!("{dir}/src/each")), format!("{} {platform}", machine(platform)));
        for shared in ["src/once", "whole", "above", "src/file"] {
            let own = format!("out/{}/{shared}", OWN.replace('/', "_"));
            assert_eq!(read(&b, &format!("{dir}/{shared}")), read(&b, &own));
        }
        let fields = "{{.Architecture}} {{json .Config.Env}}";
        let told = b.own.run(&["image", "inspect", "--platform", platform, "-f", fields, &name]).ok();
        assert!(
            told.starts_with(machine(platform)) && told.contains(&format!("KIND=of-{}", machine(platform))),
            "{told}"
        );
        b.own.run(&["create", "--name", "made", "--platform", platform, &name, "/x"]).ok();
        b.own.run(&["rm", "made"]).ok();
    }
    let tree = b.own.run(&["images", "--tree", &name]).ok();
    assert!(tree.contains(OWN) && tree.contains(OTHER), "{tree}");
    is_in_registry(&b, &name, &metadata);
    // Again it is the same, and for one platform it is an image alone.
    let said = b.built(&crossed(), &[&both()]);
    assert!(
        said.lines().all(|line| !line.contains(" DONE") || line.starts_with("#1 ") || line.contains("#15")),
        "{said}"
    );
    b.built(&crossed(), &[]);
    let tree = b.own.run(&["images", "--tree", "made"]).ok();
    assert!(tree.contains(OWN) && !tree.contains(OTHER), "{tree}");
    b.is_tidy();
}

#[test]
fn what_has_no_name_is_found_by_the_digest_of_the_index() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("file", "content");
    b.file("Dockerfile", &crossed());
    let (dir, id) = (b.dir.to_str().unwrap(), b.own.dir.join("id"));
    let archive = b.own.dir.join("all.tar");
    let to = format!("type=oci,dest={}", archive.display());
    b.own.run(&["build", &both(), "--iidfile", id.to_str().unwrap(), "-o", &to, dir]).ok();
    let index = read(&b, "id");
    for platform in [OWN, OTHER] {
        let told =
            b.own.run(&["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", &index]);
        assert_eq!(told.ok(), machine(platform));
    }
    let raw =
        Cmd::new("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", archive.display())]).run().ok();
    assert_eq!(raw.matches("\"architecture\"").count(), 2, "{raw}");
    assert_eq!(b.own.run(&["build", "-q", &both(), dir]).ok(), index);
    b.own.run(&["rmi", &index]).ok();
    let left = b.own.run(&["images", "-aq", "--filter", "dangling=true"]).ok();
    assert_eq!(left, "");
    for (flags, why) in [
        (&["-o", "type=docker,dest=x.tar"][..], "does not currently support exporting manifest lists"),
        (&["-o", "type=tar,dest=x.tar"], "an archive of one platform's files"),
        (&["--until", "3"], "--until stops in the build of one platform"),
        (&["--annotation", "index-descriptor:a=b"], "has none here"),
        (&["--platform", "nonsense"], "invalid platform"),
    ] {
        let both = both();
        let args = [&["build", &both], flags, &[dir]].concat();
        b.own.run(&args).refused(125, &[why]);
    }
    b.is_tidy();
}

#[test]
fn images_of_stages_and_of_copy_are_those_of_the_platform() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let multi = format!("{}/rbox/multi", t.suite.registry);
    let out = b.own.dir.join("out");
    let out = out.to_str().unwrap();
    // A base that is only given files to: nothing of it runs.
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {BUSYBOX} AS tools\n\
         COPY --from={multi} /bin/busybox /copied\n\
         FROM {multi}\n\
         COPY --from=tools /copied /copied\n\
         ENV A=1\n"
    );
    let program = |platform: &str, name: &str| {
        fs::read(b.own.dir.join(format!("out/{}/{name}", platform.replace('/', "_")))).unwrap()
    };
    // Stages side by side, and one after the other.
    for more in [&["--pull"][..], &["--no-cache", "--on-error", "shell"]] {
        let both = both();
        let flags = [&[&both, "-o", out, "-o", "type=image"], more].concat();
        let said = b.built(&text, &flags);
        assert!(said.contains(&format!("[{OTHER} internal] load metadata for {multi}:latest")), "{said}");
        assert_ne!(program(OWN, "copied"), program(OTHER, "copied"));
        for platform in [OWN, OTHER] {
            assert_eq!(program(platform, "copied"), program(platform, "bin/busybox"));
            let told =
                b.own.run(&["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", "made"]);
            assert_eq!(told.ok(), machine(platform));
        }
    }
    // What ONBUILD asks for depends on the platform, or does not.
    b.file("Base", &format!("FROM {BUSYBOX}\nONBUILD RUN cat /proc/sys/kernel/random/uuid > /once\nONBUILD ARG TARGETARCH\nONBUILD RUN echo $TARGETARCH > /each\n"));
    let dir = b.dir.to_str().unwrap().to_owned();
    b.own.run(&["build", "-q", "-t", "base", "-f", &format!("{dir}/Base"), &dir]).ok();
    let text = "FROM --platform=$BUILDPLATFORM base AS build\nRUN cp /each /more\nFROM scratch\nCOPY --from=build /once /each /more /\n";
    let three = format!("--platform={OWN},{OTHER},{THIRD}");
    b.built(text, &["--no-cache", &three, "-o", out]);
    let once = program(OWN, "once");
    for platform in [OWN, OTHER, THIRD] {
        assert_eq!(program(platform, "once"), once, "{platform}");
        for name in ["each", "more"] {
            assert_eq!(program(platform, name), format!("{}\n", machine(platform)).as_bytes());
        }
    }
    b.is_tidy();
}

#[test]
fn a_stage_that_fails_for_one_platform_ends_the_build() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    // It waits for the other to have begun.
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {BUSYBOX} AS build\n\
         ARG TARGETARCH\n\
         RUN echo to-fail-for-$TARGETARCH; [ $TARGETARCH = {} ] && sleep 1 && exit 3; sleep 100\n\
         FROM scratch\nCOPY --from=build / /\n",
        machine(OTHER)
    );
    let step = format!("> [{OWN}->{} build 2/2] RUN", machine(OTHER));
    failed(&b.build(&text, &[&both()]), &["exit code: 3", &step, "CANCELED"]);
    b.own.run(&["image", "inspect", "made"]).refused(1, &["No such image"]);
    b.is_tidy();
}

#[test]
fn an_image_is_for_the_platform_that_was_asked_for() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let pinned = format!("FROM --platform=$BUILDPLATFORM {BUSYBOX}\nRUN echo $TARGETARCH > /made\n");
    b.built(&pinned, &[&both()]);
    for platform in [OWN, OTHER] {
        assert_eq!(architecture(&b, platform, "made").ok(), machine(platform));
    }
    // Of one platform too, and only if one was asked for.
    b.built(&pinned, &["--platform=linux/arm/v7"]);
    assert_eq!(architecture(&b, "linux/arm/v7", "made").ok(), "armv7");
    b.built(&pinned, &[]);
    assert_eq!(architecture(&b, OWN, "made").ok(), machine(OWN));
    b.is_tidy();
}
