//! Responses without events, which tell how far a watch is.

use std::task::Waker;
use std::time::Duration;

use super::NO_WATCH;
use super::hub::Settings;
use super::registry::{Registry, State, Watch};
use super::response::{Content, Response};
use crate::time::Moment;

/// Spreads consecutive numbers over all values (the finalizer of splitmix64, public domain).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Registry {
    /// The time until the next notices of a stream: the interval and up to a tenth, so that streams which began together
    /// are not served together for ever.
    fn notice_interval(&mut self, settings: &Settings) -> Duration {
        self.notices_sent += 1;
        let per_mille = u32::try_from(mix(settings.seed ^ self.notices_sent) % 101).unwrap_or(0);
        settings.progress_interval + settings.progress_interval * per_mille / 1000
    }

    /// A stream has its first watch that wants notices, or was served.
    pub(super) fn schedule_notices(&mut self, stream: u32, now: Moment, settings: &Settings) {
        let due = now + self.notice_interval(settings);
        self.stream_mut(stream).next_notice = due;
        self.notices.insert((due, stream));
    }

    /// Tells the idle watches of the streams that are due.
    pub(super) fn send_notices(&mut self, now: Moment, settings: &Settings, wakers: &mut Vec<Waker>) {
        while let Some((due, stream)) = self.notices.first().copied()
            && due <= now
        {
            self.notices.remove(&(due, stream));
            let revision = self.revision;
            let state = &self.streams[stream as usize];
            for slot in state.ids.values() {
                let watch = &mut self.watches[*slot as usize];
                if !watch.options.progress_notify {
                    continue;
                }
                if !watch.active
                    && is_current(watch, revision)
                    && state.queue.has_room(state.capacity(settings))
                {
                    let response = Response::new(watch.id, revision, Content::Progress);
                    state.queue.push_answer(response, wakers);
                }
                watch.active = false;
            }
            self.schedule_notices(stream, now, settings);
        }
    }

    /// Answers the request for the progress of a stream if all its watches have everything.
    pub(super) fn settle_progress(&mut self, stream: u32, wakers: &mut Vec<Waker>) {
        let Some(state) = self.streams.get_mut(stream as usize) else { return };
        if let Some(reached) = state.awaited.take() {
            self.awaited.remove(&(reached, stream));
        }
        if !state.progress_requested || state.unsynced > 0 {
            return;
        }
        // Without watches nothing is missing either.
        let newest = state.ids.values().map(|slot| self.watches[*slot as usize].next - 1).max();
        let reached = newest.unwrap_or(0);
        if reached > self.revision {
            state.awaited = Some(reached);
            self.awaited.insert((reached, stream));
            return;
        }
        state.progress_requested = false;
        state.queue.push_answer(Response::new(NO_WATCH, self.revision, Content::Progress), wakers);
    }

    /// The same for the streams that waited for this revision.
    pub(super) fn settle_awaited(&mut self, wakers: &mut Vec<Waker>) {
        while let Some((reached, stream)) = self.awaited.first().copied()
            && reached <= self.revision
        {
            self.settle_progress(stream, wakers);
        }
    }
}

/// Whether a watch has everything up to this revision, and does not begin later than with the next one: a client
/// continues a watch after the revision of the notice.
fn is_current(watch: &Watch, revision: i64) -> bool {
    watch.state == State::Synced && watch.next <= revision + 1
}
