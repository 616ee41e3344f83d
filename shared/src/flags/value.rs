//! The values of flags: how each kind is parsed, and the errors.

/// What values a flag takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// A boolean: alone on the command line it means true; `1 t T true TRUE True 0 f F false FALSE False`.
    Bool,
    /// A whole number from 0 on, decimal or with the prefixes `0x`, `0o`, `0b` and `0`.
    Number,
    /// A whole number from the first to the second, in the same forms.
    Bounded(u64, u64),
    /// A whole number with an optional sign, in the same forms.
    Signed,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that the function accepts, or refuses with a reason.
    Checked(fn(&str) -> Result<(), String>),
    /// Accepted with any value or none, recorded and not used.
    Ignored,
    /// Known from older versions and refused with any value.
    Removed,
}

impl Kind {
    /// Whether the next word of the command line is never the value.
    pub(super) fn stands_alone(self) -> bool {
        matches!(self, Kind::Bool | Kind::Ignored)
    }

    /// Reads a value for the flag `name`.
    pub(super) fn read(self, name: &str, text: &str) -> Result<Value, ValueError> {
        match self {
            Kind::Text | Kind::Ignored => Ok(Value::Text(text.to_owned())),
            Kind::Bool => read_bool(text).map(Value::Bool),
            Kind::Number => read_magnitude(text).map(Value::Number),
            Kind::Bounded(min, max) => match read_magnitude(text)? {
                number if (min..=max).contains(&number) => Ok(Value::Number(number)),
                _ => Err(ValueError::Bounds { min, max }),
            },
            Kind::Signed => read_signed(text).map(Value::Signed),
            Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::Choice(_) => Err(ValueError::Choice),
            Kind::Checked(check) => match check(text) {
                Ok(()) => Ok(Value::Text(text.to_owned())),
                Err(reason) => Err(ValueError::Refused(reason)),
            },
            Kind::Removed => Err(ValueError::Removed { name: name.to_owned() }),
        }
    }
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Number(u64),
    Signed(i64),
}

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a number or not a boolean.
    #[error("parse error")]
    Syntax,
    /// A number beyond 64 bits.
    #[error("value out of range")]
    Range,
    /// A number outside of the flag's bounds.
    #[error("must be from {min} to {max}")]
    Bounds {
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// Not one of the words that the flag takes.
    #[error("invalid value")]
    Choice,
    /// A flag of an older version that has no successor.
    #[error("flag \"-{name}\" is no longer supported.")]
    Removed {
        /// The flag.
        name: String,
    },
    /// Refused by the flag's own check.
    #[error("{0}")]
    Refused(String),
}

fn read_bool(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Syntax),
    }
}

fn read_signed(text: &str) -> Result<i64, ValueError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(read_magnitude(digits)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| ValueError::Range)
}

/// A number without a sign. The prefix tells the base; underscores may stand between digits, and between the
/// prefix and the first digit.
fn read_magnitude(text: &str) -> Result<u64, ValueError> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // After a prefix one underscore may lead, without one it may not.
    let digits = if base == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let mut value = 0_u64;
    let mut after_digit = false;
    for c in digits.chars() {
        if c == '_' && after_digit {
            after_digit = false;
            continue;
        }
        let digit = c.to_digit(base).ok_or(ValueError::Syntax)?;
        let larger = value.checked_mul(u64::from(base)).and_then(|v| v.checked_add(u64::from(digit)));
        value = larger.ok_or(ValueError::Range)?;
        after_digit = true;
    }
    if after_digit { Ok(value) } else { Err(ValueError::Syntax) }
}
