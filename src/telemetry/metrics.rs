//! Every metric of onnxd, by name; no other file knows one.
//!
//! Names follow the Prometheus convention: base units, `_total` for counters. Labels come only from models that
//! were found and routes that matched, so that no client can mint series.

mod build;
mod counted;
mod repository;
mod triton;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::proto::MetricType;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use self::build::{Builder, Reading, register};
use self::counted::PlanCacheSeries;
pub use self::counted::{
    DropReason, GrpcRequest, HttpRequest, InferenceRequest, ModelMetrics, Outcome, PlanCacheMetrics,
};
pub use self::repository::{RepositoryMetrics, SyncOutcome};
pub use self::triton::TritonCounts;
use self::triton::TritonSeries;
use super::cgroup::Cgroup;
use super::process;

/// 100 µs to 10 s.
const SECONDS: [f64; 16] = [
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const ROWS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];
/// The states a model's version can be in; exactly one of its series is 1.
const STATES: [&str; 4] = ["loading", "ready", "failed", "draining"];
/// How many of the sampler's readings `onnxd_cpu_usage_ratio` looks back over.
const CPU_SAMPLES: usize = 5;

/// The process's metrics. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    http_in_flight: IntGauge,
    grpc_requests: IntCounterVec,
    grpc_duration: HistogramVec,
    grpc_in_flight: IntGauge,
    connections: IntGauge,
    connections_closed: IntCounterVec,
    inference_requests: IntCounterVec,
    inference_rows: IntCounterVec,
    inference_batches: IntCounterVec,
    inference_duration: HistogramVec,
    queue_duration: HistogramVec,
    compute_duration: HistogramVec,
    batch_rows: HistogramVec,
    queue_rows: IntGaugeVec,
    queue_capacity: IntGaugeVec,
    queue_bytes: IntGaugeVec,
    queue_capacity_bytes: IntGaugeVec,
    queue_dropped: IntCounterVec,
    model_info: IntGaugeVec,
    model_state: IntGaugeVec,
    model_load_duration: GaugeVec,
    model_memory: IntGaugeVec,
    load_failures: IntCounterVec,
    loads_abandoned: IntCounterVec,
    loads_out_of_memory: IntCounterVec,
    plan_cache: PlanCacheSeries,
    repository_readable: IntGauge,
    cpu_usage_ratio: Gauge,
    cpu_samples: Mutex<Vec<(Instant, Duration)>>,
    /// The CPUs that a ratio of 1 stands for.
    cpu_capacity_cores: f64,
}

