use std::sync::Mutex;

use super::*;

/// 2026-11-21 10:52:00.123456789 UTC.
fn noon() -> UnixNanos {
    UnixNanos(1_795_258_320_123_456_789)
}

/// The lines that `speak` writes with these levels.
fn lines(levels: Levels, speak: impl FnOnce(&LogControl)) -> Vec<String> {
    let out = Arc::new(Mutex::new(Vec::new()));
    let control = LogControl { settings: Arc::new(LogSettings::new(levels)) };
    let sink = out.clone();
    let writer = LogWriter::new(control.settings.clone(), noon, move |line: &[u8]| {
        sink.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap());
    });
    tracing::subscriber::with_default(writer, || speak(&control));
    let lines = out.lock().unwrap();
    lines.clone()
}

/// Removes the date, which depends on the machine's time zone.
fn texts(levels: Levels, speak: impl FnOnce(&LogControl)) -> Vec<String> {
    lines(levels, speak).iter().map(|line| line[27..].trim_end_matches('\n').to_owned()).collect()
}

fn one_of_each() {
    critical!("etcdmain", "c");
    error!("etcdmain", "e");
    warning!("etcdmain", "w");
    notice!("etcdmain", "n");
    info!("etcdmain", "i");
    debug!("etcdmain", "d");
    trace!("etcdmain", "t");
}

#[test]
fn a_line_has_date_letter_package_and_text() {
    let name = "m";
    let lines = lines(Levels::all(Level::Info), |_| info!("etcdserver", "name = {name} ({})", 7));
    let line = &lines[0];
    assert_eq!(&line[26..], " I | etcdserver: name = m (7)\n");
    let (date, rest) = line.split_at(10);
    assert!(["2026-11-20", "2026-11-21", "2026-11-22"].contains(&date), "{line}");
    assert!(
        rest[3..].starts_with(":") && rest[17..].starts_with(".") || rest.contains(":00.123456 "),
        "{line}"
    );
    assert!(line.contains(":00.123456 "), "{line}");
}

#[test]
fn each_level_shows_itself_and_what_is_graver() {
    let all = [
        "C | etcdmain: c",
        "E | etcdmain: e",
        "W | etcdmain: w",
        "N | etcdmain: n",
        "I | etcdmain: i",
        "D | etcdmain: d",
        "T | etcdmain: t",
    ];
    for (shown, level) in [
        Level::Critical,
        Level::Error,
        Level::Warning,
        Level::Notice,
        Level::Info,
        Level::Debug,
        Level::Trace,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(texts(Levels::all(level), |_| one_of_each()), all[..=shown], "{level}");
    }
}

#[test]
fn packages_have_levels_of_their_own() {
    let levels = Levels::all(Level::Info).with("raft=ERROR,etcdserver=DEBUG,wal=C").unwrap();
    let texts = texts(levels, |_| {
        info!("raft", "no");
        error!("raft", "yes");
        debug!("etcdserver", "yes");
        error!("wal", "no");
        debug!("etcdmain", "no");
        info!("etcdmain", "yes");
    });
    assert_eq!(texts, ["E | raft: yes", "D | etcdserver: yes", "I | etcdmain: yes"]);
}

#[test]
fn levels_change_while_running() {
    let texts = texts(Levels::all(Level::Info).with("etcdmain=C").unwrap(), |control| {
        for level in [None, Some(Level::Debug), Some(Level::Error), Some(Level::Info)] {
            if let Some(level) = level {
                control.set_all(level);
            }
            // One call site, checked again after each change of levels.
            debug!("etcdmain", "debug");
            info!("etcdmain", "info");
        }
    });
    assert_eq!(texts, ["D | etcdmain: debug", "I | etcdmain: info", "I | etcdmain: info"]);
}

#[test]
fn lists_of_levels() {
    let levels = |list| Levels::all(Level::Info).with(list);
    assert_eq!(levels("a=DEBUG").unwrap().of("a"), Level::Debug);
    assert_eq!(levels("a=DEBUG").unwrap().of("b"), Level::Info);
    assert_eq!(levels("a=2,*=E").unwrap().of("a"), Level::Notice);
    assert_eq!(levels("a=2,*=E").unwrap().of("b"), Level::Error);
    assert_eq!(levels("a=D,a=C").unwrap().of("a"), Level::Critical);
    for (list, text) in [
        ("a", "oddly structured `pkg=level` option: a"),
        ("a=C,", "oddly structured `pkg=level` option: "),
        ("a=b=c", "oddly structured `pkg=level` option: a=b=c"),
        ("a=debug", "couldn't parse log level debug"),
        ("a=", "couldn't parse log level "),
    ] {
        assert_eq!(levels(list).unwrap_err().to_string(), text);
    }
}

#[test]
fn levels_are_written_as_they_are_read() {
    for name in ["CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", "TRACE"] {
        let level: Level = name.parse().unwrap();
        assert_eq!(level.to_string(), name);
        assert_eq!(level.letter().to_string().parse(), Ok(level));
    }
}

