//! `onnxd serve`: the server, from configuration to exit code.

use std::process::ExitCode;

use super::{Settings, finish};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::server::{Server, inference_threads};
use crate::service::VERSION;
use crate::serving::moderation;
use crate::shutdown::Signals;
use crate::telemetry::cgroup::Cgroup;
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;

/// Short runs take place on async threads, but never on the last one, which is left for probes.
const LEAST_ASYNC_THREADS: usize = 2;

/// Serves until a signal asks to stop, then drains.
pub fn run(settings: Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let log = match logging::start(&config.log) {
        Ok(log) => log,
        Err(error) => return finish(Err(error)),
    };
    let metrics = Metrics::new();
    let writer = log.writer.clone();
    metrics.count_dropped_log_lines(move || writer.dropped_lines());
    let threads = inference_threads(config.inference.threads);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(LEAST_ASYNC_THREADS))
        .thread_name("async")
        .on_thread_park(moderation::before_park)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(serve(config, metrics, threads));
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Error::internal("the async runtime did not start").with_source(error)),
    };
    if let Err(error) = &result {
        tracing::error!(reason = error.chain(), "cannot serve");
    }
    // What is still queued is written before the process ends.
    drop(log);
    finish(result)
}

async fn serve(config: Config, metrics: Metrics, threads: usize) -> Result<()> {
    let mut signals = Signals::listen()
        .map_err(|error| Error::internal("cannot listen to signals").with_source(error))?;
    let mut server = Server::build(config, metrics).await?;
    match std::env::current_exe() {
        Ok(program) => server = server.with_trial(program),
        Err(error) => tracing::warn!(reason = %error, "models are loaded without a trial"),
    }
    tracing::info!(
        version = VERSION,
        address = %server.address(),
        grpc_address = server.grpc_address().map(tracing::field::display),
        admin_address = server.admin_address().map(tracing::field::display),
        models = %server.repository().display(),
        engines = server.engines().names().join(", "),
        inference_threads = threads,
        cpu_quota_cores = Cgroup::of_process().as_ref().and_then(Cgroup::cpu_quota_cores),
        "listening"
    );
    let stop = async move {
        let stop = signals.next().await;
        tokio::spawn(async move {
            let again = signals.next().await;
            std::process::exit(again.exit_code().into());
        });
        stop
    };
    server.run_until(stop).await
}
