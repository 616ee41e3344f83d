//! Lines that a flood of requests must not make a flood of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use crate::log;

/// Writes a line at most once a second.
#[derive(Debug)]
pub(super) struct Hush {
    began: Instant,
    /// The second in which the next line may be written.
    next: AtomicU64,
}

impl Hush {
    pub(super) fn new() -> Hush {
        Hush { began: Instant::now(), next: AtomicU64::new(0) }
    }

    pub(super) fn info(&self, text: &str) {
        if self.may_speak() {
            log::info!("proxy", "{text}");
        }
    }

    fn may_speak(&self) -> bool {
        let second = self.began.elapsed().as_secs();
        let next = self.next.load(Relaxed);
        second >= next && self.next.compare_exchange(next, second + 1, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second() {
        let hush = Hush::new();
        assert!(hush.may_speak());
        assert!(!hush.may_speak());
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert!(hush.may_speak());
        assert!(!hush.may_speak());
    }
}
