//! The commands of a 0.x log.

use bytes::Bytes;
use shared::legacy::command::ClusterConfig;
use shared::legacy::log::LogEntry;
use shared::legacy::{Command, Time};

use crate::dump_flags::Lengths;
use crate::fields::{Fields, Value};
use crate::text;

/// Appends the type and the data of an entry, as in the table that etcd-dump-logs prints.
pub(super) fn text(entry: &LogEntry, lengths: Lengths, out: &mut Vec<u8>) {
    let command = Command::decode(&entry.name, &entry.command);
    let kind: &[u8] = match command {
        Ok(Command::Join(_) | Command::Remove(_)) => b"conf\t",
        _ => b"norm\t",
    };
    out.extend_from_slice(kind);
    let command = match command {
        Ok(Command::Nop) => return,
        Ok(command) => command,
        Err(_) => return out.extend_from_slice(b"???"),
    };
    out.extend_from_slice(b"method=");
    out.extend_from_slice(command.name().as_bytes());
    let mut fields = Fields::default();
    describe(&command, &mut fields);
    for (name, value) in fields.iter() {
        match (name, value) {
            ("path", Value::Text(path)) => {
                out.extend_from_slice(b" path=");
                text::path(path, lengths, out);
            }
            ("value", Value::Long(value)) => {
                out.extend_from_slice(b" val=");
                text::value(value, lengths, out);
            }
            ("time" | "name" | "peerURLs", _) => {
                out.push(b' ');
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                value.write_full(lengths, out);
            }
            _ => {}
        }
    }
}

/// Adds the fields for the content of an entry.
pub(super) fn fields(entry: &LogEntry, out: &mut Fields) {
    let command = match Command::decode(&entry.name, &entry.command) {
        Ok(command) => command,
        Err(_) => {
            out.add("kind", Value::Word("unreadable"));
            out.add("method", Value::Text(entry.name.clone()));
            return out.add("data", Value::Long(entry.command.clone()));
        }
    };
    let kind = match command {
        Command::Nop => return out.add("kind", Value::Word("empty")),
        Command::Join(_) | Command::Remove(_) => "change",
        _ => "request",
    };
    out.add("kind", Value::Word(kind));
    out.add("method", Value::Word(command.name()));
    describe(&command, out);
}

/// Adds the fields of a command, except its name.
fn describe(command: &Command<'_>, out: &mut Fields) {
    match command {
        Command::Nop => {}
        Command::Join(join) => {
            out.add("change", Value::Word("add"));
            out.add("name", bytes(&join.name));
            out.add("peerURLs", Value::Texts(vec![join.raft_url.to_string()]));
            out.add("clientURLs", Value::Texts(vec![join.etcd_url.to_string()]));
            if let Some(version) = &join.raft_version {
                out.add("version", bytes(version));
            }
        }
        Command::Remove(remove) => {
            out.add("change", Value::Word("remove"));
            out.add("name", bytes(&remove.name));
        }
        Command::SetClusterConfig(config) => {
            let ClusterConfig { active_size, remove_delay, sync_interval } = *config;
            out.add("activeSize", Value::Signed(active_size));
            out.add("removeDelay", Value::Decimal(remove_delay));
            out.add("syncInterval", Value::Decimal(sync_interval));
        }
        Command::Set(set) => {
            written(&set.key, &set.value, set.expire_time, out);
            out.add_flag("dir", set.dir == Some(true));
        }
        Command::Create(create) => {
            written(&create.key, &create.value, create.expire_time, out);
            out.add_flag("dir", create.dir);
            out.add_flag("unique", create.unique);
        }
        Command::Update(update) => written(&update.key, &update.value, update.expire_time, out),
        Command::Delete(delete) => {
            out.add("path", bytes(&delete.key));
            out.add_flag("dir", delete.dir);
            out.add_flag("recursive", delete.recursive);
        }
        Command::TestAndSet(swap) => {
            written(&swap.key, &swap.value, swap.expire_time, out);
            out.add("prevValue", long(&swap.prev_value));
        }
        Command::CompareAndSwap(swap) => {
            written(&swap.key, &swap.value, swap.expire_time, out);
            wanted(&swap.prev_value, swap.prev_index, out);
        }
        Command::CompareAndDelete(delete) => {
            out.add("path", bytes(&delete.key));
            wanted(&delete.prev_value, delete.prev_index, out);
        }
        Command::Sync(sync) => out.add("time", time(sync.time)),
        Command::Get(get) => {
            out.add("path", bytes(&get.key));
            out.add_flag("recursive", get.recursive);
            out.add_flag("sorted", get.sorted);
        }
        Command::Watch(watch) => {
            out.add("path", bytes(&watch.key));
            out.add("since", Value::Number(watch.since_index));
        }
    }
}

