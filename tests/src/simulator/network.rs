//! Ways between members: what is cut, and when a message arrives.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::StdRng;
use shared::id::MemberId;

use super::plan::{MILLISECOND, Micros, SECOND, Weather};

/// A way has a direction.
pub(super) type Way = (MemberId, MemberId);

/// All ways.
#[derive(Debug)]
pub(super) struct Network {
    weather: Weather,
    cut: BTreeSet<Way>,
    /// When the last message of each way arrives, if they keep their order.
    last: BTreeMap<Way, Micros>,
}

impl Network {
    pub(super) fn new(weather: Weather) -> Network {
        Network { weather, cut: BTreeSet::new(), last: BTreeMap::new() }
    }

    /// When a message that is sent now arrives: never, once, or twice if it may be repeated.
    pub(super) fn arrivals(
        &mut self,
        way: Way,
        now: Micros,
        repeatable: bool,
        rng: &mut StdRng,
    ) -> [Option<Micros>; 2] {
        let weather = self.weather;
        let hit =
            |of_thousand: u32, rng: &mut StdRng| of_thousand > 0 && rng.random_range(0..1000) < of_thousand;
        if self.cut.contains(&way) || hit(weather.lost, rng) {
            return [None, None];
        }
        let mut delay = rng.random_range(weather.delay.0..=weather.delay.1);
        if hit(weather.late, rng) {
            delay += rng.random_range(50 * MILLISECOND..4 * SECOND);
        }
        let mut at = now + delay;
        if weather.in_order {
            let last = self.last.entry(way).or_insert(0);
            at = at.max(*last);
            *last = at;
        }
        let again = repeatable && hit(weather.repeated, rng);
        let second = again.then(|| at + rng.random_range(0..2 * SECOND));
        [Some(at), second]
    }

    /// Whether nothing gets through.
    pub(super) fn is_cut(&self, way: Way) -> bool {
        self.cut.contains(&way)
    }

    /// Cuts a way.
    pub(super) fn cut(&mut self, way: Way) {
        if way.0 != way.1 {
            self.cut.insert(way);
        }
    }

    /// Cuts all ways between two groups, in both directions.
    pub(super) fn split(&mut self, one: &[MemberId], other: &[MemberId]) {
        for a in one {
            for b in other {
                self.cut((*a, *b));
                self.cut((*b, *a));
            }
        }
    }

    /// Joins everything that is cut.
    pub(super) fn join(&mut self) {
        self.cut.clear();
    }

    /// From now on nothing is lost, and nothing takes long.
    pub(super) fn clear_up(&mut self) {
        self.join();
        self.weather = Weather { lost: 0, repeated: 0, late: 0, ..self.weather };
    }
}
