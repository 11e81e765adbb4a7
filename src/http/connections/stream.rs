//! A stream that tells its connection's [`Activity`] what passes, and which can be looked into before it is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::framing::Framing;

/// What a client writes first if it speaks HTTP/2 without having been told to.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// The bytes of one connection.
pub struct Stream<S> {
    inner: S,
    activity: Arc<Activity>,
    /// Read to see the protocol, and not yet given out.
    seen: [u8; PREFACE.len()],
    given: u8,
    filled: u8,
    /// `None` for HTTP/2, which sends more than heads and bodies.
    framing: Option<Framing>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub fn new(inner: S, activity: Arc<Activity>) -> Stream<S> {
        Stream {
            inner,
            activity,
            seen: [0; PREFACE.len()],
            given: 0,
            filled: 0,
            framing: Some(Framing::default()),
        }
    }

    /// Waits for as many bytes as tell what the client speaks; `None` if it left without a word.
    pub async fn protocol(&mut self) -> io::Result<Option<Protocol>> {
        while usize::from(self.filled) < PREFACE.len() {
            let filled = usize::from(self.filled);
            let count = self.inner.read(&mut self.seen[filled..]).await?;
            if count == 0 && filled == 0 {
                return Ok(None);
            }
            let came = filled..filled + count;
            self.filled += count as u8;
            if let Some(framing) = &mut self.framing {
                framing.came(&self.seen[came]);
                self.activity.came(framing.is_in_head());
            }
            if count == 0 || !PREFACE.starts_with(&self.seen[..usize::from(self.filled)]) {
                return Ok(Some(Protocol::Http1));
            }
        }
        self.activity.came(false);
        self.framing = None;
        Ok(Some(Protocol::Http2))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.given < this.filled {
            let rest = &this.seen[usize::from(this.given)..usize::from(this.filled)];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.given += count as u8;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        if let (Some(framing), false) = (&mut this.framing, came.is_empty()) {
            framing.came(came);
            this.activity.came(framing.is_in_head());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.activity.wrote(wrote.is_pending());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.activity.wrote(wrote.is_pending());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
