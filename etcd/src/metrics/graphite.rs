//! Sends the metrics to Graphite (`-graphite-host`) in Carbon's plain text protocol: `name value time`.
//!
//! One connection is kept open. While it is down, the newest metrics are buffered up to a bound. No other part of the
//! server waits for this.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use shared::net::io_reason;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::log;

/// The interval between two sets of metrics, as in 0.4.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// The most buffered bytes. Beyond it the oldest set is dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The timeout of connecting, and of writing one set.
const IO_TIME_MAX: Duration = Duration::from_secs(2);

/// The pauses between attempts to connect: the first one, doubled each time up to the second one.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Sends the result of `collect` at each interval, forever.
pub async fn send<F>(address: String, collect: impl Fn() -> F + Send)
where
    F: Future<Output = String> + Send,
{
    let mut sender = GraphiteSender::new(address);
    let mut rounds = interval(INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        sender.enqueue(collect().await);
        sender.send_waiting(Instant::now()).await;
    }
}

/// Whether the last attempt to send succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastAttempt {
    Unknown,
    Yes,
    No,
}

struct GraphiteSender {
    address: String,
    stream: Option<TcpStream>,
    /// Oldest first.
    waiting: VecDeque<String>,
    bytes: usize,
    last_attempt: LastAttempt,
    pause: Duration,
    next_attempt: Option<Instant>,
}

impl GraphiteSender {
    fn new(address: String) -> GraphiteSender {
        GraphiteSender {
            address,
            stream: None,
            waiting: VecDeque::new(),
            bytes: 0,
            last_attempt: LastAttempt::Unknown,
            pause: PAUSES.0,
            next_attempt: None,
        }
    }

    fn enqueue(&mut self, set: String) {
        self.bytes += set.len();
        self.waiting.push_back(set);
        while self.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Sends the buffered sets, if there is a connection or the next attempt is due.
    async fn send_waiting(&mut self, now: Instant) {
        if self.stream.is_none() && self.next_attempt.is_some_and(|next| now < next) {
            return;
        }
        match self.write().await {
            Ok(()) => {
                (self.pause, self.next_attempt) = (PAUSES.0, None);
                if self.last_attempt != LastAttempt::Yes {
                    log::info!("metrics", "metrics are sent to Graphite at {}", self.address);
                    self.last_attempt = LastAttempt::Yes;
                }
            }
            Err(error) => {
                self.stream = None;
                self.next_attempt = Some(now + self.pause);
                self.pause = (2 * self.pause).min(PAUSES.1);
                if self.last_attempt != LastAttempt::No {
                    log::warning!(
                        "metrics",
                        "cannot send metrics to Graphite at {} ({}): retrying; check whether Carbon listens there",
                        self.address,
                        io_reason(&error)
                    );
                    self.last_attempt = LastAttempt::No;
                }
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        // Carbon never sends data: a read returns only the end of the connection.
        if self.stream.as_ref().is_some_and(is_closed) {
            self.stream = None;
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(timeout(IO_TIME_MAX, TcpStream::connect(&self.address)).await??),
        };
        while let Some(set) = self.waiting.front() {
            // An interrupted set is sent again as a whole: Carbon drops an incomplete line.
            timeout(IO_TIME_MAX, stream.write_all(set.as_bytes())).await??;
            self.bytes -= set.len();
            self.waiting.pop_front();
        }
        Ok(())
    }
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut space = [0; 64];
    match stream.try_read(&mut space) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_sent_once_somebody_listens_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut sender = GraphiteSender::new(address.to_string());
        let now = Instant::now();
        sender.enqueue("a 1 1\n".to_owned());
        sender.send_waiting(now).await;
        let (accepted, _) = listener.accept().await.unwrap();
        let mut lines = BufReader::new(accepted).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "a 1 1");
        assert_eq!((sender.last_attempt, sender.bytes), (LastAttempt::Yes, 0));

        drop((lines, listener));
        tokio::time::sleep(Duration::from_millis(50)).await;
        sender.enqueue("a 2 2\n".to_owned());
        sender.send_waiting(now).await;
        assert_eq!((sender.last_attempt, sender.waiting.len()), (LastAttempt::No, 1));
        sender.enqueue("a 3 3\n".to_owned());
        sender.send_waiting(now + Duration::from_millis(900)).await;
        assert_eq!((sender.pause, sender.waiting.len()), (Duration::from_secs(2), 2), "not yet");

        let listener = TcpListener::bind(address).await.unwrap();
        sender.send_waiting(now + Duration::from_millis(1100)).await;
        let (accepted, _) = listener.accept().await.unwrap();
        let mut lines = BufReader::new(accepted).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "a 2 2");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "a 3 3");
        assert_eq!((sender.last_attempt, sender.pause, sender.bytes), (LastAttempt::Yes, PAUSES.0, 0));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_the_oldest_goes() {
        let mut sender = GraphiteSender::new("127.0.0.1:1".to_owned());
        for number in 0..100 {
            sender.enqueue(format!("{number} {}\n", "x".repeat(64 * 1024)));
            sender.send_waiting(Instant::now()).await;
            assert!(sender.bytes <= WAITING_BYTES_MAX);
        }
        assert!((10..16).contains(&sender.waiting.len()), "{}", sender.waiting.len());
        assert!(sender.waiting.back().unwrap().starts_with("99 "));
    }
}
