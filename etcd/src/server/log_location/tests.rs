use shared::disk::{DiskFile as _, Open, RealDisk, SimDisk};

use super::super::data_dir::prepare;
use super::*;

const SEGMENT: &str = "0000000000000000-0000000000000000.wal";
const SNAPSHOT: &str = "0000000000000002-0000000000000064.snap";

/// The result of preparing a data dir `/d` with these files (a name that ends in a slash is a folder).
fn prepare_with(files: &[&str], wal_dir: Option<&str>) -> Result<SimDisk, String> {
    let disk = SimDisk::new(1);
    for file in files {
        match file.strip_suffix('/') {
            Some(dir) => disk.create_dir_all(Path::new(dir)).unwrap(),
            None => disk.plant(Path::new(file), b"x").unwrap(),
        }
    }
    let layout = Layout::new(Path::new("/d"), wal_dir.map(Path::new));
    prepare(&disk, &layout).map(|()| disk).map_err(|error| error.to_string())
}

fn assert_refused(files: &[&str], wal_dir: Option<&str>, why: &str) {
    match prepare_with(files, wal_dir) {
        Ok(_) => panic!("{files:?} with {wal_dir:?} was accepted"),
        Err(error) => assert!(error.contains(why), "{files:?} with {wal_dir:?}: {error}"),
    }
}

#[test]
fn snapshots_without_a_log_are_no_new_member() {
    let why = "etcd-dump salvage /d OUT";
    let snap = format!("/d/member/snap/{SNAPSHOT}");
    for more in [
        vec![],
        vec!["/d/member/wal/"],
        vec!["/d/member/wal/lost+found/"],
        vec!["/d/member/wal/0000000000000000-0000000000000000.wal.tmp"],
    ] {
        let files = [vec![snap.as_str()], more].concat();
        assert_refused(&files, None, why);
    }
    for name in ["x.snap.broken", "1.snap.tmp", "0000000000000064.snap.db"] {
        assert_refused(&[&format!("/d/member/snap/{name}")], None, why);
    }
    assert_refused(&[&format!("/d/snap/{SNAPSHOT}"), "/d/wal/"], None, why);
    // A disk that is not mounted.
    assert_refused(&[&snap, "/mnt/wal/"], Some("/mnt/wal"), "mount its disk");
    assert_refused(&[&snap], Some("/mnt/wal"), "mount its disk");
}

#[test]
fn a_folder_without_anything_in_it_is_a_new_member() {
    for files in [
        vec![],
        vec!["/d/"],
        vec!["/d/member/"],
        vec!["/d/member/snap/", "/d/member/wal/"],
        vec!["/d/member/snap/lost+found/", "/d/member/wal/lost+found/"],
        // A crash while the first segment was made.
        vec!["/d/member/snap/", "/d/member/wal/0000000000000000-0000000000000000.wal.tmp"],
    ] {
        prepare_with(&files, None).unwrap();
        prepare_with(&files, Some("/mnt/wal")).unwrap();
    }
}

#[test]
fn what_is_left_of_a_log_is_a_damaged_log() {
    for name in [
        "0000000000000000-0000000000000000.wal.broken",
        "0000000000000003-00000000000000ff.wal.tmp",
        "0000000000000000-0000000000000000.wal.restored",
    ] {
        let disk = prepare_with(&[&format!("/d/member/wal/{name}")], None).unwrap();
        // So a start opens it, which fails.
        assert!(Layout::new(Path::new("/d"), None).has_log(&disk).unwrap(), "{name}");
    }
}

#[test]
fn a_log_in_another_place_is_found() {
    let usual = format!("/d/member/wal/{SEGMENT}");
    let other = format!("/mnt/wal/{SEGMENT}");
    assert_refused(
        &[&usual],
        Some("/mnt/wal"),
        "there is no log in /mnt/wal, but one in /d/member/wal: start without -wal-dir",
    );
    assert_refused(
        &[&usual, &other],
        Some("/mnt/wal"),
        "there are two logs, in /mnt/wal and in /d/member/wal",
    );
    prepare_with(&[&usual, "/d/member/snap/"], None).unwrap();
    prepare_with(&[&usual, "/d/member/snap/"], Some("/d/member/wal")).unwrap();
    prepare_with(&[&other, "/d/member/wal/"], Some("/mnt/wal")).unwrap();
    // The snapshots are those of the log there.
    prepare_with(&[&other, &format!("/d/member/snap/{SNAPSHOT}")], Some("/mnt/wal")).unwrap();
    // Something else than a folder.
    assert!(prepare_with(&["/d/member/wal"], None).is_err());
    assert!(prepare_with(&["/d/member/snap"], None).is_err());
}

