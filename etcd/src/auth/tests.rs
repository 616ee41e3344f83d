//! Users and roles before a member without a log: what stands in its store, and who may do what then.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use shared::time::UnixNanos;

use super::{Access, Accounts, Auth, AuthError, Role, User, UserChange, is_root, may};
use crate::http::Backend;
use crate::http::stand_in::StandIn;

struct Place {
    auth: Auth,
    backend: StandIn,
}

impl Place {
    fn new() -> Place {
        let clock = || UnixNanos(1_795_258_886_000_000_000);
        Place { auth: Auth::default(), backend: StandIn::new("m", "http://peer:1", "http://client:1", clock) }
    }

    /// With users `root` and `ann`, whose role may read `/app/*` and write `/app/w/*`, and auth on.
    async fn ready() -> Place {
        let place = Place::new();
        place.put_user(r#"{"user":"root","password":"rootpw"}"#).await.unwrap();
        place
            .put_role(r#"{"role":"app","permissions":{"kv":{"read":["/app/*"],"write":["/app/w/*"]}}}"#)
            .await;
        place.put_user(r#"{"user":"ann","password":"annpw"}"#).await.unwrap();
        place.change_user(r#"{"user":"ann","grant":["gone","app"]}"#).await.unwrap();
        place.accounts().enable().await.unwrap();
        place
    }

    fn accounts(&self) -> Accounts<'_, StandIn> {
        Accounts::new(&self.auth, &self.backend)
    }

    async fn put_user(&self, json: &str) -> Result<UserChange, AuthError> {
        self.accounts().create_or_update_user(User::from_body(json.as_bytes()).unwrap()).await
    }

    async fn change_user(&self, json: &str) -> Result<User, AuthError> {
        self.accounts().update_user(User::from_body(json.as_bytes()).unwrap()).await
    }

    async fn put_role(&self, json: &str) {
        self.accounts().create_role(&Role::from_body(json.as_bytes()).unwrap()).await.unwrap();
    }

    async fn change_role(&self, json: &str) -> Result<Role, AuthError> {
        self.accounts().update_role(&Role::from_body(json.as_bytes()).unwrap()).await
    }

    fn value(&self, path: &str) -> Option<String> {
        let store = self.backend.store();
        store.peek(path.as_bytes()).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    async fn may(&self, who: &str, how: &str, key: &str) -> bool {
        let access = Access {
            key: key.as_bytes(),
            writes: how.contains("write"),
            recursive: how.contains("recursive"),
        };
        may(&self.accounts(), header(who).as_ref(), access).await
    }

    async fn is_root(&self, who: &str) -> bool {
        is_root(&self.accounts(), header(who).as_ref(), "a test").await
    }
}

/// The header of `USER:PASSWORD`, none for nobody.
fn header(who: &str) -> Option<HeaderValue> {
    let value = format!("Basic {}", STANDARD.encode(who));
    (!who.is_empty()).then(|| HeaderValue::from_str(&value).unwrap())
}

#[tokio::test]
async fn the_store_holds_what_the_original_keeps() {
    let place = Place::new();
    let before = place.backend.store().index();
    place.put_user(r#"{"user":"root","password":"rootpw"}"#).await.unwrap();
    assert_eq!(place.backend.store().index(), before + 5, "three directories, the switch and the user");
    assert_eq!(place.value("/2/enabled").as_deref(), Some("false"));
    let root = place.value("/2/users/root").unwrap();
    assert!(root.starts_with(r#"{"user":"root","password":"$2a$10$"#), "{root}");
    assert!(root.ends_with(r#"","roles":["root"]}"#), "{root}");
    place.accounts().enable().await.unwrap();
    assert_eq!(place.value("/2/enabled").as_deref(), Some("true"));
    let guest = r#"{"role":"guest","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    assert_eq!(place.value("/2/roles/guest").as_deref(), Some(guest));
    assert_eq!(place.value("/2/roles/root"), None);
    assert_eq!(place.backend.store().index(), before + 7);
    assert_eq!(place.accounts().roles().unwrap(), ["guest", "root"]);
    assert_eq!(place.accounts().users().unwrap(), ["root"]);
}

#[tokio::test]
async fn users_may_what_one_of_their_roles_allows() {
    let place = Place::ready().await;
    for (how, key, wanted) in [
        ("read", "/app/x", true),
        ("read recursive", "/app/", true),
        ("read", "/app", false),
        ("write", "/app/x", false),
        ("write", "/app/w/x", true),
        ("write recursive", "/app/w/", true),
        ("read", "/other", false),
    ] {
        assert_eq!(place.may("ann:annpw", how, key).await, wanted, "{how} {key}");
        assert!(place.may("root:rootpw", how, key).await, "{how} {key}");
        assert!(!place.may("ann:wrong", how, key).await, "{how} {key}");
        assert!(!place.may("nobody:annpw", how, key).await, "{how} {key}");
    }
    assert!(place.may("root:rootpw", "write recursive", "").await);
}

#[tokio::test]
async fn guests_may_what_their_role_allows_and_need_no_star_for_recursion() {
    let place = Place::ready().await;
    assert!(place.may("", "write", "/other").await && place.may("", "read recursive", "/").await);
    assert!(!place.may("", "read", "").await, "the root without its slash is not below it");
    let narrow =
        r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":["/one"]}}}"#;
    place.change_role(narrow).await.unwrap();
    assert!(place.may("", "read", "/one").await && place.may("", "read recursive", "/one").await);
    assert!(!place.may("", "write", "/one").await && !place.may("", "read", "/two").await);
    place.accounts().delete_role("guest").await.unwrap();
    assert!(!place.may("", "read", "/one").await);
    let empty = HeaderValue::from_static("");
    let access = Access { key: b"/one", writes: false, recursive: false };
    assert!(!may(&place.accounts(), Some(&empty), access).await, "an empty header is a guest's");
    assert!(!may(&place.accounts(), Some(&HeaderValue::from_static("Bearer x")), access).await);
}

#[tokio::test]
async fn what_is_changed_counts_at_once() {
    let place = Place::ready().await;
    assert!(place.may("ann:annpw", "read", "/app/x").await);
    place.put_user(r#"{"user":"ann","password":"new"}"#).await.unwrap();
    assert!(!place.may("ann:annpw", "read", "/app/x").await, "the old password fitted a moment ago");
    assert!(place.may("ann:new", "read", "/app/x").await);
    place.change_role(r#"{"role":"app","revoke":{"kv":{"read":["/app/*"]}}}"#).await.unwrap();
    assert!(!place.may("ann:new", "read", "/app/x").await);
    assert!(!place.is_root("ann:new").await);
    place.change_user(r#"{"user":"ann","grant":["root"]}"#).await.unwrap();
    assert!(place.is_root("ann:new").await && place.may("ann:new", "write", "/x").await);
    place.accounts().delete_user("ann").await.unwrap();
    assert!(!place.is_root("ann:new").await && !place.may("ann:new", "read", "/app/x").await);
    place.accounts().disable().await.unwrap();
    assert!(place.is_root("").await, "while auth is off everybody is");
}

#[tokio::test]
async fn names_cannot_lead_elsewhere() {
    let place = Place::ready().await;
    for who in [":", ":rootpw", "../enabled:true", "../roles/app:", "..:x", "/:x", "users:x"] {
        assert!(!place.is_root(who).await && !place.may(who, "read", "/app/x").await, "{who}");
    }
    place.change_user(r#"{"user":"ann","grant":["","..","../users/root"]}"#).await.unwrap();
    assert!(!place.may("ann:annpw", "read", "/other").await);
}

#[tokio::test]
async fn refusals_say_why() {
    let place = Place::new();
    let why = |result: Result<(), AuthError>| result.unwrap_err().to_string();
    let accounts = place.accounts();
    assert_eq!(why(accounts.disable().await), "auth: already disabled");
    assert_eq!(why(accounts.enable().await), "auth: No root user available, please create one");
    let place = Place::ready().await;
    let accounts = place.accounts();
    assert_eq!(why(accounts.enable().await), "auth: already enabled");
    assert_eq!(
        why(accounts.delete_user("root").await),
        "auth: Cannot delete root user while auth is enabled."
    );
    assert_eq!(why(accounts.delete_role("root").await), "auth: Cannot modify role root: is root role.");
    assert_eq!(why(accounts.delete_role("none").await), "auth: Role none doesn't exist.");
    let unchanged = place.change_role(r#"{"role":"app","revoke":{"kv":{"read":["/z"]}}}"#).await;
    assert_eq!(
        unchanged.unwrap_err().to_string(),
        "auth: Role not updated. Use grant/revoke to update the role."
    );
    let unchanged = place.change_user(r#"{"user":"ann","grant":["x"],"revoke":["x"]}"#).await;
    assert!(unchanged.unwrap_err().to_string().starts_with("auth: User not updated."));
}
