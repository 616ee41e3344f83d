//! A fuzz target: parsing what clients send about users never panics, and encoded users and roles parse again.

use shared::account::{RoleName, UserName};
use shared::json;

use super::basic;
use super::records::{RecordError, Role, User};
use super::rights::Access;

/// Parses `input` as an `Authorization` header, as a user, as a role, and as a key to check against that role.
///
/// # Panics
/// If a rule is broken: the fuzzer has found a bug.
pub fn fuzz_auth(input: &[u8]) {
    let _ = basic::parse(input);
    let _ = basic::parse(&[b"Basic ", input].concat());
    if let Some(user) = user(input) {
        let written = json::to_vec(&user).unwrap_or_default();
        let again =
            User::from_body(&user.name, &written).map(|again| json::to_vec(&again).unwrap_or_default());
        assert_eq!(again.as_ref(), Ok(&written), "a user that is written is the same when it is read");
        let other = User { name: UserName::root(), ..user.clone() };
        assert!(
            user.name.is_root() || user.changed(&other).is_err(),
            "a change is of the user that it names"
        );
    }
    if let Some(role) = role(input) {
        let written = json::to_vec(&role).unwrap_or_default();
        let again =
            Role::from_body(&role.name, &written).map(|again| json::to_vec(&again).unwrap_or_default());
        assert_eq!(again.as_ref(), Ok(&written), "a role that is written is the same when it is read");
        for writes in [false, true] {
            let may = |recursive| role.allows(Access { key: input, writes, recursive });
            assert!(may(false) || !may(true), "who may have all below a key may have the key");
        }
    }
}

/// The user in a body, under the name that the body itself gives.
fn user(body: &[u8]) -> Option<User> {
    match User::from_body(&UserName::root(), body) {
        Err(RecordError::OtherName(name)) => User::from_body(&UserName::new(&name).ok()?, body).ok(),
        other => other.ok(),
    }
}

/// The role in a body, under the name that the body itself gives.
fn role(body: &[u8]) -> Option<Role> {
    match Role::from_body(&RoleName::root(), body) {
        Err(RecordError::OtherName(name)) => Role::from_body(&RoleName::new(&name).ok()?, body).ok(),
        other => other.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z/*<é]{0,6}".prop_map(|text| format!("\"{text}\"")), Just("null".to_owned())]
    }

    fn list() -> impl Strategy<Value = String> {
        let items = prop::collection::vec(text(), 0..4).prop_map(|items| format!("[{}]", items.join(",")));
        prop_oneof![items, Just("null".to_owned()), Just("5".to_owned())]
    }

    fn permissions() -> impl Strategy<Value = String> {
        prop_oneof![
            (list(), list())
                .prop_map(|(read, write)| format!(r#"{{"KV":{{"read":{read},"write":{write}}}}}"#)),
            Just("{}".to_owned()),
            Just("null".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes(input in prop::collection::vec(any::<u8>(), 0..64)) {
            fuzz_auth(&input);
        }

        #[test]
        fn users(name in text(), roles in list(), grant in list(), rest in ".{0,3}") {
            fuzz_auth(format!(r#"{{"user":{name},"roles":{roles},"grant":{grant}}}{rest}"#).as_bytes());
        }

        #[test]
        fn roles(name in text(), has in permissions(), grant in permissions()) {
            fuzz_auth(format!(r#"{{"role":{name},"permissions":{has},"grant":{grant}}}"#).as_bytes());
        }
    }
}
