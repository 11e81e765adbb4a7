//! The log: pretty on a terminal, one JSON object a line elsewhere.
//!
//! A log reader that stalls costs lines, which are counted, and never a request.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_writer::{LogWriter, LogWriterGuard};
use crate::config::{LogConfig, LogFormat};
use crate::error::{Error, Result};

/// Keeps the log's writer alive; dropping it writes what is left.
pub struct LogGuard {
    _writing: LogWriterGuard,
    /// Counts the lines that were dropped because the reader stalled.
    pub writer: LogWriter,
}

/// Starts the process's log on standard output. Only the first call takes effect, as in tests.
pub fn start(config: &LogConfig) -> Result<LogGuard> {
    let pretty = match config.format {
        LogFormat::Auto => io::stdout().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let cannot = |error| Error::internal("the log's thread did not start").with_source(error);
    let (writer, writing) = LogWriter::start(io::stdout()).map_err(cannot)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone());
    let lines = match pretty {
        true => lines.with_ansi(io::stdout().is_terminal()).boxed(),
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
    Ok(LogGuard {
        _writing: writing,
        writer,
    })
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

/// A duration as the log and `Server-Timing` show it: milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
