//! A request that waits for its answer while the scenario continues.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Closer, Connection, Response};
use crate::json::Json;
use crate::{Check, clock};

/// What has come so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// As far as it is there.
    pub response: Response,
    /// Whether its head is complete.
    pub head: bool,
    /// Whether it is complete, or will never be.
    pub done: bool,
    /// Why it ended early.
    pub error: Option<String>,
    /// When the last piece of the body was received, in seconds since 1970.
    pub last_piece: Option<f64>,
}

impl Progress {
    /// The JSON values of the body so far.
    pub fn events(&self) -> Vec<Json> {
        Json::parse_stream(&self.response.text()).0
    }
}

/// A waiting request. Its connection closes when it is dropped.
#[derive(Debug)]
pub struct Background {
    /// When it went out, in seconds since 1970.
    pub sent: f64,
    shared: Arc<(Mutex<Progress>, Condvar)>,
    closer: Closer,
}

impl Background {
    /// Reads the answer of a request that was just sent on `connection`.
    ///
    /// # Errors
    /// The system's.
    pub fn start(mut connection: Connection, method: String, sent: f64) -> Check<Self> {
        connection.set_patience(None)?;
        let closer = connection.closer()?;
        let shared = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
        let progress = shared.clone();
        // Ends when the connection does, and that ends with the handle.
        thread::spawn(move || {
            let result = receive(&mut connection, &method, &progress);
            update(&progress, |progress| {
                progress.error = result.err().map(|error| error.to_string());
                progress.done = true;
                progress.last_piece.get_or_insert_with(clock::now);
            });
        });
        Ok(Background { sent, shared, closer })
    }

    /// Waits until `enough`, or `limit` is over; returns which.
    pub fn wait(&self, limit: Duration, enough: impl Fn(&Progress) -> bool) -> bool {
        let end = Instant::now() + limit;
        let (_, changed) = &*self.shared;
        let mut progress = self.progress();
        while !enough(&progress) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            progress = changed.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What has come so far.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.closer.close();
    }
}

fn receive(connection: &mut Connection, method: &str, shared: &(Mutex<Progress>, Condvar)) -> Check {
    let head = connection.head()?;
    update(shared, |progress| {
        progress.response = head.clone();
        progress.head = true;
    });
    connection.body(method, &head, |piece| {
        update(shared, |progress| {
            progress.response.body.extend_from_slice(piece);
            progress.last_piece = Some(clock::now());
        });
    })
}

fn update((progress, changed): &(Mutex<Progress>, Condvar), change: impl FnOnce(&mut Progress)) {
    change(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
    changed.notify_all();
}
