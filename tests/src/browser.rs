//! A real browser without a screen: Debian's Chromium, driven by its WebDriver.
//!
//! The protocol is JSON over HTTP (<https://www.w3.org/TR/webdriver2/>), of which a dozen calls are needed here. The
//! crates for it want an async runtime, and their common base a licence that `deny.toml` does not allow.
//!
//! - `ETCD_RS_BROWSER=required`: a test that finds no browser fails, instead of saying that it was left out;
//! - `ETCD_RS_SCREENSHOTS=DIR`: pictures of the pages go there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{self, Request};
use crate::process::Process;
use crate::{Check, Context, Failure, fail, files, ports};

/// How long one call may take: a browser starts within it, also on a busy machine.
const CALL_PATIENCE: Duration = Duration::from_secs(90);

/// How long a page may take to become what a test waits for.
const WAIT: Duration = Duration::from_secs(25);

const PAUSE: Duration = Duration::from_millis(60);

/// Keys that have no letter, as WebDriver writes them.
pub mod key {
    /// Tab.
    pub const TAB: &str = "\u{e004}";
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// Shift, held until the next [`NULL`].
    pub const SHIFT: &str = "\u{e008}";
    /// Control, held until the next [`NULL`].
    pub const CONTROL: &str = "\u{e009}";
    /// Escape.
    pub const ESCAPE: &str = "\u{e00c}";
    /// Left.
    pub const LEFT: &str = "\u{e012}";
    /// Up.
    pub const UP: &str = "\u{e013}";
    /// Right.
    pub const RIGHT: &str = "\u{e014}";
    /// Down.
    pub const DOWN: &str = "\u{e015}";
    /// Delete.
    pub const DELETE: &str = "\u{e017}";
}

/// One browser at a time: two would only slow each other down.
static TURN: Mutex<()> = Mutex::new(());

/// A browser with one page. Dropped, it ends.
pub struct Browser {
    port: u16,
    session: String,
    driver: Process,
    // Below the driver, which writes into it until it ends.
    _folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Where a program lies, if it is installed.
fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

impl Browser {
    /// A new browser; `None`, with a line that says so, where none is installed and none is demanded.
    ///
    /// # Errors
    /// When it is demanded and missing, or does not start.
    pub fn start() -> Check<Option<Browser>> {
        let (Some(chromium), Some(driver)) = (program("chromium"), program("chromedriver")) else {
            if std::env::var_os("ETCD_RS_BROWSER").is_some_and(|wish| wish == "required") {
                fail!(
                    "ETCD_RS_BROWSER=required, and there is no chromium or no chromedriver: install Debian's packages chromium and chromium-driver"
                );
            }
            println!(
                "left out: no chromium or no chromedriver is installed (ETCD_RS_BROWSER=required demands them)"
            );
            return Ok(None);
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = files::scratch("browser")?;
        let port = ports::take()?;
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}")).env("HOME", folder.path()).env("TMPDIR", folder.path());
        let driver = Process::spawn(&mut command, &folder.path().join("driver.log"))?;
        let mut browser = Browser { port, session: String::new(), driver, _folder: folder, _turn: turn };
        browser.begin(&chromium)?;
        Ok(Some(browser))
    }

    fn begin(&mut self, chromium: &Path) -> Check {
        let end = Instant::now() + CALL_PATIENCE;
        while self.call("GET", "/status", &Value::Null).is_err() {
            if Instant::now() > end || !self.driver.alive() {
                fail!("chromedriver does not answer");
            }
            thread::sleep(PAUSE);
        }
        let profile = self._folder.path().join("profile");
        let mut args: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1360,900",
        ]
        .map(str::to_owned)
        .to_vec();
        args.push(format!("--user-data-dir={}", profile.display()));
        let wish = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": chromium, "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = self.call("POST", "/session", &wish)?;
        answer["sessionId"].as_str().context("chromedriver gave no session")?.clone_into(&mut self.session);
        Ok(())
    }

    /// One call; its value.
    fn call(&self, method: &str, path: &str, body: &Value) -> Check<Value> {
        let mut request = Request::new(method, path);
        if method == "POST" {
            request.body = body.to_string().into_bytes();
            request.headers.push(("Content-Type".into(), "application/json".into()));
        }
        let answer = http::call(self.port, &request, CALL_PATIENCE)?;
        let mut told: Value = serde_json::from_slice(&answer.body)?;
        let value = told["value"].take();
        if answer.status != 200 {
            let why = value["message"].as_str().unwrap_or_default().lines().next().unwrap_or_default();
            fail!("{method} {path}: {why}");
        }
        Ok(value)
    }

    fn post(&self, path: &str, body: &Value) -> Check<Value> {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// Goes to a page.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn open(&self, url: &str) -> Check {
        self.post("/url", &json!({ "url": url })).map(drop)
    }

