//! A timer as 0.4 had them: how long something took of late, and how often it happens.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Samples that the figures are made of: the last ones. 0.4 kept as many.
const SAMPLES_MAX: usize = 1028;

/// How often the rates are brought up to date.
const TICK: Duration = Duration::from_secs(5);

/// After so many ticks without anything all rates are as good as 0.
const TICKS_MAX: u128 = 2000;

/// Minutes over which the rates are averaged.
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];

/// What a timer tells: times in nanoseconds, rates in events a second.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Timing {
    /// Events ever.
    pub(super) count: u64,
    /// The shortest of late.
    pub(super) min: f64,
    /// The longest of late.
    pub(super) max: f64,
    /// Of late.
    pub(super) mean: f64,
    /// Of late.
    pub(super) standard_deviation: f64,
    /// See [`PERCENTILES`].
    pub(super) percentiles: [f64; PERCENTILES.len()],
    /// Over the last minute, five minutes, and a quarter of an hour.
    pub(super) rates: [f64; MINUTES.len()],
    /// Since the start.
    pub(super) mean_rate: f64,
}

/// Which percentiles are told.
pub(super) const PERCENTILES: [f64; 5] = [0.5, 0.75, 0.95, 0.99, 0.999];

/// Measures how long something takes.
#[derive(Debug)]
pub(super) struct Timer(Mutex<TimerState>);

#[derive(Debug)]
struct TimerState {
    began: Instant,
    /// Up to when the rates are right.
    ticked: Instant,
    count: u64,
    /// Since the last tick.
    uncounted: u64,
    /// Nanoseconds; the oldest is replaced next, at `next`.
    samples: Vec<u64>,
    next: usize,
    rates: Option<[f64; MINUTES.len()]>,
}

impl Timer {
    /// One that has seen nothing.
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

    /// It took so long, until now.
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

    /// What is known now; `None` if it never happened.
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
    /// Brings the rates up to date.
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

/// A percentile of sorted samples, between two of them where it falls between two.
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
