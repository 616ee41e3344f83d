//! Placeholders: `${B+3}`, `${B+3:020d}`, `${client_url}`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::{Check, Failure, fail};

#[expect(clippy::unwrap_used, reason = "a constant expression, compiled by every run")]
static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\{([A-Za-z_][A-Za-z0-9_]*)([+-]\d+)?(?::0(\d+)d)?\}").unwrap());

/// The value of a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An index or another number; placeholders may add to it.
    Number(i128),
    /// An address or a name.
    Text(String),
}

/// The placeholders of a scenario, and the time span of the request that is compared.
#[derive(Debug, Default)]
pub struct Context {
    /// By name.
    pub values: BTreeMap<String, Value>,
    /// When the request went out, in seconds since 1970.
    pub sent: f64,
    /// When its answer was there.
    pub answered: f64,
    /// Whether the answer waited, so that its TTL is of some moment in between.
    pub waited: bool,
    /// By how much more than usual times may be off, in seconds.
    pub slack: f64,
}

impl Context {
    /// Takes a value.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.values.insert(name.into(), value);
    }

    /// The text with its placeholders filled in.
    ///
    /// # Errors
    /// Names an undefined placeholder.
    pub fn expand(&self, text: &str) -> Check<String> {
        let mut wrong = None;
        let expanded = PLACEHOLDER.replace_all(text, |found: &Captures<'_>| {
            self.value(found).unwrap_or_else(|why| {
                wrong.get_or_insert(why);
                String::new()
            })
        });
        match wrong {
            None => Ok(expanded.into_owned()),
            Some(why) => Err(why),
        }
    }

    /// The number, where the text is nothing but the placeholder of one.
    pub fn whole_number(&self, text: &str) -> Option<i128> {
        let found = PLACEHOLDER.captures(text)?;
        if found.get(0)?.as_str() != text || found.get(3).is_some() {
            return None;
        }
        match self.values.get(&found[1])? {
            Value::Number(number) => Some(number + offset(&found).ok()?),
            Value::Text(_) => None,
        }
    }

    fn value(&self, found: &Captures<'_>) -> Check<String> {
        let name = &found[1];
        let width = found.get(3).map(|width| width.as_str().parse::<usize>().unwrap_or(0));
        match self.values.get(name) {
            None => fail!("undefined variable {name}"),
            Some(Value::Number(number)) => {
                let number = number + offset(found)?;
                Ok(format!("{number:0width$}", width = width.unwrap_or(0)))
            }
            Some(Value::Text(text)) if found.get(2).is_none() && width.is_none() => Ok(text.clone()),
            Some(Value::Text(text)) => fail!("variable {name} is {text:?}, a number is wanted"),
        }
    }
}

fn offset(found: &Captures<'_>) -> Check<i128> {
    let Some(offset) = found.get(2) else { return Ok(0) };
    offset.as_str().parse().map_err(|_| Failure::new(format!("offset {}", offset.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts() {
        let mut context = Context::default();
        context.set("B", Value::Number(7));
        context.set("host", Value::Text("h:1".into()));
        assert_eq!(
            context.expand("a${B}b${B+3}${B-7}${B+1:05d} ${host}").unwrap(),
            "a7b100".to_owned() + "00008 h:1"
        );
        assert_eq!(context.whole_number("${B+3}"), Some(10));
        assert_eq!(context.whole_number("x${B+3}"), None);
        assert_eq!(context.whole_number("${host}"), None);
        assert!(context.expand("${C}").is_err() && context.expand("${host+1}").is_err());
    }
}
