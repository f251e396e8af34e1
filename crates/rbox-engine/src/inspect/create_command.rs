//! `inspect --create-command`: the words that make a container again. It is worked out from the record, whoever made that, and has what the
//! image does not say by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use rbox_image::RunConfig;
use rbox_spec::Platform;
use rbox_spec::container::{
    Attached, Attachment, ContainerConfig, HostConfig, IpcMode, LogDriver, NetworkMode, PidMode, SeccompMode,
};
use rbox_spec::csv;
use rbox_spec::health::{Healthcheck, OnUnhealthy, go_text};
use rbox_spec::mount::{GivenBy, MountKind, MountSpec, Recursive};
use rbox_spec::resources::{DeviceRate, Resources};
use rbox_spec::restart::RestartPolicy;

use crate::containers::find;
use crate::create::{clean_path, health_of, host_name};
use crate::oci::config::device_rules;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::paths::Paths;

/// The image that a container was made of, as far as it is still there.
#[derive(Debug, Default)]
pub(crate) struct MadeOf {
    /// By its id; what it says need not be said again.
    pub(crate) config: Option<RunConfig>,
    /// The name leads to it still.
    pub(crate) is_named: bool,
}

/// A command line that makes a container again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCommand {
    /// Its words, without quotes.
    pub words: Vec<String>,
    /// What of the container no word says, a sentence for each.
    pub left_out: Vec<String>,
}

/// The command line for a container.
pub(crate) fn create_command(paths: &Paths, container: &Container, made_of: MadeOf) -> CreateCommand {
    CreateCommand { words: words(paths, container, made_of), left_out: left_out(&container.record.host) }
}

fn left_out(host: &HostConfig) -> Vec<String> {
    let files = host.files.iter().filter(|file| file.flag.is_empty());
    let files: Vec<&str> = files.map(|file| file.target.as_str()).collect();
    if files.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the line does not give it {}, whose content nothing has noted: give a file with --secret id=NAME,src=FILE,target=PATH",
        files.join(", ")
    )]
}

fn words(paths: &Paths, container: &Container, made_of: MadeOf) -> Vec<String> {
    let record = &container.record;
    let image = made_of.config.unwrap_or_default();
    let mut words = Words(vec!["rbox".into()]);
    let is_detached = record.config.attached == Attached::NONE;
    let was_run = is_detached || container.status != Status::Created;
    words.word(if was_run { "run" } else { "create" });
    words.switch("--detach", is_detached);
    words.value("--name", record.name.as_str());
    streams(&mut words, &record.config);
    process(&mut words, record, &image);
    health(&mut words, &record.config, &image);
    network(&mut words, paths, record, &image);
    namespaces(&mut words, paths, &record.host);
    storage(&mut words, paths, record);
    limits(&mut words, &record.host);
    security(&mut words, &record.host);
    life(&mut words, &record.host);
    if !record.platform.is_empty() && record.platform != Platform::host().to_string() {
        words.value("--platform", &record.platform);
    }
    command(&mut words, record, &image, made_of.is_named);
    words.0
}

/// A command line that grows.
struct Words(Vec<String>);

impl Words {
    fn word(&mut self, word: &str) {
        self.0.push(word.to_owned());
    }

    fn switch(&mut self, flag: &str, on: bool) {
        if on {
            self.word(flag);
        }
    }

    /// A flag with its value, in one word where the value could be taken for a flag.
    fn value(&mut self, flag: &str, value: &str) {
        if value.starts_with('-') || value.is_empty() {
            self.0.push(format!("{flag}={value}"));
        } else {
            self.word(flag);
            self.word(value);
        }
    }

    fn some(&mut self, flag: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.value(flag, &value.to_string());
        }
    }

    fn all<T: ToString>(&mut self, flag: &str, values: impl IntoIterator<Item = T>) {
        values.into_iter().for_each(|value| self.value(flag, &value.to_string()));
    }

    fn pairs(&mut self, flag: &str, pairs: &BTreeMap<String, String>) {
        self.all(flag, pairs.iter().map(|(key, value)| format!("{key}={value}")));
    }
}

