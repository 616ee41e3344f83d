//! Runs of the client under test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::process::{Process, append, clean_environment};
use crate::{Check, Context, clock, files};

/// How long a program may take to switch the echo off after it has asked for a password.
const ECHO_PAUSE: Duration = Duration::from_millis(400);

/// What a client is started with.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: &'a [String],
    /// Its environment, on top of one that is clean.
    pub env: &'a [(String, String)],
    /// Its standard input; `None`: empty.
    pub stdin: Option<&'a str>,
    /// Where it runs.
    pub folder: &'a Path,
    /// Where its output is kept.
    pub scratch: &'a Path,
}

impl Invocation<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        clean_environment(&mut command);
        command
            .arg0("etcdctl")
            .args(self.args)
            .env("HOME", self.folder)
            .env("ETCDCTL_API", "2")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder);
        command
    }
}

/// A client that runs, or has run.
#[derive(Debug)]
pub struct Client {
    /// When it was started, in seconds since 1970.
    pub started: f64,
    process: Process,
    output: Output,
}

#[derive(Debug)]
enum Output {
    /// Standard output and standard error, each in its file.
    Files(PathBuf, PathBuf),
    /// Both, as shown on a terminal.
    Terminal(Terminal),
}

impl Client {
    /// Starts a client.
    ///
    /// # Errors
    /// The system's.
    pub fn start(invocation: &Invocation<'_>) -> Check<Self> {
        let started = clock::now();
        let stamp = format!("{}-{started}", invocation.args.len());
        let (out, err) = (
            invocation.scratch.join(format!("{stamp}.out")),
            invocation.scratch.join(format!("{stamp}.err")),
        );
        let mut command = invocation.command();
        command.stdout(append(&out)?).stderr(append(&err)?);
        command.stdin(if invocation.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut process = Process::spawn_with(&mut command, &err)?;
        if let (Some(text), Some(mut pipe)) = (invocation.stdin, process.take_stdin()) {
            // A client that does not read its input is not an error of this step.
            let _ = pipe.write_all(text.as_bytes());
        }
        Ok(Client { started, process, output: Output::Files(out, err) })
    }

    /// Starts a client on its own terminal; `stdin` is typed at its prompt.
    ///
    /// # Errors
    /// The system's.
    pub fn start_on_terminal(invocation: &Invocation<'_>) -> Check<Self> {
        let started = clock::now();
        let (master, slave) = open_terminal()?;
        let mut command = invocation.command();
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let process = Process::spawn_with(&mut command, Path::new("/dev/null"))?;
        // The command holds the other side open: the terminal would never end.
        drop(command);
        let terminal = Terminal::start(File::from(master), invocation.stdin.map(str::to_owned))?;
        Ok(Client { started, process, output: Output::Terminal(terminal) })
    }

    /// Waits for its end, and kills it when that does not come. The exit status, a signal as a negative number.
    pub fn finish(&mut self, limit: Duration) -> Option<i32> {
        let status = self.process.wait(limit);
        self.process.kill();
        if let Output::Terminal(terminal) = &mut self.output {
            terminal.finish();
        }
        status.map(exit_code)
    }

    /// Sends SIGINT.
    pub fn interrupt(&mut self) {
        self.process.signal(Signal::INT);
    }

    /// Its standard output; bytes that are not UTF-8 as `\xff`.
    ///
    /// # Errors
    /// The system's.
    pub fn stdout(&self) -> Check<String> {
        match &self.output {
            Output::Files(out, _) => read(out),
            Output::Terminal(terminal) => Ok(shown(&terminal.output())),
        }
    }

    /// Its standard error; empty on a terminal.
    ///
    /// # Errors
    /// The system's.
    pub fn stderr(&self) -> Check<String> {
        match &self.output {
            Output::Files(_, err) => read(err),
            Output::Terminal(_) => Ok(String::new()),
        }
    }
}

/// The output of `--version` after `etcdctl version`.
///
/// # Errors
/// When the client cannot be run.
pub fn version(program: &Path) -> Check<String> {
    let folder = files::scratch("ctl-version")?;
    let mut client = Client::start(&Invocation {
        program,
        args: &["--version".to_owned()],
        env: &[],
        stdin: None,
        folder: folder.path(),
        scratch: folder.path(),
    })?;
    client.finish(Duration::from_secs(10));
    let said = client.stdout()?;
    let version = said.lines().next().and_then(|line| line.strip_prefix("etcdctl version "));
    Ok(version.and_then(|version| version.split_whitespace().next()).unwrap_or("unknown").to_owned())
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

fn read(path: &Path) -> Check<String> {
    Ok(shown(&std::fs::read(path).context(path.display())?))
}

fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn open_terminal() -> Check<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((master, slave))
}

/// The controlling side of a terminal: collects the output, and types at prompts.
#[derive(Debug)]
struct Terminal {
    output: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn start(mut master: File, mut typed: Option<String>) -> Check<Self> {
        let output = Arc::new(Mutex::new(Vec::new()));
        let shown = output.clone();
        // Ends when the last program on the terminal does: a read is an error then.
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = master.read(&mut piece) {
                let asks = {
                    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.extend_from_slice(&piece[..read]);
                    shown.ends_with(b": ")
                };
                if asks && let Some(text) = typed.take() {
                    thread::sleep(ECHO_PAUSE);
                    if master.write_all(text.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        Ok(Terminal { output, reader: Some(reader) })
    }

    fn output(&self) -> Vec<u8> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&mut self) {
        let end = Instant::now() + Duration::from_secs(2);
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        if let Some(reader) = self.reader.take_if(|reader| reader.is_finished()) {
            // It does not panic, and if it did, the output would show it.
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, stdin: Option<&str>, terminal: bool) -> (Option<i32>, String, String) {
        let folder = files::scratch("client").unwrap();
        let args = ["-c".to_owned(), script.to_owned()];
        let invocation = Invocation {
            program: Path::new("/bin/sh"),
            args: &args,
            env: &[],
            stdin,
            folder: folder.path(),
            scratch: folder.path(),
        };
        let mut client =
            if terminal { Client::start_on_terminal(&invocation) } else { Client::start(&invocation) }
                .unwrap();
        let exit = client.finish(Duration::from_secs(5));
        (exit, client.stdout().unwrap(), client.stderr().unwrap())
    }

    #[test]
    fn output_input_and_status() {
        let (exit, out, err) = shell(r"read x; echo got $x; printf '\377' >&2; exit 3", Some("a\n"), false);
        assert_eq!((exit, out.as_str(), err.as_str()), (Some(3), "got a\n", r"\xff"));
        assert_eq!(shell("kill -9 $$", None, false).0, Some(-9));
    }

    #[test]
    fn on_a_terminal() {
        let script =
            "test -t 0 && test -t 1 && stty -echo && printf 'word: ' && read x && stty echo && echo \"[$x]\"";
        assert_eq!(shell(script, Some("a\n"), true), (Some(0), "word: [a]\r\n".into(), String::new()));
    }
}
