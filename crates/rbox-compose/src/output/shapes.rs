//! The fields of each thing in a project, in the order in which Compose writes them, and what each is.

/// What a value becomes.
pub(crate) enum Shape {
    /// A text; an integer becomes one.
    Text,
    Bool,
    /// Written also when it is false.
    MaybeBool,
    Int,
    /// Written also when it is 0.
    MaybeInt,
    Float,
    /// `deploy.resources.….cpus`.
    Cpus,
    /// A size with a unit, written as a text of digits.
    Bytes,
    Duration,
    /// Written also when it is 0.
    MaybeDuration,
    /// Texts, or one.
    Texts,
    /// Texts or numbers.
    Numbers,
    /// Words, or a text that is cut into words.
    Command,
    HealthTest,
    /// `KEY=VALUE`, where a key without a value is null.
    Env,
    /// The same, where it is empty.
    Mapping,
    Labels,
    Options,
    MultiOptions,
    Hosts,
    Ssh,
    Ulimits,
    EnvFiles,
    /// The mode of a file, written in octal.
    Mode,
    /// How many devices; `all` is -1.
    Count,
    /// A struct that JSON has always, and YAML when something is in it.
    Struct(&'static [Field]),
    /// A struct that is there or not.
    Maybe(&'static [Field]),
    List(&'static [Field]),
    Map(&'static [Field]),
    /// A map whose values may be null.
    MaybeMap(&'static [Field]),
}

/// A field of a struct.
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) shape: Shape,
    pub(crate) keep: Keep,
    /// Its name in JSON, where it is another one.
    pub(crate) json: Option<&'static str>,
}

/// When a field is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// When it is not zero.
    Set,
    Always,
    /// In JSON always.
    Json,
    /// In YAML only.
    Yaml,
}

const fn f(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, keep: Keep::Set, json: None }
}

const fn kept(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, keep: Keep::Always, json: None }
}

const fn in_json(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, keep: Keep::Json, json: None }
}

const fn titled(key: &'static str, json: &'static str, shape: Shape) -> Field {
    Field { key, shape, keep: Keep::Always, json: Some(json) }
}

use Shape::{
    Bool, Bytes, Command, Count, Cpus, Duration, Env, EnvFiles, Float, HealthTest, Hosts, Int, Labels, List,
    Map, Mapping, Maybe, MaybeBool, MaybeDuration, MaybeInt, MaybeMap, Mode, MultiOptions, Numbers, Options,
    Ssh, Struct, Text, Texts, Ulimits,
};

/// A project.
pub(crate) static PROJECT: &[Field] = &[
    f("name", Text),
    kept("services", Map(SERVICE)),
    f("networks", Map(NETWORK)),
    f("volumes", Map(VOLUME)),
    f("secrets", Map(FILE_OBJECT)),
    f("configs", Map(FILE_OBJECT)),
    Field { key: "models", shape: Map(MODEL), keep: Keep::Yaml, json: None },
];

/// A service.
pub(crate) static SERVICE: &[Field] = &[
    f("profiles", Texts),
    f("annotations", Mapping),
    f("attach", MaybeBool),
    f("build", Maybe(BUILD)),
    f("develop", Maybe(DEVELOP)),
    f("blkio_config", Maybe(BLKIO)),
    f("cap_add", Texts),
    f("cap_drop", Texts),
    f("cgroup_parent", Text),
    f("cgroup", Text),
    f("cpu_count", Int),
    f("cpu_percent", Float),
    f("cpu_period", Int),
    f("cpu_quota", Int),
    f("cpu_rt_period", Int),
    f("cpu_rt_runtime", Int),
    f("cpus", Float),
    f("cpuset", Text),
    f("cpu_shares", Int),
    in_json("command", Command),
    f("configs", List(MOUNTED_FILE)),
    f("container_name", Text),
    f("credential_spec", Maybe(CREDENTIAL_SPEC)),
    f("depends_on", Map(DEPENDENCY)),
    f("deploy", Maybe(DEPLOY)),
    f("device_cgroup_rules", Texts),
    f("devices", List(DEVICE)),
    f("dns", Texts),
    f("dns_opt", Texts),
    f("dns_search", Texts),
    f("domainname", Text),
    in_json("entrypoint", Command),
    f("provider", Maybe(PROVIDER)),
    f("environment", Env),
    f("env_file", EnvFiles),
    f("expose", Numbers),
    f("extends", Maybe(EXTENDS)),
    f("external_links", Texts),
    f("extra_hosts", Hosts),
    f("group_add", Numbers),
    f("gpus", List(DEVICE_REQUEST)),
    f("hostname", Text),
    f("healthcheck", Maybe(HEALTHCHECK)),
    f("image", Text),
    f("init", MaybeBool),
    f("ipc", Text),
    f("isolation", Text),
    f("labels", Labels),
    f("label_file", Texts),
    f("links", Texts),
    f("logging", Maybe(LOGGING)),
    f("mem_limit", Bytes),
    f("mem_reservation", Bytes),
    f("memswap_limit", Bytes),
    f("mem_swappiness", Bytes),
    f("mac_address", Text),
    f("models", MaybeMap(SERVICE_MODEL)),
    f("network_mode", Text),
    f("networks", MaybeMap(SERVICE_NETWORK)),
    f("oom_kill_disable", Bool),
    f("oom_score_adj", Int),
    f("pid", Text),
    f("pids_limit", Int),
    f("platform", Text),
    f("ports", List(PORT)),
    f("privileged", Bool),
    f("pull_policy", Text),
    f("pull_refresh_after", Text),
    f("read_only", Bool),
    f("restart", Text),
    f("runtime", Text),
    f("scale", MaybeInt),
    f("secrets", List(MOUNTED_FILE)),
    f("security_opt", Texts),
    f("shm_size", Bytes),
    f("stdin_open", Bool),
    f("stop_grace_period", MaybeDuration),
    f("stop_signal", Text),
    f("storage_opt", Options),
    f("sysctls", Mapping),
    f("tmpfs", Texts),
    f("tty", Bool),
    f("ulimits", Ulimits),
    f("use_api_socket", Bool),
    f("user", Text),
    f("userns_mode", Text),
    f("uts", Text),
    f("volumes", List(MOUNT)),
    f("volumes_from", Texts),
    f("working_dir", Text),
    f("pre_start", List(HOOK)),
    f("post_start", List(HOOK)),
    f("pre_stop", List(HOOK)),
];