impl Metrics {
    /// Fresh metrics with a registry of their own.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let cgroup = Cgroup::of_process();
        let cpus = std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
        let cpu_capacity_cores = cgroup
            .as_ref()
            .and_then(Cgroup::cpu_quota_cores)
            .unwrap_or(cpus);
        let new = Builder {
            registry: &registry,
        };
        let http = ["route", "method", "status"];
        let grpc = ["method", "code"];
        let model = ["model", "version"];
        let inner = Inner {
            http_requests: new.counters("onnxd_http_requests_total", "HTTP requests answered.", &http),
            http_duration: new.histograms(
                "onnxd_http_request_duration_seconds",
                "Time from a request's head to its answer.",
                &http,
                &SECONDS,
            ),
            http_in_flight: new.int_gauge("onnxd_http_requests_in_flight", "HTTP requests being answered now."),
            grpc_requests: new.counters("onnxd_grpc_requests_total", "gRPC calls answered.", &grpc),
            grpc_duration: new.histograms(
                "onnxd_grpc_request_duration_seconds",
                "Time from a call's head to the end of its answer.",
                &grpc,
                &SECONDS,
            ),
            grpc_in_flight: new.int_gauge("onnxd_grpc_requests_in_flight", "gRPC calls being answered now."),
            connections: new.int_gauge("onnxd_connections", "Open connections, over all ports."),
            connections_closed: new.counters(
                "onnxd_connections_closed_total",
                "Connections that ran into a limit and were closed for it.",
                &["limit"],
            ),
            inference_requests: new.counters(
                "onnxd_inference_requests_total",
                "Inference requests by how they ended.",
                &["model", "version", "outcome"],
            ),
            inference_rows: new.counters("onnxd_inference_rows_total", "Rows that a model ran.", &model),
            inference_batches: new.counters("onnxd_inference_batches_total", "Runs of a model.", &model),
            inference_duration: new.histograms(
                "onnxd_inference_duration_seconds",
                "Time from a request's arrival at the model to its outputs, queue and compute together.",
                &model,
                &SECONDS,
            ),
            queue_duration: new.histograms(
                "onnxd_queue_duration_seconds",
                "Time that a request waited for a worker.",
                &model,
                &SECONDS,
            ),
            compute_duration: new.histograms(
                "onnxd_compute_duration_seconds",
                "Time that the engine ran for a request.",
                &model,
                &SECONDS,
            ),
            batch_rows: new.histograms("onnxd_batch_rows", "Rows in one run of a model.", &model, &ROWS),
            queue_rows: new.int_gauges("onnxd_queue_rows", "Rows waiting now.", &model),
            queue_capacity: new.int_gauges("onnxd_queue_capacity_rows", "Rows that may wait at most.", &model),
            queue_bytes: new.int_gauges("onnxd_queue_bytes", "Bytes of inputs waiting now.", &model),
            queue_capacity_bytes: new.int_gauges(
                "onnxd_queue_capacity_bytes",
                "Bytes of inputs that may wait at most.",
                &model,
            ),
            queue_dropped: new.counters(
                "onnxd_queue_dropped_total",
                "Requests, or pieces of them, that left the queue before they ran.",
                &["model", "version", "reason"],
            ),
            model_info: new.int_gauges(
                "onnxd_model_info",
                "Always 1; which engine serves the model.",
                &["model", "version", "engine", "platform"],
            ),
            model_state: new.int_gauges(
                "onnxd_model_state",
                "1 for the state that a model's version is in, 0 for the others.",
                &["model", "version", "state"],
            ),
            model_load_duration: new.gauges(
                "onnxd_model_load_duration_seconds",
                "Time that loading the model took.",
                &model,
            ),
            model_memory: new.int_gauges(
                "onnxd_model_memory_bytes",
                "Memory that the model holds: measured in its trial by what dropping it gave back; below 1 MiB and \
                 without a trial the size of its file.",
                &model,
            ),
            load_failures: new.counters(
                "onnxd_model_load_failures_total",
                "Loads of a model's version that failed, for whichever reason.",
                &model,
            ),
            loads_abandoned: new.counters(
                "onnxd_model_loads_abandoned_total",
                "Loads that took longer than inference.load_timeout_ms and were given up.",
                &model,
            ),
            loads_out_of_memory: new.counters(
                "onnxd_model_loads_out_of_memory_total",
                "Loads refused because the memory does not hold the model beside the others and the requests.",
                &model,
            ),
            plan_cache: PlanCacheSeries {
                hits: new.int_counter(
                    "onnxd_plan_cache_hits_total",
                    "Searches for a plan for concrete shapes that found it.",
                ),
                misses: new.int_counter(
                    "onnxd_plan_cache_misses_total",
                    "Searches for a plan for concrete shapes that found none.",
                ),
                plans: new.int_gauge("onnxd_plan_cache_plans", "Plans kept for concrete shapes."),
                bytes: new.int_gauge(
                    "onnxd_plan_cache_bytes",
                    "About how much memory these plans take.",
                ),
            },
            repository_readable: new.int_gauge(
                "onnxd_repository_readable",
                "1 if the last look at the model repository could read it, else 0.",
            ),
            cpu_usage_ratio: new.gauge(
                "onnxd_cpu_usage_ratio",
                "CPU used over the last seconds as a share of the quota, or of the usable CPUs without one.",
            ),
            cpu_samples: Mutex::new(Vec::new()),
            cpu_capacity_cores,
            registry: registry.clone(),
        };
        let build = new.int_gauges(
            "onnxd_build_info",
            "Always 1; what is running.",
            &["version", "commit", "rustc"],
        );
        let commit = option_env!("BUILD_COMMIT").unwrap_or("unknown");
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), commit, env!("BUILD_RUSTC")])
            .set(1);
        register_process_readings(&registry);
        register_cgroup_readings(&registry, cgroup);
        let metrics = Metrics {
            inner: Arc::new(inner),
        };
        metrics.sample_cpu(Instant::now());
        metrics
    }

    /// The metrics in Prometheus's text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.inner.registry.gather(), &mut text);
        encoded.expect("metrics that were registered encode into memory");
        text
    }

    /// Counts the log lines that were dropped, from `read`.
    pub fn count_dropped_log_lines(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let help = "Log lines dropped because their reader stalled.";
        let read = move || Some(read() as f64);
        let reading = Reading::new(
            "onnxd_log_lines_dropped_total",
            help,
            MetricType::COUNTER,
            read,
        );
        register(&self.inner.registry, reading);
    }

    /// Shows what of the memory is whose, by `read`, and what is free.
    pub fn show_memory(
        &self,
        read: impl Fn() -> MemoryReadings + Send + Sync + 'static,
        free: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let read = Arc::new(read);
        let add = |name, help, part: fn(MemoryReadings) -> u64| {
            let read = read.clone();
            self.read_gauge(name, help, move || part(read()));
        };
        add(
            "onnxd_memory_limit_bytes",
            "Memory that there is for the process: the control group's limit, else the machine's.",
            |memory| memory.limit,
        );
        add(
            "onnxd_memory_models_bytes",
            "Memory that the models hold which are loaded.",
            |memory| memory.models,
        );
        add(
            "onnxd_memory_loading_bytes",
            "Memory promised to models that are being loaded.",
            |memory| memory.loading,
        );
        add(
            "onnxd_memory_requests_bytes",
            "Memory kept for requests, which no model gets.",
            |memory| memory.requests,
        );
        self.read_gauge(
            "onnxd_memory_free_bytes",
            "Memory that is left for further models.",
            free,
        );
    }

    /// Shows what requests in flight take and may take.
    pub fn show_in_flight(&self, read: impl Fn() -> usize + Send + Sync + 'static, most: usize) {
        self.read_gauge(
            "onnxd_bodies_in_flight_bytes",
            "Bytes that requests in flight take: their bodies, inputs, outputs and answers.",
            move || read() as u64,
        );
        self.read_gauge(
            "onnxd_bodies_in_flight_capacity_bytes",
            "Bytes that requests in flight may take together.",
            move || most as u64,
        );
    }

    fn read_gauge(&self, name: &str, help: &str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let read = move || Some(read() as f64);
        register(
            &self.inner.registry,
            Reading::new(name, help, MetricType::GAUGE, read),
        );
    }

    /// Shows what versions have done under Triton's names too.
    pub fn export_as_triton(&self, read: impl Fn() -> Vec<TritonCounts> + Send + Sync + 'static) {
        register(&self.inner.registry, TritonSeries::new(read));
    }

    /// Takes one of the readings that `onnxd_cpu_usage_ratio` compares; call it about once a second.
    pub fn sample_cpu(&self, now: Instant) {
        let mut samples = self
            .inner
            .cpu_samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        samples.push((now, process::cpu_time()));
        let excess = samples.len().saturating_sub(CPU_SAMPLES + 1);
        samples.drain(..excess);
        if let (Some((from, before)), Some((to, after))) = (samples.first(), samples.last())
            && to > from
        {
            let used = after.saturating_sub(*before).as_secs_f64() / (*to - *from).as_secs_f64();
            self.inner
                .cpu_usage_ratio
                .set(used / self.inner.cpu_capacity_cores);
        }
    }

    /// Begins to count an HTTP request; it counts as canceled unless it is finished.
    pub fn http_request(&self, route: &str, method: &'static str) -> HttpRequest {
        self.inner.http_in_flight.inc();
        HttpRequest {
            metrics: self.clone(),
            route: route.to_owned(),
            method,
            started: Instant::now(),
            status: None,
        }
    }

    /// Begins to count a gRPC call; it counts as canceled unless it is finished.
    pub fn grpc_request(&self, method: &'static str) -> GrpcRequest {
        self.inner.grpc_in_flight.inc();
        GrpcRequest {
            metrics: self.clone(),
            method,
            started: Instant::now(),
            code: "CANCELLED",
        }
    }

    /// Counts one more open connection.
    pub fn connection_opened(&self) {
        self.inner.connections.inc();
    }

    /// Counts one open connection less.
    pub fn connection_closed(&self) {
        self.inner.connections.dec();
    }

    /// Counts connections that were closed at this limit; none, to show that there is one.
    pub fn count_closed_connections(&self, limit: &'static str, count: u64) {
        let series = self.inner.connections_closed.with_label_values(&[limit]);
        series.inc_by(count);
    }

    /// The metrics of one model's version.
    pub fn model(&self, model: &str, version: &str) -> ModelMetrics {
        let inner = &self.inner;
        let labels = [model, version];
        ModelMetrics {
            requests: Outcome::ALL.map(|outcome| {
                inner
                    .inference_requests
                    .with_label_values(&[model, version, outcome.label()])
            }),
            rows: inner.inference_rows.with_label_values(&labels),
            batches: inner.inference_batches.with_label_values(&labels),
            inference: inner.inference_duration.with_label_values(&labels),
            queue: inner.queue_duration.with_label_values(&labels),
            compute: inner.compute_duration.with_label_values(&labels),
            batch_rows: inner.batch_rows.with_label_values(&labels),
            queue_rows: inner.queue_rows.with_label_values(&labels),
            queue_capacity: inner.queue_capacity.with_label_values(&labels),
            queue_bytes: inner.queue_bytes.with_label_values(&labels),
            queue_capacity_bytes: inner.queue_capacity_bytes.with_label_values(&labels),
            dropped: DropReason::ALL.map(|reason| {
                inner
                    .queue_dropped
                    .with_label_values(&[model, version, reason.label()])
            }),
        }
    }

    /// The counts of the plans that engines keep for concrete shapes.
    pub fn plan_cache(&self) -> PlanCacheMetrics {
        PlanCacheMetrics(Some(self.inner.plan_cache.clone()))
    }

    /// The metrics of a repository that is mirrored; they are there from now on.
    pub fn remote_repository(&self) -> RepositoryMetrics {
        let new = Builder {
            registry: &self.inner.registry,
        };
        let metrics = RepositoryMetrics {
            up: new.int_gauge(
                "onnxd_repository_up",
                "1 if the last look at the remote repository read all of its listing, else 0.",
            ),
            syncs: new.counters(
                "onnxd_repository_syncs_total",
                "Looks at the remote repository by how they ended.",
                &["outcome"],
            ),
            last_success: new.gauge(
                "onnxd_repository_last_success_timestamp_seconds",
                "When everything in the remote repository was last mirrored; 0 for never.",
            ),
            fetched_bytes: new.int_counter(
                "onnxd_repository_fetched_bytes_total",
                "Bytes of files that were fetched and found right.",
            ),
        };
        metrics.show_outcomes();
        metrics
    }

    /// Counts a load that failed.
    pub fn load_failed(&self, model: &str, version: &str) {
        self.inner
            .load_failures
            .with_label_values(&[model, version])
            .inc();
    }

    /// Shows whether the last look at the model repository could read it.
    pub fn set_repository_readable(&self, is_readable: bool) {
        self.inner.repository_readable.set(is_readable.into());
    }

    /// Counts a load that was given up.
    pub fn load_abandoned(&self, model: &str, version: &str) {
        self.inner
            .loads_abandoned
            .with_label_values(&[model, version])
            .inc();
    }

    /// Counts a load that was refused for want of memory.
    pub fn load_out_of_memory(&self, model: &str, version: &str) {
        self.inner
            .loads_out_of_memory
            .with_label_values(&[model, version])
            .inc();
    }

    /// Shows the state of one model's version.
    pub fn set_model_state(&self, model: &str, version: &str, state: &str) {
        for name in STATES {
            let series = self
                .inner
                .model_state
                .with_label_values(&[model, version, name]);
            series.set(i64::from(name == state));
        }
    }

    /// Takes back everything that a version shows while it is there. What it counted stays.
    pub fn forget_model(&self, model: &str, version: &str) {
        let inner = &self.inner;
        let labels = [model, version];
        // A version that never served shows no more than its state.
        for name in STATES {
            let _ = inner
                .model_state
                .remove_label_values(&[model, version, name]);
        }
        for gauges in [
            &inner.model_memory,
            &inner.queue_rows,
            &inner.queue_capacity,
            &inner.queue_bytes,
            &inner.queue_capacity_bytes,
        ] {
            let _ = gauges.remove_label_values(&labels);
        }
        let _ = inner.model_load_duration.remove_label_values(&labels);
    }

    /// Takes back that this engine serves one model's version.
    pub fn unset_model_engine(&self, model: &str, version: &str, loaded: &Loaded) {
        let labels = [model, version, loaded.engine, loaded.platform];
        // It is there, since it was set when the version was loaded.
        let _ = self.inner.model_info.remove_label_values(&labels);
    }

    /// Shows which engine serves one model's version, how long it took to load, and how large it is.
    pub fn set_model_loaded(&self, model: &str, version: &str, loaded: &Loaded) {
        let Loaded {
            engine,
            platform,
            took,
            bytes,
        } = *loaded;
        let inner = &self.inner;
        inner
            .model_info
            .with_label_values(&[model, version, engine, platform])
            .set(1);
        inner
            .model_load_duration
            .with_label_values(&[model, version])
            .set(took.as_secs_f64());
        inner
            .model_memory
            .with_label_values(&[model, version])
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// What of the memory is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReadings {
    pub limit: u64,
    pub models: u64,
    pub loading: u64,
    pub requests: u64,
}

