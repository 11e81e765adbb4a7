//! Turns merged settings into a [`Config`], or into the list of everything that is wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::keys;
use super::load::{self, Settings, Sources};
use super::units::parse_bytes;
use super::*;

/// The most inference threads that can be asked for: far beyond any machine, so that a slip of the hand is caught.
pub const MOST_THREADS: usize = 1024;
/// The most connections that can be asked for: more than a process may ever have descriptors.
const MOST_CONNECTIONS: usize = 1 << 20;
/// serde_json itself stops at 128 levels, of which the request's own objects take some.
const DEEPEST_JSON: usize = 100;
/// The longest time that can be set.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Config {
    /// Merges and checks the sources; the error is one sentence a problem.
    pub fn load(sources: &Sources) -> Result<Config, Vec<String>> {
        check(&load::merge(sources)?)
    }
}

/// Checks merged settings.
pub fn check(settings: &Settings) -> Result<Config, Vec<String>> {
    let mut checker = Checker {
        settings,
        problems: Vec::new(),
    };
    checker.unknown_keys();
    let config = checker.config();
    match config {
        Some(config) if checker.problems.is_empty() => Ok(config),
        _ => Err(checker.problems),
    }
}

fn parse_milliseconds(text: &str, least: u64) -> Option<Duration> {
    let millis = text.parse().ok();
    let millis = millis.filter(|millis| (least..=DAY_MS).contains(millis));
    millis.map(Duration::from_millis)
}

struct Checker<'a> {
    settings: &'a Settings,
    problems: Vec<String>,
}

