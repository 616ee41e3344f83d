//! Help texts, made from the definitions in the form of etcdctl 3.5.

use super::definition::{Command, Flag, HELP, Kind};
use super::table::{GLOBAL, ROOT};
use super::{API_VERSION, VERSION};

/// Tab stops.
const TAB: usize = 8;

/// The help of the command at the end of a path; the empty path is the program.
pub(crate) fn text(path: &[&'static Command]) -> String {
    let command = path.last().copied().unwrap_or(&ROOT);
    let is_root = path.is_empty();
    let names: Vec<&str> = path.iter().map(|command| command.name).collect();
    let name = if is_root { ROOT.name.to_owned() } else { names.join(" ") };
    let mut out = format!("NAME:\n\t{name} - {}\n\nUSAGE:\n\t{}\n\n", command.about, usage(command, &names));
    if is_root {
        out.push_str(&format!("VERSION:\n\t{VERSION}\n\n"));
    }
    if !command.below.is_empty() {
        out.push_str(&format!("API VERSION:\n\t{API_VERSION}\n\n\nCOMMANDS:\n"));
        let mut rows = Vec::new();
        list(command, "", is_root, &mut rows);
        rows.sort();
        out.push_str(&aligned(&rows, "\t"));
        out.push('\n');
    }
    if !command.description.is_empty() {
        out.push_str(&format!("DESCRIPTION:\n\t{}\n\n", command.description.replace('\n', "\n\t")));
    }
    let help = Flag::switch(HELP, "").short('h');
    let about_help = format!("help for {}", command.name);
    let mut own: Vec<(&Flag, &str)> = command.flags.iter().map(|flag| (flag, flag.help)).collect();
    own.push((&help, &about_help));
    out.push_str(&format!("OPTIONS:\n{}\n", flags(own)));
    if !is_root {
        let above = path[..path.len() - 1].iter().filter(|command| command.hands_down);
        let inherited = above.flat_map(|command| command.flags).chain(GLOBAL);
        out.push_str(&format!(
            "GLOBAL OPTIONS:\n{}\n",
            flags(inherited.map(|flag| (flag, flag.help)).collect())
        ));
    }
    out
}

fn usage(command: &Command, names: &[&str]) -> String {
    let parts = [&[ROOT.name], names, &[command.usage, "[flags]"]].concat();
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Lists the commands below one; of the program, those at the end of each path.
fn list(command: &Command, before: &str, deep: bool, rows: &mut Vec<(String, &'static str)>) {
    for below in command.below {
        let name = format!("{before}{}", below.name);
        if deep && !below.below.is_empty() {
            list(below, &format!("{name} "), deep, rows);
        } else {
            rows.push((name, below.about));
        }
    }
}

fn flags(mut flags: Vec<(&Flag, &str)>) -> String {
    flags.sort_by_key(|(flag, _)| flag.name);
    let rows: Vec<(String, &str)> = flags
        .into_iter()
        .map(|(flag, help)| {
            let letter = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
            let default = flag.default;
            let value = match flag.kind {
                Kind::Switch => format!("[={default}]"),
                Kind::Text => format!("=\"{default}\""),
                Kind::Number | Kind::Duration => format!("={default}"),
                Kind::List => format!("=[{default}]"),
            };
            (format!("  {letter}--{}{value}", flag.name), help)
        })
        .collect();
    aligned(&rows, "")
}

/// Two columns, with as many tabs between them as bring the second to one place.
fn aligned(rows: &[(String, &str)], indent: &str) -> String {
    let width =
        rows.iter().map(|(first, _)| first.chars().count() + 1).max().unwrap_or(0).div_ceil(TAB) * TAB;
    rows.iter()
        .map(|(first, second)| {
            let tabs = (width - first.chars().count()).div_ceil(TAB);
            format!("{indent}{first}{}{second}\n", "\t".repeat(tabs))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> String {
        let mut path: Vec<&'static Command> = Vec::new();
        for name in names {
            let above = path.last().copied().unwrap_or(&ROOT);
            path.push(above.find(name).unwrap());
        }
        text(&path)
    }

    #[test]
    fn columns_are_aligned_with_tabs() {
        let help = of(&["lease"]);
        let own = help.split("GLOBAL OPTIONS:\n").next().unwrap();
        assert_eq!(
            own,
            "NAME:\n\tlease - Lease related commands\n\nUSAGE:\n\tetcdctl lease <subcommand> [flags]\n\n\
             API VERSION:\n\t3.5\n\n\nCOMMANDS:\n\tgrant\t\tCreates leases\n\tkeep-alive\tKeeps leases alive (renew)\n\
             \tlist\t\tList all active leases\n\trevoke\t\tRevokes leases\n\ttimetolive\tGet lease information\n\n\
             OPTIONS:\n  -h, --help[=false]\thelp for lease\n\n"
        );
        assert!(help.contains("  -w, --write-out=\"simple\"\t\t\tset the output format"), "{help}");
        assert!(help.contains("      --endpoints=[127.0.0.1:2379]\t\tgRPC endpoints\n"), "{help}");
    }

    #[test]
    fn flags_of_a_group_are_global_to_its_commands() {
        let help = of(&["endpoint", "health"]);
        let (own, global) = help.split_once("GLOBAL OPTIONS:\n").unwrap();
        assert!(!own.contains("--cluster") && global.contains("--cluster[=false]"), "{help}");
    }

    #[test]
    fn the_program_lists_the_ends_of_all_paths() {
        let help = of(&[]);
        for line in
            ["\tmember list\t\tLists all members", "\tcompletion powershell\tGenerate", "\tput\t\t\tPuts"]
        {
            assert!(help.contains(line), "{line}\n{help}");
        }
    }
}
