//! Peer lists in the format of `-peers` and `-peers-file`: addresses or URLs, one of them with a user.

use percent_encoding::percent_decode_str;
use shared::client::Credentials;

/// The peers that a joining member asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PeerList {
    /// The peers' URLs, without users.
    pub urls: Vec<String>,
    /// The credentials for the membership change: the first user in the list.
    pub credentials: Option<Credentials>,
}

impl PeerList {
    /// Parses a list separated by commas or line ends; `scheme` is the default scheme.
    pub fn read(text: &str, scheme: &str) -> PeerList {
        let mut list = PeerList::default();
        for item in text.split([',', '\n', '\r']).map(str::trim).filter(|item| !item.is_empty()) {
            let (scheme, rest) = item.split_once("://").unwrap_or((scheme, item));
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let address = match authority.rsplit_once('@') {
                Some((user, address)) => {
                    list.credentials.get_or_insert_with(|| credentials(user));
                    address
                }
                None => authority,
            };
            list.urls.push(format!("{scheme}://{address}{path}"));
        }
        list
    }
}

/// The list for log lines: without users.
pub(super) fn without_users(text: &str) -> String {
    PeerList::read(text, "http").urls.join(",")
}

/// Parses `user:password` with percent-escapes.
fn credentials(text: &str) -> Credentials {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Credentials { user: decoded(user), password: decoded(password) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_user_is_taken_out_of_the_urls() {
        let list = PeerList::read("a:1, http://root:p%40s@b:2/,\nhttps://other:x@c:3\r\n,", "https");
        assert_eq!(list.urls, ["https://a:1", "http://b:2/", "https://c:3"]);
        assert!(list.credentials == credentials("root", "p@s"));
        let list = PeerList::read("root@a:1", "http");
        assert_eq!(list.urls, ["http://a:1"]);
        assert!(list.credentials == credentials("root", ""));
        assert!(PeerList::read(" ,\n", "http") == PeerList::default());
    }
}
