//! The values of `RUN --mount`.

use super::*;
use crate::expand::Lexer;

fn mount(text: &str) -> Result<Mount, String> {
    let file = Dockerfile::parse(&format!("FROM a\nRUN --mount={text} b\n")).map_err(|why| why.message)?;
    let InstructionKind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
    let env = [("T", "cache"), ("A", "/a"), ("N", "7")];
    let expand = |word: &str| Lexer::new('\\').word(word, &env.as_slice()).map(|expanded| expanded.text);
    run.mounts[0].mount(expand).map_err(|why| why.to_string())
}

/// A mount of a kind, as it is without anything said.
fn usual(kind: MountKind) -> Mount {
    let read_only = !matches!(kind, MountKind::Cache | MountKind::Tmpfs);
    Mount { kind, read_only, ..Mount::default() }
}

#[test]
fn every_key() {
    let bind = || usual(MountKind::Bind);
    let cache = || usual(MountKind::Cache);
    let secret = || Mount { id: "s".into(), ..usual(MountKind::Secret) };
    let at = |target: &str, mount: Mount| Mount { target: target.into(), ..mount };
    for (text, want) in [
        ("target=/x", at("/x", bind())),
        ("dst=/x", at("/x", bind())),
        ("destination=/x", at("/x", bind())),
        ("TARGET=/x", at("/x", bind())),
        ("type=bind", bind()),
        ("type=BIND", bind()),
        ("type=$T,target=$A", at("/a", cache())),
        ("from=b,source=/s,target=/x", at("/x", Mount { from: "b".into(), source: "/s".into(), ..bind() })),
        ("src=$A/b", Mount { source: "/a/b".into(), ..bind() }),
        ("rw", Mount { read_only: false, ..bind() }),
        ("readwrite", Mount { read_only: false, ..bind() }),
        ("rw=true", Mount { read_only: false, ..bind() }),
        ("rw=false", bind()),
        ("ro=false", Mount { read_only: false, ..bind() }),
        ("readonly=0", Mount { read_only: false, ..bind() }),
        ("rw,ro", bind()),
        ("type=cache,ro", Mount { read_only: true, ..cache() }),
        ("type=cache,readonly=T", Mount { read_only: true, ..cache() }),
        ("type=cache,id=c", Mount { id: "c".into(), ..cache() }),
        ("type=cache,sharing=shared", Mount { sharing: Some(Sharing::Shared), ..cache() }),
        ("type=cache,sharing=private", Mount { sharing: Some(Sharing::Private), ..cache() }),
        ("type=cache,sharing=LOCKED", Mount { sharing: Some(Sharing::Locked), ..cache() }),
        (
            "type=cache,mode=0755,uid=1,gid=2",
            Mount { mode: Some(0o755), uid: Some(1), gid: Some(2), ..cache() },
        ),
        ("type=cache,uid=$N", Mount { uid: Some(7), ..cache() }),
        ("type=tmpfs,size=1g", Mount { size: Some(1 << 30), ..usual(MountKind::Tmpfs) }),
        ("type=tmpfs", usual(MountKind::Tmpfs)),
        ("type=secret,id=s", secret()),
        ("type=secret,id=s,required", Mount { required: true, ..secret() }),
        ("type=secret,id=s,required=true", Mount { required: true, ..secret() }),
        ("type=secret,id=s,required=false", secret()),
        ("type=secret,id=s,env=E", Mount { env: Some("E".into()), ..secret() }),
        ("type=secret,id=s,env=", Mount { env: Some(String::new()), ..secret() }),
        ("type=secret,id=s,mode=0400", Mount { mode: Some(0o400), ..secret() }),
        ("type=secret,source=s", Mount { source: "s".into(), ..usual(MountKind::Secret) }),
        ("type=secret,target=/s", at("/s", usual(MountKind::Secret))),
        ("type=ssh", usual(MountKind::Ssh)),
        (
            "type=ssh,id=k,required,uid=1",
            Mount { id: "k".into(), required: true, uid: Some(1), ..usual(MountKind::Ssh) },
        ),
        ("'\"target=/a,b\"'", at("/a,b", bind())),
        ("target=\\$A", at("$A", bind())),
    ] {
        // Escape characters go once with the flag, and once with the expansion.
        let text = text.replace('\\', "\\\\");
        assert_eq!(mount(&text).as_ref(), Ok(&want), "{text}");
    }
}

#[test]
fn what_is_refused() {
    for (text, want) in [
        ("type=foo", "unsupported mount type \"foo\""),
        ("type=cach", "unsupported mount type \"cach\" (did you mean cache?)"),
        ("type=", "unsupported mount type \"\""),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("trget=/x", "unexpected key 'trget' in 'trget=/x' (did you mean target?)"),
        ("foobar=1", "unexpected key 'foobar' in 'foobar=1'"),
        ("ro=x", "invalid value for ro: x"),
        ("rw=", "invalid value for rw: "),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("required,type=secret,id=s", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,required=true", "unexpected key 'required' for mount type 'cache'"),
        ("type=secret,id=s,required=x", "invalid value for required: x"),
        ("size=1", "unexpected key 'size' for mount type 'bind'"),
        ("size=1,type=tmpfs", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=cache,sharing=all", "unsupported sharing value \"all\""),
        ("type=cache,sharing=lockd", "unsupported sharing value \"lockd\" (did you mean locked?)"),
        ("sharing=locked", "invalid cache sharing set for bind mount"),
        ("mode=0755", "mode not allowed for \"bind\" type mounts"),
        ("uid=1", "uid not allowed for \"bind\" type mounts"),
        ("type=tmpfs,gid=1", "gid not allowed for \"tmpfs\" type mounts"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,mode=+1", "invalid value +1 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,source=a,id=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=locked", "secret mount should not define sharing"),
        ("target=${A", "failed to process \"${A\": syntax error: missing '}'"),
        ("target=${B?none}", "failed to process \"${B?none}\": B: none"),
        (
            "from=$A",
            "dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("", "dockerfile parse error on line 2: failed to parse csv mounts: EOF"),
    ] {
        assert_eq!(mount(text).unwrap_err(), want, "{text}");
    }
}
