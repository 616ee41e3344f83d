//! A server with authentication switched on, and requests by its users.

use std::time::Duration;

use tempfile::TempDir;

use crate::http::{Request, Response};
use crate::server::Server;
use crate::{Check, fail, files};

/// What one answer may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// `wonder`, hashed by Go.
pub const WONDER: &str = "$2a$10$HD7Nhmkhvrsn5arHARu3ju8nYZ8mH9sj2is9kNHP2fhjTDy6AVj2i";

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = (group >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { char::from(ALPHABET[at as usize]) } else { '=' });
        }
    }
    out
}

/// A request of a user, `NAME:PASSWORD`; of a guest if that is empty.
pub fn by(who: &str, method: &str, target: &str) -> Request {
    let mut request = Request::new(method, target);
    if !who.is_empty() {
        let value = format!("Basic {}", base64(who.as_bytes()));
        request.headers.push(("Authorization".to_owned(), value));
    }
    request
}

/// The answer to a request with this body.
///
/// # Errors
/// As [`Server::send`].
pub fn ask(member: &Server, who: &str, method: &str, target: &str, body: &str) -> Check<Response> {
    let mut request = by(who, method, target);
    request.body = body.as_bytes().to_vec();
    member.send(&request)
}

/// Changes a user, a role or the switch.
///
/// # Errors
/// As [`ask`], and an answer that refuses it.
pub fn change(member: &Server, who: &str, page: &str, body: &str) -> Check {
    let response = ask(member, who, "PUT", &format!("/v2/auth/{page}"), body)?;
    if !matches!(response.status, 200 | 201) {
        fail!("{page} {body}: {} {}", response.status, response.text());
    }
    Ok(())
}

/// Sets a key.
pub fn put(who: &str, key: &str, value: &str) -> Request {
    by(who, "PUT", &format!("/v2/keys{key}")).form(&[("value", value)])
}

/// The status of a read of a key.
///
/// # Errors
/// As [`Server::send`].
pub fn read_status(member: &Server, who: &str, key: &str) -> Check<u16> {
    Ok(member.send(&by(who, "GET", &format!("/v2/keys{key}")))?.status)
}

/// A member with the users `root` and `ann`, whose role may read and write `/pub/*`, guests that may do the same, and
/// authentication switched on.
///
/// # Errors
/// When it does not start, or refuses any of that.
pub fn guarded(name: &str) -> Check<(TempDir, Server)> {
    let folder = files::scratch(name)?;
    let member = Server::new(folder.path(), "m")?.started()?;
    member.set("/secret", "s")?;
    change(&member, "", "users/root", r#"{"user":"root","password":"rootpw"}"#)?;
    let pub_only = r#""permissions":{"kv":{"read":["/pub/*"],"write":["/pub/*"]}}"#;
    for role in ["pub", "guest"] {
        change(&member, "", &format!("roles/{role}"), &format!(r#"{{"role":"{role}",{pub_only}}}"#))?;
    }
    change(&member, "", "users/ann", r#"{"user":"ann","password":"annpw","roles":["pub"]}"#)?;
    change(&member, "", "enable", "")?;
    Ok((folder, member))
}
