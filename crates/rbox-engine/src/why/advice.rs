//! What to try, for each cause.

use crate::why::cause::Cause;

impl Cause {
    /// What may help, the likeliest first; `name` is the container's.
    pub fn advice(&self, name: &str) -> Vec<String> {
        let own = self.about_its_program(name).or_else(|| self.about_its_end(name));
        own.or_else(|| self.about_its_life(name)).unwrap_or_default()
    }

    fn about_its_program(&self, name: &str) -> Option<Vec<String>> {
        Some(match self {
            Self::CommandMissing { .. } => vec![
                format!("see what is there: rbox export {name} | tar -t | grep bin/"),
                "check the spelling, the PATH (-e PATH=…), and that no mount hides it".into(),
            ],
            Self::Directory { .. } => vec!["name a file: the command is what stands behind the image's name".into()],
            Self::NotExecutable { path, .. } => vec![
                format!("in the Dockerfile: RUN chmod +x {path}, or COPY --chmod=755"),
                format!("run it by its interpreter: rbox run IMAGE sh {path}"),
            ],
            Self::InterpreterMissing { script, interpreter } => vec![
                format!("install {interpreter} in the image, or change the first line of {script}"),
            ],
            Self::CarriageReturns { script, .. } => vec![
                format!("write it with line feeds: sed -i 's/\\r$//' {script}"),
                "keep git from changing it: '*.sh text eol=lf' in .gitattributes".into(),
            ],
            Self::LoaderMissing { .. } => vec![
                "use an image with the C library it was built against (alpine and busybox have musl or none, debian has glibc)".into(),
                "or build it statically (Go: CGO_ENABLED=0; Rust: a musl target)".into(),
            ],
            Self::LibraryMissing { library } => {
                vec![format!("install the package that has {library} in the image's last stage")]
            }
            Self::WrongArchitecture { host, .. } => vec![
                format!("use an image for this host: rbox pull --platform linux/{host} IMAGE"),
                "or have the kernel run others by qemu-user and binfmt_misc".into(),
            ],
            Self::NoFormat { path, is_empty: false } => vec![
                format!("begin {path} with #!/bin/sh, with nothing before it"),
                format!("or run it by its interpreter: rbox run IMAGE sh {path}"),
            ],
            Self::NoFormat { .. } => vec!["look how the file came into the image: a copy that was cut off?".into()],
            _ => return None,
        })
    }

    fn about_its_end(&self, name: &str) -> Option<Vec<String>> {
        let start = || format!("rbox start {name}");
        let logs = || format!("rbox logs --tail 50 {name}");
        Some(match self {
            Self::NeverStarted | Self::Stopped { .. } => vec![start()],
            Self::Unreadable { .. } => vec![format!("rbox rm -f {name}")],
            Self::StartFailed { .. } => vec![format!("remove what stands in the way, then {}", start())],
            Self::OutOfMemory { limit, .. } => {
                let more = limit.map(|bytes| {
                    let twice = bytes.saturating_mul(2) >> 20;
                    format!("rbox update --memory {twice}m --memory-swap {twice}m {name}, then {}", start())
                });
                more.into_iter().chain([format!("see what it uses: rbox stats {name}")]).collect()
            }
            Self::LostToMemory { limit, .. } => {
                let more = limit.map(|bytes| {
                    let twice = bytes.saturating_mul(2) >> 20;
                    format!("rbox update --memory {twice}m --memory-swap {twice}m {name}")
                });
                more.into_iter().chain([format!("see what it uses: rbox stats {name}"), format!("rbox restart {name}")]).collect()
            }
            Self::StopTimeout { signal, has_init, .. } => {
                let init = (!has_init).then(|| "rbox run --init: a small init passes signals on".to_owned());
                let own = [
                    format!("have the program end on {signal}; a script that starts it should do so with exec"),
                    "give it the signal that it knows (--stop-signal) or more time (--stop-timeout)".into(),
                ];
                init.into_iter().chain(own).collect()
            }
            Self::Killed { .. } => vec![
                format!("see when: rbox events --since 24h --until 0s --filter container={name}"),
                start(),
            ],
            Self::TimeLimit { .. } => vec![format!("{}, which gives it that time again", start())],
            Self::Signalled { signal } if signal == "SIGKILL" => vec![
                "look whether the host's memory ran out: dmesg | grep -i 'killed process'".into(),
                start(),
            ],
            Self::Signalled { .. } | Self::KilledUnhealthy { .. } | Self::RestartsUsedUp { .. } => {
                vec![logs(), start()]
            }
            Self::Crashed { signal } => crashed(signal, name),
            Self::Failed { unlogged: true, .. } => {
                vec!["what it has written is kept nowhere (--log-driver none): run it attached, or with another driver".into()]
            }
            Self::Failed { last_words, .. } => {
                let first = if last_words.is_empty() {
                    "it has written nothing; look around with a shell: rbox run -it --entrypoint sh IMAGE".to_owned()
                } else {
                    logs()
                };
                vec![first]
            }
            Self::Finished => vec![
                format!("see what it did: {}", logs()),
                "a container runs as long as its program: a shell wants -it, a server must stay in the foreground".into(),
            ],
            Self::Unseen { .. } => vec![start(), "have it start with the host: --restart always, and rbox system boot".into()],
            Self::Restarting { .. } => vec![logs(), format!("end that: rbox stop {name}, or rbox update --restart no {name}")],
            _ => return None,
        })
    }

