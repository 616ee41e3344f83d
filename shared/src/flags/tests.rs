use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::*;
use crate::quote::quote;

fn refuse_zz(text: &str) -> Result<(), String> {
    if text.contains("%zz") { Err(format!("invalid URL escape {}", quote(text))) } else { Ok(()) }
}

static SET: FlagSet = FlagSet {
    program: "prog",
    about: "Exists for this test.",
    operands: "[DIR]",
    introduction: "",
    environment: "",
    groups: &[
        Group {
            title: "plain flags",
            remark: "",
            hidden: false,
            flags: &[
                Flag::text("name", "default", "A name."),
                Flag::text("data-dir", "", "A folder."),
                Flag::switch("debug", "More lines."),
                Flag::number("max-wals", "5", "A number."),
                Flag::new("size", Kind::Bounded(2, 9), "4", "In bounds."),
                Flag::new("hours", Kind::Signed, "0", "May be negative."),
                Flag::new("proxy", Kind::Choice(&["off", "readonly", "on"]), "off", "One of three."),
                Flag::new("cors", Kind::Checked(refuse_zz), "", "Checked."),
            ],
        },
        Group {
            title: "old flags",
            remark: "",
            hidden: true,
            flags: &[
                Flag::new("vv", Kind::Ignored, "", "Was verbose."),
                Flag::new("peers", Kind::Removed, "", "Was a list."),
            ],
        },
    ],
};

fn parse(words: &[&str]) -> Result<Values, FlagError> {
    SET.parse(words.iter().map(OsString::from))
}

/// What a command line is refused with.
fn refusal(words: &[&str]) -> (String, u8) {
    match parse(words) {
        Ok(_) => panic!("{words:?} was accepted"),
        Err(error) => (error.to_string(), error.exit_status()),
    }
}

#[test]
fn one_dash_or_two_and_the_value_here_or_next() {
    for words in [
        &["-name", "x", "-max-wals", "7", "-debug"][..],
        &["--name", "x", "--max-wals", "7", "--debug"],
        &["-name=x", "--max-wals=7", "-debug=true"],
        &["--debug=T", "-name", "y", "-name=x", "--max-wals=0x7"],
    ] {
        let values = parse(words).unwrap();
        assert_eq!(
            (values.text("name"), values.number("max-wals"), values.switch("debug")),
            ("x", 7, true),
            "{words:?}"
        );
        assert!(values.rest().is_empty() && values.is_set("debug") && !values.is_set("proxy"));
    }
}

#[test]
fn the_next_word_is_the_value_whatever_it_looks_like() {
    assert_eq!(parse(&["-name", "-debug"]).unwrap().text("name"), "-debug");
    assert_eq!(parse(&["-name", "--"]).unwrap().text("name"), "--");
    assert_eq!(parse(&["-name", ""]).unwrap().text("name"), "");
    assert_eq!(parse(&["-name="]).unwrap().text("name"), "");
    assert_eq!(parse(&["-name=a=b"]).unwrap().text("name"), "a=b");
    assert_eq!(parse(&["-name", "=a"]).unwrap().text("name"), "=a");
}

#[test]
fn reading_stops_at_two_dashes_and_at_the_first_plain_word() {
    for (words, rest) in [
        (&["-debug", "stray", "-name", "x"][..], &["stray", "-name", "x"][..]),
        (&["-debug", "false"], &["false"]),
        (&["-debug", "--", "-name"], &["-name"]),
        (&["-debug", "--"], &[]),
        (&["-debug", "-", "x"], &["-", "x"]),
        (&["-debug", ""], &[""]),
        (&["-vv", "x"], &["x"]),
    ] {
        let values = parse(words).unwrap();
        assert_eq!(values.rest(), rest, "{words:?}");
        assert!(!values.is_set("name"), "{words:?}");
    }
}

#[test]
fn booleans_take_go_words() {
    for word in ["1", "t", "T", "true", "TRUE", "True"] {
        assert!(parse(&[&format!("-debug={word}")]).unwrap().switch("debug"), "{word}");
    }
    for word in ["0", "f", "F", "false", "FALSE", "False"] {
        let values = parse(&["-debug", &format!("--debug={word}")]).unwrap();
        assert!(!values.switch("debug") && values.is_set("debug"), "{word}");
    }
}

#[test]
fn numbers_in_all_bases() {
    for (word, number) in [
        ("0", 0),
        ("10", 10),
        ("0x1F", 31),
        ("0X1f", 31),
        ("017", 15),
        ("0o17", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("0x_f", 15),
        ("0_7", 7),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse(&["-max-wals", word]).unwrap().number("max-wals"), number, "{word}");
    }
    for (word, number) in [("-3", -3), ("+3", 3), ("-0x8000000000000000", i64::MIN)] {
        assert_eq!(parse(&["-hours", word]).unwrap().signed("hours"), number, "{word}");
    }
    for word in ["", "-1", "+1", "x", "1x", "08", "0x", "0b2", "_1", "1_", "1__0", " 1", "1.5", "1e3", "0x1g"]
    {
        let (text, _) = refusal(&["-max-wals", word]);
        assert_eq!(text, format!("invalid value \"{word}\" for flag -max-wals: parse error"));
    }
    for (flag, word) in [("max-wals", "18446744073709551616"), ("hours", "0x8000000000000000")] {
        let (text, _) = refusal(&[&format!("-{flag}={word}")]);
        assert_eq!(text, format!("invalid value \"{word}\" for flag -{flag}: value out of range"));
    }
}

