//! Reads the body of a request into one buffer, which grows eightfold at most as more of it comes.

use std::collections::TryReserveError;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::paced::unread;
use crate::error::{Error, Result};
use crate::in_flight::Held;

/// What raw tensors are aligned to in the buffer: a cache line, which is enough for every element and vector.
const ALIGNMENT: usize = 64;
/// So much memory is taken on the word of a request's length; beyond, it must have sent an eighth of it.
const TAKEN_ON_WORD: usize = 64 << 10;

/// Reads the whole body. Raw tensors begin behind `json_bytes`; the first one comes to lie aligned. What it takes
/// counts in `held` before it is taken: memory that is used again is there at once, however little has come.
pub async fn collect(
    mut body: Body,
    json_bytes: usize,
    limit: usize,
    held: &Held,
) -> Result<Bytes> {
    let expected = body.size_hint().lower() as usize;
    let Some(first) = next(&mut body, limit).await? else {
        return Ok(Bytes::new());
    };
    held.take(first.len())?;
    let mut frame = next(&mut body, limit).await?;
    if frame.is_none() {
        return Ok(first);
    }
    held.set(Gathered::capacity(&first, expected))?;
    let mut gathered = Gathered::new(&first, expected, json_bytes).map_err(no_room)?;
    // It is a part of the connection's buffer.
    drop(first);
    while let Some(more) = frame {
        held.take(gathered.growth(&more))?;
        gathered.push(&more).map_err(no_room)?;
        frame = next(&mut body, limit).await?;
    }
    Ok(gathered.finish())
}

/// The next part of the body, if there is one.
async fn next(body: &mut Body, limit: usize) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => return Ok(Some(data)),
            Ok(Err(_trailers)) => {}
            Err(error) => return Err(unread(error.into_inner(), limit)),
        }
    }
    Ok(None)
}

/// A body that memory does not hold now costs its own request; taking it without asking would end the process.
pub fn no_room(error: TryReserveError) -> Error {
    Error::unavailable("the server has no memory for the body now")
        .with_retry_after(Duration::from_secs(1))
        .with_source(error)
}

/// A buffer that takes what is expected at once, as far as that is believed.
struct Gathered {
    buffer: Vec<u8>,
    /// What stands before the body, so that what follows its JSON is aligned.
    padding: usize,
    expected: usize,
}

impl Gathered {
    /// What it takes at first.
    fn capacity(first: &[u8], expected: usize) -> usize {
        first.len().max(expected.min(TAKEN_ON_WORD)) + ALIGNMENT
    }

    fn new(first: &[u8], expected: usize, json_bytes: usize) -> Result<Gathered, TryReserveError> {
        let mut buffer: Vec<u8> = Vec::new();
        buffer.try_reserve_exact(Self::capacity(first, expected))?;
        let tensors_at = buffer.as_ptr().addr().wrapping_add(json_bytes);
        let padding = tensors_at.wrapping_neg() % ALIGNMENT;
        buffer.resize(padding, 0);
        buffer.extend_from_slice(first);
        Ok(Gathered {
            buffer,
            padding,
            expected: expected.saturating_add(padding),
        })
    }

    /// How much more it takes when this comes.
    fn growth(&self, data: &[u8]) -> usize {
        let Gathered {
            buffer, expected, ..
        } = self;
        let spare = buffer.capacity() - buffer.len();
        if data.len() <= spare {
            return 0;
        }
        let more = match expected.saturating_sub(buffer.len()) {
            // How much comes is not known.
            0 => buffer.len(),
            missing => missing.min(7 * buffer.len()),
        };
        more.max(data.len()) - spare
    }

    fn push(&mut self, data: &[u8]) -> Result<(), TryReserveError> {
        let capacity = self.buffer.capacity() + self.growth(data);
        self.buffer
            .try_reserve_exact(capacity - self.buffer.len())?;
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    fn finish(self) -> Bytes {
        let Gathered {
            buffer, padding, ..
        } = self;
        Bytes::from(buffer).slice(padding..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_lie_aligned_behind_any_json() -> Result<(), TryReserveError> {
        for json_bytes in [0, 1, 63, 64, 65, 200] {
            let body: Vec<u8> = (0..=255).cycle().take(2000).collect();
            let mut gathered = Gathered::new(&body[..300], body.len(), json_bytes)?;
            for part in body[300..].chunks(7) {
                gathered.push(part)?;
            }
            let bytes = gathered.finish();
            assert_eq!(bytes, body);
            let tensors = bytes[json_bytes..].as_ptr().addr();
            assert_eq!(tensors % ALIGNMENT, 0, "{json_bytes} bytes of JSON");
        }
        Ok(())
    }

    #[test]
    fn memory_is_not_taken_for_what_does_not_come() -> Result<(), TryReserveError> {
        let mut gathered = Gathered::new(&[0; 100], usize::MAX, 0)?;
        assert!(gathered.buffer.capacity() <= 2 * TAKEN_ON_WORD);
        gathered.push(&[0; TAKEN_ON_WORD])?;
        assert!(gathered.buffer.capacity() <= 16 * TAKEN_ON_WORD);
        Ok(())
    }
}
