//! "Did you mean": finds the known word that is closest to a misspelt one.
//!
//! Strict on purpose: a wrong suggestion is worse than none. Each missing, added, changed or transposed letter counts
//! as one mistake, and only a few are allowed.

use strsim::osa_distance;

/// Longer words are not compared: no command, flag or variable is longer.
const WORD_CHARS_MAX: usize = 64;

/// How many mistakes are allowed in a word of this length.
fn mistakes_max(chars: usize) -> usize {
    match chars {
        0..=2 => 0,
        3..=5 => 1,
        6..=11 => 2,
        _ => 3,
    }
}

/// The known word that is closest to `word`, if it is close enough; the first one of several that are equally close.
/// Case, and `-` against `_`, make no difference.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let wanted = plain(word);
    let chars = wanted.chars().count();
    if chars > WORD_CHARS_MAX {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let candidate_plain = plain(candidate);
        // The shorter of the two counts: two letters of `rm` must not become `rmdir`.
        let limit = mistakes_max(chars.min(candidate_plain.chars().count()));
        if candidate_plain.chars().count().abs_diff(chars) > limit || candidate == word {
            continue;
        }
        let mistakes = osa_distance(&wanted, &candidate_plain);
        if mistakes <= limit && best.is_none_or(|(fewest, _)| mistakes < fewest) {
            best = Some((mistakes, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 12] = [
        "get",
        "ls",
        "set",
        "mk",
        "rm",
        "mkdir",
        "rmdir",
        "update",
        "watch",
        "exec-watch",
        "cluster-health",
        "member",
    ];

    #[test]
    fn slips_are_forgiven() {
        for (word, meant) in [
            ("gte", "get"),
            ("wacth", "watch"),
            ("watc", "watch"),
            ("mkdri", "mkdir"),
            ("exec_watch", "exec-watch"),
            ("clusterhealth", "cluster-health"),
            ("cluster-helth", "cluster-health"),
            ("members", "member"),
            ("upadte", "update"),
            ("Set", "set"),
        ] {
            assert_eq!(closest(word, COMMANDS), Some(meant), "{word}");
        }
    }

    #[test]
    fn other_words_are_not() {
        for word in
            ["", "x", "l", "nosuch", "list", "put", "delete", "help", "sm", "rmx", "m", "wat", "health"]
        {
            assert_eq!(closest(word, COMMANDS), None, "{word}");
        }
        assert_eq!(closest(&"a".repeat(100_000), COMMANDS), None);
    }

    #[test]
    fn the_closest_wins() {
        assert_eq!(closest("mkdr", ["rmdir", "mkdir"]), Some("mkdir"));
        assert_eq!(
            closest("listen-client-url", ["listen-peer-urls", "listen-client-urls"]),
            Some("listen-client-urls")
        );
        assert_eq!(closest("ETCD_NAEM", ["ETCD_NAME", "ETCD_PEERS"]), Some("ETCD_NAME"));
    }
}
