//! The dashboard in a real Chromium, for everybody: with users and rights, by keyboard alone, on a phone.
//!
//! Left out, with a line that says so, where no browser is installed; `ETCD_RS_BROWSER=required` makes that a failure.

use tests::browser::{Browser, key};
use tests::http::Request;
use tests::server::Server;
use tests::{Check, fail, files};

const ROOT: &str = "Basic cm9vdDpwdw==";

fn page(member: &Server, hash: &str) -> String {
    format!("{}/mod/dashboard/{hash}", member.client_url())
}

fn as_root(member: &Server, target: &str, body: &str) -> Check {
    let mut request = Request::new("PUT", target);
    request.headers.push(("Authorization".into(), ROOT.into()));
    request.headers.push(("Content-Type".into(), "application/json".into()));
    request.body = body.as_bytes().to_vec();
    let answer = member.send(&request)?;
    if !matches!(answer.status, 200 | 201) {
        fail!("PUT {target}: {} {}", answer.status, answer.text());
    }
    Ok(())
}

/// Users count; `app` may read and write below `/app/`, guests nothing.
fn switch_auth_on(member: &Server) -> Check {
    as_root(member, "/v2/auth/users/root", r#"{"user":"root","password":"pw"}"#)?;
    as_root(
        member,
        "/v2/auth/roles/app",
        r#"{"role":"app","permissions":{"kv":{"read":["/app/*"],"write":["/app/*"]}}}"#,
    )?;
    as_root(member, "/v2/auth/users/app", r#"{"user":"app","password":"pw2","roles":["app"]}"#)?;
    as_root(member, "/v2/auth/enable", "")?;
    as_root(
        member,
        "/v2/auth/roles/guest",
        r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":[],"write":[]}}}"#,
    )
}

#[test]
fn users_sign_in_and_rights_are_explained() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-auth")?;
    let member = Server::new(folder.path(), "m1")?.started()?;
    member.set("/app/one", "1")?;
    member.set("/other", "2")?;
    switch_auth_on(&member)?;
    browser.prefer("light")?;
    browser.open(&page(&member, "#/keys"))?;
    browser.wait_text(".tree-problem", "guests may not access")?;
    browser.wait("document.querySelector('#account').checkVisibility()")?;
    browser.picture("auth-guest-light")?;

    let sign_in = |user: &str, password: &str| -> Check {
        browser.fill("dialog [name=user]", user)?;
        browser.fill("dialog [name=password]", password)?;
        browser.click("dialog button[type=submit]")
    };
    browser.click("#account")?;
    sign_in("app", "wrong")?;
    browser.wait_text("dialog .problem", "no user “app” with this password")?;
    browser.picture("auth-wrong-light")?;
    sign_in("app", "pw2")?;
    browser.wait_text("#account", "Sign out app")?;
    browser.wait_text(".tree-problem", "The user “app” may not access")?;
    // Where it has a right it may go.
    browser.fill(".rooting input", "/app")?;
    browser.press(&[key::ENTER])?;
    browser.wait("document.querySelector('[data-path=\"/app/one\"]')")?;
    browser.click("[data-path='/app/one']")?;
    browser.wait_text("pre.value", "1")?;
    browser.click("#edit")?;
    browser.fill("#edit-value", "11")?;
    browser.press(&[key::CONTROL, key::ENTER])?;
    browser.wait_text("pre.value", "11")?;
    browser.open(&page(&member, "#/keys/other"))?;
    browser.wait_text(".node", "may not access “/other”")?;

    browser.click("#account")?;
    browser.wait_text("#account", "Sign in")?;
    browser.click("#account")?;
    sign_in("root", "pw")?;
    browser.wait_text("#account", "Sign out root")?;
    browser.wait_text("pre.value", "2")?;
    // Nothing of it is kept.
    let kept = browser
        .run("return JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie;")?;
    assert!(!kept.as_str().unwrap_or_default().contains("pw"), "{kept}");
    browser.check_console()
}

#[test]
fn everything_can_be_done_by_keyboard() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-keyboard")?;
    let member = Server::new(folder.path(), "m1")?.started()?;
    for key in ["/alpha/one", "/alpha/two", "/beta"] {
        member.set(key, "value")?;
    }
    browser.prefer("light")?;
    browser.open(&page(&member, ""))?;
    browser.wait_text(".verdict", "healthy")?;
    // The first thing is a way past the frame, then the views.
    browser.press(&[key::TAB])?;
    browser.wait("document.activeElement.classList.contains('skip')")?;
    browser.press(&[key::TAB, key::TAB])?;
    browser.wait("document.activeElement.innerText === 'Keys'")?;
    browser.wait("getComputedStyle(document.activeElement).outlineStyle !== 'none'")?;
    browser.press(&[key::ENTER])?;
    browser.wait("document.querySelector('.row')")?;
    let mut presses = 0;
    while browser.run("return document.activeElement.role !== 'treeitem';")? == true {
        browser.press(&[key::TAB])?;
        presses += 1;
        assert!(presses < 20, "no way into the tree");
    }
    let at = |path: &str| browser.wait(&format!("document.activeElement.dataset.path === '{path}'"));
    at("/alpha")?;
    browser.press(&[key::RIGHT])?;
    browser.wait("document.activeElement.getAttribute('aria-expanded') === 'true'")?;
    browser.press(&[key::DOWN, key::DOWN])?;
    at("/alpha/two")?;
    browser.press(&[key::LEFT])?;
    at("/alpha")?;
    browser.press(&["b"])?;
    at("/beta")?;
    browser.press(&[key::UP])?;
    at("/alpha/two")?;
    browser.press(&[key::ENTER])?;
    browser.wait_text("pre.value", "value")?;
    at("/alpha/two")?;
    browser.wait("document.activeElement.getAttribute('aria-selected') === 'true'")?;
    browser.picture("keyboard-light")?;
    // To the node's buttons, and an edit that is saved and one that is left.
    let mut presses = 0;
    while browser.run("return document.activeElement.id !== 'edit';")? == true {
        browser.press(&[key::TAB])?;
        presses += 1;
        assert!(presses < 20, "no way to the edit");
    }
    browser.press(&[key::ENTER])?;
    browser.wait("document.activeElement.id === 'edit-value'")?;
    browser.press(&["!"])?;
    browser.press(&[key::CONTROL, key::ENTER])?;
    browser.wait("document.activeElement.id === 'edit'")?;
    browser.wait("/!/.test(document.querySelector('pre.value').innerText)")?;
    browser.press(&[key::ENTER])?;
    browser.wait("document.activeElement.id === 'edit-value'")?;
    browser.press(&[key::ESCAPE])?;
    browser.wait("document.activeElement.id === 'edit'")?;
    // Back into the tree; a deletion begins with the button that does nothing.
    browser.run("document.querySelector('.row[tabindex=\"0\"]').focus()")?;
    browser.press(&[key::DELETE])?;
    browser.wait("document.querySelector('dialog').open && document.activeElement.innerText === 'Cancel'")?;
    browser.press(&[key::TAB])?;
    browser.press(&[key::ENTER])?;
    browser.wait("!document.querySelector('dialog')")?;
    browser.wait("!document.querySelector('[data-path=\"/alpha/two\"]')")?;
    assert_eq!(member.call("GET", "/v2/keys/alpha/two")?.status, 404);

    // What reads the page aloud finds names for everything that can be used.
    for view in ["cluster", "keys/beta", "watch", "stats"] {
        browser.open(&page(&member, &format!("#/{view}")))?;
        browser.wait("document.querySelector('main > section:not([hidden]) h1')")?;
        let nameless = browser.run(
            "return [...document.querySelectorAll('button, input, select, textarea, a, [role=tree], svg[role=img]')]
               .filter((one) => one.checkVisibility() && !(one.getAttribute('aria-label') || one.innerText || (one.labels && one.labels.length)))
               .map((one) => one.outerHTML).join('\\n');",
        )?;
        assert_eq!(nameless, "", "{view}");
    }
    browser.check_console()
}

