//! A timer as in 0.4: recent durations of an event, and its rate.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The number of recent samples that the statistics cover, as in 0.4.
const SAMPLES_MAX: usize = 1028;

/// The interval at which the rates are updated.
const TICK: Duration = Duration::from_secs(5);

/// After this number of ticks without events, all rates are set to 0.
const TICKS_MAX: u128 = 2000;

/// The periods of the rates, in minutes.
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];

/// A timer's statistics: times in nanoseconds, rates in events per second.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Timing {
    /// The number of events.
    pub(super) count: u64,
    /// The shortest recent sample.
    pub(super) min: f64,
    /// The longest recent sample.
    pub(super) max: f64,
    /// Of recent samples.
    pub(super) mean: f64,
    /// Of recent samples.
    pub(super) standard_deviation: f64,
    /// Of recent samples; see [`PERCENTILES`].
    pub(super) percentiles: [f64; PERCENTILES.len()],
    /// Moving averages over 1, 5 and 15 minutes.
    pub(super) rates: [f64; MINUTES.len()],
    /// The average rate since the start.
    pub(super) mean_rate: f64,
}

/// The percentiles of [`Timing`].
pub(super) const PERCENTILES: [f64; 5] = [0.5, 0.75, 0.95, 0.99, 0.999];

/// Records the durations of an event.
#[derive(Debug)]
pub(super) struct Timer(Mutex<TimerState>);

#[derive(Debug)]
struct TimerState {
    began: Instant,
    /// The time up to which the rates are updated.
    ticked: Instant,
    count: u64,
    /// Events since the last tick.
    uncounted: u64,
    /// Ring buffer of samples in nanoseconds; `next` is the index of the oldest one.
    samples: Vec<u64>,
    next: usize,
    rates: Option<[f64; MINUTES.len()]>,
}

impl Timer {
    /// A timer without events.
    pub(super) fn new(now: Instant) -> Timer {
        Timer(Mutex::new(TimerState {
            began: now,
            ticked: now,
            count: 0,
            uncounted: 0,
            samples: Vec::new(),
            next: 0,
            rates: None,
        }))
    }

    /// Records an event that took `time` and ended at `now`.
    pub(super) fn record(&self, time: Duration, now: Instant) {
        let mut state = self.0.lock();
        state.tick(now);
        state.count += 1;
        state.uncounted += 1;
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if state.samples.len() < SAMPLES_MAX {
            state.samples.push(nanos);
        } else {
            let next = state.next;
            state.samples[next] = nanos;
            state.next = (next + 1) % SAMPLES_MAX;
        }
    }

    /// The statistics; `None` without any event.
    pub(super) fn timing(&self, now: Instant) -> Option<Timing> {
        let mut state = self.0.lock();
        if state.count == 0 {
            return None;
        }
        state.tick(now);
        let mut samples: Vec<f64> = state.samples.iter().map(|nanos| *nanos as f64).collect();
        samples.sort_by(f64::total_cmp);
        let number = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / number;
        let variance = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / number;
        let seconds = now.duration_since(state.began).as_secs_f64();
        Some(Timing {
            count: state.count,
            min: samples.first().copied().unwrap_or_default(),
            max: samples.last().copied().unwrap_or_default(),
            mean,
            standard_deviation: variance.sqrt(),
            percentiles: PERCENTILES.map(|part| percentile(&samples, part)),
            rates: state.rates.unwrap_or_default(),
            mean_rate: if seconds > 0.0 { state.count as f64 / seconds } else { 0.0 },
        })
    }
}

impl TimerState {
    /// Updates the rates.
    fn tick(&mut self, now: Instant) {
        let ticks = now.saturating_duration_since(self.ticked).as_nanos() / TICK.as_nanos();
        if ticks > TICKS_MAX {
            (self.rates, self.uncounted, self.ticked) = (Some([0.0; MINUTES.len()]), 0, now);
            return;
        }
        for _ in 0..ticks {
            self.ticked += TICK;
            let present = self.uncounted as f64 / TICK.as_secs_f64();
            self.uncounted = 0;
            self.rates = Some(match self.rates {
                None => [present; MINUTES.len()],
                Some(rates) => std::array::from_fn(|at| {
                    let weight = 1.0 - (-TICK.as_secs_f64() / 60.0 / MINUTES[at]).exp();
                    rates[at] + weight * (present - rates[at])
                }),
            });
        }
    }
}

/// A percentile of sorted samples, interpolated between two samples.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() + 1) as f64;
    let below = place.floor();
    if below < 1.0 {
        return sorted.first().copied().unwrap_or_default();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to the number of samples")]
    let at = below as usize;
    match (sorted.get(at - 1), sorted.get(at)) {
        (Some(lower), Some(upper)) => lower + (place - below) * (upper - lower),
        _ => sorted.last().copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_told() {
        let start = Instant::now();
        let timer = Timer::new(start);
        assert_eq!(timer.timing(start), None);
        for millis in 1..=99 {
            timer.record(Duration::from_millis(millis), start + Duration::from_millis(10 * millis));
        }
        let timing = timer.timing(start + Duration::from_secs(6)).unwrap();
        assert_eq!((timing.count, timing.min, timing.max, timing.mean), (99, 1e6, 99e6, 50e6));
        assert_eq!(timing.percentiles, [50e6, 75e6, 95e6, 99e6, 99e6]);
        assert!((timing.standard_deviation - 28.577e6).abs() < 1e3, "{timing:?}");
        assert_eq!(timing.rates, [19.8; 3]);
        assert!((timing.mean_rate - 16.5).abs() < 1e-9, "{timing:?}");
        let later = timer.timing(start + Duration::from_secs(65)).unwrap();
        assert!(later.rates[0] < 8.0 && later.rates[0] < later.rates[1] && later.rates[1] < later.rates[2]);
        assert_eq!(timer.timing(start + Duration::from_secs(100_000)).unwrap().rates, [0.0; 3]);
    }

    #[test]
    fn the_last_samples_count() {
        let start = Instant::now();
        let timer = Timer::new(start);
        for _ in 0..SAMPLES_MAX {
            timer.record(Duration::from_secs(1), start);
        }
        for _ in 0..SAMPLES_MAX {
            timer.record(Duration::from_nanos(7), start);
        }
        let timing = timer.timing(start).unwrap();
        assert_eq!((timing.count, timing.min, timing.max), (2 * SAMPLES_MAX as u64, 7.0, 7.0));
    }
}
