//! Plays the examples of `Documentation/modules.md`: what stands below a command is what it answers.

use std::process::Command;

use tests::http::Request;
use tests::process::clean_environment;
use tests::server::Server;
use tests::{Check, Context, fail, files, programs};

/// Where the page has its cluster.
const HOST: &str = "127.0.0.1:2379";

/// The commands of a page with what they print, in their order.
fn examples(page: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            examples.push((command.to_owned(), String::new()));
        } else if inside && let Some((_, printed)) = examples.last_mut() {
            printed.push_str(line);
            printed.push('\n');
        }
    }
    examples
}

/// What `curl -X METHOD "URL" -d FORM` would print.
fn curl(member: &Server, words: &str) -> Check<String> {
    let mut words = words.split_whitespace();
    let (mut method, mut target, mut form) = ("GET", None, Vec::new());
    while let Some(word) = words.next() {
        match word {
            "-X" => method = words.next().context("a method")?,
            "-d" => form.push(words.next().and_then(|pair| pair.split_once('=')).context("a pair")?),
            url => target = url.trim_matches('"').strip_prefix(&format!("http://{HOST}")),
        }
    }
    let mut request = Request::new(method, target.context("a URL of the page's cluster")?);
    if !form.is_empty() {
        request = request.form(&form);
    }
    Ok(member.send(&request)?.text())
}

/// What a shell prints that knows `etcdctl`.
fn shell(member: &Server, line: &str) -> Check<String> {
    let mut command = Command::new("sh");
    clean_environment(&mut command);
    let etcdctl = programs::find()?.etcdctl.display().to_string();
    let line = format!("etcdctl() {{ '{etcdctl}' \"$@\"; }}; {line}");
    let output = command
        .env("ETCDCTL_ENDPOINTS", member.client_url())
        .args(["-c", &line])
        .output()
        .context("run a shell")?;
    String::from_utf8(output.stdout).context("text")
}

#[test]
fn the_page_shows_what_happens() -> Check {
    let folder = files::scratch("page")?;
    let member = Server::new(folder.path(), "m1")?.started()?;
    let page = files::read(&files::repository().join("Documentation/modules.md"))?;
    let examples = examples(&page);
    let mut wrong = Vec::new();
    for (command, wanted) in &examples {
        let printed = match command.strip_prefix("curl ") {
            Some(words) => curl(&member, words)?,
            None => shell(&member, command)?,
        };
        if printed.trim_end() != wanted.trim_end() {
            wrong.push(format!("{command}\n  prints {printed:?}, not {wanted:?}"));
        }
    }
    if examples.len() < 15 || !wrong.is_empty() {
        fail!("of {} examples these differ:\n{}", examples.len(), wrong.join("\n"));
    }
    Ok(())
}
