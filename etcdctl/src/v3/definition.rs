//! What a command and a flag are. The help, the completions and the reading of command lines all use these.

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On or off; a value only after `=`.
    Switch,
    /// A whole number.
    Number,
    /// Any text.
    Text,
    /// Such as `5s`.
    Duration,
    /// Texts with commas between them.
    List,
}

/// A flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Its name without dashes.
    pub(crate) name: &'static str,
    /// Its letter.
    pub(crate) short: Option<char>,
    /// Its kind.
    pub(crate) kind: Kind,
    /// The value without the flag.
    pub(crate) default: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
}

impl Flag {
    /// A switch that is off by default.
    pub(crate) const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Switch, default: "false", help }
    }

    /// A switch that is on by default.
    pub(crate) const fn on(name: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Switch, default: "true", help }
    }

    /// A number.
    pub(crate) const fn number(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Number, default, help }
    }

    /// A text.
    pub(crate) const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Text, default, help }
    }

    /// A duration.
    pub(crate) const fn duration(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind: Kind::Duration, default, help }
    }

    /// The same with a letter.
    pub(crate) const fn short(mut self, letter: char) -> Flag {
        self.short = Some(letter);
        self
    }

    /// The variable that stands for it.
    pub(crate) fn variable(&self) -> String {
        format!("ETCDCTL_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// The help flag of a command.
pub(crate) const HELP: &str = "help";

/// A command, or a group of commands.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// Its arguments for the usage line.
    pub(crate) usage: &'static str,
    /// What else there is to say, or empty.
    pub(crate) description: &'static str,
    /// Its own flags, by name.
    pub(crate) flags: &'static [Flag],
    /// Whether the commands below it have its flags too.
    pub(crate) hands_down: bool,
    /// The commands below it.
    pub(crate) below: &'static [Command],
    /// What it does; `None` for a group.
    pub(crate) action: Option<Action>,
}

impl Command {
    /// A command without flags of its own.
    pub(crate) const fn new(
        name: &'static str,
        usage: &'static str,
        about: &'static str,
        action: Action,
    ) -> Command {
        Command {
            name,
            about,
            usage,
            description: "",
            flags: &[],
            hands_down: false,
            below: &[],
            action: Some(action),
        }
    }

    /// A group of commands.
    pub(crate) const fn group(
        name: &'static str,
        usage: &'static str,
        about: &'static str,
        below: &'static [Command],
    ) -> Command {
        Command { name, about, usage, description: "", flags: &[], hands_down: false, below, action: None }
    }

    /// The same with flags.
    pub(crate) const fn flags(mut self, flags: &'static [Flag]) -> Command {
        self.flags = flags;
        self
    }

    /// The same with flags that the commands below have too.
    pub(crate) const fn handed_down(mut self, flags: &'static [Flag]) -> Command {
        self.flags = flags;
        self.hands_down = true;
        self
    }

    /// The same with a description.
    pub(crate) const fn description(mut self, description: &'static str) -> Command {
        self.description = description;
        self
    }

    /// The command below it with this name, or the only one that begins with it.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Command> {
        if let Some(command) = self.below.iter().find(|command| command.name == name) {
            return Some(command);
        }
        let mut close = self.below.iter().filter(|command| command.name.starts_with(name));
        match (close.next(), close.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Get,
    Put,
    Del,
    Txn,
    Compaction,
    AlarmDisarm,
    AlarmList,
    Defrag,
    EndpointHealth,
    EndpointStatus,
    EndpointHashKv,
    MoveLeader,
    Watch,
    Version,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseList,
    LeaseKeepAlive,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    SnapshotSave,
    SnapshotStatus,
    MakeMirror,
    CheckPerf,
    CheckDataScale,
    Lock,
    Elect,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    UserAdd,
    UserDelete,
    UserGet,
    UserList,
    UserPasswd,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleList,
    RoleGrantPermission,
    RoleRevokePermission,
    Completion,
    Help,
}
