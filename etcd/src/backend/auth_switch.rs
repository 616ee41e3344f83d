//! Whether auth is on, without a look into the store.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use shared::store::Store;
use tokio::sync::Notify;

/// The key of the switch in the store: `true` or `false`. It does not exist before a user or a role was created.
pub(crate) const AUTH_SWITCH_PATH: &str = "/2/enabled";

/// Whether users and roles are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthSwitch {
    /// Off, because the switch was never written.
    Never,
    /// Off.
    Off,
    /// On.
    On,
}

impl AuthSwitch {
    /// Reads the switch. As in the original, a value that is not a boolean means off.
    pub fn of(store: &Store) -> AuthSwitch {
        match store.peek(AUTH_SWITCH_PATH.as_bytes()) {
            None => AuthSwitch::Never,
            Some(value) if value.trim_ascii() == b"true" => AuthSwitch::On,
            Some(_) => AuthSwitch::Off,
        }
    }

    /// Whether permissions have to be checked.
    pub fn is_on(self) -> bool {
        self == AuthSwitch::On
    }
}

/// The switch for requests, which read it with one atomic load.
///
/// **Invariant:** it is updated before any reader can see the changed store.
#[derive(Debug)]
pub(crate) struct SharedAuthSwitch {
    switch: AtomicU8,
    generation: AuthGeneration,
}

impl SharedAuthSwitch {
    pub(crate) fn of(store: &Store) -> SharedAuthSwitch {
        SharedAuthSwitch {
            switch: AtomicU8::new(AuthSwitch::of(store) as u8),
            generation: AuthGeneration::default(),
        }
    }

    /// Updates the switch. Call this after a change of the store, while no reader has access.
    pub(crate) fn follow(&self, store: &Store) {
        self.switch.store(AuthSwitch::of(store) as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> AuthSwitch {
        match self.switch.load(Ordering::Acquire) {
            value if value == AuthSwitch::On as u8 => AuthSwitch::On,
            value if value == AuthSwitch::Off as u8 => AuthSwitch::Off,
            _ => AuthSwitch::Never,
        }
    }

    /// The generation of the stored users, roles and switch.
    pub(crate) fn generation(&self) -> &AuthGeneration {
        &self.generation
    }
}

/// A number that changes whenever a user, a role or the switch may have changed: then permissions are checked again.
///
/// **Invariant:** it changes before an event of a later entry can reach a watcher.
#[derive(Debug, Default)]
pub struct AuthGeneration {
    number: AtomicU64,
    moved: Notify,
}

impl AuthGeneration {
    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Records that something may have changed.
    pub(crate) fn advance(&self) {
        self.number.fetch_add(1, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Waits until the number differs from `seen`.
    pub(crate) async fn wait(&self, seen: u64) {
        loop {
            let mut moved = pin!(self.moved.notified());
            // No change is missed from here on.
            moved.as_mut().enable();
            if self.get() != seen {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::time::UnixNanos;
    use shared::v2;

    use super::*;

    #[test]
    fn follows_the_store() {
        let mut store = Store::new(10);
        let shared = SharedAuthSwitch::of(&store);
        for (value, wanted) in [
            ("", AuthSwitch::Never),
            ("false", AuthSwitch::Off),
            ("true", AuthSwitch::On),
            ("nonsense", AuthSwitch::Off),
        ] {
            if !value.is_empty() {
                let path = AUTH_SWITCH_PATH.into();
                let request =
                    v2::Request { verb: v2::Verb::Put, path, val: value.into(), ..v2::Request::default() };
                store.apply(&request, UnixNanos(0)).unwrap();
            }
            shared.follow(&store);
            assert_eq!((shared.get(), AuthSwitch::of(&store)), (wanted, wanted), "{value}");
        }
        assert_eq!(store.stats().reads(), [0, 0], "nobody asked for anything");
    }
}