#[test]
fn it_fits_on_a_phone() -> Check {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let folder = files::scratch("browser-phone")?;
    let member = Server::new(folder.path(), "m1")?.started()?;
    member.set(
        "/services/web/a-key-with-a-rather-long-name-that-has-to-be-broken-somewhere",
        "{\"a\":[1,2]}",
    )?;
    member.set("/services/web/b", &"long ".repeat(40))?;
    browser.prefer("light")?;
    browser.resize(390, 844)?;
    for (view, shown) in [
        ("cluster", "document.querySelector('[data-health=healthy]')"),
        ("keys", "document.querySelector('.row')"),
        ("keys/services/web", "document.querySelector('.entries')"),
        ("keys/services/web/b", "document.querySelector('pre.value')"),
        ("watch/services", "/Live/.test(document.querySelector('.watch-status').innerText)"),
        ("stats", "document.querySelector('.legend-value')"),
    ] {
        browser.open(&page(&member, &format!("#/{view}")))?;
        browser.wait(shown)?;
        let too_wide = browser.run("return document.documentElement.scrollWidth > innerWidth;")?;
        assert_eq!(too_wide, false, "{view} is wider than the screen");
        browser.picture(&format!("narrow-{}", view.replace('/', "-")))?;
    }
    // The tree and the node take turns.
    browser.open(&page(&member, "#/keys"))?;
    browser.click("[data-path='/services']")?;
    browser.wait("!document.querySelector('.tree').checkVisibility()")?;
    browser.click(".back")?;
    browser.wait("document.querySelector('.tree').checkVisibility()")?;
    // Another choice of colours is kept by the page.
    browser.click("#theme")?;
    browser.click("#theme")?;
    browser.wait("document.documentElement.dataset.theme === 'dark'")?;
    browser.picture("narrow-dark-by-choice")?;
    browser.open(&page(&member, "?again#/keys"))?;
    browser.wait("document.documentElement.dataset.theme === 'dark'")?;
    browser.check_console()
}
