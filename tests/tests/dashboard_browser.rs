//! The dashboard in a real Chromium, as people use it: with the mouse, with the keyboard alone, on a phone.
//!
//! Left out, with a line that says so, where no browser is installed; `ETCD_RS_BROWSER=required` makes that a
//! failure.

use std::path::Path;

use tests::browser::{Browser, key};
use tests::http::Request;
use tests::server::{self, Server};
use tests::{Check, Context, fail, files};

fn page(member: &Server, hash: &str) -> String {
    format!("{}/mod/dashboard/{hash}", member.client_url())
}

fn alone(folder: &Path, args: &[&str]) -> Check<Server> {
    Server::new(folder, "m1")?.with_args(args).started()
}

/// Puts a key whose name and value are already escaped.
fn put(member: &Server, key: &str, value: &str, ttl: u32) -> Check {
    let mut request = Request::new("PUT", format!("/v2/keys{key}"));
    request.headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
    let ttl = if ttl > 0 { format!("&ttl={ttl}") } else { String::new() };
    request.body = format!("value={value}{ttl}").into_bytes();
    let answer = member.send(&request)?;
    if !matches!(answer.status, 200 | 201) {
        fail!("PUT {key}: {} {}", answer.status, answer.text());
    }
    Ok(())
}

fn value(member: &Server, key: &str) -> Check<String> {
    let answer = member.call("GET", &format!("/v2/keys{key}"))?;
    let told: serde_json::Value = serde_json::from_slice(&answer.body)?;
    Ok(told["node"]["value"].as_str().unwrap_or_default().to_owned())
}

/// A value's bytes in base 64.
fn bytes(member: &Server, key: &str) -> Check<String> {
    let answer = member.call("GET", &format!("/mod/dashboard/api/node{key}"))?;
    let told: serde_json::Value = serde_json::from_slice(&answer.body)?;
    Ok(told["value"].as_str().context("a value")?.to_owned())
}

/// Keys of all kinds.
fn sow(member: &Server) -> Check {
    for (key, value, ttl) in [
        ("/config/motd", "Welcome%0ASecond%20line", 0),
        (
            "/config/app.json",
            "%7B%22listen%22%3A%5B%2210.0.0.1%3A80%22%5D%2C%22tls%22%3Atrue%2C%22retries%22%3A3%7D",
            0,
        ),
        ("/services/web/one", "10.0.0.11%3A8080", 600),
        ("/services/web/two", "10.0.0.12%3A8080", 0),
        ("/services/db/primary", "db1.example%3A5432", 0),
        ("/binary", "%00%01%FF%FEhello%0D%0Aworld%80", 0),
        ("/_hidden/token", "secret", 0),
        ("/hostile/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "%3Cscript%3Ealert(2)%3C%2Fscript%3E", 0),
        ("/hostile/%E2%80%AEtxt.exe", "turned", 0),
        ("/hostile/a%FE%00b", "no%20text", 0),
    ] {
        put(member, key, value, ttl)?;
    }
    Ok(())
}

#[test]
fn the_cluster_view_follows_the_members() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-cluster")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let mut members = server::cluster(folder.path(), &names, &[])?;
    browser.prefer("light")?;
    browser.open(&page(&members[0], ""))?;
    browser.wait("document.querySelectorAll('[data-health=healthy]').length === 3")?;
    browser.wait_text("#view-cluster .verdict", "All 3 members are healthy")?;
    browser.wait("document.querySelectorAll('.members .badge.accent').length === 1")?;
    browser.wait("Number(document.querySelector('#term').firstChild.textContent) > 0")?;
    browser.wait("/ms/.test(document.querySelector('[data-label=\"Append latency\"]').innerText + document.querySelectorAll('[data-label=\"Append latency\"]')[1].innerText)")?;
    browser.picture("cluster-light")?;

    members[1].kill();
    browser.wait("document.querySelector('[data-member=m2]').dataset.health === 'unreachable'")?;
    browser.wait_text("#view-cluster .verdict", "2 of 3 members are healthy")?;
    browser.wait_text("[data-member=m2]", "connection refused")?;
    browser.prefer("dark")?;
    browser.picture("cluster-dark-one-down")?;

    members[2].kill();
    browser.wait_text("#view-cluster .verdict", "No leader")?;
    browser.wait("document.querySelector('[data-member=m1]').dataset.health === 'unhealthy'")?;
    browser.resize(390, 844)?;
    browser.picture("cluster-narrow-no-leader")?;

    for member in &mut members[1..] {
        member.start()?;
    }
    browser.wait_text("#view-cluster .verdict", "All 3 members are healthy")?;
    browser.picture("cluster-narrow")?;

    // The server itself stops, and starts again.
    members[0].kill();
    browser.wait("!document.querySelector('#banner').hidden")?;
    browser.picture("lost-narrow")?;
    members[0].start()?;
    members[0].wait_ready(server::START_LIMIT)?;
    browser.wait("document.querySelector('#banner').hidden")?;
    browser.wait_text("#view-cluster .verdict", "All 3 members are healthy")?;

    // What the leader sends is drawn.
    browser.resize(1360, 900)?;
    browser.open(&page(&members[0], "#/stats"))?;
    for n in 0..300 {
        members[0].set(&format!("/load/{}", n % 7), &n.to_string())?;
        if n % 50 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
    }
    browser.wait("document.querySelectorAll('#view-stats .chart').length === 8")?;
    browser.wait("/L/.test(document.querySelector('#view-stats .chart .line-1').getAttribute('d'))")?;
    browser.wait("/\\d/.test(document.querySelectorAll('#view-stats .chart')[6].querySelector('.legend-value').innerText)")?;
    browser.picture("stats-dark")?;
    browser.prefer("light")?;
    browser.picture("stats-light")?;
    browser.resize(390, 844)?;
    browser.picture("stats-narrow")?;
    browser.check_console()
}

