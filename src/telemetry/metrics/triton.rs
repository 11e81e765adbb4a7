//! The statistics once more under Triton's names, so that its dashboards and autoscalers work unchanged.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

/// What one version has done.
#[derive(Debug, Clone, Default)]
pub struct TritonCounts {
    pub model: String,
    pub version: String,
    pub success: u64,
    pub failure: u64,
    pub rows: u64,
    pub runs: u64,
    pub request: Duration,
    pub queue: Duration,
    pub compute_input: Duration,
    pub compute_infer: Duration,
    pub compute_output: Duration,
}

/// A name, what it says, and where its value is. All of them only grow.
type Series = (&'static str, &'static str, fn(&TritonCounts) -> f64);

const SERIES: [Series; 9] = [
    (
        "nv_inference_request_success",
        "Number of successful inference requests.",
        |counts| counts.success as f64,
    ),
    (
        "nv_inference_request_failure",
        "Number of failed inference requests.",
        |counts| counts.failure as f64,
    ),
    (
        "nv_inference_count",
        "Number of rows in successful inference requests.",
        |counts| counts.rows as f64,
    ),
    (
        "nv_inference_exec_count",
        "Number of model executions.",
        |counts| counts.runs as f64,
    ),
    (
        "nv_inference_request_duration_us",
        "Cumulative duration of successful inference requests, in microseconds.",
        |counts| micros(counts.request),
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative time that they waited, in microseconds.",
        |counts| micros(counts.queue),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative time to decode and check inputs, in microseconds.",
        |counts| micros(counts.compute_input),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative time that the engine ran, in microseconds.",
        |counts| micros(counts.compute_infer),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative time to convert and encode outputs, in microseconds.",
        |counts| micros(counts.compute_output),
    ),
];

fn micros(time: Duration) -> f64 {
    time.as_micros() as f64
}

type Read = dyn Fn() -> Vec<TritonCounts> + Send + Sync;

/// Reads the counts anew at every scrape.
pub struct TritonSeries {
    descs: Vec<Desc>,
    read: Box<Read>,
}

impl TritonSeries {
    /// All of Triton's names, over the versions that `read` finds.
    pub fn new(read: impl Fn() -> Vec<TritonCounts> + Send + Sync + 'static) -> TritonSeries {
        let desc = |(name, help, _): &Series| {
            let labels = vec!["model".to_owned(), "version".to_owned()];
            Desc::new(
                (*name).to_owned(),
                (*help).to_owned(),
                labels,
                HashMap::new(),
            )
            .expect("metric names are valid literals")
        };
        TritonSeries {
            descs: SERIES.iter().map(desc).collect(),
            read: Box::new(read),
        }
    }
}

impl Collector for TritonSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = (self.read)();
        let family = |(name, help, value): &Series| {
            let mut family = MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(MetricType::COUNTER);
            let metrics = counts.iter().map(|counts| metric(counts, value(counts)));
            family.set_metric(metrics.collect());
            family
        };
        match counts.is_empty() {
            true => Vec::new(),
            false => SERIES.iter().map(family).collect(),
        }
    }
}

fn metric(counts: &TritonCounts, value: f64) -> Metric {
    let mut metric = Metric::default();
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    let labels = [("model", &counts.model), ("version", &counts.version)];
    let pair = |(name, value): (&str, &String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.clone());
        pair
    };
    metric.set_label(labels.map(pair).into());
    metric
}
