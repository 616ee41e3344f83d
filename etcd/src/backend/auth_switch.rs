//! Whether auth is on, known without asking the store.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use shared::store::Store;
use tokio::sync::Notify;

/// Where it stands in the store: `true` or `false`, or nothing as long as nobody made a user or a role.
pub(crate) const AUTH_SWITCH_PATH: &str = "/2/enabled";

/// Whether users and roles count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthSwitch {
    /// Off, and nobody ever wrote that down.
    Never,
    /// Off.
    Off,
    /// On.
    On,
}

impl AuthSwitch {
    /// What the store says. As in the original, a value that is no boolean is off.
    pub fn of(store: &Store) -> AuthSwitch {
        match store.peek(AUTH_SWITCH_PATH.as_bytes()) {
            None => AuthSwitch::Never,
            Some(value) if value.trim_ascii() == b"true" => AuthSwitch::On,
            Some(_) => AuthSwitch::Off,
        }
    }

    /// Whether rights are to be checked.
    pub fn is_on(self) -> bool {
        self == AuthSwitch::On
    }
}

/// The switch as requests see it: one load.
///
/// **Invariant:** it follows the store before anybody can see what the store has become.
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

    /// To be called by whoever has changed the store, while nobody else can look into it.
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

    /// Of what is stored about users, roles and the switch.
    pub(crate) fn generation(&self) -> &AuthGeneration {
        &self.generation
    }
}

/// A number that moves whenever a user, a role or the switch may have changed: whoever was let in looks again then.
///
/// **Invariant:** it moves before an event of a later entry can reach a watcher.
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

    /// Something may have changed.
    pub(crate) fn advance(&self) {
        self.number.fetch_add(1, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Waits until the number is another than `seen`.
    pub(crate) async fn wait(&self, seen: u64) {
        loop {
            let mut moved = pin!(self.moved.notified());
            // From here on nothing is missed.
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
