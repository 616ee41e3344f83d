//! Watching a key, over as many connections as it takes.
//!
//! A watch is a read that the member answers at the next event. The watcher repeats it from the index after each
//! event; as the members keep a history, no event is lost between two reads. A broken connection is made again in the
//! same way, also before the first event: the head of the answer has the index at which the watch began. Only events
//! older than the members' history are lost; then a notice names them.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, sleep};

use super::Client;
use super::error::{ClientError, RequestError};
use super::keys::{Response, etcd_index, read_response};
use super::request::Request;

/// The pause before the second attempt; it doubles with each further one. The first has no pause.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The header with the interval of progress notices, in seconds.
const PROGRESS: &str = "x-etcd-progress";
/// A connection counts as dead after this many missing notices.
const NOTICES_MISSED_MAX: u32 = 3;
/// The API's error for an index that the history no longer reaches.
const HISTORY_CLEARED: u16 = 401;

/// A watch on a key.
#[derive(Debug)]
pub struct Watcher<'a> {
    client: &'a Client,
    key: Vec<u8>,
    recursive: bool,
    /// The index to watch from; 0: the next event.
    next: u64,
    /// A member has searched its history up to here (exclusive) without an event.
    scanned: u64,
    /// Whether a member has accepted the watch: after that, failures are temporary.
    opened: bool,
    /// Whether the present loss of connection was reported.
    loss_reported: bool,
    attempts: u32,
    /// The interval of progress notices, in seconds.
    progress: Option<u64>,
}

/// An item of a watch.
#[derive(Debug)]
pub enum WatchItem {
    /// An event of the key.
    Event(Box<Response>),
    /// A notice about the watch, which continues.
    Notice(WatchNotice),
}

/// A notice about a watch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchNotice {
    /// The connection was lost; it is being made again.
    #[error("watch interrupted ({reason}); trying to resume at index {next}")]
    Lost {
        /// Why.
        reason: String,
        /// The first index that was not received.
        next: u64,
    },
    /// Events that are no longer in the history of the members.
    #[error(
        "the history of the cluster begins at index {}: events from {from} to {to} may be missing here",
        .to + 1
    )]
    Missed {
        /// The first index that may be missing.
        from: u64,
        /// The last one.
        to: u64,
    },
}

impl Client {
    /// Watches a key, and with `recursive` all below it.
    ///
    /// With `from`, the first event is the first one with that index or a later one; without, the next that
    /// happens.
    pub fn watch(&self, key: &[u8], recursive: bool, from: Option<u64>) -> Watcher<'_> {
        Watcher {
            client: self,
            key: key.to_owned(),
            recursive,
            next: from.unwrap_or(0),
            scanned: 0,
            opened: false,
            loss_reported: false,
            attempts: 0,
            progress: None,
        }
    }
}

impl Watcher<'_> {
    /// Asks the members for a progress notice after this many seconds of silence. So no proxy closes the connection
    /// as idle, and a dead connection is noticed. Members that do not support this send none, and have no time limit.
    #[must_use]
    pub fn with_progress(self, seconds: u64) -> Self {
        Watcher { progress: Some(seconds), ..self }
    }

    /// Waits for the next event, for as long as it takes.
    ///
    /// # Errors
    /// If no member accepts the watch at first, or one refuses it later.
    pub async fn next(&mut self) -> Result<WatchItem, ClientError> {
        loop {
            sleep(backoff(self.attempts)).await;
            let started = Instant::now();
            let outcome = self.attempt().await;
            if started.elapsed() > BACKOFF_MAX {
                self.attempts = 0;
            }
            match outcome {
                Ok(response) => {
                    self.attempts = 0;
                    self.next = response.node.modified_index + 1;
                    return Ok(WatchItem::Event(Box::new(response)));
                }
                Err(error) if !self.opened => return Err(error),
                Err(error) => {
                    self.attempts += 1;
                    if let Some(notice) = self.recover(error)? {
                        return Ok(WatchItem::Notice(notice));
                    }
                }
            }
        }
    }

    /// One read, from its request to its event.
    async fn attempt(&mut self) -> Result<Response, ClientError> {
        let mut request = Request::new(Method::GET, self.client.key_path(&self.key));
        request.query.add("wait", "true");
        request.query.add("waitIndex", self.next.to_string());
        request.query.add("recursive", self.recursive.to_string());
        if let Some(seconds) = self.progress {
            request.query.add("progress", seconds.to_string());
        }
        request.wait = true;
        let answer = self.client.exchange(&request, async |_, answer| Ok(answer)).await?;
        let status = answer.status();
        let headers = answer.headers().clone();
        if status == StatusCode::OK {
            self.opened = true;
            self.loss_reported = false;
            if let Some(index) = etcd_index(&headers) {
                self.scanned = self.scanned.max(index + 1);
                if self.next == 0 {
                    self.next = index + 1;
                }
            }
        }
        let body = match silence_max(&headers) {
            Some(silence) => answer.body_with_signs(silence).await,
            None => answer.body().await,
        };
        read_response(status, &headers, &body.map_err(|error| ClientError::Unavailable(vec![error]))?)
    }

    /// Decides whether the watch can continue after a failure, and what to report.
    fn recover(&mut self, error: ClientError) -> Result<Option<WatchNotice>, ClientError> {
        match error {
            // The member closed the watch without an event, as it does when it stops.
            ClientError::EmptyBody => Ok(None),
            ClientError::Api(failure) if failure.code == HISTORY_CLEARED => {
                let oldest = oldest_index(&failure.cause).unwrap_or(failure.index + 1);
                let from = self.next.max(self.scanned);
                let asked = std::mem::replace(&mut self.next, oldest.max(from));
                if self.next > asked {
                    // The member is alive and the next request is another one: no need to wait.
                    self.attempts = 0;
                }
                Ok((from < self.next).then(|| WatchNotice::Missed { from, to: self.next - 1 }))
            }
            ClientError::Unavailable(errors) if errors.iter().all(RequestError::may_pass) => {
                if self.loss_reported {
                    return Ok(None);
                }
                self.loss_reported = true;
                let reason = errors.iter().map(RequestError::to_string).collect::<Vec<_>>().join("; ");
                Ok(Some(WatchNotice::Lost { reason, next: self.next }))
            }
            error => Err(error),
        }
    }
}

