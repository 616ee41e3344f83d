//! The `Date` header of answers that the HTTP library does not write.

use std::cell::Cell;

use shared::time::UnixNanos;

/// The length of a date.
pub(super) const LENGTH: usize = 29;

thread_local! {
    /// The second of the last date, and the date.
    static LAST: Cell<(i64, [u8; LENGTH])> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
}

/// `now` as HTTP has it: `Sat, 21 Nov 2026 11:01:26 GMT`.
pub(crate) fn http_date(now: UnixNanos) -> [u8; LENGTH] {
    let second = now.0.div_euclid(1_000_000_000);
    let (last, date) = LAST.get();
    if second == last {
        return date;
    }
    let date = format(second).unwrap_or(date);
    LAST.set((second, date));
    date
}

fn format(second: i64) -> Option<[u8; LENGTH]> {
    let time = jiff::Timestamp::from_second(second).ok()?;
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().into_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (second, wanted) in [
            (1_795_258_886, "Sat, 21 Nov 2026 11:01:26 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        ] {
            let date = http_date(UnixNanos(second * 1_000_000_000 + 999_999_999));
            assert_eq!(std::str::from_utf8(&date), Ok(wanted));
        }
    }
}
