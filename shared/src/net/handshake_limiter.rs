//! Limits handshakes, so that long computations do not block the other tasks of a thread.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Polls one of many futures at a time, and lets the other tasks of the thread run between two polls.
///
/// A handshake costs about a millisecond of signing. If a thousand clients reconnect at once and their handshakes ran
/// one after the other, a member would miss its heartbeats.
#[derive(Debug)]
pub(super) struct HandshakeLimiter(Semaphore);

/// A waker that records whether the future itself was woken, or only its task.
struct TrackingWaker {
    woken: AtomicBool,
    task: Waker,
}

impl Wake for TrackingWaker {
    fn wake(self: Arc<TrackingWaker>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl HandshakeLimiter {
    pub(super) fn new() -> HandshakeLimiter {
        HandshakeLimiter(Semaphore::new(1))
    }

    /// Runs a future; each of its polls takes a permit, waiting does not.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            // The semaphore is never closed, so this always succeeds.
            let turn = self.0.acquire().await;
            let (step, waker) = poll_fn(|cx| {
                let waker =
                    Arc::new(TrackingWaker { woken: AtomicBool::new(false), task: cx.waker().clone() });
                let step = work.as_mut().poll(&mut Context::from_waker(&Waker::from(waker.clone())));
                Poll::Ready((step, waker))
            })
            .await;
            // Keep the permit until the other tasks of the thread have run.
            yield_now().await;
            drop(turn);
            if let Poll::Ready(result) = step {
                return result;
            }
            poll_fn(|_| if waker.woken.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending })
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn others_come_between_two_steps() {
        let limiter = Arc::new(HandshakeLimiter::new());
        let steps = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..20)
            .map(|_| {
                let (limiter, steps) = (limiter.clone(), steps.clone());
                tokio::spawn(async move {
                    let work = async {
                        for _ in 0..3 {
                            steps.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    };
                    limiter.run(work).await;
                })
            })
            .collect();
        let (mut before, mut most) = (0, 0);
        while workers.iter().any(|worker| !worker.is_finished()) {
            yield_now().await;
            let now = steps.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
        assert_eq!(before, 60);
        assert!(most <= 2, "{most} steps in a row");
    }

    #[tokio::test]
    async fn who_waits_holds_nobody_up() {
        let limiter = HandshakeLimiter::new();
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let (waited, ()) = tokio::join!(limiter.run(wait), async {
            assert_eq!(limiter.run(async { 7 }).await, 7);
            done.send(()).unwrap();
        });
        waited.unwrap();
    }
}
