//! The one table of settings: it drives defaults, the check for unknown keys, `onnxd config` and the README.

/// One setting: where it can be set and what it means.
#[derive(Debug)]
pub struct Key {
    /// `section.key`, as in the file.
    pub name: &'static str,
    /// The default as it would be written; empty where there is none.
    pub default: &'static str,
    /// Environment variables that are honoured beside [`Key::variable`], which wins over them, as the first does
    /// over the others.
    pub aliases: &'static [&'static str],
    /// The command line's flag.
    pub flag: Option<&'static str>,
    /// What the setting does, its unit and its valid values.
    pub meaning: &'static str,
}

impl Key {
    /// The environment variable of this setting.
    pub fn variable(&self) -> String {
        format!(
            "{}{}",
            VARIABLE_PREFIX,
            self.name.replace('.', "__").to_uppercase()
        )
    }
}

/// What every environment variable of onnxd begins with.
pub const VARIABLE_PREFIX: &str = "ONNXD_";

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        default,
        aliases: &[],
        flag: None,
        meaning,
    }
}

/// Every setting there is.
pub const KEYS: &[Key] = &[
    Key {
        flag: Some("--address"),
        ..key("server.address", "0.0.0.0", "IP address to listen on")
    },
    Key {
        aliases: &["PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"],
        flag: Some("--port"),
        ..key(
            "server.port",
            "8000",
            "HTTP port; 0 lets the system choose one",
        )
    },
    Key {
        flag: Some("--grpc-port"),
        ..key(
            "server.grpc_port",
            "8001",
            "gRPC port; 0 lets the system choose one, `off` serves no gRPC",
        )
    },
    key(
        "server.admin_address",
        "",
        "`ip:port` for health, metrics and model control, which are then not on the HTTP port, but for health; none is one port for all",
    ),
    key(
        "server.drain_delay_ms",
        "5000",
        "after SIGTERM, milliseconds to go on serving new requests while endpoints are removed",
    ),
    key(
        "server.request_timeout_ms",
        "30000",
        "milliseconds that a request may take; caps any deadline it names",
    ),
    Key {
        aliases: &["AIP_HEALTH_ROUTE"],
        ..key(
            "server.health_route",
            "",
            "a further path that answers like `/health/ready`, such as `/healthz`",
        )
    },
    Key {
        aliases: &["AIP_PREDICT_ROUTE"],
        ..key(
            "server.predict_route",
            "",
            "a further path that answers like `/predict`",
        )
    },
    key(
        "server.header_timeout_ms",
        "10000",
        "milliseconds for the head of a request, from its first byte on",
    ),
    key(
        "server.body_timeout_ms",
        "30000",
        "milliseconds for the whole body of a request, and for a client that takes no more of its answer",
    ),
    key(
        "server.idle_timeout_ms",
        "620000",
        "milliseconds that a connection may stay open without a request; keep it longer than what is in front does",
    ),
    key(
        "server.max_connections",
        "10000",
        "most open connections over all ports; beyond them those without a request for the longest time are closed",
    ),
    key(
        "server.cors_origins",
        "",
        "web origins that may call from a browser, separated by commas, or `*`; empty is off",
    ),
    key(
        "limits.body_bytes",
        "64MiB",
        "largest request body, also after decompression: bytes, or a number with KiB, MiB or GiB",
    ),
    key(
        "limits.bodies_in_flight_bytes",
        "auto",
        "what all requests in flight may take of the memory together: bodies, inputs, outputs, and answers until they are written; beyond it they get 429, and one that alone takes more 413. `auto` is a quarter of the memory limit of the cgroup, 1GiB without one",
    ),
    key(
        "limits.tensor_elements",
        "67108864",
        "most elements of one tensor in a request",
    ),
    key(
        "limits.json_depth",
        "32",
        "deepest nesting of arrays in a request, 2 to 100",
    ),
    Key {
        aliases: &["AIP_STORAGE_URI"],
        flag: Some("--models"),
        ..key(
            "repository.path",
            "models",
            "model repository: a folder of models, one `.onnx` file, or a URL of either: `s3://`, `gs://`, `az://`, `http(s)://`",
        )
    },
    key(
        "repository.cache_path",
        "auto",
        "folder that a repository with a URL is mirrored into; `auto` is `onnxd` in the system's folder for caches, else for temporary files",
    ),
    key(
        "repository.cache_bytes",
        "auto",
        "what the mirror may take, old and new files together: bytes, or a number with KiB, MiB or GiB; `auto` is what the disk has free",
    ),
    key(
        "repository.mode",
        "watch",
        "`watch` loads the models and whatever changes in the repository while it serves; `static` loads them at start; `explicit` does too, and lets clients load, reload and unload them",
    ),
    key(
        "repository.poll_ms",
        "auto",
        "with `watch`, milliseconds between two looks at the repository where the file system tells of no change; `auto` is 2000 for a folder",
    ),
    key(
        "repository.require_all",
        "true",
        "not ready while any model that was found has no served version",
    ),
    Key {
        aliases: &["SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"],
        ..key(
            "models.default",
            "",
            "the model that `/predict` means; else `repository.toml` names it, else the only model",
        )
    },
    Key {
        aliases: &["MODEL_VERSION"],
        ..key(
            "models.version",
            "",
            "pins the default model's version, such as `2` or `v2`; else the newest that loads",
        )
    },
    key(
        "inference.threads",
        "auto",
        "inference threads; `auto` follows the CPU quota of the cgroup, rounded up",
    ),
    key(
        "inference.engine",
        "auto",
        "`auto`, `tract`, `rten` or `onnxruntime`; `auto` checks the engines against each other and measures them",
    ),
    key(
        "inference.engine_agreement",
        "require",
        "what follows when engines differ and no third decides: `require` refuses the model, `warn` serves it",
    ),
    key(
        "inference.aim",
        "throughput",
        "what engines and threads are chosen for by measurement: `throughput` or `latency`",
    ),
    Key {
        aliases: &["ORT_DYLIB_PATH"],
        ..key(
            "inference.onnxruntime",
            "auto",
            "the library of ONNX Runtime: a path, `off`, or `auto`: used where it is found in the usual places",
        )
    },
    key(
        "inference.queue_rows",
        "1024",
        "rows that may wait for each model; a full queue answers 429",
    ),
    key(
        "inference.queue_bytes",
        "auto",
        "bytes of inputs that may wait for each model, beside the rows: bytes, or a number with KiB, MiB or GiB. `auto` is a quarter of the memory limit of the cgroup, 1GiB without one",
    ),
    key(
        "inference.latency_target_ms",
        "",
        "milliseconds that a request should take at most, waiting and running: batches grow no larger than it allows, and what would wait longer gets 429; none is no target",
    ),
    key(
        "inference.load_timeout_ms",
        "300000",
        "milliseconds that loading a model's version may take; past them it has failed",
    ),
    key(
        "metrics.triton_aliases",
        "false",
        "`true` shows the statistics of models under Triton's names (`nv_inference_…`) too",
    ),
    key(
        "log.format",
        "auto",
        "`pretty`, `json`, or `auto`: pretty on a terminal, JSON elsewhere",
    ),
    Key {
        aliases: &["RUST_LOG"],
        ..key(
            "log.level",
            "info",
            "`error`, `warn`, `info`, `debug`, `trace` or `off`, also by target: `info,onnxd=debug`",
        )
    },
];

/// Amazon SageMaker mounts the model here.
pub const SAGEMAKER_FOLDER: &str = "/opt/ml/model";

/// What takes the place of the defaults on Amazon SageMaker, which tells no container that it is there but by
/// the folder.
pub const SAGEMAKER_DEFAULTS: [(&str, &str); 2] = [
    ("server.port", "8080"),
    ("repository.path", SAGEMAKER_FOLDER),
];

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The table of settings in Markdown, as the README shows it.
pub fn markdown() -> String {
    let mut table = String::from(
        "| key | default | environment, flag | meaning |\n| --- | --- | --- | --- |\n",
    );
    for key in KEYS {
        let variable = key.variable();
        let places: Vec<_> = [variable.as_str()]
            .into_iter()
            .chain(key.aliases.iter().copied())
            .chain(key.flag)
            .map(|place| format!("`{place}`"))
            .collect();
        let default = if key.default.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", key.default)
        };
        table.push_str(&format!(
            "| `{}` | {default} | {} | {} |\n",
            key.name,
            places.join(", "),
            key.meaning
        ));
    }
    table
}
