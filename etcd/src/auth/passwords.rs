//! Password hashes, and a cache of passwords that were checked successfully.
//!
//! A bcrypt hash takes tens of milliseconds on purpose. Each one is computed on a thread of its own, a few at a time,
//! in an order that [`queue`](super::queue) decides. The cache does not hold the password but a *proof*: a keyed hash of
//! the user name, the password and the stored hash that it matched. So a changed password needs a new check, and the
//! memory of the process holds no password that could be used elsewhere.
//!
//! **Invariant:** a check for a user that does not exist, or whose stored hash is unusable, waits for its turn and is
//! computed like any other. **Invariant:** nothing waits for these threads when the process ends.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::queue::{Queue, Requester, Source, Ticket};
use super::{AuthError, Caller};
use crate::log;

/// The cost of the original's hashes: 2^COST rounds.
pub(super) const COST: u32 = 10;

/// The highest accepted cost of a stored hash: about a second of CPU time for one check. Each step doubles that, and
/// clients give up after a few seconds.
const COST_MAX: u32 = 14;

/// The lowest cost that bcrypt supports.
const COST_MIN: u32 = 4;

/// The length of a hash: version, cost, salt and digest.
const HASH_BYTES: usize = 60;

/// The size of a [`ProofSet`]; the oldest proof is dropped first.
const PROOFS_MAX: usize = 1024;

/// The longest time that a check waits. Clients give up sooner.
const WAIT_TIME_MAX: Duration = Duration::from_secs(10);

/// A keyed hash of a user name, a stored hash and the password that matches it.
type Proof = [u8; 32];

/// Too many checks are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked, try again later")]
pub(crate) struct Busy;

#[derive(Debug)]
pub(super) struct Passwords {
    /// The key of this process. `None` if the system has no random numbers: then nothing is cached.
    key: Option<hmac::Key>,
    verified: Mutex<ProofSet>,
    /// Unusable stored hashes that have been reported in the log.
    reported: Mutex<ProofSet>,
    /// Checks that wait or run: equal checks share the result.
    shared: Mutex<HashMap<Proof, watch::Receiver<Option<bool>>>>,
    queue: Arc<CheckQueue>,
    /// Hashes user names to numbers; seeded differently in each process.
    name_hasher: RandomState,
}

#[derive(Debug, Default)]
struct ProofSet {
    proofs: HashSet<Proof>,
    /// In the order of insertion.
    order: VecDeque<Proof>,
}

impl ProofSet {
    /// Adds a proof. False if it was already in the set.
    fn add(&mut self, proof: Proof) -> bool {
        if !self.proofs.insert(proof) {
            return false;
        }
        self.order.push_back(proof);
        if self.order.len() > PROOFS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.proofs.remove(&oldest);
        }
        true
    }
}

impl Default for Passwords {
    fn default() -> Passwords {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            verified: Mutex::default(),
            reported: Mutex::default(),
            shared: Mutex::default(),
            // One processor stays free for requests without a password.
            queue: Arc::new(CheckQueue::new(processors.saturating_sub(1).max(1))),
            name_hasher: RandomState::new(),
        }
    }
}

/// The argument of [`Passwords::matches`].
pub(super) struct PasswordCheck<'a> {
    /// The user name in the request, whether or not such a user exists.
    pub(super) name: &'a str,
    pub(super) password: &'a [u8],
    /// The stored hash, if the user exists.
    pub(super) hash: Option<&'a str>,
    /// The cost of the check that is computed if there is no usable hash.
    pub(super) usual_cost: u32,
    pub(super) caller: Caller<'a>,
}

impl Passwords {
    /// Whether a password matches a stored hash.
    pub(super) async fn matches(&self, check: PasswordCheck<'_>) -> Result<bool, Busy> {
        let usable = check.hash.filter(|hash| self.is_usable(hash, check.name));
        let hash = usable.map_or_else(|| dummy_hash(check.usual_cost), str::to_owned);
        let matches = timeout(WAIT_TIME_MAX, self.matches_hash(&check, hash)).await.unwrap_or(Err(Busy))?;
        Ok(matches && usable.is_some())
    }

