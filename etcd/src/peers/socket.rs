//! Reading and writing with a limit on how long nothing may move.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use shared::net::Stream;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

/// How long a connection may stand still in the middle of something.
pub(super) const STALL_TIME_MAX: Duration = Duration::from_secs(5);

/// Room that is made for a read.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Writes all of it. Fails when nothing can be written for [`STALL_TIME_MAX`].
pub(super) async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // Nearly always there is room, and no need for a timer.
        let now = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_write(cx, bytes))).await;
        let written = match now {
            Poll::Ready(written) => written?,
            Poll::Pending => {
                within(STALL_TIME_MAX, poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes))).await?
            }
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    if stream.is_tls() {
        within(STALL_TIME_MAX, poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx))).await?;
    }
    Ok(())
}

/// Reads what is there to the end of `buffer`; an end of the stream is an error.
pub(super) async fn read_some(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    time_max: Duration,
) -> io::Result<()> {
    buffer.reserve(READ_BYTES / 16);
    match within(time_max, stream.read_buf(buffer)).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF")),
        _ => Ok(()),
    }
}

/// Bounds the time of something that may fail by itself.
pub(super) async fn within<T>(
    time_max: Duration,
    what: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(time_max, what)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
}
