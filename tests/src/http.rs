//! HTTP/1.1 by hand: every byte of a request is ours, nothing of an answer is hidden.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Check, Context, Failure, fail};

/// How long one read may take unless a caller says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A line of a head or of a chunk is not longer than this: the servers under test send short ones.
const LINE_BYTES_MAX: usize = 1 << 20;

/// An answer, as far as it has come.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// 200 and so on; 0 until the status line is there.
    pub status: u16,
    /// In the received order and spelling.
    pub headers: Vec<(String, String)>,
    /// Without transfer encoding.
    pub body: Vec<u8>,
    /// The 1xx answers before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// The value of a header, spelled in any case; several are joined by `, `.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// A header that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    /// The body as text, bytes that are not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request's method, target and the rest.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, or anything.
    pub method: String,
    /// Goes into the request line as it is.
    pub target: String,
    /// Go out in this order and spelling.
    pub headers: Vec<(String, String)>,
    /// Goes out as it is: chunked framing is the caller's.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers of its own and without a body.
    pub fn new(method: impl Into<String>, target: impl Into<String>) -> Self {
        Request { method: method.into(), target: target.into(), ..Request::default() }
    }

    /// The same with a form as its body.
    pub fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        self.body = form(pairs.iter().copied()).into_bytes();
        self.headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    }

    /// The bytes to send. `Host` and `Content-Length` are added where they are wanted and not given.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let mut line = |key: &str, value: &str| {
            for piece in [key, ": ", value, "\r\n"] {
                out.push_str(piece);
            }
        };
        if !self.has("Host") {
            line("Host", host);
        }
        for (key, value) in &self.headers {
            line(key, value);
        }
        let sized = self.has("Content-Length") || self.has("Transfer-Encoding");
        if !sized && (!self.body.is_empty() || matches!(self.method.as_str(), "PUT" | "POST")) {
            line("Content-Length", &self.body.len().to_string());
        }
        let mut out = out.into_bytes();
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// `application/x-www-form-urlencoded`, a space as `+`.
pub fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        escape(key, &mut out);
        out.push('=');
        escape(value, &mut out);
    }
    out
}

fn escape(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// A connection to a port of this machine.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Read and not yet used: from `start` on.
    buffer: Vec<u8>,
    start: usize,
}

