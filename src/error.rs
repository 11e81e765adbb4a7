//! The one error type of onnxd.
//!
//! Every fallible step returns [`Error`]; its [`ErrorKind`] is closed, so each protocol maps it in one
//! exhaustive table. An error's message is written for the client and names the field, what was expected and
//! what came; what only the operator may see travels as the source and goes to the log.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What went wrong, in terms that every protocol can express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request is malformed: body, shape, name, data type or parameter.
    InvalidArgument,
    /// It is not for this caller, or the configuration does not allow it.
    PermissionDenied,
    /// The model, version or path does not exist.
    NotFound,
    /// The request is over a limit: bytes, elements, depth or rows.
    TooLarge,
    /// The queue is full; try again later.
    QueueFull,
    /// The model is known but not ready, or the server is going away.
    Unavailable,
    /// The request itself did not come in time.
    RequestTimeout,
    /// The deadline passed before there was an answer.
    DeadlineExceeded,
    /// An operator or a feature that this build does not have.
    Unimplemented,
    /// The model failed while running.
    Internal,
}

/// When to try again what is unavailable, where nobody knows better: time for somebody to mend it.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(30);
/// When to try again what a server that goes away does not answer: at once, but elsewhere.
const SHUTDOWN_RETRY: Duration = Duration::from_secs(1);

/// What is said where an engine was refused memory.
const OUT_OF_MEMORY: &str = "the model needs more memory than there is now";

/// Messages quote what a client wrote; a longer one is cut, so that no answer and no log line grows with the request.
const MOST_MESSAGE_CHARS: usize = 2000;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error with a message for the client and, where there is one, a cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    is_out_of_memory: bool,
    #[source]
    source: Option<Source>,
}

/// The result of anything that can fail in onnxd.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`, or as much of it as fits.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MOST_MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self {
            kind,
            message,
            retry_after: None,
            is_out_of_memory: false,
            source: None,
        }
    }

    /// A malformed request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Something that is not allowed here.
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::PermissionDenied, message)
    }

    /// An unknown model, version or path.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A request over a limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    /// A model or server that cannot answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Something that there is no memory for now; it may be tried again when there is more.
    pub fn out_of_memory(message: impl Into<String>) -> Self {
        Self {
            is_out_of_memory: true,
            ..Self::unavailable(message)
        }
    }

    /// A server that is going away.
    pub fn shutting_down() -> Self {
        Self::unavailable("the server is shutting down").with_retry_after(SHUTDOWN_RETRY)
    }

    /// An operator or feature that is not there.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, message)
    }

    /// A failure inside a model or the server.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error, with the cause that the log should show.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, telling the client when to try again.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What went wrong, for the protocols' tables.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// When the client may try again, where that is known; what is unavailable always says so.
    pub fn retry_after(&self) -> Option<Duration> {
        let passes = self.kind == ErrorKind::Unavailable;
        self.retry_after.or(passes.then_some(UNAVAILABLE_RETRY))
    }

    /// Whether it came for want of memory, so that it may go well once some is free.
    pub fn is_out_of_memory(&self) -> bool {
        self.is_out_of_memory
    }

    /// Whether it may pass by itself: for want of memory, or because whoever made it said when to try again.
    pub fn passes(&self) -> bool {
        self.retry_after.is_some() || self.is_out_of_memory
    }

    /// What a client may read: the message, except for internal failures, whose cause belongs in the log.
    pub fn public_message(&self) -> &str {
        match self.kind {
            ErrorKind::Internal => {
                "the model failed while running; the server's log has the cause under this request id"
            }
            _ => &self.message,
        }
    }

    /// The message followed by every cause beneath it, in one line, for the log and the command line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

/// Runs what an engine does and turns a panic into an error that says `when` it came.
pub fn guarded<T>(when: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |panic: Box<dyn Any + Send>| {
        let text = panic_text(&*panic);
        let message = format!("the engine panicked {when}: {text}");
        // By these words engines say that they were refused memory.
        Err(match text.contains("failed to allocate") {
            true => Error::out_of_memory(OUT_OF_MEMORY).with_source(message),
            false => Error::internal(message),
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked)
}

/// What a panic says, for the log.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    // What follows is a backtrace.
    text.and_then(|text| text.lines().next())
        .unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wrote_cannot_make_a_message_grow() {
        let error = Error::invalid(format!("unknown key '{}'", "ž".repeat(100_000)));
        assert_eq!(
            error.public_message().chars().count(),
            MOST_MESSAGE_CHARS + 1
        );
    }

    #[test]
    fn internal_causes_stay_out_of_the_public_message() {
        let error = Error::internal("session failed").with_source("secret path");
        assert!(!error.public_message().contains("secret"));
        assert_eq!(error.chain(), "session failed: secret path");
    }

    #[test]
    fn an_engine_that_was_refused_memory_may_be_asked_again() {
        let refused = guarded("while running", || -> Result<()> {
            panic!("failed to allocate Layout {{ size: 1 }}")
        });
        let refused = refused.expect_err("it panicked");
        assert!(refused.is_out_of_memory());
        assert_eq!(refused.public_message(), OUT_OF_MEMORY);
        assert!(refused.chain().contains("size: 1"), "the log has it all");
        let broken = guarded("while running", || -> Result<()> { panic!("no") });
        assert!(!broken.expect_err("it panicked").is_out_of_memory());
    }

    #[test]
    fn what_is_unavailable_says_when_to_try_again() {
        let error = Error::unavailable("not now");
        assert_eq!(error.retry_after(), Some(UNAVAILABLE_RETRY));
        assert_eq!(Error::not_found("nowhere").retry_after(), None);
    }
}
