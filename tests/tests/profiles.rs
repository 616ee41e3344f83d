//! Profiles of the running server: they come in pprof's format, name our functions, and disturb nobody.

use std::thread;
use std::time::Duration;

use tests::http::{self, Request, Response};
use tests::pprof::Profile;
use tests::server::Server;
use tests::{Check, Context, fail, files};

/// Longer than any profile that is taken here, including the lookup of its names.
const PATIENCE: Duration = Duration::from_secs(60);

fn get(port: u16, page: &str) -> Check<Response> {
    http::call(port, &Request::new("GET", format!("/debug/pprof{page}")), PATIENCE)
}

fn profile(port: u16, page: &str) -> Check<Profile> {
    let response = get(port, page)?;
    if response.status != 200 {
        fail!("{page} answered {}: {}", response.status, response.text());
    }
    assert_eq!(response.header("Content-Type").as_deref(), Some("application/octet-stream"), "{page}");
    Profile::read(&response.body)
}

#[test]
fn cpu_time_is_found_where_it_goes_and_nobody_is_disturbed() -> Check {
    let folder = files::scratch("profile-cpu")?;
    let server = Server::new(folder.path(), "m")?.with_args(["-enable-pprof"]).started()?;
    let port = server.client_port;
    let ask = move || thread::spawn(move || get(port, "/profile?seconds=3"));
    let asked = [ask(), ask()];
    let watched =
        thread::spawn(move || http::call(port, &Request::new("GET", "/v2/keys/last?wait=true"), PATIENCE));
    let mut number = 0;
    while !asked.iter().all(|asked| asked.is_finished()) {
        // Fails if any answer is not as it should be.
        server.set(&format!("/key{}", number % 100), "value")?;
        number += 1;
    }
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.join().ok().context("a thread that does not panic")??);
    }
    answers.sort_by_key(|answer| answer.status);
    let [taken, refused] = &answers[..] else { fail!("{answers:?}") };
    assert_eq!(
        (refused.status, refused.text().as_str(), refused.header("X-Go-Pprof").as_deref()),
        (500, "Could not enable CPU profiling: cpu profiling already in use\n", Some("1"))
    );
    assert_eq!(taken.status, 200, "{}", taken.text());
    let profile = Profile::read(&taken.body)?;
    assert_eq!(profile.kinds, ["samples/count", "cpu/nanoseconds"]);
    assert_eq!(profile.period, 10_000_000);
    assert!((2_900_000_000..30_000_000_000).contains(&profile.duration_nanos), "{}", profile.duration_nanos);
    assert!(profile.has("etcd::"), "after {number} writes: {profile:?}");
    assert!(!profile.has("perf_signal_handler"), "{profile:?}");
    assert_eq!(profile.sum("cpu/nanoseconds"), profile.sum("samples/count") * profile.period);
    // The watch has slept through it, and the next profile can be taken.
    server.set("/last", "value")?;
    assert_eq!(watched.join().ok().context("a thread that does not panic")??.status, 200);
    Profile::read(&get(port, "/profile?seconds=1")?.body)?;
    let log = server.said();
    let bad = log.lines().find(|line| line.contains(" E | ") || line.contains(" C | "));
    assert_eq!(bad, None);
    Ok(())
}

#[test]
fn memory_is_found_with_those_who_hold_it() -> Check {
    let folder = files::scratch("profile-heap")?;
    let server = Server::new(folder.path(), "m")?.with_args(["-enable-pprof"]).started()?;
    let value = "x".repeat(1 << 20);
    for number in 0..20 {
        server.set(&format!("/large{number}"), &value)?;
    }
    let port = server.client_port;
    let heap = profile(port, "/heap")?;
    assert_eq!(
        heap.kinds,
        ["alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"]
    );
    assert_eq!(heap.period, 512 << 10);
    let held = heap.sum("inuse_space/bytes");
    assert!(held > 15 << 20, "{held} bytes");
    assert!(heap.sum("alloc_space/bytes") >= held);
    assert!(heap.has("etcd::api::") && !heap.has("_rjem"), "{heap:?}");
    let text = get(port, "/heap?debug=1")?.text();
    assert!(text.starts_with("heap_v2/524288\n"), "{text:.200}");
    Ok(())
}

#[test]
fn the_other_pages() -> Check {
    let folder = files::scratch("profile-pages")?;
    let server = Server::new(folder.path(), "m")?.with_args(["-enable-pprof"]).started()?;
    let port = server.client_port;
    let index = get(port, "/")?;
    assert_eq!(index.header("Content-Type").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(get(port, "")?.text(), index.text());
    // Whatever the index leads to is there.
    let mut pages = 0;
    for link in index.text().split("href=\"/debug/pprof").skip(1) {
        let page = link.split('"').next().context("a link")?.replace("profile?", "profile?seconds=1&");
        let response = get(port, &page)?;
        assert_eq!(response.status, 200, "{page}");
        pages += 1;
    }
    assert_eq!(pages, 7);
    let words = get(port, "/cmdline")?.text();
    assert!(words.split('\0').any(|word| word == "-enable-pprof"), "{words}");
    assert!(get(port, "/goroutine?debug=1")?.text().starts_with("goroutine profile: total "));
    assert!(profile(port, "/threadcreate")?.has("log"));
    assert!(profile(port, "/goroutine")?.sum("goroutine/count") > 3);
    assert_eq!(profile(port, "/block")?.samples, []);
    for (page, status, text) in [
        ("/profile?seconds=301", 400, "profile duration exceeds 300 seconds, the longest that there is\n"),
        ("/heap?seconds=1", 400, "\"seconds\" parameter is not supported for this profile type\n"),
        ("/none", 404, "404 page not found\n"),
        ("/heap/", 404, "404 page not found\n"),
    ] {
        let response = get(port, page)?;
        assert_eq!((response.status, response.text().as_str()), (status, text), "{page}");
    }
    Ok(())
}

#[test]
fn who_may_see_them() -> Check {
    let folder = files::scratch("profile-rights")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    assert_eq!(get(server.client_port, "/heap")?.status, 404);
    drop(server);
    let server = Server::new(folder.path(), "n")?.with_args(["-enable-pprof"]).started()?;
    for (page, body) in [("users/root", r#"{"user":"root","password":"rootpw"}"#), ("enable", "")] {
        let mut request = Request::new("PUT", format!("/v2/auth/{page}"));
        request.body = body.as_bytes().to_vec();
        let response = server.send(&request)?;
        assert!(matches!(response.status, 200 | 201), "{page}: {}", response.text());
    }
    for page in ["", "/heap", "/profile?seconds=1", "/cmdline", "/none"] {
        assert_eq!(get(server.client_port, page)?.status, 401, "{page}");
    }
    let mut request = Request::new("GET", "/debug/pprof/cmdline");
    request.headers.push(("Authorization".to_owned(), "Basic cm9vdDpyb290cHc=".to_owned()));
    assert_eq!(server.send(&request)?.status, 200);
    Ok(())
}
