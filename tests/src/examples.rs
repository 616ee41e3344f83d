//! The examples of a document, played as a reader would: each command of its `console` blocks, one after the other,
//! in a shell, against a server.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::clean_environment;
use crate::server::Server;
use crate::{Check, Context, fail, files, programs};

/// Where documents say that the server listens.
const WRITTEN_HOST: &str = "127.0.0.1:2379";

/// A command and its documented output, on standard output and then on standard error.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    prints: String,
}

/// Plays the examples of `Documentation/NAME` at `server`, in `folder`, and compares what they print.
///
/// # Errors
/// The first that differs; a document without examples; a shell that cannot be started.
pub fn play(name: &str, server: &Server, folder: &Path) -> Check {
    let text = files::read(&files::repository().join("Documentation").join(name))?;
    let examples = examples(&text);
    if examples.is_empty() {
        fail!("{name} has no examples");
    }
    // As at a terminal, where curl shows no progress while it prints.
    files::write(&folder.join(".curlrc"), "silent\n")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let own = programs::find()?.etcdctl.parent().context("etcdctl lies nowhere")?;
    for Example { command, prints } in examples {
        let mut shell = Command::new("sh");
        clean_environment(&mut shell)
            .args(["-c", &command.replace(WRITTEN_HOST, &server.host())])
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", own.display()))
            .env("CURL_HOME", folder)
            .env("ETCDCTL_ENDPOINTS", server.client_url())
            .stdin(Stdio::null());
        let output = shell.output().map_err(|why| crate::Failure::new(format!("sh: {why}")))?;
        let printed = [output.stdout, output.stderr].concat();
        let printed =
            String::from_utf8_lossy(&printed).replace(&server.host(), WRITTEN_HOST).replace('\r', "");
        if printed.trim_end() != prints {
            fail!("{name}: `{command}` prints\n{printed}instead of\n{prints}");
        }
    }
    Ok(())
}

/// Lines that begin with `$ ` in `console` blocks, each with the lines up to the next one.
fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            found.push(Example { command: command.to_owned(), prints: String::new() });
        } else if let Some(last) = found.last_mut() {
            if !last.prints.is_empty() {
                last.prints.push('\n');
            }
            last.prints.push_str(line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_commands_and_what_they_print() {
        let text = "x\n```console\n$ a b\n1\n2\n$ c\n```\n$ no\n```sh\n$ no\n```\n```console\n$ d\n3\n```\n";
        let wanted = [("a b", "1\n2"), ("c", ""), ("d", "3")];
        let wanted =
            wanted.map(|(command, prints)| Example { command: command.into(), prints: prints.into() });
        assert_eq!(examples(text), wanted);
    }
}