    /// Runs the body of a function in the page.
    ///
    /// # Errors
    /// What it throws.
    pub fn run(&self, script: &str) -> Check<Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    /// When it does not become so; tells what is on the page then.
    pub fn wait(&self, expression: &str) -> Check {
        let end = Instant::now() + WAIT;
        loop {
            // An element that does not exist yet is not an error.
            let script = format!("try {{ return Boolean({expression}); }} catch {{ return false; }}");
            if self.run(&script)? == Value::Bool(true) {
                return Ok(());
            }
            if Instant::now() > end {
                let shown = self.text("body").unwrap_or_default();
                fail!("after {} s this is not so: {expression}\nThe page shows:\n{shown}", WAIT.as_secs());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until the element that a selector names shows a text.
    ///
    /// # Errors
    /// As [`Browser::wait`].
    pub fn wait_text(&self, selector: &str, text: &str) -> Check {
        self.wait(&format!("document.querySelector({}).innerText.includes({})", json!(selector), json!(text)))
    }

    /// What an element shows.
    ///
    /// # Errors
    /// When it is not there.
    pub fn text(&self, selector: &str) -> Check<String> {
        let script = format!("return document.querySelector({}).innerText;", json!(selector));
        Ok(self.run(&script)?.as_str().unwrap_or_default().to_owned())
    }

    fn element(&self, selector: &str) -> Check<String> {
        self.wait(&format!("document.querySelector({}).checkVisibility()", json!(selector)))?;
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }))?;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str().map(str::to_owned));
        id.context(selector.to_owned())
    }

    /// Clicks as a person does: a covered or missing element cannot be clicked.
    ///
    /// # Errors
    /// When that does not become possible.
    pub fn click(&self, selector: &str) -> Check {
        let end = Instant::now() + WAIT;
        loop {
            let element = self.element(selector)?;
            match self.post(&format!("/element/{element}/click"), &json!({})) {
                Ok(_) => return Ok(()),
                // It was drawn anew, or a message covers it for a moment.
                Err(_) if Instant::now() < end => thread::sleep(PAUSE),
                Err(why) => return Err(Failure::new(format!("{selector}: {why}"))),
            }
        }
    }

    /// Clicks the button or link with this text, in the element that a selector names.
    ///
    /// # Errors
    /// When there is none.
    pub fn click_named(&self, within: &str, name: &str) -> Check {
        let find = format!(
            "[...document.querySelector({}).querySelectorAll('button, a, [role=treeitem]')].find((one) => one.checkVisibility() && one.innerText.trim().startsWith({}))",
            json!(within),
            json!(name)
        );
        self.wait(&find)?;
        self.run(&format!("for (const old of document.querySelectorAll('[data-clicked]')) delete old.dataset.clicked; {find}.dataset.clicked = '';"))?;
        self.click("[data-clicked]")
    }

    /// Replaces the text of a field.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn fill(&self, selector: &str, text: &str) -> Check {
        let element = self.element(selector)?;
        self.post(&format!("/element/{element}/clear"), &json!({}))?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Picks an option.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn choose(&self, selector: &str, value: &str) -> Check {
        let script = format!(
            "const field = document.querySelector({});
             field.value = {};
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return field.selectedIndex >= 0;",
            json!(selector),
            json!(value)
        );
        if self.run(&script)? != Value::Bool(true) {
            fail!("{selector} has no option {value}");
        }
        Ok(())
    }

    /// Presses keys one after the other, wherever the focus is. A modifier is held until the end.
    ///
    /// # Errors
    /// The browser's.
    pub fn press(&self, keys: &[&str]) -> Check {
        let mut strokes = Vec::new();
        let mut held = Vec::new();
        for key in keys.iter().flat_map(|keys| keys.chars()) {
            let key = key.to_string();
            strokes.push(json!({ "type": "keyDown", "value": key }));
            if key == key::CONTROL || key == key::SHIFT {
                held.push(key);
            } else {
                strokes.push(json!({ "type": "keyUp", "value": key }));
            }
        }
        strokes.extend(held.iter().map(|key| json!({ "type": "keyUp", "value": key })));
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }))
            .map(drop)
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Check<Value> {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Makes the page as wide and high as this, in CSS pixels.
    ///
    /// # Errors
    /// The browser's.
    pub fn resize(&self, width: u32, height: u32) -> Check {
        let mobile = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics).map(drop)
    }

    /// Sets the colour scheme of the system: `light` or `dark`.
    ///
    /// # Errors
    /// The browser's.
    pub fn prefer(&self, scheme: &str) -> Check {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] })).map(drop)
    }

    /// Takes a screenshot, if `ETCD_RS_SCREENSHOTS` is set.
    ///
    /// # Errors
    /// The browser's, and the system's.
    pub fn picture(&self, name: &str) -> Check {
        let Some(folder) = std::env::var_os("ETCD_RS_SCREENSHOTS").filter(|folder| !folder.is_empty()) else {
            return Ok(());
        };
        let picture = self.call("GET", &format!("/session/{}/screenshot", self.session), &Value::Null)?;
        let bytes = base64(picture.as_str().unwrap_or_default());
        std::fs::create_dir_all(&folder)?;
        files::write(&Path::new(&folder).join(format!("{name}.png")), bytes)
    }

    /// Fails if the page broke its own policy, or a script of it broke off.
    ///
    /// # Errors
    /// With what the console says.
    pub fn check_console(&self) -> Check {
        let entries = self.post("/se/log", &json!({ "type": "browser" }))?;
        let lines = entries.as_array().into_iter().flatten();
        let bad: Vec<&str> = lines
            // The console reports an answer other than 200 as a network error.
            .filter(|entry| {
                entry["source"] != "network" && (entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            })
            .filter_map(|entry| entry["message"].as_str())
            .collect();
        if !bad.is_empty() {
            fail!("the console says:\n{}", bad.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; the rest of both ends with the process group.
        let _ = self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _ = self.driver.terminate(Duration::from_secs(5));
    }
}

/// The bytes of a text in base64; other characters are skipped.
fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        assert_eq!(base64("aGVsbG8="), b"hello");
        assert_eq!(base64("AP8Q\n/w=="), [0, 255, 16, 255]);
    }
}
