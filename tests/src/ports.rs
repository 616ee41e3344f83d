//! Ports of one's own.
//!
//! A port that the system hands out (bind to 0, close, use) can be taken by anybody in between, also by an
//! outgoing connection. So ports come from a range below the system's own, in blocks: whoever holds the
//! listener on a block's first port owns the others. Test programs that run side by side, in this or in
//! other checkouts, thus never meet; a port is not given twice by one test program.
//!
//! `ETCD_RS_TEST_PORTS=LO-HI` names another range.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use crate::{Check, Context, Failure, fail};

const RANGE: (u16, u16) = (26_000, 32_000);
const BLOCK_LEN: u16 = 20;

struct Block {
    /// Listening, never accepting: the sign that the block is taken, for as long as this process lives.
    guard: TcpListener,
    next: u16,
    end: u16,
}

static BLOCK: Mutex<Option<Block>> = Mutex::new(None);
static TAKEN: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());

/// A free port on 127.0.0.1 that no other test gets.
///
/// # Errors
/// When no block of the range is free any more.
pub fn take() -> Check<u16> {
    let mut block = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(block) = block.as_mut() {
            while block.next < block.end {
                let port = block.next;
                block.next += 1;
                if is_free(port) {
                    return Ok(port);
                }
            }
        }
        let next = take_block()?;
        if let Some(used) = block.replace(next) {
            // Its ports are still in use: keep the guard, or another program would be given them.
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(used.guard);
        }
    }
}

/// Ports in a row for a program that chooses among them itself. No other test gets them until this is dropped. Some of
/// them are in use: the program has to try each.
#[derive(Debug)]
pub struct PortRange {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    _guards: Vec<TcpListener>,
}

/// At least `count` ports in a row.
///
/// # Errors
/// When no such piece of the range is free any more.
pub fn take_many(count: u16) -> Check<PortRange> {
    let (low, high) = range()?;
    let wanted = usize::from(count.div_ceil(BLOCK_LEN - 1).max(1));
    let mut guards = Vec::new();
    // Two that try at the same time would take every other block.
    let _alone = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    for start in (low..=high - BLOCK_LEN).step_by(usize::from(BLOCK_LEN)) {
        // Behind the last one that is taken.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, start)) {
            Ok(guard) => guards.push(guard),
            Err(_) => guards.clear(),
        }
        if guards.len() == wanted {
            let first = guards[0].local_addr()?.port();
            return Ok(PortRange { first, last: start + BLOCK_LEN - 1, _guards: guards });
        }
    }
    fail!("{count} ports in a row are not free in {low}-{high}; ETCD_RS_TEST_PORTS=LO-HI names another range")
}

fn take_block() -> Check<Block> {
    let (low, high) = range()?;
    let blocks = (high - low) / BLOCK_LEN;
    // Start somewhere else in each process: fewer tries, and no port used again right after its last user.
    let first = std::process::id() % u32::from(blocks.max(1));
    for n in 0..blocks {
        let block = (u32::from(n) + first) % u32::from(blocks);
        let start = low + u16::try_from(block).unwrap_or(0) * BLOCK_LEN;
        if let Ok(guard) = TcpListener::bind((Ipv4Addr::LOCALHOST, start)) {
            return Ok(Block { guard, next: start + 1, end: start + BLOCK_LEN });
        }
    }
    fail!("all ports of {low}-{high} are taken; ETCD_RS_TEST_PORTS=LO-HI names another range")
}

fn range() -> Check<(u16, u16)> {
    let Ok(spec) = std::env::var("ETCD_RS_TEST_PORTS") else { return Ok(RANGE) };
    let bad = || Failure::new(format!("ETCD_RS_TEST_PORTS={spec} is not LO-HI"));
    let (low, high) = spec.split_once('-').ok_or_else(bad)?;
    let parse = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
    let (low, high) = (parse(low)?, parse(high)?);
    (low.checked_add(BLOCK_LEN).is_some_and(|end| end <= high)).then_some((low, high)).context(bad())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_comes_twice() {
        let mut ports: Vec<u16> = (0..3 * BLOCK_LEN).map(|_| take().unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), usize::from(3 * BLOCK_LEN));
    }

    #[test]
    fn many_in_a_row_are_nobody_elses() {
        let (one, other) = (take_many(50).unwrap(), take_many(50).unwrap());
        let apart = other.first > one.last || other.last < one.first;
        assert!(one.last - one.first >= 50 && apart, "{one:?}, {other:?}");
        for _ in 0..2 * BLOCK_LEN {
            let port = take().unwrap();
            assert!([&one, &other].iter().all(|range| port < range.first || port > range.last), "{port}");
        }
    }

    #[test]
    fn many_at_the_same_time_find_room() {
        let ranges: Vec<_> = (0..3).map(|_| std::thread::spawn(|| take_many(20))).collect();
        assert!(ranges.into_iter().all(|range| range.join().unwrap().is_ok()));
    }

    #[test]
    fn the_guard_keeps_others_away() {
        let port = take().unwrap();
        let (low, _) = range().unwrap();
        let guard = low + (port - low) / BLOCK_LEN * BLOCK_LEN;
        assert!(!is_free(guard), "port {guard} guards {port}");
    }
}
