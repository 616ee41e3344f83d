//! A running program, whose output goes to a file, and that ends with its handle.

use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Check, Context};

/// A running program. When it is dropped, it and its child processes are killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    log: PathBuf,
}

impl Process {
    /// Starts a program in its own process group; its output is appended to `log`.
    ///
    /// # Errors
    /// The system's.
    pub fn spawn(command: &mut Command, log: &Path) -> Check<Self> {
        let file = append(log)?;
        let errors = file.try_clone()?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        Self::spawn_with(command, log)
    }

    /// As [`spawn`](Self::spawn), with output as the caller has set it; `log` is only stored.
    ///
    /// # Errors
    /// The system's.
    pub fn spawn_with(command: &mut Command, log: &Path) -> Check<Self> {
        let child = command
            .process_group(0)
            .spawn()
            .context(format!("start {}", command.get_program().to_string_lossy()))?;
        Ok(Process { child, status: None, log: log.to_path_buf() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard input, once.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether it runs still.
    pub fn alive(&mut self) -> bool {
        self.poll().is_none()
    }

    /// How it ended, if it did.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        // Short at first, as clients end within milliseconds; then rarely, as servers do not.
        let mut pause = Duration::from_millis(1);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.poll() {
                None if !left.is_zero() => thread::sleep(pause.min(left)),
                status => return status,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Sends a signal to the program itself.
    pub fn signal(&mut self, signal: Signal) {
        if self.alive()
            && let Some(pid) = self.pid()
        {
            // A process that has ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// `kill -9` for it and all that it started, and waits until the system has taken it away.
    pub fn kill(&mut self) {
        if self.alive() {
            if let Some(pid) = self.pid() {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            self.status = self.child.wait().ok();
        }
    }

    /// Sends SIGTERM, and SIGKILL after `limit`. Returns the exit status, if it ended by itself.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let status = self.wait(limit);
        self.kill();
        status
    }

    /// Its output so far.
    pub fn said(&self) -> String {
        crate::files::read(&self.log).unwrap_or_default()
    }

    /// The line of its log that best explains an early end.
    pub fn last_words(&self) -> String {
        last_words(&self.said())
    }

    /// The process id, as system calls take it.
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `exit 1`, `signal 9`.
pub fn describe(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        None => "still running".into(),
        Some((Some(code), _)) => format!("exit {code}"),
        Some((None, signal)) => format!("signal {}", signal.unwrap_or_default()),
    }
}

/// The first line of a log that speaks of trouble, or else the last line.
pub fn last_words(log: &str) -> String {
    let telling = |line: &&str| {
        let line = line.to_lowercase();
        ["invalid", "not defined", "unknown", "panic", "fatal", "error"]
            .iter()
            .any(|word| line.contains(word))
    };
    let line = log.lines().find(telling).or_else(|| log.lines().last()).unwrap_or("no output");
    line.chars().take(300).collect()
}

/// A file to append to, made where it is not there.
///
/// # Errors
/// The system's, with the path.
pub fn append(path: &Path) -> Check<File> {
    OpenOptions::new().create(true).append(true).open(path).context(path.display())
}

/// Takes away from a command's environment what would change how etcd or its clients behave.
pub fn clean_environment(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_lowercase();
        if text.starts_with("etcd") || text.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = crate::files::scratch("process").unwrap();
        let process = Process::spawn(Command::new("sleep").arg("600"), &folder.path().join("log")).unwrap();
        let entry = format!("/proc/{}", process.id());
        assert!(Path::new(&entry).exists());
        drop(process);
        assert!(!Path::new(&entry).exists());
    }

    #[test]
    fn the_status_and_the_words_are_kept() {
        let folder = crate::files::scratch("process").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo starting; echo 'fatal: no disk' >&2; echo bye; exit 7"]);
        let mut process = Process::spawn(&mut shell, &folder.path().join("log")).unwrap();
        assert_eq!(describe(process.wait(Duration::from_secs(10))), "exit 7");
        assert_eq!(process.last_words(), "fatal: no disk");
    }
}
