//! One connection, plain or encrypted.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::explain::LocalSide;

/// One connection.
#[derive(Debug)]
pub enum Stream {
    /// As the kernel gives it.
    Plain(TcpStream),
    /// Encrypted; the session's state is large.
    Tls(Box<Encrypted>),
}

/// An encrypted connection. Its errors are explained.
#[derive(Debug)]
pub struct Encrypted {
    stream: TlsStream<TcpStream>,
    side: Arc<LocalSide>,
}

impl Encrypted {
    pub(super) fn new(stream: impl Into<TlsStream<TcpStream>>, side: Arc<LocalSide>) -> Encrypted {
        Encrypted { stream: stream.into(), side }
    }

    fn explained(&self, error: io::Error) -> io::Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => io::Error::new(error.kind(), self.side.explain(tls, None)),
            // The other side closed the connection without the TLS closing alert.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
            }
            None => error,
        }
    }

    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut TlsStream<TcpStream>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        poll(Pin::new(&mut self.stream)).map_err(|error| self.explained(error))
    }
}

/// A connection that moves from one runtime to another.
#[derive(Debug)]
pub struct Detached(DetachedStream);

#[derive(Debug)]
enum DetachedStream {
    Plain(std::net::TcpStream),
    Tls(Box<Encrypted>),
}

impl Detached {
    /// Attaches the connection to the current runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the socket.
    pub fn attach(self) -> io::Result<Stream> {
        match self.0 {
            DetachedStream::Plain(socket) => TcpStream::from_std(socket).map(Stream::Plain),
            DetachedStream::Tls(socket) => Ok(Stream::Tls(socket)),
        }
    }
}

impl Stream {
    /// Takes the connection out of its runtime. An encrypted connection stays registered with the runtime where it
    /// began, which must continue to run.
    ///
    /// # Errors
    /// If the socket cannot be deregistered.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Stream::Plain(socket) => Ok(Detached(DetachedStream::Plain(socket.into_std()?))),
            Stream::Tls(socket) => Ok(Detached(DetachedStream::Tls(socket))),
        }
    }

    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(socket) => socket.stream.get_ref().0,
        }
    }

    /// Whether the other side has closed the connection, or its half of it, as far as the runtime knows.
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        let ready = pin!(self.tcp().ready(Interest::READABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// Whether small writes leave at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.tcp().set_nodelay(nodelay)
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(socket) => socket.poll(|socket| socket.poll_read(cx, buf)),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(socket) => socket.poll(|socket| socket.poll_write(cx, bytes)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Tls(socket) => socket.poll(|socket| socket.poll_write_vectored(cx, slices)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.is_write_vectored(),
            Stream::Tls(socket) => socket.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(socket) => socket.poll(|socket| socket.poll_flush(cx)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(socket) => socket.poll(|socket| socket.poll_shutdown(cx)),
        }
    }
}