/// What is known of a model's version once it has loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loaded {
    pub engine: &'static str,
    pub platform: &'static str,
    pub took: Duration,
    pub bytes: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

fn register_process_readings(registry: &Registry) {
    use MetricType::{COUNTER, GAUGE};
    let add = |name, help, kind, read: fn() -> Option<f64>| {
        register(registry, Reading::new(name, help, kind, read))
    };
    add(
        "process_cpu_seconds_total",
        "CPU time used, user and system together.",
        COUNTER,
        || Some(process::cpu_time().as_secs_f64()),
    );
    add(
        "process_resident_memory_bytes",
        "Resident memory.",
        GAUGE,
        || process::resident_bytes().map(|bytes| bytes as f64),
    );
    add("process_open_fds", "Open file descriptors.", GAUGE, || {
        process::open_files().map(|files| files as f64)
    });
    add(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        GAUGE,
        process::start_time_seconds,
    );
}

fn register_cgroup_readings(registry: &Registry, cgroup: Option<Cgroup>) {
    use MetricType::{COUNTER, GAUGE};
    let Some(cgroup) = cgroup else { return };
    let add = |name, help, kind, read: fn(&Cgroup) -> Option<f64>| {
        let cgroup = cgroup.clone();
        register(
            registry,
            Reading::new(name, help, kind, move || read(&cgroup)),
        );
    };
    add(
        "onnxd_cgroup_cpu_quota_cores",
        "CPUs' worth of time that the control group may use.",
        GAUGE,
        Cgroup::cpu_quota_cores,
    );
    add(
        "onnxd_cgroup_cpu_throttled_seconds_total",
        "Time that the quota held the control group back.",
        COUNTER,
        |cgroup| cgroup.throttling().map(|throttling| throttling.seconds),
    );
    add(
        "onnxd_cgroup_cpu_throttled_periods_total",
        "Periods in which the quota held the control group back.",
        COUNTER,
        |cgroup| {
            cgroup
                .throttling()
                .map(|throttling| throttling.periods as f64)
        },
    );
    add(
        "onnxd_cgroup_memory_usage_bytes",
        "Memory that the control group uses.",
        GAUGE,
        |cgroup| cgroup.memory_usage_bytes().map(|bytes| bytes as f64),
    );
    add(
        "onnxd_cgroup_memory_limit_bytes",
        "Memory that the control group may use.",
        GAUGE,
        |cgroup| cgroup.memory_limit_bytes().map(|bytes| bytes as f64),
    );
}