#[test]
fn bounds_are_part_of_the_kind() {
    for (word, number) in [("2", 2), ("0x9", 9)] {
        assert_eq!(parse(&["-size", word]).unwrap().number("size"), number);
    }
    assert_eq!(SET.no_values().number("size"), 4);
    for (word, reason) in [("1", "must be from 2 to 9"), ("10", "must be from 2 to 9"), ("x", "parse error")]
    {
        let (text, _) = refusal(&["-size", word]);
        assert_eq!(text, format!("invalid value \"{word}\" for flag -size: {reason}"));
    }
}

#[test]
fn refusals_have_the_texts_and_statuses_of_go() {
    for (words, text) in [
        (&["-bogus"][..], "flag provided but not defined: -bogus"),
        (&["--bogus=1"], "flag provided but not defined: -bogus"),
        (&["-Name", "x"], "flag provided but not defined: -Name"),
        (&["-- x"], "flag provided but not defined: - x"),
        (&["-name"], "flag needs an argument: -name"),
        (&["--name"], "flag needs an argument: -name"),
        (&["---x"], "bad flag syntax: ---x"),
        (&["---"], "bad flag syntax: ---"),
        (&["-="], "bad flag syntax: -="),
        (&["--=x"], "bad flag syntax: --=x"),
        (&["-max-wals", "abc"], "invalid value \"abc\" for flag -max-wals: parse error"),
        (&["-debug=maybe"], "invalid boolean value \"maybe\" for -debug: parse error"),
        (&["-debug="], "invalid boolean value \"\" for -debug: parse error"),
        (&["-proxy", "foo"], "invalid value \"foo\" for flag -proxy: invalid value"),
        (&["-peers", "a"], "invalid value \"a\" for flag -peers: flag \"-peers\" is no longer supported."),
        (&["-cors", "%zz"], "invalid value \"%zz\" for flag -cors: invalid URL escape \"%zz\""),
        (&["-debug", "-bogus", "stray"], "flag provided but not defined: -bogus"),
    ] {
        assert_eq!(refusal(words), (text.to_owned(), 2), "{words:?}");
    }
    let (text, status) = SET
        .parse([OsString::from_vec(b"-name=\xff".to_vec())])
        .map_err(|e| (e.to_string(), e.exit_status()))
        .unwrap_err();
    assert_eq!((text.as_str(), status), ("argument is not valid UTF-8: \"-name=\u{fffd}\"", 2));
}

#[test]
fn help_is_no_mistake_and_wins_over_what_follows() {
    for words in [&["-h"][..], &["--help"], &["-help=5"], &["-debug", "-h", "-bogus"]] {
        assert_eq!(refusal(words).1, 0, "{words:?}");
        assert_eq!(parse(words).unwrap_err(), FlagError::Help, "{words:?}");
    }
    assert_eq!(refusal(&["-bogus", "-h"]).1, 2);
    assert_eq!(parse(&["stray", "-h"]).unwrap().rest(), ["stray", "-h"]);
}

#[test]
fn ignored_flags_are_noted_each_time() {
    let values = parse(&["-vv", "-vv=whatever", "-debug"]).unwrap();
    assert_eq!(values.ignored(), ["vv", "vv"]);
}

#[test]
fn defaults_where_nothing_is_set() {
    let values = SET.no_values();
    assert_eq!(
        (values.text("name"), values.text("data-dir"), values.number("max-wals"), values.switch("debug")),
        ("default", "", 5, false)
    );
    assert_eq!((values.text("proxy"), values.signed("hours")), ("off", 0));
}

#[test]
fn other_sources_set_values_by_the_same_rules() {
    let mut values = SET.no_values();
    let wals = SET.find("max-wals").unwrap();
    assert_eq!(wals.env_name("ETCD_"), "ETCD_MAX_WALS");
    values.set(wals, "9").unwrap();
    assert_eq!(values.number("max-wals"), 9);
    assert_eq!(values.set(wals, "nine").unwrap_err().to_string(), "parse error");
    assert_eq!(values.number("max-wals"), 9);
}

#[test]
fn help_shows_what_is_not_hidden() {
    assert!(SET.usage().starts_with("usage: prog [flags] [DIR]\n"), "{}", SET.usage());
    let help = SET.help();
    assert!(help.contains("\nplain flags:\n\n  --name 'default'\n      A name.\n"), "{help}");
    assert!(!help.contains("--peers"), "{help}");
    assert!(help.lines().all(|line| line.len() <= 96), "{help}");
}
