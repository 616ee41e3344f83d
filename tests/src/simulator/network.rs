//! Links between members: which are cut, and when a message arrives.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::StdRng;
use shared::id::MemberId;

use super::plan::{MILLISECOND, Micros, NetworkConditions, SECOND};

/// From one member to another.
pub(super) type Link = (MemberId, MemberId);

/// All links.
#[derive(Debug)]
pub(super) struct Network {
    conditions: NetworkConditions,
    cut: BTreeSet<Link>,
    /// When the last message of each link arrives, if messages keep their order.
    last: BTreeMap<Link, Micros>,
}

impl Network {
    pub(super) fn new(conditions: NetworkConditions) -> Network {
        Network { conditions, cut: BTreeSet::new(), last: BTreeMap::new() }
    }

    /// When a message sent now arrives: never, once, or twice if it may be repeated.
    pub(super) fn arrivals(
        &mut self,
        link: Link,
        now: Micros,
        repeatable: bool,
        rng: &mut StdRng,
    ) -> [Option<Micros>; 2] {
        let conditions = self.conditions;
        let hit =
            |of_thousand: u32, rng: &mut StdRng| of_thousand > 0 && rng.random_range(0..1000) < of_thousand;
        if self.cut.contains(&link) || hit(conditions.lost, rng) {
            return [None, None];
        }
        let mut delay = rng.random_range(conditions.delay.0..=conditions.delay.1);
        if hit(conditions.late, rng) {
            delay += rng.random_range(50 * MILLISECOND..4 * SECOND);
        }
        let mut at = now + delay;
        if conditions.in_order {
            let last = self.last.entry(link).or_insert(0);
            at = at.max(*last);
            *last = at;
        }
        let again = repeatable && hit(conditions.repeated, rng);
        let second = again.then(|| at + rng.random_range(0..2 * SECOND));
        [Some(at), second]
    }

    /// Whether a link is cut.
    pub(super) fn is_cut(&self, link: Link) -> bool {
        self.cut.contains(&link)
    }

    /// Cuts a link.
    pub(super) fn cut(&mut self, link: Link) {
        if link.0 != link.1 {
            self.cut.insert(link);
        }
    }

    /// Cuts all links between two groups, in both directions.
    pub(super) fn split(&mut self, one: &[MemberId], other: &[MemberId]) {
        for a in one {
            for b in other {
                self.cut((*a, *b));
                self.cut((*b, *a));
            }
        }
    }

    /// Repairs all links.
    pub(super) fn join(&mut self) {
        self.cut.clear();
    }

    /// From now on no message is lost or late.
    pub(super) fn clear_up(&mut self) {
        self.join();
        self.conditions = NetworkConditions { lost: 0, repeated: 0, late: 0, ..self.conditions };
    }
}
