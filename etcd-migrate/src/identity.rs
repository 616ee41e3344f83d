//! Finds the name of the member that owns a directory.

use shared::legacy::{Conf, Info, StandbyInfo};

use crate::error::{MigrateError, NameProblem};
use crate::survey::Survey;

/// The hints to the member's name outside the log.
#[derive(Clone, Copy, Default)]
pub(crate) struct Evidence<'a> {
    /// The name that the operator gave.
    pub(crate) given: Option<&'a str>,
    /// `info` of 0.1 and 0.2, in which a member stored its own name.
    pub(crate) info: Option<&'a Info>,
    /// `conf`, which names the other members.
    pub(crate) conf: Option<&'a Conf>,
    /// `standby_info`, which names the members at the time when this one was a standby.
    pub(crate) standby: Option<&'a StandbyInfo>,
}

impl Evidence<'_> {
    fn is_peer(&self, name: &str) -> bool {
        self.conf.is_some_and(|conf| conf.peers.iter().any(|peer| peer.name == name))
    }

    fn was_other(&self, name: &str) -> bool {
        self.standby.is_some_and(|standby| standby.cluster.iter().any(|member| member.name == name))
    }
}

/// The member's name, from the first source that has it: the operator, the file `info`, or the only name that remains
/// when the names of the other members are left out.
///
/// A given name that no member has is ignored: the flag of a server that sets it has a default.
///
/// # Errors
/// If no name or several names remain, or the member was removed.
pub(crate) fn find(evidence: Evidence<'_>, survey: &mut Survey) -> Result<String, MigrateError> {
    let Evidence { info, conf, .. } = evidence;
    let given = evidence.given.filter(|name| !name.is_empty());
    let known = |survey: &Survey, name: &str| survey.names.contains_key(name);
    let mut found = None;
    if let Some(name) = given {
        if known(survey, name) {
            found = Some(name.to_owned());
        } else {
            let warning = format!("no member is named {name:?}: the name was found out instead");
            survey.warnings.push(warning);
        }
    }
    let from_info =
        info.map(|info| info.name.clone()).filter(|name| known(survey, name) && !evidence.is_peer(name));
    found = found.or(from_info).or_else(|| only_remaining(survey, |name| evidence.is_peer(name)));
    found =
        found.or_else(|| only_remaining(survey, |name| evidence.is_peer(name) || evidence.was_other(name)));
    let Some(name) = found else {
        let candidates = survey.names.iter().filter(|(name, _)| !evidence.is_peer(name));
        let others = conf.map(|conf| conf.peers.iter().map(|peer| peer.name.clone()).collect());
        return Err(MigrateError::Name(NameProblem {
            given: given.map(str::to_owned),
            candidates: candidates.map(|(name, (_, url))| (name.clone(), url.clone())).collect(),
            others: others.unwrap_or_default(),
            has_conf: conf.is_some(),
        }));
    };
    match survey.names.get(&name) {
        Some((Some(entry), _)) => Err(MigrateError::Removed { name, index: *entry }),
        _ => Ok(name),
    }
}

/// The only name that is not another member's: among the present members, or, if all of these are others, among the
/// former members.
fn only_remaining(survey: &Survey, is_other: impl Fn(&str) -> bool) -> Option<String> {
    let left = |removed: bool| {
        let names = survey.names.iter();
        let mut left = names.filter(|(name, (gone, _))| gone.is_some() == removed && !is_other(name));
        let first = left.next().map(|(name, _)| name.clone());
        (first.clone().filter(|_| left.next().is_none()), first.is_none())
    };
    match left(false) {
        (Some(only), _) => Some(only),
        (None, true) => left(true).0,
        (None, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::legacy::StandbyMember;
    use shared::legacy::files::ConfPeer;

    use super::*;

    fn survey(names: &[(&str, Option<u64>)]) -> Survey {
        let mut survey = Survey::default();
        for (name, removed) in names {
            survey.names.insert((*name).to_owned(), (*removed, format!("http://{name}:1")));
            if removed.is_none() {
                let join = shared::legacy::command::Join {
                    name: (*name).into(),
                    raft_url: format!("http://{name}:1").into(),
                    etcd_url: "".into(),
                    raft_version: None,
                    min_version: None,
                    max_version: None,
                };
                survey.registry.join(&join);
            }
        }
        survey
    }

    fn conf(names: &[&str]) -> Conf {
        let peer = |name: &&str| ConfPeer { name: (*name).to_owned(), connection_string: String::new() };
        Conf { commit_index: 1, peers: names.iter().map(peer).collect() }
    }

    fn name(
        given: Option<&str>,
        others: Option<&[&str]>,
        names: &[(&str, Option<u64>)],
    ) -> Result<String, String> {
        let conf = others.map(conf);
        let evidence = Evidence { given, conf: conf.as_ref(), ..Evidence::default() };
        find(evidence, &mut survey(names)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_found_out_where_only_one_is_left() {
        let three = [("a", None), ("b", None), ("c", None)];
        assert_eq!(name(Some("b"), None, &three).unwrap(), "b");
        assert_eq!(name(None, Some(&["a", "c"]), &three).unwrap(), "b");
        assert_eq!(name(Some(""), Some(&["a", "c"]), &three).unwrap(), "b");
        assert_eq!(name(Some("default"), Some(&["a", "c"]), &three).unwrap(), "b");
        assert_eq!(name(None, None, &[("a", None)]).unwrap(), "a");
        assert_eq!(name(None, Some(&[]), &[("a", Some(7)), ("b", None)]).unwrap(), "b");
        let info = Info { name: "c".to_owned(), ..Info::default() };
        let evidence = Evidence { info: Some(&info), ..Evidence::default() };
        assert_eq!(find(evidence, &mut survey(&three)).unwrap(), "c");
        // What it saw as a standby, before it came back.
        let member = |name: &str| StandbyMember { name: name.to_owned(), ..StandbyMember::default() };
        let standby = StandbyInfo { cluster: vec![member("a"), member("b")], ..StandbyInfo::default() };
        let evidence = Evidence { standby: Some(&standby), ..Evidence::default() };
        assert_eq!(find(evidence, &mut survey(&three)).unwrap(), "c");
    }

    #[test]
    fn what_cannot_be_known_is_asked_for() {
        let three = [("a", None), ("b", None), ("c", None)];
        let error = name(Some("default"), Some(&["a"]), &three).unwrap_err();
        for part in ["no member is named \"default\"", "b (http://b:1), c (http://c:1)", "others a", "--name"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(
            name(None, None, &three)
                .unwrap_err()
                .contains("\"conf\", which would name the others, is missing")
        );
        assert!(name(None, None, &[]).unwrap_err().contains("name no member"));
    }

    #[test]
    fn a_member_that_was_removed_is_told_so() {
        let names = [("a", None), ("b", Some(21))];
        assert!(
            name(None, Some(&["a"]), &names)
                .unwrap_err()
                .contains("member b was removed from its cluster by entry 21")
        );
        assert!(name(Some("b"), None, &names).unwrap_err().contains("removed"));
    }
}