impl Checker<'_> {
    fn unknown_keys(&mut self) {
        for (name, setting) in self.settings {
            if keys::find(name).is_none() {
                let hint = nearest(name)
                    .map(|near| format!("; did you mean {near}?"))
                    .unwrap_or_default();
                self.problems
                    .push(format!("unknown key {name} ({}){hint}", setting.origin));
            }
        }
    }

    /// Reads every section before giving up, so that no problem hides another.
    fn config(&mut self) -> Option<Config> {
        let (server, limits, repository) = (self.server(), self.limits(), self.repository());
        let bodies_in_flight_bytes = self.bytes_or_auto("limits.bodies_in_flight_bytes");
        let (models, inference) = (self.models(), self.inference());
        let (metrics, log) = (self.metrics(), self.log());
        Some(Config {
            server: server?,
            limits: limits?,
            bodies_in_flight_bytes: bodies_in_flight_bytes?,
            repository: repository?,
            models: models?,
            inference: inference?,
            metrics: metrics?,
            log: log?,
        })
    }

    fn server(&mut self) -> Option<ServerConfig> {
        let address = self.read("server.address", "an IP address such as 0.0.0.0", |text| {
            text.parse().ok()
        });
        let port = self.read("server.port", "a port from 0 to 65535", |text| {
            text.parse().ok()
        });
        let grpc_port = self.read(
            "server.grpc_port",
            "a port from 0 to 65535, or off",
            |text| match text {
                "off" => Some(None),
                port => port.parse().ok().map(Some),
            },
        );
        let admin_address = self.read(
            "server.admin_address",
            "an IP address and a port such as 127.0.0.1:9000",
            |text| match text {
                "" => Some(None),
                text => text.parse().ok().map(Some),
            },
        );
        let drain_delay = self.milliseconds("server.drain_delay_ms", 0);
        let request_timeout = self.milliseconds("server.request_timeout_ms", 1);
        let connections = self.connections();
        let health_route = self.route("server.health_route");
        let predict_route = self.route("server.predict_route");
        let cors_origins = self.read(
            "server.cors_origins",
            "origins such as https://example.com, or *",
            parse_origins,
        );
        Some(ServerConfig {
            address: address?,
            port: port?,
            grpc_port: grpc_port?,
            admin_address: admin_address?,
            drain_delay: drain_delay?,
            request_timeout: request_timeout?,
            connections: connections?,
            health_route: health_route?,
            predict_route: predict_route?,
            cors_origins: cors_origins?,
        })
    }

    fn connections(&mut self) -> Option<ConnectionLimits> {
        let header_timeout = self.milliseconds("server.header_timeout_ms", 1);
        let body_timeout = self.milliseconds("server.body_timeout_ms", 1);
        let idle_timeout = self.milliseconds("server.idle_timeout_ms", 1);
        let max_connections = self.number("server.max_connections", 1, MOST_CONNECTIONS);
        Some(ConnectionLimits {
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            idle_timeout: idle_timeout?,
            max_connections: max_connections?,
        })
    }

    fn limits(&mut self) -> Option<Limits> {
        let body_bytes = self.read(
            "limits.body_bytes",
            "bytes such as 1048576 or 64MiB, at least 1",
            |text| parse_bytes(text).filter(|&bytes| bytes > 0),
        );
        let tensor_elements = self.number("limits.tensor_elements", 1, usize::MAX);
        let json_depth = self.number("limits.json_depth", 2, DEEPEST_JSON);
        Some(Limits {
            body_bytes: body_bytes?,
            tensor_elements: tensor_elements?,
            json_depth: json_depth?,
        })
    }

    fn repository(&mut self) -> Option<RepositoryConfig> {
        let path = self.path_or_url();
        let cache_path = self.read(
            "repository.cache_path",
            "auto, or a folder",
            |text| match text {
                "" => None,
                "auto" => Some(None),
                path => Some(Some(PathBuf::from(path))),
            },
        );
        let cache_bytes = self.read(
            "repository.cache_bytes",
            "auto, or bytes such as 1073741824 or 4GiB, at least 1",
            |text| match text {
                "auto" => Some(None),
                text => parse_bytes(text).filter(|&bytes| bytes > 0).map(Some),
            },
        );
        let mode = self.read(
            "repository.mode",
            "watch, static or explicit",
            |text| match text {
                "watch" => Some(RepositoryMode::Watch),
                "static" => Some(RepositoryMode::Static),
                "explicit" => Some(RepositoryMode::Explicit),
                _ => None,
            },
        );
        let poll = self.poll();
        let require_all = self.read("repository.require_all", "true or false", |text| {
            text.parse().ok()
        });
        let (path, url) = path?;
        let (cache_path, cache_bytes) = (cache_path?, cache_bytes?);
        let remote = url.map(|url| RemoteConfig {
            url,
            cache_path,
            cache_bytes: cache_bytes.map(|bytes| bytes as u64),
        });
        Some(RepositoryConfig {
            path,
            remote,
            mode: mode?,
            poll: poll?,
            require_all: require_all?,
        })
    }

    /// A path, or an address and no path. What is wrong with an address is told without it, since it may hold a secret.
    fn path_or_url(&mut self) -> Option<(PathBuf, Option<RemoteUrl>)> {
        let setting = &self.settings["repository.path"];
        if !RemoteUrl::is_url(&setting.text) {
            let expected = "a folder, an .onnx file or a URL";
            let read = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
            return Some((self.read("repository.path", expected, read)?, None));
        }
        match RemoteUrl::parse(&setting.text) {
            Ok(url) => Some((PathBuf::new(), Some(url))),
            Err(problem) => {
                let origin = &setting.origin;
                self.problems
                    .push(format!("repository.path: {problem} ({origin})"));
                None
            }
        }
    }

    fn poll(&mut self) -> Option<Option<Duration>> {
        let expected = "auto, or milliseconds from 10 to 86400000";
        self.read("repository.poll_ms", expected, |text| match text {
            "auto" => Some(None),
            text => {
                let millis = text
                    .parse()
                    .ok()
                    .filter(|millis| (10..=86_400_000).contains(millis));
                millis.map(|millis| Some(Duration::from_millis(millis)))
            }
        })
    }

    fn models(&mut self) -> Option<ModelsConfig> {
        let default = self.read("models.default", "a model's name", |text| {
            Some(non_empty(text))
        });
        let version =
            self.read(
                "models.version",
                "a version such as 2 or v2",
                |text| match non_empty(text) {
                    None => Some(None),
                    Some(text) => canonical_version(&text).map(Some),
                },
            );
        Some(ModelsConfig {
            default: default?,
            version: version?,
        })
    }

    fn inference(&mut self) -> Option<InferenceConfig> {
        let expected = format!("auto, or a number from 1 to {MOST_THREADS}");
        let threads = self.read("inference.threads", &expected, |text| match text {
            "auto" => Some(None),
            text => text
                .parse()
                .ok()
                .filter(|threads| (1..=MOST_THREADS).contains(threads))
                .map(Some),
        });
        let engines = self.engine_rules();
        let onnxruntime = self.read(
            "inference.onnxruntime",
            "a path, auto or off",
            LibraryPath::parse,
        );
        let queue_rows = self.number("inference.queue_rows", 1, usize::MAX);
        let queue_bytes = self.bytes_or_auto("inference.queue_bytes");
        let latency_target = self.latency_target();
        let load_timeout = self.milliseconds("inference.load_timeout_ms", 1);
        Some(InferenceConfig {
            threads: threads?,
            engines: engines?,
            onnxruntime: onnxruntime?,
            queue_rows: queue_rows?,
            queue_bytes: queue_bytes?,
            latency_target: latency_target?,
            load_timeout: load_timeout?,
        })
    }

    fn latency_target(&mut self) -> Option<Option<Duration>> {
        let expected = format!("milliseconds from 1 to {DAY_MS}, or nothing");
        let read = |text: &str| match text {
            "" => Some(None),
            text => parse_milliseconds(text, 1).map(Some),
        };
        self.read("inference.latency_target_ms", &expected, read)
    }

    fn bytes_or_auto(&mut self, name: &str) -> Option<Option<usize>> {
        let expected = "auto, or bytes such as 268435456 or 256MiB, at least 1";
        self.read(name, expected, |text| match text {
            "auto" => Some(None),
            text => parse_bytes(text).filter(|&bytes| bytes > 0).map(Some),
        })
    }

    fn engine_rules(&mut self) -> Option<EngineRules> {
        let engine = self.read("inference.engine", ENGINES, |text| {
            EngineChoice::try_from(text.to_owned()).ok()
        });
        let agreement = self.read(
            "inference.engine_agreement",
            "require or warn",
            |text| match text {
                "require" => Some(Agreement::Require),
                "warn" => Some(Agreement::Warn),
                _ => None,
            },
        );
        let aim = self.read(
            "inference.aim",
            "throughput or latency",
            |text| match text {
                "throughput" => Some(Aim::Throughput),
                "latency" => Some(Aim::Latency),
                _ => None,
            },
        );
        Some(EngineRules {
            engine: engine?,
            agreement: agreement?,
            aim: aim?,
        })
    }

    fn metrics(&mut self) -> Option<MetricsConfig> {
        let triton_aliases = self.read("metrics.triton_aliases", "true or false", |text| {
            text.parse().ok()
        });
        Some(MetricsConfig {
            triton_aliases: triton_aliases?,
        })
    }

    fn log(&mut self) -> Option<LogConfig> {
        let format = self.read("log.format", "auto, pretty or json", |text| match text {
            "auto" => Some(LogFormat::Auto),
            "pretty" => Some(LogFormat::Pretty),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let expected =
            "error, warn, info, debug, trace or off, also by target such as info,onnxd=debug";
        let level = self.read("log.level", expected, parse_level);
        Some(LogConfig {
            format: format?,
            level: level?,
        })
    }

    fn route(&mut self, name: &str) -> Option<Option<String>> {
        let expected = "a path such as /health, of letters, digits and -._~:@/";
        self.read(name, expected, |text| match non_empty(text) {
            None => Some(None),
            Some(path) => is_route(&path).then_some(Some(path)),
        })
    }

    fn milliseconds(&mut self, name: &str, least: u64) -> Option<Duration> {
        let expected = format!("milliseconds from {least} to {DAY_MS}");
        self.read(name, &expected, |text| parse_milliseconds(text, least))
    }

    fn number(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        let expected = match most {
            usize::MAX => format!("a whole number of at least {least}"),
            most => format!("a whole number from {least} to {most}"),
        };
        self.read(name, &expected, |text| {
            text.parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
        })
    }

    fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let setting = self
            .settings
            .get(name)
            .expect("merging starts from every key's default");
        let value = parse(&setting.text);
        if value.is_none() {
            self.problems.push(format!(
                "{name}: expected {expected}, got '{}' ({})",
                setting.text, setting.origin
            ));
        }
        value
    }
}