fn written(key: &str, value: &str, expires: Time, out: &mut Fields) {
    out.add("path", bytes(key));
    out.add("value", long(value));
    // 0.1 writes the start of 1970 for "never", later versions that of the year 1.
    if expires.unix_seconds() > 0 {
        out.add("expiration", time(expires));
    }
}

fn wanted(value: &str, index: u64, out: &mut Fields) {
    if !value.is_empty() {
        out.add("prevValue", long(value));
    }
    if index != 0 {
        out.add("prevIndex", Value::Number(index));
    }
}

fn bytes(text: &str) -> Value {
    Value::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn long(text: &str) -> Value {
    Value::Long(Bytes::copy_from_slice(text.as_bytes()))
}

fn time(time: Time) -> Value {
    if time.fits_nanos() { Value::Time(time.unix_nanos().0) } else { Value::Text(time.to_string().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &str = "\"expireTime\":\"0001-01-01T00:00:00Z\"";

    fn shown(name: &'static str, command: &str) -> (String, String) {
        let (name, command) = (name.into(), command.to_owned().into());
        let entry = LogEntry { index: 1, term: 0, name, command, offset: 0 };
        let mut short = Vec::new();
        text(&entry, Lengths::Cut, &mut short);
        let mut fields = Fields::default();
        super::fields(&entry, &mut fields);
        let mut full = Vec::new();
        fields.write_full("entry", Lengths::Cut, &mut full);
        (String::from_utf8(short).unwrap(), String::from_utf8(full).unwrap())
    }

    #[test]
    fn commands_are_shown_in_both_ways() {
        let both = |name, command: &str, short: &str, full: &str| {
            let full = format!("entry {full}\n");
            assert_eq!(shown(name, command), (short.to_owned(), full), "{name} {command}");
        };
        both("raft:nop", "", "norm\t", "kind=empty");
        both(
            "etcd:join",
            r#"{"minVersion":2,"maxVersion":2,"name":"o1","raftURL":"http://a:1","etcdURL":"http://a:2"}"#,
            "conf\tmethod=etcd:join name=\"o1\" peerURLs=\"http://a:1\"",
            "kind=change method=etcd:join change=add name=\"o1\" peerURLs=\"http://a:1\" clientURLs=\"http://a:2\"",
        );
        both(
            "etcd:remove",
            r#"{"name":"o1"}"#,
            "conf\tmethod=etcd:remove name=\"o1\"",
            "kind=change method=etcd:remove change=remove name=\"o1\"",
        );
        both(
            "etcd:setClusterConfig",
            r#"{"config":{"activeSize":9,"removeDelay":1800,"syncInterval":0.5}}"#,
            "norm\tmethod=etcd:setClusterConfig",
            "kind=request method=etcd:setClusterConfig activeSize=9 removeDelay=1800 syncInterval=0.5",
        );
        both(
            "etcd:set",
            &format!(r#"{{"key":"/a","value":"x y",{NEVER},"dir":false}}"#),
            "norm\tmethod=etcd:set path=\"/a\" val=\"x y\"",
            "kind=request method=etcd:set path=\"/a\" value=\"x y\"",
        );
        both(
            "etcd:create",
            r#"{"key":"/q","value":"x","expireTime":"2026-11-21T08:05:09.5Z","unique":true,"dir":false}"#,
            "norm\tmethod=etcd:create path=\"/q\" val=\"x\"",
            "kind=request method=etcd:create path=\"/q\" value=\"x\" expiration=2026-11-21T08:05:09.5Z unique=true",
        );
        both(
            "etcd:compareAndSwap",
            &format!(r#"{{"key":"/a","value":"2",{NEVER},"prevValue":"1","prevIndex":7}}"#),
            "norm\tmethod=etcd:compareAndSwap path=\"/a\" val=\"2\"",
            "kind=request method=etcd:compareAndSwap path=\"/a\" value=\"2\" prevValue=\"1\" prevIndex=7",
        );
        both(
            "etcd:delete",
            r#"{"key":"/a","recursive":true,"dir":false}"#,
            "norm\tmethod=etcd:delete path=\"/a\"",
            "kind=request method=etcd:delete path=\"/a\" recursive=true",
        );
        both(
            "etcd:sync",
            r#"{"time":"2026-11-21T08:05:09.29781254Z"}"#,
            "norm\tmethod=etcd:sync time=2026-11-21T08:05:09.29781254Z",
            "kind=request method=etcd:sync time=2026-11-21T08:05:09.29781254Z",
        );
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_it_is() {
        let (short, full) = shown("etcd:set", "{");
        assert_eq!(short, "norm\t???");
        assert_eq!(full, "entry kind=unreadable method=\"etcd:set\" data=\"{\"\n");
    }
}