static BUILD: &[Field] = &[
    f("context", Text),
    f("dockerfile", Text),
    f("dockerfile_inline", Text),
    f("entitlements", Texts),
    f("args", Env),
    f("provenance", Text),
    f("sbom", Text),
    f("ssh", Ssh),
    f("labels", Labels),
    f("cache_from", Texts),
    f("cache_to", Texts),
    f("no_cache", Bool),
    f("no_cache_filter", Texts),
    f("additional_contexts", Mapping),
    f("pull", Bool),
    f("extra_hosts", Hosts),
    f("isolation", Text),
    f("network", Text),
    f("target", Text),
    f("secrets", List(MOUNTED_FILE)),
    f("shm_size", Bytes),
    f("tags", Texts),
    f("ulimits", Ulimits),
    f("platforms", Texts),
    f("privileged", Bool),
];

static DEVELOP: &[Field] = &[f("watch", List(WATCH))];
static WATCH: &[Field] = &[
    kept("path", Text),
    kept("action", Text),
    f("target", Text),
    f("exec", Struct(EXEC)),
    f("include", Texts),
    f("ignore", Texts),
    f("initial_sync", Bool),
];
static EXEC: &[Field] = &[
    in_json("command", Command),
    f("user", Text),
    f("privileged", Bool),
    f("working_dir", Text),
    f("environment", Env),
];
static HOOK: &[Field] = &[
    in_json("command", Command),
    f("image", Text),
    f("user", Text),
    f("privileged", Bool),
    f("working_dir", Text),
    f("environment", Env),
    f("per_replica", MaybeBool),
];
static BLKIO: &[Field] = &[
    f("weight", Int),
    f("weight_device", List(BLKIO_WEIGHT)),
    f("device_read_bps", List(BLKIO_RATE)),
    f("device_read_iops", List(BLKIO_RATE)),
    f("device_write_bps", List(BLKIO_RATE)),
    f("device_write_iops", List(BLKIO_RATE)),
];
static BLKIO_WEIGHT: &[Field] = &[titled("path", "Path", Text), titled("weight", "Weight", Int)];
static BLKIO_RATE: &[Field] = &[titled("path", "Path", Text), titled("rate", "Rate", Bytes)];
static MOUNTED_FILE: &[Field] =
    &[f("source", Text), f("target", Text), f("uid", Text), f("gid", Text), f("mode", Mode)];
