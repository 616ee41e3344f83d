//! Listings in pieces: the same bytes as in one, whatever the store becomes meanwhile.

use super::*;

/// A listing in pieces of at least so many bytes, and the longest of them.
fn pieces(event: &Event, bytes: usize, mut between: impl FnMut()) -> (Vec<u8>, usize) {
    let mut rendering = event.in_pieces(NOW).unwrap();
    let (mut all, mut longest) = (Vec::new(), 0);
    loop {
        let mut piece = Vec::new();
        let more = rendering.write(&mut piece, bytes);
        longest = longest.max(piece.len());
        all.extend_from_slice(&piece);
        if !more {
            let mut nothing = Vec::new();
            assert!(
                !rendering.write(&mut nothing, bytes) && nothing.is_empty(),
                "there is more after the end"
            );
            return (all, longest);
        }
        assert!(piece.len() >= bytes, "a piece of {} bytes that is not the last", piece.len());
        between();
    }
}

fn whole(event: &Event) -> Vec<u8> {
    let mut json = Vec::new();
    event.write_json(&mut json, NOW);
    json.push(b'\n');
    json
}

#[test]
fn pieces_make_the_whole() {
    let mut store = Store::new(10);
    for key in ["/1/a", "/1/b/c/d", "/1/b/c/_h/x", "/1/b/_h", "/1/b/e", "/1/z/y", "/1/_top/k"] {
        set(&mut store, key, "value \u{2028}<\"");
    }
    store.create(b"/1/empty", true, b"", false, after(7), NOW).unwrap();
    for number in 0..200 {
        set(&mut store, &format!("/1/wide/{number}"), "v");
    }
    for (path, recursive) in [
        ("/", true),
        ("/", false),
        ("/1", true),
        ("/1", false),
        ("/1/b", true),
        ("/1/empty", true),
        ("/1/wide", false),
    ] {
        let event = store.get(path.as_bytes(), recursive, true).unwrap();
        for bytes in [1, 2, 50, 300, 4096, usize::MAX] {
            let (all, _) = pieces(&event, bytes, || {});
            assert_eq!(all, whole(&event), "{path} in pieces of {bytes}");
        }
    }
    assert!(store.get(b"/1/a", true, true).unwrap().in_pieces(NOW).is_none());
    assert!(set(&mut store, "/1/a", "w").in_pieces(NOW).is_none());
}

#[test]
fn a_listing_shows_one_moment() {
    let mut store = Store::new(10);
    for number in 0..500 {
        set(&mut store, &format!("/1/d{}/{number}", number % 7), "before");
    }
    let event = store.get(b"/1", true, false).unwrap();
    let wanted = whole(&event);
    let mut number = 0;
    let (all, _) = pieces(&event, 1000, || {
        set(&mut store, &format!("/1/d{}/{number}", number % 7), "after");
        let _ =
            store.delete(format!("/1/d{}/{}", (number + 9) % 7, number + 9).as_bytes(), false, false, NOW);
        number += 1;
    });
    assert!(all == wanted && number > 10);
}

#[test]
fn a_piece_is_bounded_however_deep_the_tree_is() {
    let test = || {
        let mut store = Store::new(10);
        let path = format!("/1{}", "/d".repeat(3_000));
        set(&mut store, &path, "deep");
        let event = store.get(b"/1", true, false).unwrap();
        let wanted = whole(&event);
        assert!(wanted.len() > 3_000 * 3_000);
        let (all, longest) = pieces(&event, 20_000, || {});
        assert!(all == wanted);
        // One node more than a piece, and its path.
        assert!(longest < 20_000 + 2 * path.len() + 1000, "{longest}");
    };
    std::thread::Builder::new().stack_size(128 * 1024).spawn(test).unwrap().join().unwrap();
}
