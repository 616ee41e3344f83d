//! A connection with read and write timeouts.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A connection with timeouts. Without timeouts it adds no cost.
#[derive(Debug)]
pub(super) struct Timed<S> {
    inner: S,
    read: OperationTimeout,
    write: OperationTimeout,
}

impl<S> Timed<S> {
    /// `read` bounds the time without any received or sent data while a read waits, `write` the time of one write;
    /// `None`: no limit.
    pub(super) fn new(inner: S, read: Option<Duration>, write: Option<Duration>) -> Timed<S> {
        Timed { inner, read: OperationTimeout::new(read), write: OperationTimeout::new(write) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.read.poll(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write(cx, bytes);
        if polled.is_ready() {
            // The time for the response starts after the last byte of the request.
            this.read.restart();
        }
        this.write.poll(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        if polled.is_ready() {
            this.read.restart();
        }
        this.write.poll(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_flush(cx);
        this.write.poll(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.write.poll(cx, polled)
    }
}

/// The timeout of one kind of operation.
#[derive(Debug)]
struct OperationTimeout {
    limit: Option<Duration>,
    /// Created on first use.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs for a pending operation.
    waits: bool,
}

impl OperationTimeout {
    fn new(limit: Option<Duration>) -> OperationTimeout {
        OperationTimeout { limit, timer: None, waits: false }
    }

    fn poll<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(limit) = self.limit else { return polled };
        if polled.is_ready() {
            self.waits = false;
            return polled;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.waits {
            self.waits = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
    }

    fn restart(&mut self) {
        if let (true, Some(limit), Some(timer)) = (self.waits, self.limit, &mut self.timer) {
            timer.as_mut().reset(Instant::now() + limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn silence_ends_a_read() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = Timed::new(ours, Some(LIMIT), None);
        let mut byte = [0];
        for _ in 0..3 {
            tokio::time::sleep(LIMIT).await;
            theirs.write_all(b"x").await.unwrap();
            ours.read_exact(&mut byte).await.unwrap();
        }
        let began = Instant::now();
        let error = ours.read_exact(&mut byte).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "i/o timeout"));
        let took = began.elapsed();
        assert!(took >= LIMIT && took < LIMIT * 20, "{took:?}");
    }

    #[tokio::test]
    async fn a_write_that_nobody_takes_ends() {
        let (ours, _theirs) = duplex(8);
        let mut ours = Timed::new(ours, None, Some(LIMIT));
        ours.write_all(b"12345678").await.unwrap();
        assert_eq!(ours.write_all(b"9").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn without_limits_everything_may_last() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = Timed::new(ours, None, None);
        let later = tokio::spawn(async move {
            tokio::time::sleep(LIMIT * 3).await;
            theirs.write_all(b"x").await
        });
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
        later.await.unwrap().unwrap();
    }
}