#[test]
fn libraries_and_modules_are_packages_too() {
    let texts = texts(Levels::all(Level::Info), |_| {
        tracing::warn!(target: "etcd::http::keys", "a");
        tracing::warn!(target: "etcd::server", "b");
        tracing::warn!(target: "shared::wal::reader", "c");
        tracing::warn!(target: "hyper::proto", "d");
        tracing::warn!(target: "wal", path = "/x", offset = 7, "repaired");
        let span = tracing::info_span!("ignored");
        let _inside = span.enter();
    });
    assert_eq!(
        texts,
        [
            "W | etcdhttp: a",
            "W | etcdserver: b",
            "W | wal: c",
            "W | hyper: d",
            "W | wal: repaired path=/x offset=7"
        ]
    );
}

#[test]
fn nobody_forges_lines() {
    let key = "a\nI | etcdmain: forged\u{1b}[2J\u{85}é";
    let texts = texts(Levels::all(Level::Info), |_| info!("etcdhttp", "key {key}"));
    assert_eq!(texts, ["I | etcdhttp: key a\\nI | etcdmain: forged\\u{1b}[2J\\u{85}é"]);
}

#[test]
fn collected_lines_are_written_later() {
    let line = |level, package| LogLine { level, package, text: "x".to_owned() };
    let collected =
        [line(Level::Warning, "flags"), line(Level::Debug, "etcdmain"), line(Level::Notice, "etcdmain")];
    assert_eq!(
        texts(Levels::all(Level::Info), |_| write_lines(&collected)),
        ["W | flags: x", "N | etcdmain: x"]
    );
}

#[test]
fn raft_speaks_in_lines() {
    let levels = Levels::all(Level::Info);
    let texts = texts(levels, |_| {
        let log = raft_logger().new(slog::o!("raft_id" => 0xa553_2e44_7404_284a_u64));
        slog::info!(log, "became leader at term {term}", term = 2_u64);
        slog::info!(log, "starting a new election"; "term" => 1_u64);
        slog::info!(log, "newRaft"; "term" => 0_u64, "last index" => 5_u64, "last term" => 1_u64, "peers" => ?[7]);
        slog::warn!(log, "lost"; "from" => 255_u64);
        slog::error!(raft_logger(), "alone");
        slog::debug!(log, "hidden");
        slog::info!(log, "switched to configuration"; "config" => "…");
    });
    assert_eq!(
        texts,
        [
            "I | raft: a5532e447404284a became leader at term 2",
            "I | raft: a5532e447404284a is starting a new election at term 1",
            "I | raft: a5532e447404284a newRaft [term: 0, last index: 5, last term: 1]",
            "W | raft: a5532e447404284a lost [from: ff]",
            "E | raft: alone",
        ]
    );
}

/// The same lines as JSON.
fn objects(speak: impl FnOnce()) -> Vec<String> {
    let lines = lines(Levels::all(Level::Trace), |control| {
        control.settings.is_json.store(true, Ordering::Relaxed);
        speak();
    });
    lines.iter().map(|line| line.strip_suffix('\n').unwrap().to_owned()).collect()
}

#[test]
fn a_line_is_an_object_if_that_is_wished() {
    assert_eq!(
        objects(|| info!("etcdserver", "name = {}", 7)),
        [r#"{"ts":"2026-11-21T10:52:00.123456Z","level":"info","pkg":"etcdserver","msg":"name = 7"}"#]
    );
    let levels: Vec<serde_json::Value> =
        objects(one_of_each).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = levels.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(names, ["critical", "error", "warning", "notice", "info", "debug", "trace"]);
    assert!(levels.iter().all(|line| line.as_object().unwrap().len() == 4), "{levels:?}");
}

#[test]
fn fields_of_a_record_are_members_of_the_object() {
    let speak = || {
        let (text, nothing) = (String::from("a\"b"), None::<u64>);
        tracing::warn!(
            target: "wal", path = ?std::path::Path::new("/x"), offset = 7, below = -7, ok = true, part = 0.5,
            none = f64::NAN, text, level = "mine", nothing, json_told = 9_u64, "repaired"
        );
    };
    assert_eq!(
        objects(speak)[0].split_once("\"msg\":").unwrap().1,
        r#""repaired","path":"\"/x\"","offset":7,"below":-7,"ok":true,"part":0.5,"none":"NaN","text":"a\"b","level_":"mine","told":9}"#
    );
    assert_eq!(
        texts(Levels::all(Level::Info), |_| speak()),
        [r#"W | wal: repaired path="/x" offset=7 below=-7 ok=true part=0.5 none=NaN text=a"b level=mine"#]
    );
}

#[test]
fn an_object_stays_one_whatever_is_said() {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend("\u{7f}\u{85}\u{2028}é😀{}\"\\".as_bytes());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = objects(|| {
        info!("etcdhttp", "{text}");
        tracing::info!(target: "etcdhttp", text, json_text = text);
    });
    for (line, field) in lines.iter().zip(["msg", "text"]) {
        assert!(!line.chars().any(char::is_control), "{line}");
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object[field], text);
    }
}

#[test]
fn raft_tells_its_member_and_term_apart() {
    let lines = objects(|| {
        let log = raft_logger().new(slog::o!("raft_id" => 255_u64));
        slog::info!(log, "lost"; "term" => 7_u64);
        slog::info!(raft_logger(), "alone");
    });
    let told: Vec<&str> = lines.iter().map(|line| line.split_once("\"raft\",").unwrap().1).collect();
    assert_eq!(told, [r#""msg":"ff lost [term: 7]","member":"ff","term":7}"#, r#""msg":"alone"}"#]);
}