impl Connection {
    /// Connects to 127.0.0.1; each read or write may take `patience`.
    ///
    /// # Errors
    /// The system's.
    pub fn open(port: u16, patience: Duration) -> Check<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream =
            TcpStream::connect_timeout(&address, patience).context(format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience))?;
        let connection = Connection { stream, buffer: Vec::new(), start: 0 };
        connection.set_patience(Some(patience))?;
        Ok(connection)
    }

    /// How long one read may take; `None`: for ever.
    ///
    /// # Errors
    /// The system's.
    pub fn set_patience(&self, patience: Option<Duration>) -> Check {
        Ok(self.stream.set_read_timeout(patience)?)
    }

    /// Something that closes the connection from another thread, even while this one reads.
    ///
    /// # Errors
    /// The system's.
    pub fn closer(&self) -> Check<Closer> {
        Ok(Closer(self.stream.try_clone()?))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, bytes: &[u8]) -> Check {
        self.stream.write_all(bytes).context("send")
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// The system's, or an answer that is not HTTP or breaks off.
    pub fn call(&mut self, request: &Request, host: &str) -> Check<Response> {
        self.send(&request.bytes(host))?;
        self.response(&request.method)
    }

    /// Reads a whole answer to a request with this method.
    ///
    /// # Errors
    /// The system's, or an answer that is not HTTP or breaks off.
    pub fn response(&mut self, method: &str) -> Check<Response> {
        let mut response = self.head()?;
        let mut body = Vec::new();
        self.body(method, &response, |piece| body.extend_from_slice(piece))?;
        response.body = body;
        Ok(response)
    }

    /// Reads the head of an answer, noting interim ones.
    ///
    /// # Errors
    /// As [`Connection::response`].
    pub fn head(&mut self) -> Check<Response> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.any_head()?;
            if !(100..200).contains(&response.status) {
                response.interim = interim;
                return Ok(response);
            }
            interim.push(response.status);
        }
    }

    /// Reads the head of the next answer, an interim one too.
    ///
    /// # Errors
    /// As [`Connection::response`].
    pub fn any_head(&mut self) -> Check<Response> {
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let status = match (words.next(), words.next()) {
            (Some("HTTP/1.1" | "HTTP/1.0"), Some(code)) if code.len() == 3 => code.parse().ok(),
            _ => None,
        };
        let mut response =
            Response { status: status.context(format!("bad status line {line:?}"))?, ..Response::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(response);
            }
            let (key, value) = line.split_once(':').unwrap_or((&line, ""));
            response.headers.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads the body that goes with `head`, handing over each piece as it comes.
    ///
    /// # Errors
    /// As [`Connection::response`].
    pub fn body(&mut self, method: &str, head: &Response, mut sink: impl FnMut(&[u8])) -> Check {
        if method == "HEAD" || matches!(head.status, 204 | 304) {
            return Ok(());
        }
        if head.header("Transfer-Encoding").is_some_and(|coding| coding.to_lowercase().contains("chunked")) {
            return self.chunks(sink);
        }
        let Some(length) = head.header("Content-Length") else {
            while self.available() > 0 || self.fill()? {
                sink(&self.buffer[self.start..]);
                self.start = self.buffer.len();
            }
            return Ok(());
        };
        let mut left: usize = length.parse().context(format!("Content-Length {length:?}"))?;
        while left > 0 {
            if self.available() == 0 && !self.fill()? {
                fail!("connection closed with {left} bytes of the body missing");
            }
            let piece = left.min(self.available());
            sink(&self.buffer[self.start..self.start + piece]);
            self.start += piece;
            left -= piece;
        }
        Ok(())
    }

    fn chunks(&mut self, mut sink: impl FnMut(&[u8])) -> Check {
        while let Some(chunk) = self.chunk()? {
            sink(&chunk);
        }
        Ok(())
    }

    /// The next chunk of a chunked body; nothing after the last one.
    ///
    /// # Errors
    /// As [`Connection::response`].
    pub fn chunk(&mut self) -> Check<Option<Vec<u8>>> {
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).context(format!("chunk line {line:?}"))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        while self.available() < size + 2 {
            if !self.fill()? {
                fail!("connection closed inside a chunk");
            }
        }
        let chunk = self.buffer[self.start..self.start + size].to_vec();
        self.start += size + 2;
        Ok(Some(chunk))
    }

    /// The bytes after the answers that were read: there should be none.
    ///
    /// # Errors
    /// When the server does not close, or sends more.
    pub fn expect_closed(&mut self, patience: Duration) -> Check {
        self.set_patience(Some(patience))?;
        let mut rest = [0; 4096];
        let mut more = self.buffer[self.start..].to_vec();
        if more.is_empty() {
            match self.stream.read(&mut rest) {
                Ok(read) => more.extend_from_slice(&rest[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) if is_timeout(&error) => fail!("the server kept the connection open"),
                Err(error) => return Err(error.into()),
            }
        }
        if !more.is_empty() {
            more.truncate(80);
            fail!("more bytes after the last answer: {:?}", String::from_utf8_lossy(&more));
        }
        Ok(())
    }

    fn available(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> Check<bool> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let used = self.buffer.len();
        self.buffer.resize(used + 65_536, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[used..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(used + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) if is_timeout(&error) => Err(Failure::new("no answer within the time allowed")),
            Err(error) => Err(error).context("receive"),
        }
    }

    fn line(&mut self) -> Check<String> {
        let mut searched = 0;
        loop {
            let fresh = &self.buffer[self.start + searched..];
            if let Some(at) = fresh.iter().position(|&byte| byte == b'\n') {
                let end = self.start + searched + at;
                let line = &self.buffer[self.start..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let text = line.iter().copied().map(char::from).collect();
                self.start = end + 1;
                return Ok(text);
            }
            searched = self.available();
            if searched > LINE_BYTES_MAX {
                fail!("a line of more than {LINE_BYTES_MAX} bytes");
            }
            if !self.fill()? {
                fail!("connection closed by the server in a header or chunk line");
            }
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Closes a [`Connection`] from outside.
#[derive(Debug)]
pub struct Closer(TcpStream);

impl Closer {
    /// Ends both directions; a read that waits returns.
    pub fn close(&self) {
        // Already closed by the other side, which is fine.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// One request on its own connection.
///
/// # Errors
/// As [`Connection::call`].
pub fn call(port: u16, request: &Request, patience: Duration) -> Check<Response> {
    Connection::open(port, patience)?.call(request, &format!("127.0.0.1:{port}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answering(bytes: &'static [u8]) -> (u16, thread::JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
        });
        (port, server)
    }

    #[test]
    fn answers_are_taken_apart() {
        let (port, server) = answering(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
              3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end",
        );
        let mut connection = Connection::open(port, PATIENCE).unwrap();
        let response = connection.call(&Request::new("GET", "/"), "h").unwrap();
        assert_eq!((response.status, response.interim.as_slice()), (201, [100].as_slice()));
        assert_eq!(response.header("X-a").as_deref(), Some("1, 2"));
        assert_eq!(response.text(), "abcde");
        assert_eq!(connection.response("GET").unwrap().text(), "to the end");
        server.join().unwrap();
    }

    #[test]
    fn what_breaks_off_is_a_failure() {
        let (port, server) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        let failure = call(port, &Request::new("GET", "/"), PATIENCE).unwrap_err();
        assert_eq!(failure.to_string(), "connection closed with 7 bytes of the body missing");
        server.join().unwrap();
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(form([("value", "a b&c=é/~")]), "value=a+b%26c%3D%C3%A9%2F~");
    }
}
