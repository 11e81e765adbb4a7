//! One moment's statistics, in the protocol's words.

/// How often something happened, and how long it took altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatisticDuration {
    pub count: u64,
    pub ns: u64,
}

/// One moment's counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Milliseconds since 1970; 0 before the first inference.
    pub last_inference_ms: u64,
    /// Rows of requests that were answered.
    pub inference_count: u64,
    /// Runs of the engine.
    pub execution_count: u64,
    pub inference: InferStatistics,
    pub batches: Vec<InferBatchStatistics>,
}

/// How requests ended, and where their time went. What ended well counts once in each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InferStatistics {
    pub success: StatisticDuration,
    pub fail: StatisticDuration,
    pub queue: StatisticDuration,
    /// Decoding and checking.
    pub compute_input: StatisticDuration,
    /// The engine's run.
    pub compute_infer: StatisticDuration,
    /// Converting and encoding.
    pub compute_output: StatisticDuration,
    pub cache_hit: StatisticDuration,
    pub cache_miss: StatisticDuration,
}

/// The runs with one number of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InferBatchStatistics {
    pub batch_size: u64,
    pub compute_input: StatisticDuration,
    pub compute_infer: StatisticDuration,
    pub compute_output: StatisticDuration,
}
