//! Guards that count a request by how it ends, even when it is dropped on the way.

use std::time::{Duration, Instant};

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Metrics;

/// How an inference request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Invalid,
    Rejected,
    Expired,
    Canceled,
    Failed,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub const ALL: [Outcome; 6] = [
        Outcome::Ok,
        Outcome::Invalid,
        Outcome::Rejected,
        Outcome::Expired,
        Outcome::Canceled,
        Outcome::Failed,
    ];

    /// The outcome's label.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Invalid => "invalid",
            Outcome::Rejected => "rejected",
            Outcome::Expired => "expired",
            Outcome::Canceled => "canceled",
            Outcome::Failed => "failed",
        }
    }
}

/// One HTTP request being answered.
pub struct HttpRequest {
    pub(super) metrics: Metrics,
    pub(super) route: String,
    pub(super) method: &'static str,
    pub(super) started: Instant,
    pub(super) status: Option<u16>,
}

impl HttpRequest {
    /// How long the request has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the request with the status that it was answered with.
    pub fn finish(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        // 499 is the field's number for a client that went away.
        let mut digits = itoa::Buffer::new();
        let labels = [
            self.route.as_str(),
            self.method,
            digits.format(self.status.unwrap_or(499)),
        ];
        let inner = &self.metrics.inner;
        inner.http_in_flight.dec();
        inner.http_requests.with_label_values(&labels).inc();
        inner
            .http_duration
            .with_label_values(&labels)
            .observe(self.started.elapsed().as_secs_f64());
    }
}

/// One gRPC call being answered, for as long as its stream lasts.
pub struct GrpcRequest {
    pub(super) metrics: Metrics,
    pub(super) method: &'static str,
    pub(super) started: Instant,
    pub(super) code: &'static str,
}

impl GrpcRequest {
    /// How long the call has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the call with the code that it was answered with.
    pub fn finish(mut self, code: &'static str) {
        self.code = code;
    }
}

impl Drop for GrpcRequest {
    fn drop(&mut self) {
        let labels = [self.method, self.code];
        let inner = &self.metrics.inner;
        inner.grpc_in_flight.dec();
        inner.grpc_requests.with_label_values(&labels).inc();
        inner
            .grpc_duration
            .with_label_values(&labels)
            .observe(self.started.elapsed().as_secs_f64());
    }
}

/// The metrics of one model's version, with every label resolved beforehand.
#[derive(Clone)]
pub struct ModelMetrics {
    pub(super) requests: [IntCounter; Outcome::ALL.len()],
    pub(super) rows: IntCounter,
    pub(super) batches: IntCounter,
    pub(super) inference: Histogram,
    pub(super) queue: Histogram,
    pub(super) compute: Histogram,
    pub(super) batch_rows: Histogram,
    pub(super) queue_rows: IntGauge,
    pub(super) queue_capacity: IntGauge,
    pub(super) queue_bytes: IntGauge,
    pub(super) queue_capacity_bytes: IntGauge,
    pub(super) dropped: [IntCounter; DropReason::ALL.len()],
}

impl ModelMetrics {
    /// Begins to count an inference request; it counts as canceled unless it is finished.
    pub fn request(&self) -> InferenceRequest {
        InferenceRequest {
            metrics: self.clone(),
            started: Instant::now(),
            outcome: Outcome::Canceled,
        }
    }

    /// Counts one run of the engine.
    pub fn ran(&self, rows: usize) {
        self.batches.inc();
        self.rows.inc_by(rows as u64);
        self.batch_rows.observe(rows as f64);
    }

    /// Counts how long a request waited for a run and how long that took.
    pub fn passed(&self, queue: Duration, compute: Duration) {
        self.queue.observe(queue.as_secs_f64());
        self.compute.observe(compute.as_secs_f64());
    }

    /// Counts what left the queue because nobody needs its answer.
    pub fn dropped(&self, reason: DropReason, count: u64) {
        if count > 0 {
            self.dropped[reason as usize].inc_by(count);
        }
    }

    /// Shows how full the queue is.
    pub fn set_queue(&self, rows: usize, bytes: usize) {
        set(&self.queue_rows, rows);
        set(&self.queue_bytes, bytes);
    }

    /// Shows how much the queue can hold.
    pub fn set_queue_capacity(&self, rows: usize, bytes: usize) {
        set(&self.queue_capacity, rows);
        set(&self.queue_capacity_bytes, bytes);
    }
}

fn set(gauge: &IntGauge, value: usize) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Why a request left the queue before it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its time was over.
    Expired,
    /// Its client has gone, or another part of it has failed.
    Abandoned,
}

impl DropReason {
    pub(super) const ALL: [DropReason; 2] = [DropReason::Expired, DropReason::Abandoned];

    pub(super) fn label(self) -> &'static str {
        match self {
            DropReason::Expired => "expired",
            DropReason::Abandoned => "abandoned",
        }
    }
}

/// The counts of the plans that are kept for concrete shapes. The default counts for nobody.
#[derive(Clone, Default)]
pub struct PlanCacheMetrics(pub(super) Option<PlanCacheSeries>);

#[derive(Clone)]
pub(super) struct PlanCacheSeries {
    pub hits: IntCounter,
    pub misses: IntCounter,
    pub plans: IntGauge,
    pub bytes: IntGauge,
}

impl PlanCacheMetrics {
    /// Counts a search for a plan.
    pub fn looked_up(&self, found: bool) {
        if let Some(PlanCacheSeries { hits, misses, .. }) = &self.0 {
            if found { hits } else { misses }.inc();
        }
    }

    /// Shows what is kept.
    pub fn holds(&self, plans: usize, bytes: usize) {
        if let Some(series) = &self.0 {
            series.plans.set(i64::try_from(plans).unwrap_or(i64::MAX));
            series.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

/// One inference request on its way.
pub struct InferenceRequest {
    metrics: ModelMetrics,
    started: Instant,
    outcome: Outcome,
}

impl InferenceRequest {
    /// Ends the request.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for InferenceRequest {
    fn drop(&mut self) {
        self.metrics.requests[self.outcome as usize].inc();
        if self.outcome == Outcome::Ok {
            self.metrics
                .inference
                .observe(self.started.elapsed().as_secs_f64());
        }
    }
}