static CREDENTIAL_SPEC: &[Field] = &[f("config", Text), f("file", Text), f("registry", Text)];
static DEPENDENCY: &[Field] = &[f("condition", Text), f("restart", Bool), kept("required", Bool)];
static DEVICE: &[Field] = &[f("source", Text), f("target", Text), f("permissions", Text)];
static PROVIDER: &[Field] = &[f("type", Text), f("options", MultiOptions)];
static EXTENDS: &[Field] = &[f("file", Text), f("service", Text)];
static HEALTHCHECK: &[Field] = &[
    f("test", HealthTest),
    f("timeout", MaybeDuration),
    f("interval", MaybeDuration),
    f("retries", MaybeInt),
    f("start_period", MaybeDuration),
    f("start_interval", MaybeDuration),
    f("disable", Bool),
];
static LOGGING: &[Field] = &[f("driver", Text), f("options", Options)];
static SERVICE_MODEL: &[Field] = &[f("endpoint_var", Text), f("model_var", Text)];
static SERVICE_NETWORK: &[Field] = &[
    f("aliases", Texts),
    f("driver_opts", Options),
    f("gw_priority", Int),
    f("interface_name", Text),
    f("ipv4_address", Text),
    f("ipv6_address", Text),
    f("link_local_ips", Texts),
    f("mac_address", Text),
    f("priority", Int),
];
static PORT: &[Field] = &[
    f("name", Text),
    f("mode", Text),
    f("host_ip", Text),
    f("target", Int),
    f("published", Text),
    f("protocol", Text),
    f("app_protocol", Text),
];
static MOUNT: &[Field] = &[
    f("type", Text),
    f("source", Text),
    f("target", Text),
    f("read_only", Bool),
    f("consistency", Text),
    f("bind", Maybe(MOUNT_BIND)),
    f("volume", Maybe(MOUNT_VOLUME)),
    f("tmpfs", Maybe(MOUNT_TMPFS)),
    f("image", Maybe(MOUNT_IMAGE)),
];
static MOUNT_BIND: &[Field] =
    &[f("selinux", Text), f("propagation", Text), f("create_host_path", Bool), f("recursive", Text)];
static MOUNT_VOLUME: &[Field] = &[f("labels", Mapping), f("nocopy", Bool), f("subpath", Text)];
static MOUNT_TMPFS: &[Field] = &[f("size", Bytes), f("mode", Int)];
static MOUNT_IMAGE: &[Field] = &[f("subpath", Text)];

static DEPLOY: &[Field] = &[
    f("mode", Text),
    f("replicas", MaybeInt),
    f("labels", Labels),
    f("update_config", Maybe(UPDATE)),
    f("rollback_config", Maybe(UPDATE)),
    f("resources", Struct(RESOURCES)),
    f("restart_policy", Maybe(RESTART_POLICY)),
    f("placement", Struct(PLACEMENT)),
    f("endpoint_mode", Text),
];
static UPDATE: &[Field] = &[
    f("parallelism", MaybeInt),
    f("delay", Duration),
    f("failure_action", Text),
    f("monitor", Duration),
    f("max_failure_ratio", Float),
    f("order", Text),
];
static RESOURCES: &[Field] = &[f("limits", Maybe(RESOURCE)), f("reservations", Maybe(RESOURCE))];
static RESOURCE: &[Field] = &[
    f("cpus", Cpus),
    f("memory", Bytes),
    f("pids", Int),
    f("devices", List(DEVICE_REQUEST)),
    f("generic_resources", List(GENERIC_RESOURCE)),
];
static DEVICE_REQUEST: &[Field] = &[
    f("capabilities", Texts),
    f("driver", Text),
    f("count", Count),
    f("device_ids", Texts),
    f("options", Mapping),
];
static GENERIC_RESOURCE: &[Field] = &[f("discrete_resource_spec", Maybe(DISCRETE))];
static DISCRETE: &[Field] = &[kept("kind", Text), kept("value", Int)];
static RESTART_POLICY: &[Field] = &[
    f("condition", Text),
    f("delay", MaybeDuration),
    f("max_attempts", MaybeInt),
    f("window", MaybeDuration),
];
static PLACEMENT: &[Field] =
    &[f("constraints", Texts), f("preferences", List(PREFERENCE)), f("max_replicas_per_node", Int)];
static PREFERENCE: &[Field] = &[f("spread", Text)];

/// A network.
static NETWORK: &[Field] = &[
    f("name", Text),
    f("driver", Text),
    f("driver_opts", Options),
    f("ipam", Struct(IPAM)),
    f("external", Bool),
    f("internal", Bool),
    f("attachable", Bool),
    f("labels", Labels),
    f("enable_ipv4", MaybeBool),
    f("enable_ipv6", MaybeBool),
];
static IPAM: &[Field] = &[f("driver", Text), f("config", List(IPAM_POOL)), f("options", Options)];
static IPAM_POOL: &[Field] =
    &[f("subnet", Text), f("gateway", Text), f("ip_range", Text), f("aux_addresses", Mapping)];

/// A volume.
static VOLUME: &[Field] = &[
    f("name", Text),
    f("driver", Text),
    f("driver_opts", Options),
    f("external", Bool),
    f("labels", Labels),
];

/// A secret or a config.
static FILE_OBJECT: &[Field] = &[
    f("name", Text),
    f("file", Text),
    f("environment", Text),
    f("content", Text),
    f("external", Bool),
    f("labels", Labels),
    f("driver", Text),
    f("driver_opts", Options),
    f("template_driver", Text),
];
static MODEL: &[Field] =
    &[f("name", Text), f("model", Text), f("context_size", Int), f("runtime_flags", Texts)];
