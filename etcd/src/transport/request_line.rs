//! The request line, before the HTTP library sees it.
//!
//! Go's server accepts targets with quotes, angle brackets, raw bytes and `#`, which is a normal character of a key.
//! The library refuses those bytes and ignores everything after a `#`. So they are escaped here, which does not
//! change the meaning. The library also answers an unsupported version of HTTP with 400 instead of 505.

/// What to do with a request line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RequestLine {
    /// Pass it on unchanged. If it is malformed, the library says so.
    Fine,
    /// It is incomplete.
    Partial,
    /// Replace the first `consumed` bytes by this line, which includes a newline.
    Rewritten { line: Vec<u8>, consumed: usize },
    /// The version of HTTP is not supported.
    VersionUnknown,
}

/// Checks the line at the beginning of `bytes`.
pub(crate) fn check(bytes: &[u8]) -> RequestLine {
    let Some(newline) = memchr::memchr(b'\n', bytes) else { return RequestLine::Partial };
    let line = bytes[..newline].strip_suffix(b"\r").unwrap_or(&bytes[..newline]);
    let Some(method_end) = memchr::memchr(b' ', line) else { return RequestLine::Fine };
    let Some(version_at) = memchr::memrchr(b' ', line).filter(|at| *at > method_end) else {
        return RequestLine::Fine;
    };
    let target = &line[method_end + 1..version_at];
    let version = match &line[version_at + 1..] {
        known @ (b"HTTP/1.1" | b"HTTP/1.0") => known,
        // A later minor version follows the rules of 1.1.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => b"HTTP/1.1",
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return RequestLine::VersionUnknown,
        _ => return RequestLine::Fine,
    };
    let plain = target.iter().all(|byte| CLASSES[usize::from(*byte)] == Class::Plain);
    if plain && line.ends_with(version) {
        return RequestLine::Fine;
    }
    let mut rewritten = Vec::with_capacity(line.len() + 32);
    rewritten.extend_from_slice(&line[..=method_end]);
    for byte in target {
        match CLASSES[usize::from(*byte)] {
            Class::Plain => rewritten.push(*byte),
            Class::Escaped => rewritten.extend_from_slice(&escaped(*byte)),
            Class::Forbidden => return RequestLine::Fine,
        }
    }
    rewritten.push(b' ');
    rewritten.extend_from_slice(version);
    rewritten.extend_from_slice(b"\r\n");
    RequestLine::Rewritten { line: rewritten, consumed: newline + 1 }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The library accepts it and keeps its meaning.
    Plain,
    /// The library would refuse or misread it.
    Escaped,
    /// Blanks and control characters: every server refuses them.
    Forbidden,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Escaped; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte {
            0..=0x20 | 0x7f => Class::Forbidden,
            0x22 | 0x23 | 0x3c | 0x3e | 0x60 | 0x7b | 0x7d | 0x80.. => Class::Escaped,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

fn escaped(byte: u8) -> [u8; 3] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(bytes: &[u8]) -> (String, usize) {
        match check(bytes) {
            RequestLine::Rewritten { line, consumed } => (String::from_utf8(line).unwrap(), consumed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_lines_are_left_alone() {
        for line in [
            "GET /v2/keys/a?wait=true&x=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /v2/keys/a HTTP/1.0\n\n",
            "GET http://h/v2/keys/ HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "GARBAGE\r\n",
            "GET /\r\n",
            "GET  /a HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET /a\x7f HTTP/1.1\r\n",
            "GET / HTTP/1.x\r\n",
            "\r\n",
        ] {
            assert_eq!(check(line.as_bytes()), RequestLine::Fine, "{line:?}");
        }
        assert_eq!(check(b""), RequestLine::Partial);
        assert_eq!(check(b"GET /v2/keys/a#b HTT"), RequestLine::Partial);
    }

    #[test]
    fn what_the_library_refuses_is_escaped() {
        let (line, consumed) = rewritten("PUT /é#f\"`{}?a=<x>&b=\\^| HTTP/1.1\r\nHost: x\r\n\r\n".as_bytes());
        assert_eq!(line, "PUT /%c3%a9%23f%22%60%7b%7d?a=%3cx%3e&b=\\^| HTTP/1.1\r\n");
        assert_eq!(consumed, "PUT /é#f\"`{}?a=<x>&b=\\^| HTTP/1.1\r\n".len());
        assert_eq!(rewritten(b"GET /\xff HTTP/1.0\n").0, "GET /%ff HTTP/1.0\r\n");
        // A rewritten line needs no change.
        assert_eq!(check(line.as_bytes()), RequestLine::Fine);
    }

    #[test]
    fn versions() {
        assert_eq!(rewritten(b"GET / HTTP/1.2\r\n").0, "GET / HTTP/1.1\r\n");
        for version in ["HTTP/9.9", "HTTP/0.9", "HTTP/2.0"] {
            let line = format!("GET / {version}\r\n");
            assert_eq!(check(line.as_bytes()), RequestLine::VersionUnknown, "{version}");
        }
    }
}
