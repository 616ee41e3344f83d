//! Documents for packagers and shells: `--man` and `--completion SHELL`, as the first words of the command line.

use std::ffi::OsString;

use super::{FlagError, FlagSet, ValueError};

/// The manual page or the completions, if the command line requests one of them; otherwise `None`.
///
/// For a program with sub-commands the first set is its own, the others are those of the sub-commands, and `etcd-dump
/// export --man` returns the page of one. `--man` and `--completion` are not flags, so that environment variables and
/// files cannot set them.
///
/// # Errors
/// For a shell that is not named, or unknown.
pub fn document(words: &[OsString], sets: &[&FlagSet]) -> Option<Result<String, FlagError>> {
    let mut words = words.iter().map(|word| word.to_str());
    let mut word = words.next()??;
    let mut set = *sets.first()?;
    if let Some(named) = sets.iter().skip(1).find(|set| set.program.rsplit(' ').next() == Some(word)) {
        set = named;
        word = words.next()??;
    }
    let asked = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    match asked.split_once('=') {
        None if asked == "man" => Some(Ok(set.manual(sets))),
        None if asked == "completion" => Some(match words.next().flatten() {
            Some(shell) => completion(sets, shell),
            None => Err(FlagError::NeedsArgument("completion")),
        }),
        Some(("completion", shell)) => Some(completion(sets, shell)),
        _ => None,
    }
}

fn completion(sets: &[&FlagSet], shell: &str) -> Result<String, FlagError> {
    super::completion::script(sets, shell).ok_or_else(|| FlagError::InvalidValue {
        name: "completion",
        value: shell.to_owned(),
        reason: ValueError::Refused("must be bash, zsh or fish".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Flag, Group, Kind};
    use super::*;

    static ROOT: FlagSet = FlagSet {
        program: "prog",
        about: "Exists for this test",
        operands: "[DIR]",
        introduction: "\
prog exists for this test,
and for nothing else.

usage: prog [flags] DIR
       prog sub FILE

It prints lines:

  .a line with a dot in front, and a back\\slash
  'another with a quote

examples:
  prog -name x    does it

See also what is not there.
",
        environment: "PROG_",
        groups: &[
            Group {
                title: "plain flags",
                remark: "They are plain.",
                hidden: false,
                flags: &[
                    Flag::text("name", "default", "A name. 'It' may be -long."),
                    Flag::switch("debug", "More lines."),
                    Flag::text("cert-file", "", "A file."),
                    Flag::new("proxy", Kind::Choice(&["off", "readonly", "on"]), "off", "One of three."),
                ],
            },
            Group {
                title: "ignored",
                remark: "",
                hidden: true,
                flags: &[Flag::new("vv", Kind::Ignored, "", "Was verbose.")],
            },
        ],
    };

    static SUB: FlagSet = FlagSet {
        program: "prog sub",
        about: "Does less",
        operands: "FILE",
        introduction: "",
        environment: "",
        groups: &[Group {
            title: "flags",
            remark: "",
            hidden: false,
            flags: &[Flag::number("less", "1", "How much less.")],
        }],
    };

    fn asked(words: &[&str]) -> Option<Result<String, FlagError>> {
        document(&words.iter().map(OsString::from).collect::<Vec<_>>(), &[&ROOT, &SUB])
    }

    #[test]
    fn only_these_words_ask() {
        for words in
            [&[][..], &["--man=x"], &["man"], &["-name", "--man"], &["sub"], &["-"], &["--completions"]]
        {
            assert_eq!(asked(words), None, "{words:?}");
        }
        for words in
            [&["--man"][..], &["-man"], &["sub", "--man"], &["--completion", "bash"], &["-completion=fish"]]
        {
            assert!(asked(words).unwrap().is_ok(), "{words:?}");
        }
        let refusal = |words: &[&str]| asked(words).unwrap().unwrap_err().to_string();
        assert_eq!(refusal(&["--completion"]), "flag needs an argument: -completion");
        let text = "invalid value \"csh\" for flag -completion: must be bash, zsh or fish";
        assert_eq!(refusal(&["--completion", "csh"]), text);
    }

    #[test]
    fn the_page_has_the_help_and_every_flag() {
        let page = asked(&["--man"]).unwrap().unwrap();
        for part in [
            ".TH PROG 1 ",
            ".SH NAME\nprog \\- exists for this test\n",
            ".SH SYNOPSIS\n.nf\nprog [flags] DIR\nprog sub FILE\n.fi\n",
            ".SH DESCRIPTION\n.PP\nprog exists for this test, and for nothing else.\n",
            "\n\\&.a line with a dot in front, and a back\\eslash\n\\&\\*(Aqanother with a quote\n",
            ".SH EXAMPLES\n",
            ".SS plain flags\nThey are plain.\n",
            ".TP\n\\fB\\-name\\fR \\fITEXT\\fR",
            "\nDefault: \\*(Aqdefault\\*(Aq.",
            "PROG_CERT_FILE",
            "off, readonly or on",
            ".BR prog\\-sub (1)",
        ] {
            assert!(page.contains(part), "{part}\n---\n{page}");
        }
        assert!(!page.contains("vv"), "{page}");
        let page = asked(&["sub", "--man"]).unwrap().unwrap();
        assert!(page.contains(".TH PROG\\-SUB 1 ") && page.contains("prog sub [flags] FILE"), "{page}");
        assert!(page.contains(".BR prog (1)"), "{page}");
    }

    #[test]
    fn completions_know_flags_words_and_commands() {
        for shell in ["bash", "zsh", "fish"] {
            let script = asked(&["--completion", shell]).unwrap().unwrap();
            for word in ["name", "debug", "cert-file", "readonly", "sub", "less"] {
                assert!(script.contains(word), "{shell}: {word}\n{script}");
            }
            assert!(!script.contains("vv"), "{shell}\n{script}");
        }
    }
}
