//! The recorded runs of etcdctl.
//!
//! [`case`] reads a file into scenarios, [`player`] carries out their steps: [`client`] runs the program, on a
//! terminal too; [`stub`], [`tls`] stand in for servers that answer oddly or speak TLS. [`text`] knows
//! placeholders, [`expect`] compares what was printed.

pub mod case;
pub mod client;
pub mod expect;
pub mod player;
pub mod stub;
pub mod text;
pub mod tls;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use self::case::Scenario;
use self::player::Nodes;
use super::ScenarioResult;
use crate::{Check, files};

/// All scenarios of a folder that are wanted, by name (`FILE/SCENARIO`).
///
/// # Errors
/// If a file cannot be read, or has unknown fields.
pub fn scenarios(folder: &Path) -> Check<Vec<Scenario>> {
    let mut found = Vec::new();
    for path in files::walk(folder, &|_| false)? {
        if path.extension().is_some_and(|ending| ending == "json") {
            found.extend(case::read(&path)?.into_iter().filter(|scenario| super::wanted(&scenario.name)));
        }
    }
    Ok(found)
}

/// What one thread keeps for its scenarios: the client under test, and a server that many of them share.
pub struct Worker {
    etcdctl: PathBuf,
    version: String,
    shared: Option<(Nodes, TempDir)>,
    /// How many scenarios were played: each has its own key prefix.
    scenarios_played: usize,
}

impl Worker {
    /// For a client under test.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn new(etcdctl: &Path) -> Check<Self> {
        let version = client::version(etcdctl)?;
        Ok(Worker { etcdctl: etcdctl.to_path_buf(), version, shared: None, scenarios_played: 0 })
    }

    /// Plays a scenario with the servers that it needs.
    pub fn play(&mut self, scenario: &Scenario) -> ScenarioResult {
        self.scenarios_played += 1;
        let result = self.try_play(scenario);
        result.unwrap_or_else(|why| {
            ScenarioResult::all_failed(
                &scenario.name,
                scenario.compared_steps(),
                &format!("cannot set up: {why}"),
            )
        })
    }

    fn try_play(&mut self, scenario: &Scenario) -> Check<ScenarioResult> {
        let folder = files::scratch("ctl-suite")?;
        let shares = scenario.server && !scenario.fresh;
        let mut own = None;
        let nodes = if shares {
            if self.shared.as_mut().is_none_or(|(nodes, _)| !nodes.main_alive()) {
                let folder = files::scratch("ctl-suite-shared")?;
                let mut nodes = Nodes::new(folder.path())?;
                nodes.start(1, &[])?;
                self.shared = Some((nodes, folder));
            }
            self.shared.as_mut().map(|(nodes, _)| nodes)
        } else {
            let mut nodes = Nodes::new(folder.path())?;
            if scenario.server {
                nodes.start(scenario.nodes, &scenario.server_args)?;
            }
            Some(own.insert(nodes))
        };
        let Some(nodes) = nodes else { return Ok(ScenarioResult::default()) };
        let prefix = format!("/g{:03}", self.scenarios_played);
        let result = player::play(scenario, nodes, &self.etcdctl, &self.version, &prefix, folder.path())?;
        if shares {
            // Remove what a scenario left for the next one; replace a server that has ended.
            let _ = nodes.main().call("DELETE", &format!("/v2/keys{prefix}?recursive=true"));
        }
        Ok(result)
    }
}
