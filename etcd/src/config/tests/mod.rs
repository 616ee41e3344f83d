mod begin;
mod checks;
mod documentation;
mod environment;
mod files;
mod line;

use std::io;

use super::*;
use crate::log::LogLine;

/// The inputs of a start; missing ones are empty.
#[derive(Default)]
struct Input<'a> {
    words: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
}

impl Input<'_> {
    fn read(&self) -> Invocation {
        let variables = self.variables.iter().map(|(name, value)| (name.into(), value.into()));
        read(self.words.iter().map(OsString::from), variables, |_| {
            self.file.map(str::to_owned).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }

    fn start(&self) -> Startup {
        match self.read() {
            Invocation::Run(start) => *start,
            Invocation::Exit(early_exit) => panic!("{:?} was refused: {early_exit:?}", self.words),
        }
    }

    fn early_exit(&self) -> EarlyExit {
        match self.read() {
            Invocation::Run(start) => panic!("{:?} was accepted: {start:?}", self.words),
            Invocation::Exit(early_exit) => early_exit,
        }
    }
}

fn start(words: &[&str]) -> Startup {
    Input { words, ..Input::default() }.start()
}

fn config(words: &[&str]) -> Config {
    start(words).config
}

fn early_exit(words: &[&str]) -> EarlyExit {
    Input { words, ..Input::default() }.early_exit()
}

fn sources(peers: &str, clients: &str) -> Sources {
    Sources {
        listen_peer_urls: peers.to_owned(),
        listen_client_urls: clients.to_owned(),
        initial_cluster: "-initial-cluster".to_owned(),
    }
}

/// The lines in the log's format, without the time.
fn shown(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|l| format!("{} | {}: {}", l.level.letter(), l.package, l.text)).collect()
}

/// Asserts that the settings do not fit together and that the refusal says so in these words.
fn refused(words: &[&str], text: &str) {
    let early_exit = early_exit(words);
    let line = format!("E | etcdmain: error verifying flags, {text}. See 'etcd --help'.");
    assert!(shown(&early_exit.lines).contains(&line), "{words:?}: {early_exit:?}");
    assert_eq!((early_exit.status, early_exit.output.as_str()), (1, ""), "{words:?}");
}
