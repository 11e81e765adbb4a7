//! The log: pretty on a terminal, one JSON object a line elsewhere.
//!
//! Lines are handed to a thread that writes them, through a bounded queue: a log reader that stalls costs lines,
//! which are counted, and never a request.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Lines that may wait to be written.
const QUEUE_LINES: usize = 16_384;

/// Keeps the log's writer alive; dropping it writes what is left.
pub struct LogGuard {
    _writer: WorkerGuard,
    /// Counts the lines that were dropped because the reader stalled.
    pub dropped_lines: ErrorCounter,
}

/// Starts the process's log on standard output. Only the first call takes effect, as in tests.
pub fn start(config: &LogConfig) -> LogGuard {
    let pretty = match config.format {
        LogFormat::Auto => std::io::stdout().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let builder = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES);
    let (writer, guard) = builder.finish(std::io::stdout());
    let dropped_lines = writer.error_counter();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match pretty {
        true => lines.with_ansi(std::io::stdout().is_terminal()).boxed(),
        false => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(config.level.clone()));
    if subscriber.try_init().is_ok() {
        log_panics();
    }
    LogGuard {
        _writer: guard,
        dropped_lines,
    }
}

/// Panics are caught where they matter; here they become log lines instead of bare text on standard error.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("a panic without text");
        tracing::error!(thread = thread.name(), location, reason, "panicked");
    }));
}