#[test]
fn the_note_tells_of_a_log_outside_the_data_dir() {
    let other = format!("/mnt/wal/{SEGMENT}");
    let disk = prepare_with(&["/d/member/snap/", &other], Some("/mnt/wal")).unwrap();
    let layout = |wal_dir: Option<&str>| Layout::new(Path::new("/d"), wal_dir.map(Path::new));
    let why = |wal_dir| match prepare(&disk, &layout(wal_dir)) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    };
    write_location(&disk, &layout(Some("/mnt/wal"))).unwrap();
    assert_eq!(disk.contents(Path::new("/d/member/wal-dir")).unwrap(), b"/mnt/wal\n");
    assert_eq!(why(Some("/mnt/wal")), "");
    assert!(why(None).contains("but one in /mnt/wal: start with -wal-dir=/mnt/wal"), "{}", why(None));
    // The disk is not mounted: no start, though no snapshot was ever saved.
    disk.remove(Path::new(&other)).unwrap();
    for wal_dir in [Some("/mnt/wal"), None, Some("/elsewhere")] {
        assert!(why(wal_dir).contains("was in /mnt/wal, and there is none now"), "{}", why(wal_dir));
    }
    // After it was moved to its usual location, it is found.
    disk.plant(Path::new(&format!("/d/member/wal/{SEGMENT}")), b"x").unwrap();
    assert_eq!(why(None), "");
    write_location(&disk, &layout(None)).unwrap();
    assert_eq!(disk.contents(Path::new("/d/member/wal-dir")).unwrap(), b"wal\n");
    // A disk may be mounted there as well, and the data dir may be moved.
    disk.remove(Path::new(&format!("/d/member/wal/{SEGMENT}"))).unwrap();
    assert!(why(None).contains("was in /d/member/wal, and there is none now"), "{}", why(None));
    disk.rename(Path::new("/d"), Path::new("/e")).unwrap();
    let moved = prepare(&disk, &Layout::new(Path::new("/e"), None)).unwrap_err().to_string();
    assert!(moved.contains("was in /e/member/wal, and there is none now"), "{moved}");
}

#[test]
fn a_move_to_the_new_layout_that_was_cut_short_is_finished() {
    for changes in 0..40 {
        for seed in 0..4 {
            let disk = SimDisk::new(seed);
            disk.plant(Path::new(&format!("/d/snap/{SNAPSHOT}")), b"s").unwrap();
            disk.plant(Path::new(&format!("/d/wal/{SEGMENT}")), b"w").unwrap();
            disk.fail_power_after(changes);
            let layout = Layout::new(Path::new("/d"), None);
            let _ = prepare(&disk, &layout);
            disk.crash();
            prepare(&disk, &layout).unwrap();
            assert_eq!(disk.contents(&layout.snap.join(SNAPSHOT)).unwrap(), b"s");
            assert_eq!(disk.contents(&layout.wal.join(SEGMENT)).unwrap(), b"w");
        }
    }
    // Existing files below `member` are not replaced.
    let disk = prepare_with(
        &[&format!("/d/member/wal/{SEGMENT}"), &format!("/d/wal/{SEGMENT}"), "/d/snap/y.snap"],
        None,
    )
    .unwrap();
    assert_eq!(disk.kind(Path::new("/d/member/snap")).unwrap(), None);
}

#[test]
fn links_are_followed_and_told_when_they_lead_nowhere() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, real) = (temporary.path().join("d"), temporary.path().join("disk"));
    let (member, disk) = (data.join("member"), RealDisk);
    disk.create_dir_all(&member).unwrap();
    std::os::unix::fs::symlink(&real, member.join("wal")).unwrap();
    let layout = |wal_dir| Layout::new(&data, wal_dir);
    let error = prepare(&disk, &layout(None)).unwrap_err().to_string();
    assert!(error.contains("member/wal is a symbolic link to nothing"), "{error}");
    disk.create_dir_all(&real).unwrap();
    prepare(&disk, &layout(None)).unwrap();
    disk.open(&real.join(SEGMENT), Open::Create).unwrap().append(b"x").unwrap();
    // The same log under two names is one log.
    for wal_dir in [None, Some(real.as_path())] {
        prepare(&disk, &layout(wal_dir)).unwrap();
        write_location(&disk, &layout(wal_dir)).unwrap();
        assert_eq!(std::fs::read(member.join(LOCATION_FILE)).unwrap(), b"wal\n");
    }
}
