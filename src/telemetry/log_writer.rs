//! Writes log lines in batches, on a thread of its own, from a bounded buffer.
//!
//! Handing over a line costs a lock and a copy. The writer is woken by the first line of a batch alone, and waits a
//! moment for more, so that a busy server wakes it some dozens of times a second and not once a line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait to be written; a line that finds no place is dropped and counted.
const MOST_BYTES: usize = 4 << 20;
/// How long a line waits for others to be written with.
const GATHER: Duration = Duration::from_millis(20);

/// Where the subscriber writes. Cloning shares the buffer.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

/// Ends the writer when it is dropped, after writing what is left.
pub struct LogWriterGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    buffer: Mutex<Buffer>,
    wake: Condvar,
    dropped_lines: AtomicU64,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    closed: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(LogWriter, LogWriterGuard)> {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            wake: Condvar::new(),
            dropped_lines: AtomicU64::new(0),
        });
        let writing = shared.clone();
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writing.write_until_closed(out))?;
        Ok((
            LogWriter {
                shared: shared.clone(),
            },
            LogWriterGuard {
                shared,
                thread: Some(thread),
            },
        ))
    }

    /// The lines that were dropped because their reader stalled.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }
}

impl Drop for LogWriterGuard {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic while writing leaves nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_until_closed(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut buffer = self.lock();
            while buffer.bytes.is_empty() && !buffer.closed {
                buffer = self
                    .wake
                    .wait(buffer)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if !buffer.closed {
                let gathered = self
                    .wake
                    .wait_timeout_while(buffer, GATHER, |buffer| !buffer.closed);
                buffer = gathered.unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut batch, &mut buffer.bytes);
            let closed = buffer.closed;
            drop(buffer);
            // Without a reader there is nowhere to complain.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            if closed {
                return;
            }
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a LogWriter;

    fn make_writer(&'a self) -> &'a LogWriter {
        self
    }
}

impl Write for &LogWriter {
    /// The subscriber hands over one whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.shared.lock();
        if buffer.bytes.len() + line.len() > MOST_BYTES {
            self.shared.dropped_lines.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let is_first = buffer.bytes.is_empty();
        buffer.bytes.extend_from_slice(line);
        drop(buffer);
        if is_first {
            self.shared.wake.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands every batch over, and so blocks for as long as nobody takes it.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_in_order_by_the_end() {
        let (sender, batches) = mpsc::sync_channel(10_000);
        let (writer, guard) = LogWriter::start(Slow(sender)).expect("a thread starts");
        let lines: Vec<_> = (0..1000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| {
            (&writer)
                .write_all(line.as_bytes())
                .expect("the buffer takes it")
        });
        drop(guard);
        let written: Vec<u8> = batches.iter().flatten().collect();
        assert_eq!(String::from_utf8(written).expect("text"), lines.concat());
        assert_eq!(writer.dropped_lines(), 0);
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_blocks_nobody() {
        let (sender, batches) = mpsc::sync_channel(0);
        let (writer, guard) = LogWriter::start(Slow(sender)).expect("a thread starts");
        let line = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            (&writer)
                .write_all(&line)
                .expect("a full buffer is no error");
        }
        assert!(writer.dropped_lines() >= 20 - 2 * (MOST_BYTES >> 20) as u64);
        drop(batches);
        drop(guard);
    }
}
