//! Whether auth is on, known without asking the store.

use std::sync::atomic::{AtomicU8, Ordering};

use shared::store::Store;

/// Where it stands in the store: `true` or `false`, or nothing as long as nobody made a user or a role.
pub(crate) const SWITCH_PATH: &str = "/2/enabled";

/// Whether users and roles count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Off, and nobody ever wrote that down.
    Never,
    /// Off.
    Off,
    /// On.
    On,
}

impl Switch {
    /// What the store says. As in the original, a value that is no boolean is off.
    pub fn of(store: &Store) -> Switch {
        match store.peek(SWITCH_PATH.as_bytes()) {
            None => Switch::Never,
            Some(value) if value.trim_ascii() == b"true" => Switch::On,
            Some(_) => Switch::Off,
        }
    }

    /// Whether rights are to be checked.
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// The switch as requests see it: one load.
///
/// **Invariant:** it follows the store before anybody can see what the store has become.
#[derive(Debug)]
pub(crate) struct SharedSwitch(AtomicU8);

impl SharedSwitch {
    pub(crate) fn of(store: &Store) -> SharedSwitch {
        SharedSwitch(AtomicU8::new(Switch::of(store) as u8))
    }

    /// To be called by whoever has changed the store, while nobody else can look into it.
    pub(crate) fn follow(&self, store: &Store) {
        self.0.store(Switch::of(store) as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Switch {
        match self.0.load(Ordering::Acquire) {
            value if value == Switch::On as u8 => Switch::On,
            value if value == Switch::Off as u8 => Switch::Off,
            _ => Switch::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::pb;
    use shared::time::UnixNanos;

    use super::*;

    #[test]
    fn follows_the_store() {
        let mut store = Store::new(10);
        let shared = SharedSwitch::of(&store);
        for (value, wanted) in
            [("", Switch::Never), ("false", Switch::Off), ("true", Switch::On), ("nonsense", Switch::Off)]
        {
            if !value.is_empty() {
                let path = SWITCH_PATH.into();
                let request =
                    pb::Request { method: "PUT".into(), path, val: value.into(), ..pb::Request::default() };
                store.apply(&request, UnixNanos(0)).unwrap();
            }
            shared.follow(&store);
            assert_eq!((shared.get(), Switch::of(&store)), (wanted, wanted), "{value}");
        }
        assert_eq!(store.stats().reads(), [0, 0], "nobody asked for anything");
    }
}