/// The canonical form of a version: `v2` and `2` are both `2`; `None` for anything else.
pub fn canonical_version(text: &str) -> Option<String> {
    let number: u64 = text.strip_prefix('v').unwrap_or(text).parse().ok()?;
    (number > 0 && !text.contains('+')).then(|| number.to_string())
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether this is a path as it is, without escapes or parameters.
fn is_route(path: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    let is_segment = |segment: &str| {
        segment.bytes().all(valid) && !segment.is_empty() && !segment.starts_with(':')
    };
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(is_segment))
}

/// A bare word must be a level: as a target it would silence everything else without a word.
fn parse_level(text: &str) -> Option<Targets> {
    let is_level = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    let targets: Targets = text
        .split(',')
        .all(is_level)
        .then(|| text.parse().ok())
        .flatten()?;
    // The library that speaks to stores tells of every request that it tries again, of which the mirror says what counts.
    let is_told = |level| targets.would_enable("object_store", &level);
    match is_told(tracing::Level::INFO) && !is_told(tracing::Level::DEBUG) {
        true if !text.contains("object_store") => {
            Some(targets.with_target("object_store", LevelFilter::WARN))
        }
        _ => Some(targets),
    }
}

fn parse_origins(text: &str) -> Option<CorsOrigins> {
    match text {
        "" => Some(CorsOrigins::Off),
        "*" => Some(CorsOrigins::Any),
        list => {
            let origins = list.split(',').map(str::trim).map(|origin| {
                let valid = origin.starts_with("http://") || origin.starts_with("https://");
                (valid && origin.bytes().all(|byte| byte.is_ascii_graphic()))
                    .then(|| origin.to_owned())
            });
            origins.collect::<Option<Vec<_>>>().map(CorsOrigins::List)
        }
    }
}