    async fn matches_hash(&self, check: &PasswordCheck<'_>, hash: String) -> Result<bool, Busy> {
        let proof = self.proof(check.name, check.password, &hash);
        loop {
            // An equal check may have succeeded while this one waited.
            if proof.is_some_and(|proof| self.verified.lock().proofs.contains(&proof)) {
                return Ok(true);
            }
            let result = match proof.map(|proof| self.join_check(proof)) {
                None => None,
                Some(SharedCheck::Lead(leader)) => Some(leader),
                Some(SharedCheck::Follow(mut result)) => match result.wait_for(Option::is_some).await {
                    Ok(matches) => return Ok(*matches == Some(true)),
                    // The leading check was cancelled.
                    Err(_) => continue,
                },
            };
            let permit =
                self.queue.wait_for_permit(self.requester(check.name, check.caller), check.caller).await?;
            let (password, hash) = (check.password.to_vec(), hash.clone());
            let matches = permit.compute(move || bcrypt::verify(password, &hash).unwrap_or(false)).await?;
            if matches && let Some(proof) = proof {
                self.verified.lock().add(proof);
            }
            if let Some(leader) = result {
                leader.result.send_replace(Some(matches));
            }
            return Ok(matches);
        }
    }

    /// The hash to store for a new password of this user.
    pub(super) async fn hash(
        &self,
        name: &str,
        password: &str,
        caller: Caller<'_>,
    ) -> Result<String, AuthError> {
        let permit = self.queue.wait_for_permit(self.requester(name, caller), caller);
        let permit = timeout(WAIT_TIME_MAX, permit).await.unwrap_or(Err(Busy))?;
        let password = password.to_owned();
        let parts = permit.compute(move || bcrypt::hash_with_result(password, COST)).await?;
        let parts = parts.map_err(|error| AuthError::Hash(error.to_string()))?;
        // Go writes the version `2a`.
        Ok(parts.format_for_version(bcrypt::Version::TwoA))
    }

    /// Ends all waiting checks with [`Busy`], and all later ones.
    pub(super) fn close(&self) {
        let mut state = self.queue.0.lock();
        state.closed = true;
        state.waiting.clear();
    }

    fn requester(&self, name: &str, caller: Caller<'_>) -> Requester {
        Requester { source: Source::of(caller.source), user: self.name_hasher.hash_one(name) }
    }

    /// Whether a stored hash can be checked against. Logs each unusable hash once.
    fn is_usable(&self, hash: &str, name: &str) -> bool {
        let why = match cost(hash) {
            Some(cost) if cost <= COST_MAX => return true,
            Some(cost) => format!("it costs 2^{cost} rounds, and at most 2^{COST_MAX} are computed"),
            None => "it is not a bcrypt hash".to_owned(),
        };
        if self.proof(name, b"", hash).is_none_or(|proof| self.reported.lock().add(proof)) {
            log::error!(
                "auth",
                "the password hash of user {name} is not accepted ({why}): give the user a new password"
            );
        }
        false
    }

    /// Joins the running check with this proof, or starts to lead one.
    fn join_check(&self, proof: Proof) -> SharedCheck<'_> {
        let mut shared = self.shared.lock();
        if let Some(result) = shared.get(&proof) {
            return SharedCheck::Follow(result.clone());
        }
        let (result, seen) = watch::channel(None);
        shared.insert(proof, seen);
        SharedCheck::Lead(LeadingCheck { passwords: self, proof, result })
    }

    fn proof(&self, name: &str, password: &[u8], hash: &str) -> Option<Proof> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        // The name is included: all users that do not exist share one dummy hash, which must not reveal them.
        for text in [name, hash] {
            // The length separates the two texts.
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text.as_bytes());
        }
        context.update(password);
        context.sign().as_ref().try_into().ok()
    }
}

