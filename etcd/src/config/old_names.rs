//! The names of etcd 0.1's flags, and their current names.

use std::ffi::OsString;

use shared::flags::Kind;

use super::FLAGS;

/// The flags in the first releases' instructions for starting a cluster.
const RENAMED: [(&str, &str); 4] = [("C", "peers"), ("d", "data-dir"), ("c", "addr"), ("s", "peer-addr")];

/// The arguments with current names, and the pairs of replaced names.
pub(super) fn renamed(
    words: impl IntoIterator<Item = OsString>,
) -> (Vec<OsString>, Vec<(&'static str, &'static str)>) {
    let mut words = words.into_iter();
    let mut out = Vec::new();
    let mut replaced = Vec::new();
    while let Some(word) = words.next() {
        let Some(body) = word.to_str().and_then(|word| word.strip_prefix("--").or(word.strip_prefix('-')))
        else {
            out.push(word);
            break;
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if let Some(&(old, new)) = RENAMED.iter().find(|(old, _)| *old == name) {
            replaced.push((old, new));
            match inline {
                Some(value) => out.push(format!("-{new}={}", complete(new, value)).into()),
                None => {
                    out.push(format!("-{new}").into());
                    out.extend(words.next().map(|value| match value.to_str() {
                        Some(text) => complete(new, text).into(),
                        None => value,
                    }));
                }
            }
            continue;
        }
        let ends = body.is_empty();
        let takes_next = inline.is_none()
            && FLAGS.find(name).is_some_and(|flag| !matches!(flag.kind, Kind::Bool | Kind::Ignored));
        out.push(word);
        if takes_next {
            out.extend(words.next());
        }
        if ends {
            break;
        }
    }
    out.extend(words);
    (out, replaced)
}

/// Completes a port to an address: the first releases accepted a port alone.
fn complete(flag: &str, value: &str) -> String {
    let is_port =
        flag.ends_with("addr") && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { format!("127.0.0.1:{value}") } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> (String, Vec<(&'static str, &'static str)>) {
        let (words, replaced) = renamed(text.split(' ').map(OsString::from));
        (words.join(" ".as_ref()).into_string().unwrap(), replaced)
    }

    #[test]
    fn a_line_of_0_1_has_the_names_of_today() {
        let (words, replaced) = line("-s 7002 -c=4002 -C 127.0.0.1:7001 --d nodes/node2 -name y");
        assert_eq!(
            words,
            "-peer-addr 127.0.0.1:7002 -addr=127.0.0.1:4002 -peers 127.0.0.1:7001 -data-dir nodes/node2 \
             -name y"
        );
        assert_eq!(replaced.len(), 4);
    }

    #[test]
    fn values_and_operands_are_left_alone() {
        for text in ["-name -d -debug", "-- -c 1", "x -c 1", "-v -name=d", "-unknown 1", "-"] {
            assert_eq!(line(text), (text.to_owned(), Vec::new()));
        }
        assert_eq!(line("-debug -d x").0, "-debug -data-dir x");
        assert_eq!(line("-c").0, "-addr");
    }
}