#[test]
fn keys_are_browsed_made_edited_and_deleted() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-keys")?;
    let member = alone(folder.path(), &[])?;
    sow(&member)?;
    browser.prefer("light")?;
    browser.open(&page(&member, "#/keys"))?;
    browser.click_named(".tree", "▸\nservices")?;
    browser.wait_text(".node .entries", "web/")?;
    browser.picture("keys-directory-light")?;
    browser.click_named(".entries", "web/")?;
    browser.click_named(".entries", "one")?;
    browser.wait_text("pre.value", "10.0.0.11:8080")?;
    browser.wait_text("#expires", "min")?;
    let before = browser.text("#expires")?;
    browser.wait(&format!("document.querySelector('#expires').innerText !== {before:?}"))?;

    // JSON is shown so, and stays as it is written.
    browser.open(&page(&member, "#/keys/config/app.json"))?;
    browser.wait_text("pre.json", "\"retries\": 3")?;
    browser.picture("keys-json-light")?;

    // Made, with its directories.
    browser.click("#create")?;
    browser.fill("dialog [name=name]", "new/key with blanks")?;
    browser.fill("dialog [name=value]", "first")?;
    browser.fill("dialog [name=ttl]", "90s")?;
    browser.picture("create-light")?;
    browser.click("dialog button[type=submit]")?;
    browser.wait_text("pre.value", "first")?;
    browser.wait_text("#expires", "1 min")?;
    assert_eq!(value(&member, "/config/new/key%20with%20blanks")?, "first");
    // An existing key is not overwritten.
    browser.click("#create")?;
    browser.fill("dialog [name=name]", "key with blanks")?;
    browser.click("dialog button[type=submit]")?;
    browser.wait_text("dialog .problem", "It exists already")?;
    browser.press(&[key::ESCAPE])?;
    browser.wait("!document.querySelector('dialog')")?;

    // Edited; the time to live goes.
    browser.click("#edit")?;
    browser.fill("#edit-value", "second")?;
    browser.choose("#edit-ttl", "never")?;
    browser.click(".edit button[type=submit]")?;
    browser.wait_text("pre.value", "second")?;
    browser.wait_text("#expires", "never")?;

    // Another client is quicker: the edit reports it, and does not overwrite the other change.
    browser.click("#edit")?;
    browser.fill("#edit-value", "mine")?;
    put(&member, "/config/new/key%20with%20blanks", "theirs", 0)?;
    browser.run("document.querySelector('.edit').requestSubmit()")?;
    browser.wait_text(".conflict", "Somebody else has changed this key")?;
    browser.wait_text(".conflict pre", "theirs")?;
    assert_eq!(value(&member, "/config/new/key%20with%20blanks")?, "theirs");
    browser.picture("keys-conflict-light")?;
    browser.click("#keep-mine")?;
    browser.click(".edit button[type=submit]")?;
    browser.wait_text("pre.value", "mine")?;
    assert_eq!(value(&member, "/config/new/key%20with%20blanks")?, "mine");

    // Its expiry alone: the value stays.
    browser.click_named(".node", "Expiry")?;
    browser.fill("dialog input", "5min")?;
    browser.click("dialog button[type=submit]")?;
    browser.wait_text("#expires", "min")?;
    assert_eq!(value(&member, "/config/new/key%20with%20blanks")?, "mine");

    // Deleted after a confirmation; a directory with everything below it.
    browser.click_named(".node", "Delete")?;
    browser.picture("delete-light")?;
    browser.click("dialog button.danger")?;
    browser.wait_text(".node .empty", "An empty directory")?;
    browser.open(&page(&member, "#/keys/services"))?;
    browser.wait_text(".node .facts", "directory")?;
    browser.click_named(".node", "Delete")?;
    browser.wait_text("dialog", "everything below it")?;
    browser.click("dialog button.danger")?;
    browser
        .wait("![...document.querySelectorAll('.row')].some((row) => row.dataset.path === '/services')")?;
    assert_eq!(member.call("GET", "/v2/keys/services")?.status, 404);
    browser.check_console()
}

