//! Users and roles with a member that has no log: the records in its store, and the access that they give.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use shared::account::{RoleName, UserName};
use shared::time::UnixNanos;
use shared::v2;

use super::{
    Access, Accounts, Auth, AuthError, Authorized, Caller, Denied, RecordError, Restricted, Role, User,
    UserChange, admit, admit_root, check_access,
};
use crate::backend::stand_in::StandIn;
use crate::backend::{AuthSwitch, Backend};

struct TestMember {
    auth: Auth,
    backend: StandIn,
}

impl TestMember {
    fn new() -> TestMember {
        let clock = || UnixNanos(1_795_258_886_000_000_000);
        TestMember {
            auth: Auth::default(),
            backend: StandIn::new("m", "http://peer:1", "http://client:1", clock),
        }
    }

    /// A member with auth on and the users `root` and `ann`; ann's role may read `/app/*` and write `/app/w/*`.
    async fn ready() -> TestMember {
        let member = TestMember::new();
        member.put_user(r#"{"user":"root","password":"rootpw"}"#).await.unwrap();
        member
            .put_role(r#"{"role":"app","permissions":{"kv":{"read":["/app/*"],"write":["/app/w/*"]}}}"#)
            .await;
        member.put_user(r#"{"user":"ann","password":"annpw"}"#).await.unwrap();
        member.change_user(r#"{"user":"ann","grant":["gone","app"]}"#).await.unwrap();
        member.accounts().enable().await.unwrap();
        member
    }

    fn accounts(&self) -> Accounts<'_, StandIn> {
        Accounts::new(&self.auth, &self.backend, Caller::default())
    }

    /// The accounts for a caller with this `Authorization` header.
    fn of<'a>(&'a self, authorization: Option<&'a HeaderValue>) -> Accounts<'a, StandIn> {
        Accounts::new(&self.auth, &self.backend, Caller { authorization, ..Caller::default() })
    }

    async fn put_user(&self, json: &str) -> Result<UserChange, AuthError> {
        self.accounts().create_or_update_user(user(json)).await
    }

    async fn change_user(&self, json: &str) -> Result<User, AuthError> {
        self.accounts().update_user(user(json)).await
    }

    async fn put_role(&self, json: &str) {
        self.accounts().create_role(&role(json)).await.unwrap();
    }

    async fn change_role(&self, json: &str) -> Result<Role, AuthError> {
        self.accounts().update_role(&role(json)).await
    }

    /// Writes a raw record into the store.
    fn write(&self, path: &str, value: &str) {
        let (path, val) = (path.to_owned().into(), value.to_owned().into());
        let request = v2::Request { verb: v2::Verb::Put, path, val, ..v2::Request::default() };
        self.backend.apply(&request).unwrap();
    }

    fn value(&self, path: &str) -> Option<String> {
        let store = self.backend.store();
        store.peek(path.as_bytes()).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    async fn check_access(&self, who: &str, how: &str, key: &str) -> bool {
        let access = Access {
            key: key.as_bytes(),
            writes: how.contains("write"),
            recursive: how.contains("recursive"),
        };
        let header = header(who);
        admit(&self.of(header.as_ref()), TestRequest(access)).await.is_ok()
    }

    async fn is_root(&self, who: &str) -> bool {
        let header = header(who);
        admit_root(&self.of(header.as_ref()), "a test", ()).await.is_ok()
    }
}

/// A request that needs one access.
#[derive(Debug)]
struct TestRequest<'a>(Access<'a>);

impl Restricted for TestRequest<'_> {
    fn access(&self) -> Access<'_> {
        self.0
    }
}

#[test]
fn without_a_look_at_rights_a_request_passes_only_while_auth_is_off() {
    for switch in [AuthSwitch::Never, AuthSwitch::Off] {
        assert_eq!(Authorized::while_off(switch, 7).map(Authorized::into_inner), Ok(7));
    }
    assert_eq!(Authorized::while_off(AuthSwitch::On, 7).map(Authorized::into_inner), Err(7));
}

fn own_name(json: &str, member: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value[member].as_str().unwrap().to_owned()
}

/// The user in a body.
fn user(json: &str) -> User {
    User::from_body(&user_name(&own_name(json, "user")), json.as_bytes()).unwrap()
}

/// The role in a body.
fn role(json: &str) -> Role {
    Role::from_body(&role_name(&own_name(json, "role")), json.as_bytes()).unwrap()
}

fn user_name(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

fn role_name(text: &str) -> RoleName {
    RoleName::new(text).unwrap()
}

/// The header for `USER:PASSWORD`; `None` for an empty text.
fn header(who: &str) -> Option<HeaderValue> {
    let value = format!("Basic {}", STANDARD.encode(who));
    (!who.is_empty()).then(|| HeaderValue::from_str(&value).unwrap())
}

#[tokio::test]
async fn the_store_holds_what_the_original_keeps() {
    let member = TestMember::new();
    let before = member.backend.store().index();
    member.put_user(r#"{"user":"root","password":"rootpw"}"#).await.unwrap();
    assert_eq!(member.backend.store().index(), before + 5, "three directories, the switch and the user");
    assert_eq!(member.value("/2/enabled").as_deref(), Some("false"));
    let root = member.value("/2/users/root").unwrap();
    assert!(root.starts_with(r#"{"user":"root","password":"$2a$10$"#), "{root}");
    assert!(root.ends_with(r#"","roles":["root"]}"#), "{root}");
    member.accounts().enable().await.unwrap();
    assert_eq!(member.value("/2/enabled").as_deref(), Some("true"));
    let guest = r#"{"role":"guest","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    assert_eq!(member.value("/2/roles/guest").as_deref(), Some(guest));
    assert_eq!(member.value("/2/roles/root"), None);
    assert_eq!(member.backend.store().index(), before + 7);
    assert_eq!(member.accounts().roles().unwrap(), ["guest", "root"].map(role_name));
    assert_eq!(member.accounts().users().unwrap(), [UserName::root()]);
}

#[tokio::test]
async fn users_may_what_one_of_their_roles_allows() {
    let member = TestMember::ready().await;
    for (how, key, wanted) in [
        ("read", "/app/x", true),
        ("read recursive", "/app/", true),
        ("read", "/app", false),
        ("write", "/app/x", false),
        ("write", "/app/w/x", true),
        ("write recursive", "/app/w/", true),
        ("read", "/other", false),
    ] {
        assert_eq!(member.check_access("ann:annpw", how, key).await, wanted, "{how} {key}");
        assert!(member.check_access("root:rootpw", how, key).await, "{how} {key}");
        assert!(!member.check_access("ann:wrong", how, key).await, "{how} {key}");
        assert!(!member.check_access("nobody:annpw", how, key).await, "{how} {key}");
    }
    assert!(member.check_access("root:rootpw", "write recursive", "").await);
}

#[tokio::test]
async fn guests_may_what_their_role_allows_and_need_no_star_for_recursion() {
    let member = TestMember::ready().await;
    assert!(
        member.check_access("", "write", "/other").await
            && member.check_access("", "read recursive", "/").await
    );
    assert!(!member.check_access("", "read", "").await, "the root without its slash is not below it");
    let narrow =
        r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":["/one"]}}}"#;
    member.change_role(narrow).await.unwrap();
    assert!(
        member.check_access("", "read", "/one").await
            && member.check_access("", "read recursive", "/one").await
    );
    assert!(
        !member.check_access("", "write", "/one").await && !member.check_access("", "read", "/two").await
    );
    member.accounts().delete_role(&role_name("guest")).await.unwrap();
    assert!(!member.check_access("", "read", "/one").await);
    let empty = HeaderValue::from_static("");
    let access = Access { key: b"/one", writes: false, recursive: false };
    assert!(check_access(&member.of(Some(&empty)), access).await.is_err(), "an empty header is a guest's");
    let bearer = HeaderValue::from_static("Bearer x");
    assert_eq!(check_access(&member.of(Some(&bearer)), access).await, Err(Denied::NoRight));
}

#[tokio::test]
async fn what_is_changed_counts_at_once() {
    let member = TestMember::ready().await;
    assert!(member.check_access("ann:annpw", "read", "/app/x").await);
    member.put_user(r#"{"user":"ann","password":"new"}"#).await.unwrap();
    assert!(
        !member.check_access("ann:annpw", "read", "/app/x").await,
        "the old password fitted a moment ago"
    );
    assert!(member.check_access("ann:new", "read", "/app/x").await);
    member.change_role(r#"{"role":"app","revoke":{"kv":{"read":["/app/*"]}}}"#).await.unwrap();
    assert!(!member.check_access("ann:new", "read", "/app/x").await);
    assert!(!member.is_root("ann:new").await);
    member.change_user(r#"{"user":"ann","grant":["root"]}"#).await.unwrap();
    assert!(member.is_root("ann:new").await && member.check_access("ann:new", "write", "/x").await);
    member.accounts().delete_user(&user_name("ann")).await.unwrap();
    assert!(!member.is_root("ann:new").await && !member.check_access("ann:new", "read", "/app/x").await);
    member.accounts().disable().await.unwrap();
    assert!(member.is_root("").await, "while auth is off everybody is");
}

/// The hash of `wonder`, made by Go.
const WONDER: &str = "$2a$10$HD7Nhmkhvrsn5arHARu3ju8nYZ8mH9sj2is9kNHP2fhjTDy6AVj2i";

#[tokio::test]
async fn names_cannot_lead_elsewhere() {
    let member = TestMember::ready().await;
    // Records that clients can write themselves, and records elsewhere in the store.
    let evil = format!(r#"{{"user":"evil","password":"{WONDER}","roles":["root"]}}"#);
    let named = |name: &str| evil.replace(r#""user":"evil""#, &format!(r#""user":"{name}""#));
    let far = "../../1/pub/far";
    member.write("/1/pub/evil", &evil);
    member.write("/1/pub/far", &named(far));
    member.write("/2/users/sub/evil", &evil);
    for who in [
        "../../1/pub/evil:wonder",
        "../../1/pub/far:wonder",
        "..//..//1/pub/evil:wonder",
        "./../../1/pub/evil:wonder",
        "ann/../../../1/pub/evil:wonder",
        "sub/evil:wonder",
        "evil:wonder",
        ":",
        ":rootpw",
        "../enabled:true",
        "../roles/app:",
        "..:x",
        ".:x",
        "/:x",
        "/root:rootpw",
        "root/:rootpw",
        "./root:rootpw",
        "../users/root:rootpw",
        "users:x",
        "sub:x",
    ] {
        assert!(!member.is_root(who).await && !member.check_access(who, "read", "/app/x").await, "{who}");
    }
    // Roles in a record that already exists.
    let grant = r#"{"role":"evil","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    member.write("/1/pub/role", grant);
    let odd = format!(
        r#"{{"user":"odd","password":"{WONDER}","roles":["","..","../users/root","../../1/pub/role","/root"]}}"#
    );
    member.write("/2/users/odd", &odd);
    assert!(
        !member.check_access("odd:wonder", "read", "/other").await && !member.is_root("odd:wonder").await
    );
    // Such a role cannot be granted, but it can be revoked.
    let grant = User::from_body(&user_name("ann"), br#"{"user":"ann","grant":["../../1/pub/role"]}"#);
    assert!(matches!(grant, Err(RecordError::BadRole { .. })));
    member.change_user(r#"{"user":"odd","revoke":["../../1/pub/role",""]}"#).await.unwrap();
}

#[tokio::test]
async fn a_record_counts_under_its_own_name_only() {
    let member = TestMember::ready().await;
    let record = |name: &str| format!(r#"{{"user":"{name}","password":"{WONDER}","roles":["root"]}}"#);
    member.write("/2/users/bob", &record("eve"));
    member.write("/2/users/eve", &record("eve"));
    member.write("/2/users/nil", "null");
    member.write("/2/roles/sly", r#"{"role":"root"}"#);
    assert!(!member.is_root("bob:wonder").await && member.is_root("eve:wonder").await);
    let missing = |name: &str| format!("auth: User {name} does not exist.");
    assert_eq!(member.accounts().user(&user_name("bob")).unwrap_err().to_string(), missing("bob"));
    assert_eq!(member.accounts().user(&user_name("nil")).unwrap_err().to_string(), missing("nil"));
    assert!(member.accounts().role(&role_name("sly")).is_err());
    member.change_user(r#"{"user":"ann","grant":["sly"]}"#).await.unwrap();
    assert!(!member.check_access("ann:annpw", "write", "/other").await);
    // It can be deleted.
    member.accounts().delete_user(&user_name("bob")).await.unwrap();
}

#[tokio::test]
async fn a_stored_hash_that_is_of_no_use_lets_nobody_in() {
    let member = TestMember::ready().await;
    for hash in [&WONDER.replace("$10$", "$31$"), &WONDER.replace("$10$", "$15$"), "wonder", ""] {
        let record = format!(r#"{{"user":"sly","password":"{hash}","roles":["root"]}}"#);
        member.write("/2/users/sly", &record);
        assert!(
            !member.is_root("sly:wonder").await && !member.check_access("sly:wonder", "read", "/app/x").await,
            "{hash}"
        );
        assert!(!member.is_root("sly:").await, "{hash}");
    }
    // A new password repairs it.
    member.put_user(r#"{"user":"sly","password":"new"}"#).await.unwrap();
    assert!(member.is_root("sly:new").await);
}

#[tokio::test]
async fn the_generation_moves_with_what_is_stored() {
    let member = TestMember::ready().await;
    let seen = member.backend.auth_generation().get();
    member.write("/1/pub/x", "v");
    assert_eq!(member.backend.auth_generation().get(), seen);
    let waits = member.backend.auth_generation().wait(seen);
    let (first, ()) = tokio::join!(waits, async {
        member.change_user(r#"{"user":"ann","revoke":["app"]}"#).await.unwrap();
    });
    let () = first;
    assert_ne!(member.backend.auth_generation().get(), seen);
    member.backend.auth_generation().wait(seen).await;
}

#[tokio::test]
async fn new_names_are_seen_by_all_and_old_ones_go_on() {
    let member = TestMember::ready().await;
    for name in ["_hidden", "ann ", "a:b"] {
        let body = format!(r#"{{"user":"{name}","password":"x"}}"#);
        let refused = member.put_user(&body).await.unwrap_err().to_string();
        assert!(refused.starts_with("auth: invalid user name "), "{refused}");
    }
    let refused = member.accounts().create_role(&role(r#"{"role":"_r"}"#)).await.unwrap_err().to_string();
    assert_eq!(refused, "auth: invalid role name \"_r\": a new name cannot start with _");
    member.write("/2/users/_old", &format!(r#"{{"user":"_old","password":"{WONDER}","roles":["root"]}}"#));
    assert!(member.is_root("_old:wonder").await);
    member.put_user(r#"{"user":"_old","password":"new"}"#).await.unwrap();
    assert!(member.is_root("_old:new").await);
    let users = member.accounts().users().unwrap();
    assert_eq!(users, ["_old", "ann", "root"].map(user_name));
}

#[tokio::test]
async fn refusals_say_why() {
    let member = TestMember::new();
    let why = |result: Result<(), AuthError>| result.unwrap_err().to_string();
    let accounts = member.accounts();
    assert_eq!(why(accounts.disable().await), "auth: already disabled");
    assert_eq!(why(accounts.enable().await), "auth: No root user available, please create one");
    let member = TestMember::ready().await;
    let accounts = member.accounts();
    assert_eq!(why(accounts.enable().await), "auth: already enabled");
    assert_eq!(
        why(accounts.delete_user(&user_name("root")).await),
        "auth: Cannot delete root user while auth is enabled."
    );
    assert_eq!(
        why(accounts.delete_role(&role_name("root")).await),
        "auth: Cannot modify role root: is root role."
    );
    assert_eq!(why(accounts.delete_role(&role_name("none")).await), "auth: Role none doesn't exist.");
    let unchanged = member.change_role(r#"{"role":"app","revoke":{"kv":{"read":["/z"]}}}"#).await;
    assert_eq!(
        unchanged.unwrap_err().to_string(),
        "auth: Role not updated. Use grant/revoke to update the role."
    );
    let unchanged = member.change_user(r#"{"user":"ann","grant":["x"],"revoke":["x"]}"#).await;
    assert!(unchanged.unwrap_err().to_string().starts_with("auth: User not updated."));
}
