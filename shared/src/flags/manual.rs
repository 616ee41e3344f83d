//! The definitions as a manual page, in the `man` macros that groff and mandoc read.

use std::fmt::Write as _;

use super::{Flag, FlagSet, Kind};

impl FlagSet {
    /// The page: what the help says before the flags, and the flags. `sets` are those of the whole program, for
    /// "see also".
    pub(super) fn manual(&self, sets: &[&FlagSet]) -> String {
        let mut page = ManPage(String::new());
        let version = env!("CARGO_PKG_VERSION");
        page.line(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '");
        page.line(&format!(
            ".TH {} 1 \"\" \"etcd\\-rs {version}\" \"etcd\\-rs\"",
            escape(&page_name(self)).to_uppercase()
        ));
        page.line(".SH NAME");
        let mut about = self.about.trim_end_matches('.').chars();
        let about =
            about.next().map_or(String::new(), |first| first.to_lowercase().to_string()) + about.as_str();
        page.line(&format!("{} \\- {}", escape(&page_name(self)), escape(&about)));
        let introduction =
            if self.introduction.is_empty() { self.usage() } else { self.introduction.to_owned() };
        page.help(&introduction);
        page.line(".SH OPTIONS");
        for group in self.groups.iter().filter(|group| !group.hidden) {
            page.line(&format!(".SS {}", escape(group.title)));
            if !group.remark.is_empty() {
                page.line(&text(group.remark));
            }
            for flag in group.flags {
                page.flag(flag, self.environment);
            }
        }
        let others: Vec<String> =
            sets.iter().filter(|set| set.program != self.program).map(|set| page_name(set)).collect();
        if !others.is_empty() {
            page.line(".SH SEE ALSO");
            for (at, other) in others.iter().enumerate() {
                let comma = if at + 1 < others.len() { "," } else { "" };
                page.line(&format!(".BR {} (1){comma}", escape(other)));
            }
        }
        page.0
    }
}

/// `etcd-dump-export` for `etcd-dump export`.
fn page_name(set: &FlagSet) -> String {
    set.program.replace(' ', "-")
}

struct ManPage(String);

impl ManPage {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// Writes the help up to the flags. The form of a paragraph decides how it is written: `usage:` and how to call
    /// the program; a heading such as `examples:` and indented lines; indented lines alone; other text.
    fn help(&mut self, introduction: &str) {
        let mut blocks: Vec<&str> = introduction.trim().split("\n\n").collect();
        if let Some(at) = blocks.iter().position(|block| block.starts_with("usage: ")) {
            let usage = blocks.remove(at).replacen("usage: ", "       ", 1);
            self.line(".SH SYNOPSIS");
            self.verbatim(usage.lines());
        }
        self.line(".SH DESCRIPTION");
        for block in blocks {
            let mut lines = block.lines();
            let first = lines.next().unwrap_or_default();
            let is_indented = |line: &str| line.starts_with(' ');
            if let Some(heading) = first
                .strip_suffix(':')
                .filter(|_| lines.clone().count() > 0 && lines.clone().all(is_indented))
            {
                self.line(&format!(".SH {}", escape(heading).to_uppercase()));
                self.verbatim(lines);
            } else if is_indented(first) {
                self.line(".PP\n.RS 4");
                self.verbatim(block.lines());
                self.line(".RE");
            } else {
                self.line(".PP");
                self.line(&text(&block.lines().collect::<Vec<_>>().join(" ")));
            }
        }
    }

    /// Writes lines as they are, without their common indentation.
    fn verbatim<'a>(&mut self, lines: impl Iterator<Item = &'a str> + Clone) {
        let indent = lines.clone().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
        self.line(".nf");
        for line in lines {
            self.line(&text(&line[indent..]));
        }
        self.line(".fi");
    }

    fn flag(&mut self, flag: &Flag, environment: &str) {
        let value = match flag.kind {
            Kind::Bool | Kind::Ignored => None,
            Kind::Number | Kind::Bounded(..) | Kind::Signed => Some("NUMBER"),
            Kind::Choice(_) => Some("WORD"),
            Kind::Text | Kind::Checked(_) | Kind::Removed => Some("TEXT"),
        };
        let value = value.map_or(String::new(), |value| format!(" \\fI{value}\\fR"));
        self.line(&format!(".TP\n\\fB\\-{}\\fR{value}", escape(flag.name)));
        self.line(&text(flag.help));
        if let Kind::Choice([words @ .., last]) = flag.kind {
            self.line(&text(&format!("The words are {} or {last}.", words.join(", "))));
        }
        let mut remarks = Vec::new();
        if !flag.default.is_empty() && !matches!(flag.kind, Kind::Bool) {
            remarks.push(format!("Default: '{}'.", flag.default));
        }
        if !environment.is_empty() {
            remarks.push(format!("Environment: {}.", flag.env_name(environment)));
        }
        if !remarks.is_empty() {
            self.line(&format!(".br\n{}", text(&remarks.join(" "))));
        }
    }
}

/// Escapes a line of text, so that it is not taken for a request.
fn text(line: &str) -> String {
    let escaped = escape(line);
    if escaped.starts_with(['.', '\'']) || escaped.starts_with("\\*(Aq") {
        format!("\\&{escaped}")
    } else {
        escaped
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\*(Aq"),
            c if c.is_ascii() => out.push(c),
            '…' => out.push_str("..."),
            // Old formatters read bytes.
            c => {
                let _ = write!(out, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    out
}