fn streams(words: &mut Words, config: &ContainerConfig) {
    words.switch("--interactive", config.open_stdin);
    words.switch("--tty", config.tty);
    let attached = config.attached;
    if attached == Attached::NONE || attached == Attached::output_and(config.open_stdin) {
        return;
    }
    for (name, on) in [("stdin", attached.stdin), ("stdout", attached.stdout), ("stderr", attached.stderr)] {
        if on {
            words.value("--attach", name);
        }
    }
}

fn process(words: &mut Words, record: &ContainerRecord, image: &RunConfig) {
    let config = &record.config;
    let given = |mine: &str, images: &str| (mine != images).then(|| mine.to_owned());
    let name = &config.hostname;
    let is_default = match record.host.network {
        NetworkMode::Container(_) => true,
        NetworkMode::Host => *name == host_name(),
        _ if record.host.uts_host => true,
        _ => name == record.id.short(),
    };
    words.some("--hostname", (!is_default).then_some(name));
    words.some("--domainname", given(&config.domainname, ""));
    words.some("--user", given(&config.user, &image.user));
    words.some("--workdir", given(&config.working_dir, &clean_path(&image.working_dir)));
    words.all("--env", config.env.iter().filter(|variable| !image.env.contains(variable)));
    let labels = config.labels.iter().filter(|(key, value)| image.labels.get(*key) != Some(value));
    words.all("--label", labels.map(|(key, value)| format!("{key}={value}")));
    words.some(
        "--stop-signal",
        config.stop_signal.clone().filter(|_| config.stop_signal != image.stop_signal),
    );
    words.some("--stop-timeout", config.stop_timeout.filter(|_| config.stop_timeout != image.stop_timeout));
    words.some("--umask", config.umask.map(|mask| format!("{mask:04o}")));
}

fn health(words: &mut Words, config: &ContainerConfig, image: &RunConfig) {
    if config.on_unhealthy != OnUnhealthy::default() {
        words.value("--health-on-failure", config.on_unhealthy.as_str());
    }
    let of_image = health_of(image.healthcheck.as_ref(), None);
    if config.healthcheck == of_image {
        return;
    }
    let (check, before) = (config.healthcheck.clone().unwrap_or_default(), of_image.unwrap_or_default());
    match check.test.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["NONE"] => return words.word("--no-healthcheck"),
        ["CMD-SHELL", line] if check.test != before.test => words.value("--health-cmd", line),
        // The flag is for a shell, which makes these words of it again.
        ["CMD", ref all @ ..] if check.test != before.test => {
            let quoted: Vec<_> =
                all.iter().map(|word| shlex::try_quote(word).unwrap_or(Cow::Borrowed(*word))).collect();
            words.value("--health-cmd", &quoted.join(" "));
        }
        _ => {}
    }
    let time = |of: fn(&Healthcheck) -> i64| {
        let nanoseconds = Some(of(&check)).filter(|mine| *mine != of(&before));
        nanoseconds.and_then(|mine| u64::try_from(mine).ok()).map(|mine| go_text(Duration::from_nanos(mine)))
    };
    words.some("--health-interval", time(|check| check.interval));
    words.some("--health-timeout", time(|check| check.timeout));
    words.some("--health-start-period", time(|check| check.start_period));
    words.some("--health-start-interval", time(|check| check.start_interval));
    words.some("--health-retries", Some(check.retries).filter(|retries| *retries != before.retries));
}

fn network(words: &mut Words, paths: &Paths, record: &ContainerRecord, image: &RunConfig) {
    let host = &record.host;
    match &host.network {
        NetworkMode::Host => words.value("--network", "host"),
        NetworkMode::None => words.value("--network", "none"),
        NetworkMode::Container(id) => words.value("--network", &of_container(paths, id)),
        // It was disconnected from all, which no flag says.
        NetworkMode::Bridge if host.attachments.is_empty() => words.value("--network", "none"),
        NetworkMode::Bridge => {
            let plain = |wanted: &Attachment| {
                Attachment { network_id: String::new(), number: None, ..wanted.clone() }
                    == Attachment::to("bridge")
            };
            match &host.attachments[..] {
                [only] if plain(only) => {}
                several => words.all("--network", several.iter().map(attachment)),
            }
        }
    }
    for link in &host.links {
        words.value("--link", &format!("{}:{}", name_of(paths, &link.container), link.alias));
    }
    words.all("--publish", &host.ports);
    words.switch("--publish-all", host.publish_all);
    let published: Vec<String> = host.ports.iter().map(|port| port.container().to_string()).collect();
    let exposed = record.config.exposed_ports.iter();
    words.all("--expose", exposed.filter(|port| !published.contains(port) && !exposes(image, port)));
    words.all("--add-host", &host.extra_hosts);
    words.all("--dns", &host.dns);
    words.all("--dns-search", &host.dns_search);
    words.all("--dns-option", &host.dns_options);
}