#[test]
fn bytes_and_names_of_any_kind_are_safe() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-bytes")?;
    let member = alone(folder.path(), &[])?;
    sow(&member)?;
    browser.prefer("dark")?;
    browser.open(&page(&member, "#/keys"))?;
    browser.wait("document.querySelectorAll('.row').length === 4")?;
    browser.click("#show-hidden")?;
    browser.wait("document.querySelectorAll('.row').length === 5")?;

    // Binary: shown with escapes, saved byte for byte.
    browser.open(&page(&member, "#/keys/binary"))?;
    browser.wait_text("pre.value", "\\x00\\x01\\xff\\xfehello\\r\nworld\\x80")?;
    browser.click("[data-form=Hex]")?;
    browser.wait_text("pre.hex", "00 01 ff fe 68 65 6c 6c")?;
    browser.picture("keys-binary-dark")?;
    let before = bytes(&member, "/binary")?;
    browser.click("#edit")?;
    browser.run("document.querySelector('.edit').requestSubmit()")?;
    browser.wait("document.querySelector('#edit')")?;
    assert_eq!(bytes(&member, "/binary")?, before, "saved without a change");
    browser.click("#edit")?;
    browser.wait("document.querySelector('#edit-value')")?;
    browser.run("const input = document.querySelector('#edit-value'); input.value += '\\\\x00\\\\xfe!'; document.querySelector('.edit').requestSubmit();")?;
    browser.wait("document.querySelector('#edit')")?;
    assert_eq!(bytes(&member, "/binary")?, "AAH//mhlbGxvDQp3b3JsZIAA/iE=");

    // Names that would be markup, turn the line around, or are no text.
    browser.open(&page(&member, "#/keys/hostile"))?;
    browser.wait_text(".entries", "<img src=x onerror=alert(1)>")?;
    browser.wait_text(".entries", "\\u{202e}txt.exe")?;
    browser.wait_text(".entries", "a\\xfe\\x00b")?;
    browser.wait("document.querySelectorAll('main img, main script').length === 0")?;
    browser.picture("keys-hostile-dark")?;
    browser.click_named(".entries", "a\\xfe\\x00b")?;
    browser.wait_text("pre.value", "no text")?;
    browser.click_named(".crumbs", "hostile")?;
    browser.click_named(".entries", "<img")?;
    browser.wait_text("pre.value", "<script>alert(2)</script>")?;
    browser.click_named(".node", "Delete")?;
    browser.wait_text("dialog", "<img src=x onerror=alert(1)>")?;
    browser.click("dialog button.danger")?;
    browser.wait("document.querySelectorAll('.entries tbody tr').length === 2")?;

    // The search finds keys in directories that were not opened yet.
    browser.fill("#search", "TOKEN")?;
    browser.wait_text(".found", "/_hidden/token")?;
    browser.picture("keys-search-dark")?;
    browser.click(".found a")?;
    browser.wait_text("pre.value", "secret")?;
    browser.check_console()
}

