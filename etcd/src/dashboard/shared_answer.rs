//! An answer that concurrent requests share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// The maximum age of an answer. A page asks every two seconds.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The last answer to an expensive request, and the time of that request.
///
/// Requests that arrive during the work wait for the same answer. So the work is done at most once per second, for any
/// number of requests.
#[derive(Debug)]
pub(crate) struct SharedAnswer<T>(Mutex<Option<(Instant, Arc<OnceCell<T>>)>>);

impl<T> Default for SharedAnswer<T> {
    fn default() -> SharedAnswer<T> {
        SharedAnswer(Mutex::new(None))
    }
}

impl<T: Clone> SharedAnswer<T> {
    /// The last answer, or a new one if it is too old. If the caller is cancelled, its `work` is dropped, and the next
    /// waiting caller starts its own.
    pub(crate) async fn get(&self, work: impl Future<Output = T>) -> T {
        let now = Instant::now();
        let cell = {
            let mut last = self.0.lock();
            match &*last {
                Some((asked, cell)) if now.duration_since(*asked) < AGE_MAX || !cell.initialized() => {
                    cell.clone()
                }
                _ => {
                    let cell = Arc::new(OnceCell::new());
                    *last = Some((now, cell.clone()));
                    cell
                }
            }
        };
        cell.get_or_init(|| work).await.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn who_asks_at_the_same_time_shares_an_answer() {
        let shared = SharedAnswer::default();
        let asked = AtomicU32::new(0);
        let ask = || {
            shared.get(async {
                tokio::time::sleep(Duration::from_millis(1300)).await;
                asked.fetch_add(1, Ordering::Relaxed)
            })
        };
        // The work takes longer than the maximum age: still only one caller does it.
        let late = async {
            tokio::time::sleep(Duration::from_millis(1100)).await;
            ask().await
        };
        assert_eq!(tokio::join!(ask(), ask(), late), (0, 0, 0));
        assert_eq!(ask().await, 1);
        tokio::time::sleep(AGE_MAX).await;
        assert_eq!(ask().await, 2);
    }

    #[tokio::test]
    async fn who_leaves_does_not_take_the_answer_along() {
        let shared = SharedAnswer::default();
        let slow = shared.get(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            1
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
        assert_eq!(shared.get(async { 2 }).await, 2);
    }
}
