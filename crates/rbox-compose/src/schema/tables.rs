//! The tables: every key of the Compose specification.

use super::rules::{Rule, Type};

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

pub(super) fn is_any(_: &str) -> bool {
    true
}

pub(super) fn is_container_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 1
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

pub(super) fn is_pull_policy(policy: &str) -> bool {
    const POLICIES: &[&str] =
        &["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    let every = |span: &str| crate::output::parse_duration(span).is_ok_and(|nanos| nanos > 0);
    POLICIES.contains(&policy) || policy.strip_prefix("every_").is_some_and(every)
}

pub(super) static TEXT: Rule = Rule::Of(&[Type::Text]);
pub(super) static BOOL: Rule = Rule::Of(&[Type::Bool, Type::Text]);
pub(super) static INT: Rule = Rule::Of(&[Type::Int, Type::Text]);
pub(super) static NUMBER: Rule = Rule::Of(&[Type::Number, Type::Text]);
pub(super) static ONLY_BOOL: Rule = Rule::Of(&[Type::Bool]);
pub(super) static ONLY_INT: Rule = Rule::Of(&[Type::Int]);
pub(super) static ONLY_NUMBER: Rule = Rule::Of(&[Type::Number]);
pub(super) static TEXT_OR_NULL: Rule = Rule::Of(&[Type::Text, Type::Null]);
pub(super) static NUMBER_OR_NULL: Rule = Rule::Of(&[Type::Text, Type::Number, Type::Null]);
pub(super) static SCALAR: Rule = Rule::Of(&[Type::Text, Type::Number, Type::Bool]);
pub(super) static SCALAR_OR_NULL: Rule = Rule::Of(&[Type::Text, Type::Number, Type::Bool, Type::Null]);
pub(super) static HEALTHCHECK: Rule = Rule::Keys {
    keys: &[
        ("disable", &BOOL),
        ("interval", &TEXT),
        ("retries", &NUMBER),
        ("test", &Rule::Either(&[Rule::Of(&[Type::Text]), Rule::List { of: &TEXT, unique: false }])),
        ("timeout", &TEXT),
        ("start_period", &TEXT),
        ("start_interval", &TEXT),
    ],
    required: &[],
    extensible: true,
    nullable: false,
};

pub(super) static DEVELOP: Rule = Rule::Keys {
    keys: &[(
        "watch",
        &Rule::List {
            of: &Rule::Keys {
                keys: &[
                    ("ignore", &TEXT_OR_LIST),
                    ("include", &TEXT_OR_LIST),
                    ("path", &TEXT),
                    ("action", &Rule::Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
                    ("target", &TEXT),
                    ("exec", &HOOK),
                    ("initial_sync", &ONLY_BOOL),
                ],
                required: &["path", "action"],
                extensible: true,
                nullable: false,
            },
            unique: false,
        },
    )],
    required: &[],
    extensible: true,
    nullable: true,
};

pub(super) static DEPLOY: Rule = Rule::Keys {
    keys: &[
        ("mode", &TEXT),
        ("endpoint_mode", &TEXT),
        ("replicas", &INT),
        ("labels", &LIST_OR_DICT),
        (
            "rollback_config",
            &Rule::Keys {
                keys: &[
                    ("parallelism", &INT),
                    ("delay", &TEXT),
                    ("failure_action", &TEXT),
                    ("monitor", &TEXT),
                    ("max_failure_ratio", &NUMBER),
                    ("order", &Rule::Word(&["start-first", "stop-first"])),
                ],
                required: &[],
                extensible: true,
                nullable: false,
            },
        ),
        (
            "update_config",
            &Rule::Keys {
                keys: &[
                    ("parallelism", &INT),
                    ("delay", &TEXT),
                    ("failure_action", &TEXT),
                    ("monitor", &TEXT),
                    ("max_failure_ratio", &NUMBER),
                    ("order", &Rule::Word(&["start-first", "stop-first"])),
                ],
                required: &[],
                extensible: true,
                nullable: false,
            },
        ),
        (
            "resources",
            &Rule::Keys {
                keys: &[
                    (
                        "limits",
                        &Rule::Keys {
                            keys: &[("cpus", &NUMBER), ("memory", &TEXT), ("pids", &INT)],
                            required: &[],
                            extensible: true,
                            nullable: false,
                        },
                    ),
                    (
                        "reservations",
                        &Rule::Keys {
                            keys: &[
                                ("cpus", &NUMBER),
                                ("memory", &TEXT),
                                ("generic_resources", &GENERIC_RESOURCES),
                                ("devices", &DEVICES),
                            ],
                            required: &[],
                            extensible: true,
                            nullable: false,
                        },
                    ),
                ],
                required: &[],
                extensible: true,
                nullable: false,
            },
        ),
        (
            "restart_policy",
            &Rule::Keys {
                keys: &[("condition", &TEXT), ("delay", &TEXT), ("max_attempts", &INT), ("window", &TEXT)],
                required: &[],
                extensible: true,
                nullable: false,
            },
        ),
        (
            "placement",
            &Rule::Keys {
                keys: &[
                    ("constraints", &Rule::List { of: &TEXT, unique: false }),
                    (
                        "preferences",
                        &Rule::List {
                            of: &Rule::Keys {
                                keys: &[("spread", &TEXT)],
                                required: &[],
                                extensible: true,
                                nullable: false,
                            },
                            unique: false,
                        },
                    ),
                    ("max_replicas_per_node", &INT),
                ],
                required: &[],
                extensible: true,
                nullable: false,
            },
        ),
    ],
    required: &[],
    extensible: true,
    nullable: true,
};

pub(super) static GENERIC_RESOURCES: Rule = Rule::List {
    of: &Rule::Keys {
        keys: &[(
            "discrete_resource_spec",
            &Rule::Keys {
                keys: &[("kind", &TEXT), ("value", &NUMBER)],
                required: &[],
                extensible: true,
                nullable: false,
            },
        )],
        required: &[],
        extensible: true,
        nullable: false,
    },
    unique: false,
};

pub(super) static DEVICES: Rule = Rule::List {
    of: &Rule::Keys {
        keys: &[
            ("capabilities", &TEXTS),
            ("count", &INT),
            ("device_ids", &TEXTS),
            ("driver", &TEXT),
            ("options", &LIST_OR_DICT),
        ],
        required: &["capabilities"],
        extensible: true,
        nullable: false,
    },
    unique: false,
};

pub(super) static GPUS: Rule = Rule::Either(&[
    Rule::Word(&["all"]),
    Rule::List {
        of: &Rule::Keys {
            keys: &[
                ("capabilities", &TEXTS),
                ("count", &INT),
                ("device_ids", &TEXTS),
                ("driver", &TEXT),
                ("options", &LIST_OR_DICT),
            ],
            required: &[],
            extensible: false,
            nullable: false,
        },
        unique: false,
    },
]);

/// An entry of `include`.
pub(crate) static INCLUDE: Rule = Rule::Either(&[
    Rule::Of(&[Type::Text]),
    Rule::Keys {
        keys: &[("path", &TEXT_OR_LIST), ("env_file", &TEXT_OR_LIST), ("project_directory", &TEXT)],
        required: &[],
        extensible: false,
        nullable: false,
    },
]);

pub(super) static NETWORK: Rule = Rule::Keys {
    keys: &[
        ("name", &TEXT),
        ("driver", &TEXT),
        ("driver_opts", &Rule::Named { of: &NUMBER, name: is_any, nullable: false }),
        (
            "ipam",
            &Rule::Keys {
                keys: &[
                    ("driver", &TEXT),
                    (
                        "config",
                        &Rule::List {
                            of: &Rule::Keys {
                                keys: &[
                                    ("subnet", &TEXT),
                                    ("ip_range", &TEXT),
                                    ("gateway", &TEXT),
                                    (
                                        "aux_addresses",
                                        &Rule::Named { of: &TEXT, name: is_any, nullable: false },
                                    ),
                                ],
                                required: &[],
                                extensible: true,
                                nullable: false,
                            },
                            unique: false,
                        },
                    ),
                    ("options", &Rule::Named { of: &TEXT, name: is_any, nullable: false }),
                ],
                required: &[],
                extensible: true,
                nullable: false,
            },
        ),
        (
            "external",
            &Rule::Either(&[
                Rule::Of(&[Type::Bool, Type::Text]),
                Rule::Keys { keys: &[("name", &TEXT)], required: &[], extensible: true, nullable: false },
            ]),
        ),
        ("internal", &BOOL),
        ("enable_ipv4", &BOOL),
        ("enable_ipv6", &BOOL),
        ("attachable", &BOOL),
        ("labels", &LIST_OR_DICT),
    ],
    required: &[],
    extensible: true,
    nullable: true,
};

pub(super) static VOLUME: Rule = Rule::Keys {
    keys: &[
        ("name", &TEXT),
        ("driver", &TEXT),
        ("driver_opts", &Rule::Named { of: &NUMBER, name: is_any, nullable: false }),
        (
            "external",
            &Rule::Either(&[
                Rule::Of(&[Type::Bool, Type::Text]),
                Rule::Keys { keys: &[("name", &TEXT)], required: &[], extensible: true, nullable: false },
            ]),
        ),
        ("labels", &LIST_OR_DICT),
    ],
    required: &[],
    extensible: true,
    nullable: true,
};

pub(super) static SECRET: Rule = Rule::Keys {
    keys: &[
        ("name", &TEXT),
        ("environment", &TEXT),
        ("file", &TEXT),
        (
            "external",
            &Rule::Either(&[
                Rule::Of(&[Type::Bool, Type::Text]),
                Rule::Keys { keys: &[("name", &TEXT)], required: &[], extensible: false, nullable: false },
            ]),
        ),
        ("labels", &LIST_OR_DICT),
        ("driver", &TEXT),
        ("driver_opts", &Rule::Named { of: &NUMBER, name: is_any, nullable: false }),
        ("template_driver", &TEXT),
    ],
    required: &[],
    extensible: true,
    nullable: false,
};

pub(super) static CONFIG: Rule = Rule::Keys {
    keys: &[
        ("name", &TEXT),
        ("content", &TEXT),
        ("environment", &TEXT),
        ("file", &TEXT),
        (
            "external",
            &Rule::Either(&[
                Rule::Of(&[Type::Bool, Type::Text]),
                Rule::Keys { keys: &[("name", &TEXT)], required: &[], extensible: false, nullable: false },
            ]),
        ),
        ("labels", &LIST_OR_DICT),
        ("template_driver", &TEXT),
    ],
    required: &[],
    extensible: true,
    nullable: false,
};

pub(super) static MODEL: Rule = Rule::Keys {
    keys: &[
        ("name", &TEXT),
        ("model", &TEXT),
        ("context_size", &ONLY_INT),
        ("runtime_flags", &Rule::List { of: &TEXT, unique: false }),
    ],
    required: &["model"],
    extensible: true,
    nullable: false,
};

pub(super) static COMMAND: Rule =
    Rule::Either(&[Rule::Of(&[Type::Null, Type::Text]), Rule::List { of: &TEXT, unique: false }]);

pub(super) static HOOK: Rule = Rule::Keys {
    keys: &[
        ("command", &COMMAND),
        ("user", &TEXT),
        ("privileged", &BOOL),
        ("working_dir", &TEXT),
        ("environment", &LIST_OR_DICT),
    ],
    required: &["command"],
    extensible: true,
    nullable: false,
};

pub(super) static PRE_START: Rule = Rule::Keys {
    keys: &[
        ("command", &COMMAND),
        ("image", &TEXT),
        ("user", &TEXT),
        ("privileged", &BOOL),
        ("working_dir", &TEXT),
        ("environment", &LIST_OR_DICT),
        ("per_replica", &BOOL),
    ],
    required: &[],
    extensible: true,
    nullable: false,
};

pub(super) static ENV_FILE: Rule = Rule::Either(&[
    Rule::Of(&[Type::Text]),
    Rule::List {
        of: &Rule::Either(&[
            Rule::Of(&[Type::Text]),
            Rule::Keys {
                keys: &[("path", &TEXT), ("format", &TEXT), ("required", &BOOL)],
                required: &["path"],
                extensible: false,
                nullable: false,
            },
        ]),
        unique: false,
    },
]);

pub(super) static LABEL_FILE: Rule =
    Rule::Either(&[Rule::Of(&[Type::Text]), Rule::List { of: &TEXT, unique: false }]);

pub(super) static TEXT_OR_LIST: Rule = Rule::Either(&[Rule::Of(&[Type::Text]), Rule::Ref(&TEXTS)]);

pub(super) static TEXTS: Rule = Rule::List { of: &TEXT, unique: true };

pub(super) static LIST_OR_DICT: Rule = Rule::Either(&[
    Rule::Named { of: &SCALAR_OR_NULL, name: is_any, nullable: false },
    Rule::List { of: &TEXT, unique: true },
]);

pub(super) static EXTRA_HOSTS: Rule = Rule::Either(&[
    Rule::Named {
        of: &Rule::Either(&[Rule::Of(&[Type::Text]), Rule::List { of: &TEXT, unique: false }]),
        name: is_any,
        nullable: false,
    },
    Rule::List { of: &TEXT, unique: true },
]);

pub(super) static BLKIO_LIMIT: Rule = Rule::Keys {
    keys: &[("path", &TEXT), ("rate", &INT)],
    required: &[],
    extensible: false,
    nullable: false,
};

pub(super) static BLKIO_WEIGHT: Rule = Rule::Keys {
    keys: &[("path", &TEXT), ("weight", &INT)],
    required: &[],
    extensible: false,
    nullable: false,
};

pub(super) static FILES: Rule = Rule::List {
    of: &Rule::Either(&[
        Rule::Of(&[Type::Text]),
        Rule::Keys {
            keys: &[("source", &TEXT), ("target", &TEXT), ("uid", &TEXT), ("gid", &TEXT), ("mode", &NUMBER)],
            required: &[],
            extensible: true,
            nullable: false,
        },
    ]),
    unique: false,
};

pub(super) static ULIMITS: Rule = Rule::Named {
    of: &Rule::Either(&[
        Rule::Of(&[Type::Int, Type::Text]),
        Rule::Keys {
            keys: &[("hard", &INT), ("soft", &INT)],
            required: &["soft", "hard"],
            extensible: true,
            nullable: false,
        },
    ]),
    name: is_any,
    nullable: false,
};
