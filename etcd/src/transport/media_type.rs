//! The `Content-Type` of a request: whether its body is a form.
//!
//! Go's server parses the header strictly, so a malformed one refuses even a request that needs none.

/// The content type of a form.
pub(crate) const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Whether a body of this content type is JSON. The charset does not matter: JSON is UTF-8.
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let (base, params) = content_type.split_at(end);
    base.trim_ascii().eq_ignore_ascii_case(b"application/json") && check_params(params).is_ok()
}

/// Whether a body of this content type is a form. For a malformed header, the text of the error.
pub(crate) fn is_form(content_type: &[u8]) -> Result<bool, &'static str> {
    if content_type == FORM {
        return Ok(true);
    }
    if content_type.is_empty() {
        return Ok(false);
    }
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let (base, params) = content_type.split_at(end);
    let base = base.trim_ascii();
    check_base(base)?;
    check_params(params)?;
    Ok(base.eq_ignore_ascii_case(FORM))
}

fn check_base(base: &[u8]) -> Result<(), &'static str> {
    let (kind, rest) = split_token(base);
    if kind.is_empty() {
        return Err("mime: no media type");
    }
    let Some((slash, rest)) = rest.split_first() else { return Ok(()) };
    if *slash != b'/' {
        return Err("mime: expected slash after first token");
    }
    let (subtype, rest) = split_token(rest);
    match (subtype.is_empty(), rest.is_empty()) {
        (true, _) => Err("mime: expected token after slash"),
        (false, false) => Err("mime: unexpected content after media subtype"),
        (false, true) => Ok(()),
    }
}

fn check_params(mut rest: &[u8]) -> Result<(), &'static str> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        let Some((name, after)) = split_param(rest) else {
            // A single semicolon at the end is allowed.
            return if rest.trim_ascii() == b";" { Ok(()) } else { Err("mime: invalid media parameter") };
        };
        let name = name.to_ascii_lowercase();
        if names.contains(&name) {
            return Err("mime: duplicate parameter name");
        }
        names.push(name);
        rest = after;
    }
}

/// The name of the first parameter in `text`, and the text after its value.
fn split_param(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = split_token(text.strip_prefix(b";")?.trim_ascii_start());
    if name.is_empty() {
        return None;
    }
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let after = match value.strip_prefix(b"\"") {
        Some(quoted) => skip_quoted(quoted)?,
        None => match split_token(value) {
            ([], _) => return None,
            (_, after) => after,
        },
    };
    Some((name, after))
}

/// The text after a quoted string whose opening quote has been removed.
fn skip_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        let (byte, after) = text.split_first()?;
        text = match byte {
            b'"' => return Some(after),
            b'\r' | b'\n' => return None,
            b'\\' if after.first().is_some_and(|next| is_special(*next)) => &after[1..],
            _ => after,
        };
    }
}

fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    text.split_at(end)
}

fn is_token(byte: u8) -> bool {
    (0x21..0x7f).contains(&byte) && !is_special(byte)
}

fn is_special(byte: u8) -> bool {
    b"()<>@,;:\\\"/[]?=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_forms_from_other_bodies() {
        for form in [
            "application/x-www-form-urlencoded",
            "APPLICATION/X-WWW-FORM-URLENCODED",
            "application/x-www-form-urlencoded; charset=utf-8",
            " application/x-www-form-urlencoded ;",
            "application/x-www-form-urlencoded; a=\"x\\\"y\"; b=c;",
        ] {
            assert_eq!(is_form(form.as_bytes()), Ok(true), "{form}");
        }
        for other in ["", "text/plain", "application/json", "text", "multipart/form-data; boundary=X"] {
            assert_eq!(is_form(other.as_bytes()), Ok(false), "{other}");
        }
    }

    #[test]
    fn tells_json_from_other_bodies() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            " application/json ;charset=\"UTF-8\";",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in
            ["", "text/plain", "application/jsonp", "application/json-seq", "application/json; ;x", "json"]
        {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, wanted) in [
            ("application/x-www-form-urlencoded; ;x", "mime: invalid media parameter"),
            ("text/plain; a", "mime: invalid media parameter"),
            ("text/plain; a=", "mime: invalid media parameter"),
            ("text/plain; a=\"b", "mime: invalid media parameter"),
            ("text/plain; a=b; A=b", "mime: duplicate parameter name"),
            (";", "mime: no media type"),
            ("text plain", "mime: expected slash after first token"),
            ("text/", "mime: expected token after slash"),
            ("text/plain x", "mime: unexpected content after media subtype"),
        ] {
            assert_eq!(is_form(text.as_bytes()), Err(wanted), "{text}");
        }
    }
}