    fn about_its_life(&self, name: &str) -> Option<Vec<String>> {
        let logs = || format!("rbox logs --tail 50 {name}");
        Some(match self {
            Self::Paused => vec![format!("rbox unpause {name}")],
            Self::Unwatched => vec![format!("rbox restart {name}, which gives it another one")],
            Self::HealthStarting => {
                vec![format!("wait: rbox events --filter container={name} --filter event=health_status")]
            }
            Self::Unhealthy { command, .. } => health(command, name),
            Self::ListensElsewhere { port, .. } => vec![format!(
                "have it listen on 0.0.0.0 (all addresses): most programs have --host, --bind or a line in their configuration for {port}"
            )],
            Self::NobodyListens { port, others, .. } => {
                let number = port.split('/').next().unwrap_or(port);
                let other = others.first().and_then(|other| other.split('/').next());
                let publish = other.map(|other| {
                    format!("publish the port it listens on: rbox port rm {name} {number}; rbox port add {name} HOST:{other}")
                });
                publish.into_iter().chain([format!("see whether it is still starting: {}", logs())]).collect()
            }
            Self::PublishedHere { .. } => {
                vec!["publish it without an address: -p 8080:80, not -p 127.0.0.1:8080:80".into()]
            }
            Self::NotPublished { ports, .. } => {
                let port = ports.first().and_then(|port| port.split('/').next()).unwrap_or("80");
                vec![format!("rbox port add {name} {port}:{port}")]
            }
            Self::FullDisk { is_inside: false, .. } => {
                vec![
                    "see what takes the room: rbox system df -v; remove what is not used: rbox system prune"
                        .into(),
                ]
            }
            Self::FullDisk { path, .. } => {
                vec![format!("remove files there, or give it more room: rbox exec {name} df -h {path}")]
            }
            Self::OwnLimit { .. } => vec![
                format!(
                    "see what it has written: rbox diff {name}; remove files there, or keep them in a volume, which does not count"
                ),
                format!("make it again with a higher limit: rbox inspect --create-command {name} prints how"),
            ],
            Self::NoSpaceTold { .. } => vec![format!("see which: rbox exec {name} df -h; rbox system df -v")],
            Self::MountDenied { source, uid, gid, .. } => vec![
                format!("give it to that user: chown -R {uid}:{gid} {source}"),
                "or run as its owner: --user UID:GID".into(),
            ],
            _ => return None,
        })
    }
}

fn crashed(signal: &str, name: &str) -> Vec<String> {
    let own = match signal {
        "SIGILL" => "use an image for an older processor, or build it without -march=native",
        "SIGBUS" => "give it more shared memory: --shm-size 256m",
        "SIGSYS" => "see whether it is that: --security-opt seccomp=unconfined",
        "SIGXCPU" => "give it more: --ulimit cpu=SECONDS",
        "SIGXFSZ" => "give it more: --ulimit fsize=BYTES",
        _ => "see whether image and libraries fit each other, and whether another version does it too",
    };
    vec![format!("rbox logs --tail 50 {name}"), own.into()]
}

fn health(command: &[String], name: &str) -> Vec<String> {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    vec![
        format!("make the check by hand: rbox exec {name} {}", words.join(" ")),
        format!("see the last five: rbox inspect -f '{{{{json .State.Health.Log}}}}' {name}"),
        format!("rbox logs --tail 50 {name}"),
    ]
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
