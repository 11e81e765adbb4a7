//! Errors as gRPC statuses: the one table of codes.

use std::sync::Arc;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind};

/// Clients take about 8 KiB of metadata in all, and a status beyond that becomes another one.
const MOST_MESSAGE_BYTES: usize = 4096;
/// When a client that retries by itself may do so, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The code of each kind of error.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        // Not Unavailable, which clients retry at once.
        ErrorKind::TooLarge | ErrorKind::QueueFull => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::RequestTimeout | ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status of a request that failed; the error itself stays within, for the log.
pub fn status(error: Error) -> Status {
    let message = error.public_message();
    let mut status = Status::new(code(error.kind()), &message[..fitting(message)]);
    if let Some(after) = error.retry_after() {
        let milliseconds = MetadataValue::from(after.as_millis() as u64);
        status.metadata_mut().insert(PUSHBACK, milliseconds);
    }
    status.set_source(Arc::new(error));
    status
}

/// How much of a message fits, percent-encoded as it will be.
fn fitting(message: &str) -> usize {
    let mut encoded = 0;
    for (at, char) in message.char_indices() {
        encoded += match char.is_ascii_alphanumeric() {
            true => 1,
            false => 3 * char.len_utf8(),
        };
        if encoded > MOST_MESSAGE_BYTES {
            return at;
        }
    }
    message.len()
}

/// The error behind a status, where it is one of ours and not tonic's.
pub fn cause(status: &Status) -> Option<&Error> {
    std::error::Error::source(status)?.downcast_ref()
}

/// What the access log says about a failed request.
pub fn reason(status: &Status) -> String {
    cause(status).map_or_else(|| status.message().to_owned(), Error::chain)
}

/// A code by its name in the specification.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_long_message_is_cut_to_what_clients_take() {
        let status = status(Error::invalid("ž".repeat(2000)));
        assert_eq!(status.message().chars().count(), MOST_MESSAGE_BYTES / 6);
        let short = "unknown model 'ž'";
        assert_eq!(super::status(Error::not_found(short)).message(), short);
    }

    #[test]
    fn a_client_is_told_when_to_try_again() {
        let error = Error::new(ErrorKind::QueueFull, "full");
        let status = status(error.with_retry_after(Duration::from_millis(1500)));
        assert_eq!(status.code(), Code::ResourceExhausted);
        let pushback = status.metadata().get(PUSHBACK);
        assert_eq!(pushback.map(|value| value.as_bytes()), Some(&b"1500"[..]));
    }

    #[test]
    fn a_cause_stays_out_of_the_message_and_in_the_reason() {
        let status = status(Error::internal("session failed").with_source("secret path"));
        assert!(!status.message().contains("secret"));
        assert_eq!(reason(&status), "session failed: secret path");
    }
}