/// Whether an image exposes a port: `80` is `80/tcp`.
fn exposes(image: &RunConfig, port: &str) -> bool {
    image.exposed_ports.keys().any(|text| {
        text == port
            || rbox_spec::port::parse_expose(text)
                .is_ok_and(|all| all.iter().any(|one| one.to_string() == port))
    })
}

fn attachment(wanted: &Attachment) -> String {
    let mut fields = vec![format!("name={}", wanted.network)];
    fields.extend(wanted.aliases.iter().map(|alias| format!("alias={alias}")));
    fields.extend(wanted.ip.map(|ip| format!("ip={ip}")));
    fields.extend(wanted.ip6.map(|ip| format!("ip6={ip}")));
    fields.extend(wanted.mac.map(|mac| format!("mac-address={mac}")));
    fields.extend(wanted.link_local.iter().map(|ip| format!("link-local-ip={ip}")));
    fields.extend(
        wanted.driver_opts.iter().map(|(key, value)| csv::field(&format!("driver-opt={key}={value}"))),
    );
    fields.extend((wanted.priority != 0).then(|| format!("gw-priority={}", wanted.priority)));
    if fields.len() == 1 { wanted.network.clone() } else { fields.join(",") }
}

/// A container by its name of now; by its id when it is gone.
fn name_of(paths: &Paths, id: &str) -> String {
    find::find(paths, id).map_or_else(|_| id.to_owned(), |other| other.record.name.to_string())
}

fn of_container(paths: &Paths, id: &str) -> String {
    format!("container:{}", name_of(paths, id))
}

fn namespaces(words: &mut Words, paths: &Paths, host: &HostConfig) {
    match &host.pid {
        PidMode::Private => {}
        PidMode::Container(id) => words.value("--pid", &of_container(paths, id)),
        PidMode::Host => words.value("--pid", "host"),
    }
    match &host.ipc {
        IpcMode::Private => {}
        IpcMode::Container(id) => words.value("--ipc", &of_container(paths, id)),
        other => words.value("--ipc", &other.to_string()),
    }
    words.some("--uts", host.uts_host.then_some("host"));
    words.some("--cgroupns", host.cgroupns_host.then_some("host"));
    words.some("--userns", Some(&host.userns).filter(|mode| !mode.is_empty()));
    words.all("--uidmap", &host.id_flags.uid_map);
    words.all("--gidmap", &host.id_flags.gid_map);
    words.some("--subuidname", Some(&host.id_flags.subuid_name).filter(|name| !name.is_empty()));
    words.some("--subgidname", Some(&host.id_flags.subgid_name).filter(|name| !name.is_empty()));
    words.some("--cgroup-parent", host.cgroup_parent.as_ref());
}

fn storage(words: &mut Words, paths: &Paths, record: &ContainerRecord) {
    let host = &record.host;
    for mount in &host.mounts {
        let is_anonymous = matches!(mount.kind, MountKind::Volume { anonymous: true, .. });
        match mount.given_by {
            // `--volumes-from` brings them again, and the image its own.
            GivenBy::VolumesFrom => {}
            GivenBy::Volume if is_anonymous && record.config.volumes.contains(&mount.target) => {}
            GivenBy::Volume if is_anonymous => words.value("--volume", &mount.target),
            GivenBy::Volume => words.some("--volume", mount.as_bind()),
            GivenBy::Mount => words.value("--mount", &fields_of(mount)),
            GivenBy::Tmpfs => {
                let options = mount.as_tmpfs_options().filter(|options| !options.is_empty());
                let options = options.map_or_else(String::new, |options| format!(":{options}"));
                words.value("--tmpfs", &format!("{}{options}", mount.target));
            }
        }
    }
    words.all(
        "--volumes-from",
        host.volumes_from.iter().map(|from| {
            let (other, mode) =
                from.split_once(':').map_or((from.as_str(), ""), |(other, _)| (other, &from[other.len()..]));
            format!("{}{mode}", name_of(paths, other))
        }),
    );
    words.all("--secret", host.files.iter().map(|file| &file.flag).filter(|flag| !flag.is_empty()));
    words.switch("--read-only", host.read_only);
    words.some("--shm-size", host.shm_size);
    words.pairs("--storage-opt", &host.storage_opt);
}

