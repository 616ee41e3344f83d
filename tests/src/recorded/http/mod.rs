//! The recorded scenarios of the HTTP interface.
//!
//! [`case`] reads a file into steps, [`player`] carries them out, [`background`] holds the requests that
//! wait, [`template`] knows placeholders, [`expect`] compares answers.

pub mod background;
pub mod case;
pub mod expect;
pub mod player;
pub mod template;

use std::path::Path;

use tempfile::TempDir;

use self::case::Scenario;
use super::ScenarioResult;
use crate::server::{self, Server};
use crate::{Check, files};

/// All scenarios of a folder that are wanted, by name.
///
/// # Errors
/// If a file cannot be read, or has unknown fields.
pub fn scenarios(folder: &Path) -> Check<Vec<Scenario>> {
    let mut found = Vec::new();
    for path in files::walk(folder, &|_| false)? {
        if path.extension().is_some_and(|ending| ending == "json") {
            let scenario = Scenario::read(&path)?;
            if super::wanted(&scenario.name) {
                found.push(scenario);
            }
        }
    }
    Ok(found)
}

/// What one thread keeps for its scenarios: those that need no fresh server share one.
pub struct Worker {
    number: usize,
    shared: Option<SharedServers>,
}

struct SharedServers {
    servers: Vec<Server>,
    _folder: TempDir,
}

impl Worker {
    /// For thread `number`.
    pub fn new(number: usize) -> Self {
        Worker { number, shared: None }
    }

    /// Plays a scenario on the servers that it needs.
    pub fn play(&mut self, scenario: &Scenario) -> ScenarioResult {
        let result = if scenario.fresh {
            self.start(scenario.members, &scenario.server_args)
                .map(|mut group| player::play(scenario, &mut group.servers))
        } else {
            self.shared().map(|group| player::play(scenario, &mut group.servers))
        };
        result.unwrap_or_else(|why| {
            ScenarioResult::all_failed(
                &scenario.name,
                scenario.compared_steps(),
                &format!("cannot set up: {why}"),
            )
        })
    }

    fn shared(&mut self) -> Check<&mut SharedServers> {
        if self.shared.as_mut().is_some_and(|group| !group.servers.iter_mut().all(Server::alive)) {
            self.shared = None;
        }
        let group = match self.shared.take() {
            Some(group) => group,
            None => self.start(1, &[])?,
        };
        Ok(self.shared.insert(group))
    }

    fn start(&self, members: usize, args: &[String]) -> Check<SharedServers> {
        let folder = files::scratch("http-suite")?;
        let names: Vec<String> = (0..members).map(|n| format!("member{}{n}", self.number)).collect();
        Ok(SharedServers { servers: server::cluster(folder.path(), &names, args)?, _folder: folder })
    }
}
