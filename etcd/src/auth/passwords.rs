//! Passwords: their hashes, and the proofs that are known already.
//!
//! A bcrypt hash takes tens of milliseconds on purpose. It is computed on the blocking pool, a few at a time, and a
//! password that fitted is remembered: not the password, but a keyed hash of it together with the stored hash that
//! it fitted to. So a changed password is another question, and whoever reads the memory of the process finds
//! nothing to log in with elsewhere.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::AuthError;

/// What the original's hashes cost: two to the power of this many rounds.
const COST: u32 = 10;

/// How many proofs are remembered; the oldest goes first.
const KNOWN_MAX: usize = 1024;

/// A keyed hash of a stored hash and the password that fits it.
type Proof = [u8; 32];

#[derive(Debug)]
pub(super) struct Passwords {
    /// Of this process. Without one, because the system has no random numbers, nothing is remembered.
    key: Option<hmac::Key>,
    known: Mutex<Known>,
    /// How many may be computed at a time: one processor is left to those who have no password to show.
    turns: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Known {
    proofs: HashSet<Proof>,
    /// In the order in which they came.
    order: VecDeque<Proof>,
}

impl Known {
    fn add(&mut self, proof: Proof) {
        if !self.proofs.insert(proof) {
            return;
        }
        self.order.push_back(proof);
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.proofs.remove(&oldest);
        }
    }
}

impl Default for Passwords {
    fn default() -> Passwords {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            known: Mutex::default(),
            turns: Arc::new(Semaphore::new(processors.saturating_sub(1).max(1))),
        }
    }
}

impl Passwords {
    /// Whether a password fits a stored hash. What is stored and is no hash fits nothing.
    pub(super) async fn fits(&self, password: &[u8], hash: &str) -> bool {
        let proof = self.proof(password, hash);
        let is_known = || proof.is_some_and(|proof| self.known.lock().proofs.contains(&proof));
        if is_known() {
            return true;
        }
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return false };
        // Somebody else may have asked the same while this one waited.
        if is_known() {
            return true;
        }
        let (password, hash) = (password.to_vec(), hash.to_owned());
        let fits = tokio::task::spawn_blocking(move || {
            let fits = bcrypt::verify(password, &hash).unwrap_or(false);
            // Also where nobody waits for the answer any more.
            drop(turn);
            fits
        });
        let fits = fits.await.unwrap_or(false);
        if fits && let Some(proof) = proof {
            self.known.lock().add(proof);
        }
        fits
    }

    /// The hash that is stored for a password.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let turn = self.turns.clone().acquire_owned().await;
        let password = password.to_owned();
        let hashed = tokio::task::spawn_blocking(move || {
            let parts = bcrypt::hash_with_result(password, COST);
            drop(turn);
            parts
        });
        let parts = hashed.await.map_err(|error| AuthError::Hash(error.to_string()))?;
        let parts = parts.map_err(|error| AuthError::Hash(error.to_string()))?;
        // The letter that Go writes.
        Ok(parts.format_for_version(bcrypt::Version::TwoA))
    }

    fn proof(&self, password: &[u8], hash: &str) -> Option<Proof> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        // The length keeps the end of one apart from the start of the other.
        context.update(&(hash.len() as u64).to_le_bytes());
        context.update(hash.as_bytes());
        context.update(password);
        context.sign().as_ref().try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `wonder`, by Go.
    const GO_HASH: &str = "$2a$10$HD7Nhmkhvrsn5arHARu3ju8nYZ8mH9sj2is9kNHP2fhjTDy6AVj2i";

    #[tokio::test]
    async fn go_and_we_understand_each_other() {
        let passwords = Passwords::default();
        assert!(passwords.fits(b"wonder", GO_HASH).await);
        assert!(!passwords.fits(b"Wonder", GO_HASH).await);
        let hash = passwords.hash("secret").await.unwrap();
        assert!(hash.starts_with("$2a$10$") && hash.len() == 60, "{hash}");
        assert!(passwords.fits(b"secret", &hash).await);
        for odd in ["", "true", "$2a$10$", "$2a$99$NLeHwNXY9vBs/UlxLYsUAOKjnZ7IfHOfdcyDSzM0Ol5pjIdBtGLsq"] {
            assert!(!passwords.fits(b"", odd).await, "{odd}");
        }
    }

    #[tokio::test]
    async fn only_what_fitted_is_remembered_and_only_for_that_hash() {
        let passwords = Passwords::default();
        let (first, second) = (passwords.hash("p").await.unwrap(), passwords.hash("q").await.unwrap());
        assert!(!passwords.fits(b"q", &first).await);
        assert_eq!(passwords.known.lock().proofs.len(), 0);
        assert!(passwords.fits(b"p", &first).await);
        assert!(passwords.fits(b"p", &first).await);
        assert_eq!(passwords.known.lock().proofs.len(), 1);
        assert!(!passwords.fits(b"p", &second).await, "the password was changed");
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut known = Known::default();
        let proof = |number: usize| {
            let mut proof = [0; 32];
            proof[..8].copy_from_slice(&number.to_le_bytes());
            proof
        };
        for number in 0..=KNOWN_MAX {
            known.add(proof(number));
            known.add(proof(number));
        }
        assert_eq!((known.proofs.len(), known.order.len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(!known.proofs.contains(&proof(0)) && known.proofs.contains(&proof(KNOWN_MAX)));
    }
}