/// A mount as `--mount` takes it: one line of CSV.
fn fields_of(mount: &MountSpec) -> String {
    let mut fields = Vec::new();
    let mut add = |key: &str, value: &str| fields.push(format!("{key}={value}"));
    match &mount.kind {
        MountKind::Bind { source, propagation, recursive, idmap, .. } => {
            add("type", "bind");
            if let Some(idmap) = idmap {
                add("idmap", &idmap.to_string());
            }
            add("source", source);
            if !propagation.is_empty() {
                add("bind-propagation", propagation);
            }
            match recursive {
                Recursive::Enabled => {}
                Recursive::Disabled => add("bind-recursive", "disabled"),
                Recursive::Writable => add("bind-recursive", "writable"),
                Recursive::ReadOnly => add("bind-recursive", "readonly"),
            }
        }
        MountKind::Volume { name, anonymous, no_copy, subpath, labels, options } => {
            add("type", "volume");
            if let Some(name) = name.as_ref().filter(|_| !anonymous) {
                add("source", name.as_str());
            }
            if *no_copy {
                add("volume-nocopy", "true");
            }
            if !subpath.is_empty() {
                add("volume-subpath", subpath);
            }
            for (key, value) in labels {
                add("volume-label", &format!("{key}={value}"));
            }
            for (key, value) in options {
                add("volume-opt", &format!("{key}={value}"));
            }
        }
        MountKind::Image { name, subpath, .. } => {
            add("type", "image");
            add("source", name);
            if !subpath.is_empty() {
                add("image-subpath", subpath);
            }
        }
        MountKind::Tmpfs { size, mode, .. } => {
            add("type", "tmpfs");
            if let Some(size) = size {
                add("tmpfs-size", &size.to_string());
            }
            if let Some(mode) = mode {
                add("tmpfs-mode", &format!("{mode:o}"));
            }
        }
    }
    if mount.chown {
        add("chown", "true");
    }
    add("target", &mount.target);
    if mount.read_only && !matches!(mount.kind, MountKind::Image { .. }) {
        fields.push("readonly".to_owned());
    }
    let quoted = fields.into_iter().map(|field| {
        let plain = !field.contains(['"', ',', '\n', '\r']);
        if plain { field } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    });
    quoted.collect::<Vec<_>>().join(",")
}

