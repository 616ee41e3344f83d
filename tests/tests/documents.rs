//! The examples of documents that want no more than a new member: what stands below a command is what it prints.

use tests::server::Server;
use tests::{Check, examples, files};

fn play(document: &str) -> Check {
    let folder = files::scratch("document")?;
    let member = Server::new(folder.path(), "default")?.started()?;
    examples::play(document, &member, folder.path())
}

#[test]
fn the_api_answers_as_written() -> Check {
    play("api.md")
}

#[test]
fn locks_and_elections_answer_as_written() -> Check {
    play("locks.md")
}
