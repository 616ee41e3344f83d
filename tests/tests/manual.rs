//! Manual pages and completions: they have all flags of the help, and the formatters and shells accept them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use regex::Regex;
use tests::process::clean_environment;
use tests::{Check, Context, fail, files, programs};

/// What a program prints.
fn prints(program: &Path, words: &[&str]) -> Check<String> {
    let output = run(clean_environment(&mut Command::new(program)).args(words))?;
    if !output.status.success() {
        fail!("{} {words:?}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) -> Check<Output> {
    command.stdin(Stdio::null()).output().context(command.get_program().to_string_lossy())
}

fn is_installed(program: &str) -> bool {
    let found = run(Command::new(program).arg("--version")).is_ok();
    if !found {
        println!("left out: {program} is not installed");
    }
    found
}

/// The flags in a help text.
fn flags(help: &str) -> Check<Vec<String>> {
    let expression = Regex::new(r"(?m)^ +(?:-\w, )?--([\w-]+)(?: '| <|$|\[)")?;
    let mut flags: Vec<String> = expression.captures_iter(help).map(|found| found[1].to_owned()).collect();
    flags.sort();
    flags.dedup();
    Ok(flags)
}

/// Pages by their names, with the flags that each must have.
fn pages(folder: &Path) -> Check<BTreeMap<String, (String, Vec<String>)>> {
    let programs = programs::find()?;
    let mut pages = BTreeMap::new();
    let own = [
        ("etcd", &programs.etcd, &[][..]),
        ("etcd-migrate", &programs.etcd_migrate, &[]),
        ("etcd-dump", &programs.etcd_dump, &[]),
        ("etcd-dump-export", &programs.etcd_dump, &["export"]),
        ("etcd-dump-doctor", &programs.etcd_dump, &["doctor"]),
        ("etcd-dump-salvage", &programs.etcd_dump, &["salvage"]),
    ];
    for (name, program, words) in own {
        let asked = |word| prints(program, &[words, &[word]].concat());
        pages.insert(name.to_owned(), (asked("--man")?, flags(&asked("--help")?)?));
    }
    prints(&programs.etcdctl, &["man", &folder.display().to_string()])?;
    for path in files::walk(folder, &|_| true)?.iter().filter(|path| path.is_file()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let command: Vec<&str> = match &name[..] {
            "etcdctl-cluster-health" => vec!["cluster-health"],
            "etcdctl-exec-watch" => vec!["exec-watch"],
            name => name.split('-').skip(1).collect(),
        };
        let help = prints(&programs.etcdctl, &[&command[..], &["--help"]].concat())?;
        pages.insert(name, (files::read(path)?, flags(&help)?));
    }
    Ok(pages)
}

#[test]
fn pages_have_every_flag_and_please_groff() -> Check {
    let folder = files::scratch("man")?;
    let pages = pages(folder.path())?;
    assert!(pages.len() > 40, "{:?}", pages.keys());
    let of = |name: &str| pages[name].1.len();
    assert!(
        of("etcd") > 40 && of("etcdctl") > 10 && of("etcd-migrate") > 5,
        "flags are not found in the help"
    );
    let groff = is_installed("groff");
    for (name, (page, flags)) in &pages {
        for flag in flags {
            let written = format!("\\-{}\\fR", flag.replace('-', "\\-"));
            if !page.contains(&written) {
                fail!("{name}.1 does not have -{flag}:\n{page}");
            }
        }
        if !groff {
            continue;
        }
        let path = folder.path().join("page");
        files::write(&path, page)?;
        let output = run(Command::new("groff").args(["-man", "-ww", "-z", "-Tascii"]).arg(&path))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() || !said.is_empty() {
            fail!("{name}.1: {said}");
        }
    }
    Ok(())
}

/// The completions of a program for a shell.
fn completions(program: &Path, shell: &str) -> Check<String> {
    let asked = if program.ends_with("etcdctl") { "completion" } else { "--completion" };
    prints(program, &[asked, shell])
}

#[test]
fn completions_have_every_flag_and_can_be_read() -> Check {
    let folder = files::scratch("completions")?;
    let programs = programs::find()?;
    for program in [&programs.etcd, &programs.etcdctl, &programs.etcd_dump, &programs.etcd_migrate] {
        let flags = flags(&prints(program, &["--help"])?)?;
        assert!(flags.len() > 5, "{}: {flags:?}", program.display());
        for shell in ["bash", "zsh", "fish"] {
            let script = completions(program, shell)?;
            for flag in &flags {
                let written = if shell == "fish" { format!("-l {flag} ") } else { format!("--{flag}") };
                if !script.contains(&written) {
                    fail!("{} --completion {shell} does not have {flag}", program.display());
                }
            }
            if is_installed(shell) {
                let path = folder.path().join(shell);
                files::write(&path, script)?;
                let output = run(Command::new(shell).arg("-n").arg(&path))?;
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
    Ok(())
}

#[test]
fn bash_completes() -> Check {
    let programs = programs::find()?;
    // What bash does when the tabulator key is pressed behind the last of the words.
    let press = r#"
        eval "$1"; shift
        declare -F compopt >/dev/null || compopt() { :; }
        spec=($(complete -p "$1")); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        for at in "${!spec[@]}"; do [ "${spec[at]}" = -F ] && function=${spec[at + 1]}; done
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}"
    "#;
    for (program, words, offered) in [
        (
            &programs.etcd,
            &["etcd", "--initial-cluster-"][..],
            "--initial-cluster-state --initial-cluster-token",
        ),
        (&programs.etcd, &["etcd", "--debug", "--proxy", ""], "off readonly on"),
        (&programs.etcd_dump, &["etcd-dump", "doc"], "doctor"),
        (&programs.etcd_dump, &["etcd-dump", "export", "--quo"], "--quorum"),
        (&programs.etcd_migrate, &["etcd-migrate", "--dry"], "--dry-run"),
        (&programs.etcdctl, &["etcdctl", "exec"], "exec-watch"),
        (&programs.etcdctl, &["etcdctl", "set", "--ttl"], "--ttl"),
    ] {
        let script = completions(program, "bash")?;
        let output = run(Command::new("bash").args(["--norc", "-c", press, "bash", &script]).args(words))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim_end(), offered, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn what_cannot_be_printed_is_refused() -> Check {
    let programs = programs::find()?;
    for (program, status) in [(&programs.etcd, 2), (&programs.etcd_dump, 2), (&programs.etcd_migrate, 2)] {
        let output = run(Command::new(program).args(["--completion", "csh"]))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("must be bash, zsh or fish"), "{}: {said}", program.display());
        assert_eq!(output.status.code(), Some(status));
    }
    Ok(())
}
