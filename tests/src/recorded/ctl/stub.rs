//! Fake servers: one that answers by a script and records its requests, one that never answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::case::{Route, Routes, StubAnswer};
use super::text::Names;
use crate::{Check, Context, Failure};

/// Listens and never answers. Closed when dropped.
#[derive(Debug)]
pub struct SilentServer {
    _listener: TcpListener,
}

impl SilentServer {
    /// On a port of 127.0.0.1.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(port: u16) -> Check<Self> {
        // The system accepts connections in its queue and buffers what is sent.
        Ok(SilentServer { _listener: listen(port)? })
    }
}

/// Accepts connections on its own thread until it is dropped.
#[derive(Debug)]
pub struct Acceptor {
    port: u16,
    stopped: Arc<AtomicBool>,
}

impl Acceptor {
    /// Passes each connection to `serve`, on its own thread.
    ///
    /// # Errors
    /// The system's.
    pub fn start(port: u16, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Check<Self> {
        let listener = listen(port)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(connection) = connection else { continue };
                let serve = serve.clone();
                thread::spawn(move || serve(connection));
            }
        });
        Ok(Acceptor { port, stopped })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which checks the flag first.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn listen(port: u16) -> Check<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context(format!("listen on port {port}"))
}

/// A scripted HTTP server.
#[derive(Debug)]
pub struct Stub {
    _acceptor: Acceptor,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    routes: Routes,
    names: Names,
    seen: Mutex<Vec<String>>,
    /// The number of requests for each path.
    hits: Mutex<BTreeMap<String, usize>>,
}

impl Stub {
    /// Answers on a port as `routes` say, with `names` filled in.
    ///
    /// # Errors
    /// The system's.
    pub fn start(port: u16, routes: Routes, names: Names) -> Check<Self> {
        let state = Arc::new(State { routes, names, seen: Mutex::default(), hits: Mutex::default() });
        let shared = state.clone();
        // A client that closes its connection is not an error.
        let acceptor = Acceptor::start(port, move |connection| drop(shared.serve(&connection)))?;
        Ok(Stub { _acceptor: acceptor, state })
    }

    /// A line for each request since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Answers the requests of one connection.
    fn serve(&self, connection: &TcpStream) -> Check {
        let mut reader = BufReader::new(connection.try_clone()?);
        while let Some(request) = StubRequest::read(&mut reader)? {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.line());
            let answer = self.answer(&request);
            let body = self.names.fill(&answer.body)?;
            let mut bytes = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
            for (name, value) in &answer.headers {
                bytes.push_str(&format!("{name}: {}\r\n", self.names.fill(value)?));
            }
            bytes.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
            if request.method != "HEAD" {
                bytes.push_str(&body);
            }
            let mut connection = connection;
            connection.write_all(bytes.as_bytes())?;
            if request.closes {
                connection.shutdown(Shutdown::Both)?;
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &StubRequest) -> StubAnswer {
        let path = request.target.split('?').next().unwrap_or_default();
        let keys = [format!("{} {path}", request.method), path.to_owned(), "*".to_owned()];
        match keys.iter().find_map(|key| self.routes.get(key)) {
            None => StubAnswer { status: 404, body: String::new(), headers: BTreeMap::new() },
            Some(Route::One(answer)) => answer.clone(),
            Some(Route::Several(answers)) => {
                let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
                let hit = hits.entry(path.to_owned()).or_insert(0);
                let at = (*hit).min(answers.len().saturating_sub(1));
                *hit += 1;
                answers[at].clone()
            }
        }
    }
}

/// A request of a client.
struct StubRequest {
    method: String,
    target: String,
    authorization: Option<String>,
    content_type: Option<String>,
    body: String,
    closes: bool,
}

impl StubRequest {
    /// The next request; nothing at the end of the connection.
    fn read(reader: &mut impl BufRead) -> Check<Option<Self>> {
        let first = line(reader)?;
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let mut headers = BTreeMap::new();
        loop {
            let line = line(reader)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let size = usize::from_str_radix(line(reader)?.trim(), 16)
                    .map_err(|_| Failure::new("a bad chunk"))?;
                reader.take(size as u64).read_to_end(&mut body)?;
                line(reader)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
            reader.take(length).read_to_end(&mut body)?;
        }
        Ok(Some(StubRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            authorization: headers.remove("authorization"),
            content_type: headers.remove("content-type"),
            body: String::from_utf8_lossy(&body).into_owned(),
            closes: headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        }))
    }

    /// As recorded: `PUT /path auth=… type=… body=…`.
    fn line(&self) -> String {
        let mut line = format!("{} {}", self.method, self.target);
        if let Some(authorization) = &self.authorization {
            line.push_str(&format!(" auth={authorization}"));
        }
        if !self.body.is_empty() {
            let kind = self.content_type.as_deref().unwrap_or("None");
            line.push_str(&format!(" type={kind} body={}", self.body));
        }
        line
    }
}

fn line(reader: &mut impl BufRead) -> Check<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Connection, PATIENCE, Request};
    use crate::ports;

    #[test]
    fn a_script_is_followed_and_requests_are_remembered() {
        let routes = r#"{"PUT /a":{"status":201,"body":"${x}"},"/b":[{"body":"1"},{"body":"2"}]}"#;
        let mut names = Names::default();
        names.set("x", "made");
        let port = ports::take().unwrap();
        let stub = Stub::start(port, serde_json::from_str(routes).unwrap(), names).unwrap();
        let mut connection = Connection::open(port, PATIENCE).unwrap();
        let mut ask = |request: Request| {
            let response = connection.call(&request, "h").unwrap();
            (response.status, response.text())
        };
        assert_eq!(ask(Request::new("PUT", "/a?x=y").form(&[("v", "1")])), (201, "made".into()));
        assert_eq!(ask(Request::new("GET", "/a")), (404, String::new()));
        let twos: Vec<String> = (0..3).map(|_| ask(Request::new("GET", "/b")).1).collect();
        assert_eq!(twos, ["1", "2", "2"]);
        let asked = stub.take_requests();
        assert_eq!(asked[0], "PUT /a?x=y type=application/x-www-form-urlencoded body=v=1");
        assert_eq!((asked[1].as_str(), asked.len(), stub.take_requests().len()), ("GET /a", 5, 0));
    }
}
