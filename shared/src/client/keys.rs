//! The keys: read, write, delete.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::{ApiFailure, ClientError};
use super::request::{FORM, Request};
use super::text::{Form, canonical_path};
use super::{Client, Reply};

/// How to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct GetOptions {
    /// With everything below.
    pub recursive: bool,
    /// Each folder in the order of its keys.
    pub sorted: bool,
    /// Through a quorum read, not from the state of one member.
    pub quorum: bool,
}

/// How to write.
#[derive(Debug, Clone, Default)]
pub struct SetOptions {
    /// Only if this is the value now; empty: whatever it is.
    pub prev_value: Vec<u8>,
    /// Only if this is the modified index now; 0: whatever it is.
    pub prev_index: u64,
    /// Only if the key is there (or is not).
    pub prev_exist: Option<bool>,
    /// Seconds to live; 0: for ever.
    pub ttl_seconds: u64,
    /// Makes a directory instead of a key.
    pub dir: bool,
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Only if this is the value now; empty: whatever it is.
    pub prev_value: Vec<u8>,
    /// Only if this is the modified index now; 0: whatever it is.
    pub prev_index: u64,
    /// Also an empty folder.
    pub dir: bool,
    /// Also what is below.
    pub recursive: bool,
}

/// An answer of the keys API: the action and its node.
///
/// Serialized, it is the `-o json` of the original, with its order of fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// `get`, `set`, `create`, `delete`, `expire` …
    #[serde(default)]
    pub action: String,
    /// The node, as it is after the action.
    pub node: Node,
    /// The node as it was before.
    #[serde(rename = "prevNode", default)]
    pub prev_node: Option<Node>,
    /// The store's index at the time of the answer; for a watch, when it began.
    #[serde(skip)]
    pub index: u64,
}

/// A key with its value, or a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// The whole path; empty for the root.
    pub key: String,
    /// Whether it is a folder.
    #[serde(skip_serializing_if = "is_false")]
    pub dir: bool,
    /// The value; of a folder, empty.
    pub value: String,
    /// What is in the folder, as far as it was asked for.
    pub nodes: Option<Vec<Node>>,
    /// The index at which it was created.
    pub created_index: u64,
    /// The index at which it was last changed.
    pub modified_index: u64,
    /// When it will be gone (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// Seconds until then; 0: it stays.
    #[serde(skip_serializing_if = "is_zero")]
    pub ttl: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl Client {
    /// The path of a key in the API.
    pub(super) fn key_path(&self, key: &[u8]) -> Vec<u8> {
        path(&self.keys_below, key)
    }

    /// Reads a key or lists a folder.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the cluster refuses, others when it cannot be asked; so for all calls below.
    pub async fn get(&self, key: &[u8], options: GetOptions) -> Result<Response, ClientError> {
        let mut request = Request::new(Method::GET, self.key_path(key));
        request.query.add("recursive", options.recursive.to_string());
        request.query.add("sorted", options.sorted.to_string());
        request.query.add("quorum", options.quorum.to_string());
        response(self.send(&request).await?)
    }

    /// Sets a key or makes a folder.
    pub async fn set(&self, key: &[u8], value: &[u8], options: SetOptions) -> Result<Response, ClientError> {
        let mut query = Form::default();
        let mut form = Form::default();
        if options.dir {
            query.add("dir", "true");
        } else {
            if !options.prev_value.is_empty() {
                query.add("prevValue", options.prev_value);
            }
            form.add("value", value);
        }
        if options.prev_index != 0 {
            query.add("prevIndex", options.prev_index.to_string());
        }
        if let Some(exist) = options.prev_exist {
            query.add("prevExist", exist.to_string());
        }
        if options.ttl_seconds != 0 {
            form.add("ttl", options.ttl_seconds.to_string());
        }
        let mut request = Request::new(Method::PUT, self.key_path(key)).with_body(FORM, form.encode());
        request.query = query;
        response(self.send(&request).await?)
    }

    /// Makes a key in a folder; its name is the index, so that names are in the order of creation.
    pub async fn create_in_order(
        &self,
        dir: &[u8],
        value: &[u8],
        ttl_seconds: u64,
    ) -> Result<Response, ClientError> {
        let mut form = Form::default();
        form.add("value", value);
        if ttl_seconds != 0 {
            form.add("ttl", ttl_seconds.to_string());
        }
        let request = Request::new(Method::POST, self.key_path(dir)).with_body(FORM, form.encode());
        response(self.send(&request).await?)
    }

    /// Deletes a key or a folder.
    pub async fn delete(&self, key: &[u8], options: DeleteOptions) -> Result<Response, ClientError> {
        let mut request = Request::new(Method::DELETE, self.key_path(key));
        request.content_type = Some(FORM);
        if !options.prev_value.is_empty() {
            request.query.add("prevValue", options.prev_value);
        }
        if options.prev_index != 0 {
            request.query.add("prevIndex", options.prev_index.to_string());
        }
        if options.dir {
            request.query.add("dir", "true");
        }
        if options.recursive {
            request.query.add("recursive", "true");
        }
        response(self.send(&request).await?)
    }
}