#[test]
fn events_are_watched_live_and_without_a_gap() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-watch")?;
    let mut member = alone(folder.path(), &["-watch-history=50"])?;
    sow(&member)?;
    browser.prefer("light")?;
    browser.open(&page(&member, "#/watch/services"))?;
    browser.wait_text(".watch-status", "Live below /services")?;
    member.set("/services/web/three", "10.0.0.13:8080")?;
    member.set("/elsewhere", "not shown")?;
    put(&member, "/services/web/two", "%3Cb%3Echanged%3C%2Fb%3E", 60)?;
    member.call("DELETE", "/v2/keys/services/web/three")?;
    browser.wait("document.querySelectorAll('#events tr').length === 3")?;
    browser.wait_text("#events", "<b>changed</b>")?;
    browser.wait_text("#events", "delete")?;
    browser.picture("watch-light")?;

    browser.click("#watch-pause")?;
    member.set("/services/a", "1")?;
    member.set("/services/b", "1")?;
    browser.wait_text("#watch-count", "2 wait")?;
    browser.click("#watch-pause")?;
    browser.wait("document.querySelectorAll('#events tr').length === 5")?;
    browser.click("#watch-clear")?;
    browser.wait_text("#events", "No events yet")?;

    // The server stops and starts again with other events: its history has all missed events.
    member.stop();
    browser.wait_text(".watch-status", "broke off")?;
    member.start()?;
    member.wait_ready(server::START_LIMIT)?;
    let index = member.index()?;
    for n in 0..20 {
        member.set(&format!("/services/n{n}"), "x")?;
    }
    browser.wait("document.querySelectorAll('#events tr').length === 20")?;
    browser.wait(&format!(
        "document.querySelector('#events tr:last-child .num:not(time)').innerText === '{}'",
        index + 1
    ))?;

    // Events that the history has lost are reported.
    browser.click("#watch-start")?;
    browser.click("#watch-clear")?;
    for n in 0..60 {
        member.set("/elsewhere", &n.to_string())?;
    }
    browser.fill("#watch-from", "3")?;
    browser.click("#watch-start")?;
    browser.wait_text("#events .gap", "no longer in the server's history")?;
    browser.check_console()
}

#[test]
fn read_only_hides_what_changes() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-read-only")?;
    let member = alone(folder.path(), &["-dashboard=read-only"])?;
    sow(&member)?;
    browser.prefer("dark")?;
    browser.open(&page(&member, "#/keys/config/motd"))?;
    browser.wait_text("pre.value", "Second line")?;
    browser.wait("document.querySelector('#read-only').checkVisibility()")?;
    let buttons = browser.run("return [...document.querySelectorAll('#view-keys button')].filter((one) => one.checkVisibility()).map((one) => one.innerText).join(' ');")?;
    let buttons = buttons.as_str().unwrap_or_default();
    for word in ["Edit", "Create", "Delete", "Expiry"] {
        assert!(!buttons.contains(word), "{buttons}");
    }
    assert!(buttons.contains("Watch"), "{buttons}");
    browser.picture("keys-read-only-dark")?;
    browser.check_console()
}