fn limits(words: &mut Words, host: &HostConfig) {
    let (limits, devices) = (&host.resources, &host.devices);
    words.some("--memory", limits.memory);
    words.some("--memory-swap", limits.memory_swap);
    words.some("--memory-reservation", limits.memory_reservation);
    words.some("--memory-swappiness", limits.memory_swappiness);
    words.switch("--oom-kill-disable", limits.oom_kill_disable);
    words.some("--cpus", limits.nano_cpus.filter(|nano| *nano > 0).map(cpus));
    words.some("--cpu-shares", limits.cpu_shares);
    words.some("--cpu-period", limits.cpu_period);
    words.some("--cpu-quota", limits.cpu_quota);
    words.some("--cpuset-cpus", limits.cpuset_cpus.as_ref());
    words.some("--cpuset-mems", limits.cpuset_mems.as_ref());
    if limits.pids_limit != Resources::defaults().pids_limit {
        words.value("--pids-limit", &limits.pids_limit.unwrap_or(-1).to_string());
    }
    words.some("--blkio-weight", limits.blkio_weight);
    words.all(
        "--blkio-weight-device",
        limits.device_weights.iter().map(|one| format!("{}:{}", one.path, one.weight)),
    );
    let rates = |rates: &[DeviceRate]| {
        rates.iter().map(|one| format!("{}:{}", one.path, one.rate)).collect::<Vec<_>>()
    };
    words.all("--device-read-bps", rates(&limits.device_read_bps));
    words.all("--device-read-iops", rates(&limits.device_read_iops));
    words.all("--device-write-bps", rates(&limits.device_write_bps));
    words.all("--device-write-iops", rates(&limits.device_write_iops));
    words.all(
        "--hugetlb-limit",
        limits.hugetlb_limits.iter().map(|one| format!("{}={}", one.page_size, one.limit)),
    );
    for device in devices {
        let inside =
            if device.container == device.host { String::new() } else { format!(":{}", device.container) };
        let may =
            if device.permissions == "rwm" { String::new() } else { format!(":{}", device.permissions) };
        words.value("--device", &format!("{}{inside}{may}", device.host));
    }
    for request in &host.device_requests {
        if request.is_cdi() {
            words.all("--device", &request.ids);
        } else {
            words.value("--gpus", &request.as_gpus());
        }
    }
    // Those of the devices stand behind those that were asked for.
    let brought = device_rules(devices);
    let asked = limits.device_cgroup_rules.strip_suffix(&brought[..]).unwrap_or(&limits.device_cgroup_rules);
    words.all("--device-cgroup-rule", asked);
}

/// Billionths as `--cpus` takes them.
fn cpus(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn security(words: &mut Words, host: &HostConfig) {
    words.switch("--privileged", host.privileged);
    words.all("--cap-add", &host.cap_add);
    words.all("--cap-drop", &host.cap_drop);
    words.all("--group-add", &host.group_add);
    match &host.seccomp {
        SeccompMode::Default => {}
        SeccompMode::Unconfined => words.value("--security-opt", "seccomp=unconfined"),
        SeccompMode::Profile(text) => words.value("--security-opt", &format!("seccomp={text}")),
    }
    let apparmor = Some(&host.apparmor).filter(|profile| !profile.is_empty());
    words.some("--security-opt", apparmor.map(|profile| format!("apparmor={profile}")));
    words.some("--security-opt", host.no_new_privileges.then_some("no-new-privileges"));
    words.some("--security-opt", host.system_paths_unconfined.then_some("systempaths=unconfined"));
    words.all("--ulimit", &host.ulimits);
    words.pairs("--sysctl", &host.sysctls);
    words.some("--oom-score-adj", host.oom_score_adj);
}

fn life(words: &mut Words, host: &HostConfig) {
    words.switch("--rm", host.auto_remove);
    words.some("--restart", Some(host.restart).filter(|policy| *policy != RestartPolicy::default()));
    words.some("--timeout", host.timeout);
    words.switch("--init", host.init);
    words.some(
        "--log-driver",
        Some(host.log_driver).filter(|driver| *driver != LogDriver::default()).map(LogDriver::as_str),
    );
    words.pairs("--log-opt", &host.log_opts);
    words.pairs("--annotation", &host.annotations);
    words.some("--pidfile", host.pid_file.as_ref());
}

/// The image and what is run. An entrypoint takes the image's command with it.
fn command(words: &mut Words, record: &ContainerRecord, image: &RunConfig, is_named: bool) {
    let config = &record.config;
    let (entrypoint, cmd) =
        (image.entrypoint.clone().unwrap_or_default(), image.cmd.clone().unwrap_or_default());
    let drops_command = config.cmd.is_empty() && !cmd.is_empty();
    let replaced = config.entrypoint != entrypoint || drops_command;
    let (first, rest) = config.entrypoint.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    words.some("--entrypoint", replaced.then_some(first));
    words.switch("--rootfs", record.image_id.is_empty());
    let by_name = is_named || record.image_id.is_empty();
    words.word(if by_name { &record.image } else { &record.image_id });
    if replaced {
        words.0.extend(rest.iter().chain(&config.cmd).cloned());
    } else if config.cmd != cmd {
        words.0.extend(config.cmd.iter().cloned());
    }
}