/// Where the keys are on a member.
pub(super) const KEYS: &str = "/v2/keys";

/// The path of a key below another path, which the key cannot leave. A key may lack its first slash.
pub(super) fn path(below: &str, key: &[u8]) -> Vec<u8> {
    let mut path = canonical_path(below.as_bytes());
    if path.ends_with(b"/") {
        path.pop();
    }
    if !key.is_empty() {
        path.extend_from_slice(&canonical_path(key));
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

fn response(reply: Reply) -> Result<Response, ClientError> {
    read_response(reply.status, &reply.headers, &reply.body)
}

/// Decodes an answer of the keys API.
pub(super) fn read_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ClientError> {
    if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
        let failure: ApiFailure = serde_json::from_slice(body).map_err(|_| ClientError::InvalidJson)?;
        return Err(failure.into());
    }
    if body.is_empty() {
        return Err(ClientError::EmptyBody);
    }
    let mut response: Response = serde_json::from_slice(body).map_err(|_| ClientError::InvalidJson)?;
    response.index = etcd_index(headers).unwrap_or(0);
    Ok(response)
}

/// The store's index in the headers of an answer.
pub(super) fn etcd_index(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-etcd-index")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &'static str) -> Result<Response, ClientError> {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-etcd-index"),
            http::HeaderValue::from_static("7"),
        )]);
        read_response(StatusCode::from_u16(status).unwrap(), &headers, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_key_becomes_a_path() {
        for (key, expected) in [
            ("a", "/v2/keys/a"),
            ("/a/", "/v2/keys/a/"),
            ("", "/v2/keys"),
            ("/", "/v2/keys/"),
            ("/a/../b", "/v2/keys/b"),
            ("../auth/enable", "/v2/keys/auth/enable"),
            ("/../../v2/members", "/v2/keys/v2/members"),
        ] {
            assert_eq!(String::from_utf8(path(KEYS, key.as_bytes())).unwrap(), expected, "{key}");
        }
        assert_eq!(path(KEYS, b"//a//\xff"), b"/v2/keys/a/\xff");
        assert_eq!(path("", b"/token/_config"), b"/token/_config");
        assert_eq!(path("", b""), b"/");
    }

    #[test]
    fn answers_are_read_and_written_as_the_original_does() {
        let response = read(
            200,
            r#"{"action":"get","node":{"key":"/d","dir":true,"nodes":[{"key":"/d/k","value":"v","expiration":"2026-11-21T10:00:00.5Z","ttl":9,"modifiedIndex":5,"createdIndex":4}],"modifiedIndex":3,"createdIndex":3}}"#,
        )
        .unwrap();
        assert_eq!(response.index, 7);
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            r#"{"action":"get","node":{"key":"/d","dir":true,"value":"","nodes":[{"key":"/d/k","value":"v","nodes":null,"createdIndex":4,"modifiedIndex":5,"expiration":"2026-11-21T10:00:00.5Z","ttl":9}],"createdIndex":3,"modifiedIndex":3},"prevNode":null}"#
        );
    }

    #[test]
    fn odd_answers_have_errors_of_their_own() {
        assert!(matches!(read(200, ""), Err(ClientError::EmptyBody)));
        assert!(matches!(read(200, "hello"), Err(ClientError::InvalidJson)));
        assert!(matches!(read(200, "{}"), Err(ClientError::InvalidJson)));
        assert!(matches!(read(404, "404 page not found"), Err(ClientError::InvalidJson)));
        let error = read(412, r#"{"errorCode":101,"message":"Compare failed","cause":"[x != y]","index":8}"#);
        assert_eq!(error.unwrap_err().to_string(), "101: Compare failed ([x != y]) [8]");
    }
}