/// The key that an unknown one most likely stands for: the same letters with other separators.
fn nearest(name: &str) -> Option<String> {
    let letters = |text: &str| text.replace(['.', '_', '-'], "").to_lowercase();
    let wanted = letters(name);
    let key = keys::KEYS.iter().find(|key| {
        let last = key.name.rsplit('.').next().unwrap_or_default();
        letters(key.name) == wanted || letters(last) == wanted
    })?;
    Some(format!("{} ({})", key.name, key.variable()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let environment = environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Config::load(&Sources {
            environment,
            ..Sources::default()
        })
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = load(&[]).expect("the defaults are valid");
        assert_eq!(config.server.port, 8000);
        assert_eq!(config.limits.body_bytes, 64 << 20);
        assert_eq!(config.models.version, None);
    }

    #[test]
    fn the_environments_own_names_and_aliases_are_honoured() {
        let config = load(&[
            ("PORT", "5000"),
            ("MODEL_VERSION", "v2"),
            ("RUST_LOG", "debug"),
        ])
        .expect("valid");
        assert_eq!(
            (config.server.port, config.models.version.as_deref()),
            (5000, Some("2"))
        );
        let config = load(&[("PORT", "5000"), ("ONNXD_SERVER__PORT", "6000")]).expect("valid");
        assert_eq!(config.server.port, 6000);
    }

    #[test]
    fn the_variables_of_vertex_ai_are_honoured() {
        let config = load(&[
            ("AIP_HTTP_PORT", "8085"),
            ("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/9"),
            (
                "AIP_PREDICT_ROUTE",
                "/v1/endpoints/7/deployedModels/9:predict",
            ),
            ("AIP_STORAGE_URI", ""),
        ])
        .expect("valid");
        let server = config.server;
        assert_eq!(server.port, 8085);
        assert_eq!(
            (
                server.health_route.as_deref(),
                server.predict_route.as_deref()
            ),
            (
                Some("/v1/endpoints/7/deployedModels/9"),
                Some("/v1/endpoints/7/deployedModels/9:predict")
            )
        );
        assert_eq!(config.repository.path, PathBuf::from("models"));
        let problems = load(&[
            ("AIP_PREDICT_ROUTE", "/{model}"),
            ("AIP_STORAGE_URI", "gs://bucket/model?key=hunter2"),
        ])
        .expect_err("neither is possible");
        assert_eq!(
            problems,
            [
                "server.predict_route: expected a path such as /health, of letters, digits and -._~:@/, got '/{model}' (environment variable AIP_PREDICT_ROUTE)",
                "repository.path: a query such as a signature in the URL is refused: credentials come from the environment (environment variable AIP_STORAGE_URI)",
            ]
        );
    }

    #[test]
    fn on_sagemaker_the_defaults_are_its_own() {
        let on_sagemaker = |environment: &[(&str, &str)]| {
            let environment = environment
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            Config::load(&Sources {
                environment: environment.collect(),
                on_sagemaker: true,
                ..Sources::default()
            })
            .expect("valid")
        };
        let config = on_sagemaker(&[]);
        assert_eq!(config.server.port, 8080);
        assert_eq!(config.repository.path, PathBuf::from("/opt/ml/model"));
        let config = on_sagemaker(&[
            ("SAGEMAKER_BIND_TO_PORT", "9090"),
            ("ONNXD_REPOSITORY__PATH", "elsewhere"),
        ]);
        assert_eq!(config.server.port, 9090);
        assert_eq!(config.repository.path, PathBuf::from("elsewhere"));
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_origin() {
        let problems = load(&[
            ("ONNXD_SERVER__PORT", "web"),
            ("ONNXD_LOG__FORMAT", "xml"),
            ("ONNXD_SERVER_PORT", "1"),
        ])
        .expect_err("three things are wrong");
        assert_eq!(
            problems,
            [
                "unknown key server_port (environment variable ONNXD_SERVER_PORT); did you mean server.port (ONNXD_SERVER__PORT)?",
                "server.port: expected a port from 0 to 65535, got 'web' (environment variable ONNXD_SERVER__PORT)",
                "log.format: expected auto, pretty or json, got 'xml' (environment variable ONNXD_LOG__FORMAT)",
            ]
        );
    }

    #[test]
    fn variables_of_a_service_called_onnxd_are_passed_over() {
        let links = [
            ("ONNXD_SERVICE_HOST", "10.0.0.1"),
            ("ONNXD_SERVICE_PORT", "80"),
            ("ONNXD_SERVICE_PORT_HTTP", "80"),
            ("ONNXD_PORT", "tcp://10.0.0.1:80"),
            ("ONNXD_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("ONNXD_PORT_80_TCP_ADDR", "10.0.0.1"),
        ];
        load(&links).expect("service links are not settings");
    }

    #[test]
    fn versions_are_canonical() {
        assert_eq!(canonical_version("v2").as_deref(), Some("2"));
        assert_eq!(canonical_version("007").as_deref(), Some("7"));
        for text in ["", "v", "0", "-1", "+1", "2.0", "latest"] {
            assert_eq!(canonical_version(text), None, "{text}");
        }
    }

    #[test]
    fn cors_origins_are_off_any_or_listed() {
        assert_eq!(parse_origins(""), Some(CorsOrigins::Off));
        assert_eq!(parse_origins("*"), Some(CorsOrigins::Any));
        assert!(
            matches!(parse_origins("https://a.example, http://b.example"), Some(CorsOrigins::List(list)) if list.len() == 2)
        );
        assert_eq!(parse_origins("a.example"), None);
    }
}