/// The cost of a hash; `None` if the text is not a bcrypt hash.
pub(super) fn cost(hash: &str) -> Option<u32> {
    let mut parts = hash.split('$');
    let (Some(""), Some(version), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let known_version = matches!(version, "2a" | "2b" | "2x" | "2y") && digits;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    let whole = hash.len() == HASH_BYTES && rest.bytes().all(base64);
    cost.parse().ok().filter(|cost| known_version && whole && *cost >= COST_MIN)
}

/// A hash with this cost that no known password matches.
fn dummy_hash(cost: u32) -> String {
    let cost = cost.clamp(COST_MIN, COST_MAX);
    format!("$2a${cost:02}$HD7Nhmkhvrsn5arHARu3ju{}", ".".repeat(31))
}

/// How a check gets its result.
enum SharedCheck<'a> {
    /// This check computes the result.
    Lead(LeadingCheck<'a>),
    /// An equal check computes it; the result arrives here.
    Follow(watch::Receiver<Option<bool>>),
}

/// The check whose result equal checks wait for.
struct LeadingCheck<'a> {
    passwords: &'a Passwords,
    proof: Proof,
    result: watch::Sender<Option<bool>>,
}

impl Drop for LeadingCheck<'_> {
    fn drop(&mut self) {
        self.passwords.shared.lock().remove(&self.proof);
    }
}

/// The queue in which checks wait for a permit to compute.
#[derive(Debug)]
struct CheckQueue(Mutex<CheckQueueState>);

#[derive(Debug)]
struct CheckQueueState {
    queue: Queue,
    /// The waiting checks. A dropped sender tells its check that it was displaced.
    waiting: HashMap<Ticket, oneshot::Sender<ComputePermit>>,
    /// The process is ending: no more permits are given.
    closed: bool,
}

impl CheckQueue {
    fn new(slots: usize) -> CheckQueue {
        CheckQueue(Mutex::new(CheckQueueState {
            queue: Queue::new(slots),
            waiting: HashMap::new(),
            closed: false,
        }))
    }

    /// Waits for a permit. Fails if the client closes its connection meanwhile.
    async fn wait_for_permit(
        self: &Arc<CheckQueue>,
        requester: Requester,
        caller: Caller<'_>,
    ) -> Result<ComputePermit, Busy> {
        let (sender, mut receiver) = oneshot::channel();
        let queued = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(Busy);
            }
            let (ticket, displaced) = state.queue.enqueue(requester);
            state.waiting.insert(ticket, sender);
            if let Some(displaced) = displaced {
                state.waiting.remove(&displaced);
            }
            QueuedCheck { queue: self.clone(), ticket }
        };
        self.start_next();
        if let Ok(permit) = receiver.try_recv() {
            return Ok(permit);
        }
        let permit = receiver.await.map_err(|_| Busy)?;
        drop(queued);
        if caller.has_left().await { Err(Busy) } else { Ok(permit) }
    }

    /// Gives permits to the next checks while slots are free.
    fn start_next(self: &Arc<CheckQueue>) {
        loop {
            let next = {
                let mut state = self.0.lock();
                if state.closed {
                    return;
                }
                let Some(ticket) = state.queue.next() else { return };
                state.waiting.remove(&ticket)
            };
            let permit = ComputePermit(self.clone());
            // If the receiver is gone, the permit is dropped and so given back.
            if let Some(next) = next {
                let _ = next.send(permit);
            }
        }
    }
}

/// A check's entry in the queue; removed on drop.
struct QueuedCheck {
    queue: Arc<CheckQueue>,
    ticket: Ticket,
}