/// How long an answer may be silent, if its sender sends progress notices.
fn silence_max(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u32 = headers.get(PROGRESS)?.to_str().ok()?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()) * NOTICES_MISSED_MAX)
}

/// The wait before an attempt, by the number of those that failed.
fn backoff(failed: u32) -> Duration {
    match failed {
        0 | 1 => Duration::ZERO,
        n => BACKOFF_MIN.saturating_mul(1 << (n - 2).min(10)).min(BACKOFF_MAX),
    }
}

/// `the requested history has been cleared [1008/8]` → 1008.
fn oldest_index(cause: &str) -> Option<u64> {
    cause.rsplit_once('[')?.1.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::Options;
    use super::*;

    /// A member that gives a list of answers, one a connection, and records the requests.
    async fn member(answers: Vec<String>) -> (Client, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let bytes = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..bytes]).into_owned();
                log.lock().unwrap().push(request.split(' ').nth(1).unwrap().to_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Client::new(Options { endpoints: vec![endpoint], ..Options::default() }).unwrap(), seen)
    }

    /// An answer whose head says that the store is at `index`; the body may be shorter than announced.
    fn answer(status: u16, index: u64, announced: usize, body: &str) -> String {
        format!(
            "HTTP/1.1 {status} X\r\nX-Etcd-Index: {index}\r\nContent-Length: {announced}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }

    fn event(index: u64) -> String {
        let body = format!(
            r#"{{"action":"set","node":{{"key":"/k","value":"v","modifiedIndex":{index},"createdIndex":1}}}}"#
        );
        answer(200, 7, body.len(), &body)
    }

    fn cleared(oldest: u64) -> String {
        let body = format!(
            r#"{{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [{oldest}/1]","index":5000}}"#
        );
        answer(400, 5000, body.len(), &body)
    }

    async fn watched(watcher: &mut Watcher<'_>) -> WatchItem {
        watcher.next().await.unwrap()
    }

    async fn expect_event(watcher: &mut Watcher<'_>, index: u64) {
        match watched(watcher).await {
            WatchItem::Event(response) => assert_eq!(response.node.modified_index, index),
            WatchItem::Notice(notice) => panic!("a notice: {notice}"),
        }
    }

    async fn expect_notice(watcher: &mut Watcher<'_>) -> WatchNotice {
        match watched(watcher).await {
            WatchItem::Notice(notice) => notice,
            WatchItem::Event(response) => panic!("an event: {response:?}"),
        }
    }

    fn indexes(seen: &Mutex<Vec<String>>) -> Vec<String> {
        let index = |target: &String| target.split("waitIndex=").nth(1).unwrap().to_owned();
        seen.lock().unwrap().iter().map(index).collect()
    }

    #[tokio::test]
    async fn a_connection_that_breaks_before_the_first_event_leaves_no_gap() {
        let (client, seen) = member(vec![answer(200, 7, 100, "{"), event(9), event(12)]).await;
        let mut watcher = client.watch(b"/k", false, None);
        assert!(matches!(expect_notice(&mut watcher).await, WatchNotice::Lost { next: 8, .. }));
        expect_event(&mut watcher, 9).await;
        expect_event(&mut watcher, 12).await;
        assert_eq!(indexes(&seen), ["0", "8", "10"]);
    }

    #[tokio::test]
    async fn a_watch_from_an_index_asks_for_it_again() {
        let (client, seen) = member(vec![answer(200, 7, 100, "{"), event(3)]).await;
        let mut watcher = client.watch(b"/k", true, Some(3));
        expect_notice(&mut watcher).await;
        expect_event(&mut watcher, 3).await;
        assert_eq!(indexes(&seen), ["3", "3"]);
        assert!(seen.lock().unwrap()[0].starts_with("/v2/keys/k?recursive=true&wait=true&"));
    }

    #[tokio::test]
    async fn a_watch_that_is_closed_without_an_event_is_opened_again_in_silence() {
        let (client, seen) = member(vec![answer(200, 7, 0, ""), event(9)]).await;
        let mut watcher = client.watch(b"/k", false, None);
        expect_event(&mut watcher, 9).await;
        assert_eq!(indexes(&seen), ["0", "8"]);
    }

    #[tokio::test]
    async fn signs_of_life_are_passed_over_and_their_absence_is_noticed() {
        let promised = |answer: String| answer.replacen("\r\n", "\r\nX-Etcd-Progress: 1\r\n", 1);
        let with_signs = |index: u64| {
            let event = event(index);
            let (head, body) = event.split_once("\r\n\r\n").unwrap();
            let length = format!("Content-Length: {}", body.len());
            let head = head.replace(&length, &format!("Content-Length: {}", body.len() + 3));
            promised(format!("{head}\r\n\r\n\n\n\n{body}"))
        };
        let (client, seen) =
            member(vec![with_signs(9), promised(answer(200, 9, 2, "\n\n")), with_signs(12)]).await;
        let mut watcher = client.watch(b"/k", false, None).with_progress(30);
        expect_event(&mut watcher, 9).await;
        // Only progress notices, then the end of the answer: the request is repeated without a notice.
        expect_event(&mut watcher, 12).await;
        assert!(seen.lock().unwrap()[0].contains("progress=30&"));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(promised(answer(200, 7, 100, "\n")).as_bytes()).await.unwrap();
                held.push(stream);
            }
        });
        let client = Client::new(Options { endpoints: vec![endpoint], ..Options::default() }).unwrap();
        let mut watcher = client.watch(b"/k", false, None).with_progress(1);
        let WatchNotice::Lost { reason, next } = expect_notice(&mut watcher).await else { panic!() };
        assert!(reason.ends_with("no sign of life for 3 s") && next == 8, "{reason} {next}");
    }

    #[tokio::test]
    async fn what_the_history_no_longer_holds_is_told_and_passed_over() {
        let answers =
            vec![event(9), cleared(4001), event(4005), answer(200, 6000, 9, "{"), cleared(5500), event(6001)];
        let (client, seen) = member(answers).await;
        let mut watcher = client.watch(b"/k", false, None);
        expect_event(&mut watcher, 9).await;
        assert_eq!(expect_notice(&mut watcher).await, WatchNotice::Missed { from: 10, to: 4000 });
        expect_event(&mut watcher, 4005).await;
        expect_notice(&mut watcher).await;
        // Up to 6000 a member had looked and found nothing: nothing is missing.
        expect_event(&mut watcher, 6001).await;
        assert_eq!(indexes(&seen), ["0", "10", "4001", "4006", "4006", "6001"]);
    }

    #[tokio::test]
    async fn an_index_of_the_user_that_is_too_old_is_an_error() {
        let (client, _) = member(vec![cleared(4001)]).await;
        let error = client.watch(b"/k", false, Some(2)).next().await.unwrap_err();
        assert!(matches!(error, ClientError::Api(failure) if failure.code == 401));
    }

    #[tokio::test]
    async fn a_watch_that_nobody_accepts_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = Client::new(Options { endpoints: vec![endpoint], ..Options::default() }).unwrap();
        let error = client.watch(b"/k", false, None).next().await.unwrap_err();
        assert!(error.is_connection(), "{error:?}");
    }

    #[test]
    fn waits_grow_to_a_limit() {
        assert_eq!([0, 1, 2, 3].map(backoff), [0, 0, 100, 200].map(Duration::from_millis));
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