impl Drop for QueuedCheck {
    fn drop(&mut self) {
        let mut state = self.queue.0.lock();
        state.queue.remove(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

/// Permission to compute one hash; passed to the next check on drop.
#[derive(Debug)]
struct ComputePermit(Arc<CheckQueue>);

impl ComputePermit {
    /// Computes on a new thread. The computation runs to its end even if the caller stops waiting.
    async fn compute<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let (sender, receiver) = oneshot::channel();
        let permit = self;
        let started = thread::Builder::new().name("password".to_owned()).spawn(move || {
            let _ = sender.send(work());
            drop(permit);
        });
        started.map_err(|error| {
            log::error!("auth", "cannot start a thread to check a password: {error}");
            Busy
        })?;
        receiver.await.map_err(|_| Busy)
    }
}

impl Drop for ComputePermit {
    fn drop(&mut self) {
        self.0.0.lock().queue.finish_turn();
        self.0.start_next();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// The hash of `wonder`, made by Go.
    const GO_HASH: &str = "$2a$10$HD7Nhmkhvrsn5arHARu3ju8nYZ8mH9sj2is9kNHP2fhjTDy6AVj2i";

    async fn matches(passwords: &Passwords, password: &[u8], hash: &str) -> bool {
        let hash = Some(hash);
        let check =
            PasswordCheck { name: "ann", password, hash, usual_cost: COST, caller: Caller::default() };
        passwords.matches(check).await.unwrap()
    }

    async fn hash(passwords: &Passwords, password: &str) -> String {
        passwords.hash("ann", password, Caller::default()).await.unwrap()
    }

    #[tokio::test]
    async fn go_and_we_understand_each_other() {
        let passwords = Passwords::default();
        assert!(matches(&passwords, b"wonder", GO_HASH).await);
        assert!(!matches(&passwords, b"Wonder", GO_HASH).await);
        let secret = hash(&passwords, "secret").await;
        assert!(secret.starts_with("$2a$10$") && secret.len() == 60, "{secret}");
        assert!(matches(&passwords, b"secret", &secret).await);
        for odd in ["", "true", "$2a$10$", "$2a$99$NLeHwNXY9vBs/UlxLYsUAOKjnZ7IfHOfdcyDSzM0Ol5pjIdBtGLsq"] {
            assert!(!matches(&passwords, b"", odd).await, "{odd}");
        }
    }

    #[tokio::test]
    async fn what_costs_too_much_is_not_computed_and_told_once() {
        let passwords = Passwords::default();
        let begun = Instant::now();
        for cost in [15, 20, 31] {
            let hash = GO_HASH.replace("$10$", &format!("${cost}$"));
            assert!(!matches(&passwords, b"wonder", &hash).await, "{cost}");
            assert!(!matches(&passwords, b"wonder", &hash).await, "{cost}");
        }
        // 2^31 rounds would take days.
        assert!(begun.elapsed() < Duration::from_secs(600));
        assert_eq!(passwords.reported.lock().proofs.len(), 3);
        assert_eq!(passwords.verified.lock().proofs.len(), 0);
    }

    #[test]
    fn hashes_are_read() {
        assert_eq!(cost(GO_HASH), Some(10));
        assert_eq!(cost(&GO_HASH.replace("2a", "2y")), Some(10));
        assert_eq!(cost(&dummy_hash(12)), Some(12));
        assert_eq!((cost(&dummy_hash(31)), cost(&dummy_hash(0))), (Some(COST_MAX), Some(COST_MIN)));
        for odd in [
            "",
            "$",
            "$2a$10$x",
            &GO_HASH.replace("2a", "1"),
            &GO_HASH.replace("$10$", "$ 9$"),
            &GO_HASH.replace("$10$", "$03$"),
            &GO_HASH.replace("$10$", "$+9$"),
            &GO_HASH.replace('8', "!"),
            &format!("{GO_HASH}a"),
        ] {
            assert_eq!(cost(odd), None, "{odd}");
        }
    }

    #[tokio::test]
    async fn a_user_that_is_not_there_is_checked_like_any_other() {
        let passwords = Passwords::default();
        let check = || PasswordCheck {
            name: "nobody",
            password: b"x",
            hash: None,
            usual_cost: COST,
            caller: Caller::default(),
        };
        assert_eq!(passwords.matches(check()).await, Ok(false));
        // It waits for its turn: the only slot is taken.
        let passwords = Passwords { queue: Arc::new(CheckQueue::new(1)), ..Passwords::default() };
        let permit = passwords
            .queue
            .wait_for_permit(passwords.requester("ann", Caller::default()), Caller::default())
            .await;
        let waits = timeout(Duration::from_millis(50), passwords.matches(check())).await;
        assert!(waits.is_err(), "{waits:?}");
        drop(permit);
        assert_eq!(passwords.matches(check()).await, Ok(false));
    }

    #[tokio::test]
    async fn only_what_fitted_is_remembered_and_only_for_that_hash() {
        let passwords = Passwords::default();
        let (first, second) = (hash(&passwords, "p").await, hash(&passwords, "q").await);
        assert!(!matches(&passwords, b"q", &first).await);
        assert_eq!(passwords.verified.lock().proofs.len(), 0);
        assert!(matches(&passwords, b"p", &first).await);
        assert!(matches(&passwords, b"p", &first).await);
        assert_eq!(passwords.verified.lock().proofs.len(), 1);
        assert!(!matches(&passwords, b"p", &second).await, "the password was changed");
        assert!(passwords.shared.lock().is_empty(), "nothing is left of it");
    }

    #[tokio::test]
    async fn equal_checks_are_computed_once() {
        let passwords = Passwords { queue: Arc::new(CheckQueue::new(1)), ..Passwords::default() };
        let permit = passwords
            .queue
            .wait_for_permit(passwords.requester("bob", Caller::default()), Caller::default())
            .await;
        let many = async {
            tokio::join!(
                matches(&passwords, b"wonder", GO_HASH),
                matches(&passwords, b"wonder", GO_HASH),
                matches(&passwords, b"other", GO_HASH),
                async {
                    tokio::task::yield_now().await;
                    let waiting = passwords.queue.0.lock().waiting.len();
                    drop(permit);
                    waiting
                }
            )
        };
        assert_eq!(many.await, (true, true, false, 2));
    }

    #[tokio::test]
    async fn who_gives_up_is_not_computed() {
        let passwords = Passwords { queue: Arc::new(CheckQueue::new(1)), ..Passwords::default() };
        let permit = passwords
            .queue
            .wait_for_permit(passwords.requester("bob", Caller::default()), Caller::default())
            .await;
        assert!(timeout(Duration::from_millis(20), matches(&passwords, b"x", GO_HASH)).await.is_err());
        let state = passwords.queue.0.lock();
        assert!(state.waiting.is_empty());
        drop(state);
        drop(permit);
        assert!(passwords.queue.0.lock().queue.next().is_none());
    }

    #[tokio::test]
    async fn nobody_waits_when_the_process_ends() {
        let passwords = Passwords { queue: Arc::new(CheckQueue::new(1)), ..Passwords::default() };
        let _permit = passwords
            .queue
            .wait_for_permit(passwords.requester("bob", Caller::default()), Caller::default())
            .await;
        let check = |password| PasswordCheck {
            name: "ann",
            password,
            hash: Some(GO_HASH),
            usual_cost: COST,
            caller: Caller::default(),
        };
        let waits = passwords.matches(check(b"x"));
        let (waits, ()) = tokio::join!(waits, async {
            tokio::task::yield_now().await;
            passwords.close();
        });
        assert_eq!(waits, Err(Busy));
        assert_eq!(passwords.matches(check(b"y")).await, Err(Busy));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut proofs = ProofSet::default();
        let proof = |number: usize| {
            let mut proof = [0; 32];
            proof[..8].copy_from_slice(&number.to_le_bytes());
            proof
        };
        for number in 0..=PROOFS_MAX {
            assert!(proofs.add(proof(number)));
            assert!(!proofs.add(proof(number)));
        }
        assert_eq!((proofs.proofs.len(), proofs.order.len()), (PROOFS_MAX, PROOFS_MAX));
        assert!(!proofs.proofs.contains(&proof(0)) && proofs.proofs.contains(&proof(PROOFS_MAX)));
    }
}
