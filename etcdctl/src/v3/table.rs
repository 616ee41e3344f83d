//! The commands of version 3 with their flags.
//!
//! Names, usage lines and help are those of etcdctl 3.5: scripts parse them. Commands stand in the order in which the
//! original suggests them.

use super::definition::{Action, Command, Flag, Kind};

/// Flags of every command.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::text("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    Flag::text("cert", "", "identify secure client using this TLS certificate file"),
    Flag::duration("command-timeout", "5s", "timeout for short running command (excluding dial timeout)"),
    Flag::switch("debug", "enable client-side debug logging"),
    Flag::duration("dial-timeout", "2s", "dial timeout for client connections"),
    Flag::text("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints")
        .short('d'),
    Flag::text("discovery-srv-name", "", "service name to query when using DNS discovery"),
    Flag {
        name: "endpoints",
        short: None,
        kind: Kind::List,
        default: "127.0.0.1:2379",
        help: "gRPC endpoints",
    },
    Flag::switch("hex", "print byte strings as hex encoded strings"),
    Flag::on("insecure-discovery", "accept insecure SRV records describing cluster endpoints"),
    Flag::switch(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag::on("insecure-transport", "disable transport security for client connections"),
    Flag::duration("keepalive-time", "2s", "keepalive time for client connections"),
    Flag::duration("keepalive-timeout", "6s", "keepalive timeout for client connections"),
    Flag::text("key", "", "identify secure client using this TLS key file"),
    Flag::text(
        "password",
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::text("user", "", "username[:password] for authentication (prompt if password is not supplied)"),
    Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)")
        .short('w'),
];

/// The program.
pub(crate) static ROOT: Command =
    Command::group("etcdctl", "", "A simple command line client for etcd3.", COMMANDS).handed_down(GLOBAL);

const COMMANDS: &[Command] = &[
    Command::new("get", "[options] <key> [range_end]", "Gets the key or a range of keys", Action::Get).flags(
        &[
            Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)"),
            Flag::switch("count-only", "Get only the count"),
            Flag::switch(
                "from-key",
                "Get keys that are greater than or equal to the given key using byte compare",
            ),
            Flag::switch("keys-only", "Get only the keys"),
            Flag::number("limit", "0", "Maximum number of results"),
            Flag::text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
            Flag::switch("prefix", "Get keys with matching prefix"),
            Flag::switch("print-value-only", "Only write values when using the \"simple\" output format"),
            Flag::number("rev", "0", "Specify the kv revision"),
            Flag::text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
        ],
    ),
    Command::new(
        "put",
        "[options] <key> <value> (<value> can also be given from stdin)",
        "Puts the given key into the store",
        Action::Put,
    )
    .description(PUT)
    .flags(&[
        Flag::switch("ignore-lease", "updates the key using its current lease"),
        Flag::switch("ignore-value", "updates the key using its current value"),
        Flag::text("lease", "0", "lease ID (in hexadecimal) to attach to the key"),
        Flag::switch("prev-kv", "return the previous key-value pair before modification"),
    ]),
    Command::new(
        "del",
        "[options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        Action::Del,
    )
    .flags(&[
        Flag::switch(
            "from-key",
            "delete keys that are greater than or equal to the given key using byte compare",
        ),
        Flag::switch("prefix", "delete keys with matching prefix"),
        Flag::switch("prev-kv", "return deleted key-value pairs"),
        Flag::switch("range", "delete range of keys"),
    ]),
    Command::new("txn", "[options]", "Txn processes all the requests in one transaction", Action::Txn)
        .flags(&[Flag::switch("interactive", "Input transaction in interactive mode").short('i')]),
    Command::new(
        "compaction",
        "[options] <revision>",
        "Compacts the event history in etcd",
        Action::Compaction,
    )
    .flags(&[Flag::switch(
        "physical",
        "'true' to wait for compaction to physically remove all old revisions",
    )]),
    Command::group(
        "alarm",
        "<subcommand>",
        "Alarm related commands",
        &[
            Command::new("disarm", "", "Disarms all alarms", Action::AlarmDisarm),
            Command::new("list", "", "Lists all alarms", Action::AlarmList),
        ],
    ),
    Command::new(
        "defrag",
        "",
        "Defragments the storage of the etcd members with given endpoints",
        Action::Defrag,
    )
    .flags(&[CLUSTER]),
    Command::group(
        "endpoint",
        "<subcommand>",
        "Endpoint related commands",
        &[
            Command::new(
                "health",
                "",
                "Checks the healthiness of endpoints specified in `--endpoints` flag",
                Action::EndpointHealth,
            ),
            Command::new(
                "status",
                "",
                "Prints out the status of endpoints specified in `--endpoints` flag",
                Action::EndpointStatus,
            )
            .description(STATUS),
            Command::new(
                "hashkv",
                "",
                "Prints the KV history hash for each endpoint in --endpoints",
                Action::EndpointHashKv,
            )
            .flags(&[Flag::number(
                "rev",
                "0",
                "maximum revision to hash (default: all revisions)",
            )]),
        ],
    )
    .handed_down(&[CLUSTER]),
    Command::new(
        "move-leader",
        "<transferee-member-id>",
        "Transfers leadership to another etcd cluster member.",
        Action::MoveLeader,
    ),
    Command::new(
        "watch",
        "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        Action::Watch,
    )
    .flags(WATCH_FLAGS),
    Command::new("version", "", "Prints the version of etcdctl", Action::Version),
    Command::group(
        "lease",
        "<subcommand>",
        "Lease related commands",
        &[
            Command::new("grant", "<ttl>", "Creates leases", Action::LeaseGrant),
            Command::new("revoke", "<leaseID>", "Revokes leases", Action::LeaseRevoke),
            Command::new(
                "timetolive",
                "<leaseID> [options]",
                "Get lease information",
                Action::LeaseTimeToLive,
            )
            .flags(&[Flag::switch("keys", "Get keys attached to this lease")]),
            Command::new("list", "", "List all active leases", Action::LeaseList),
            Command::new(
                "keep-alive",
                "[options] <leaseID>",
                "Keeps leases alive (renew)",
                Action::LeaseKeepAlive,
            )
            .flags(&[Flag::switch(
                "once",
                "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
            )]),
        ],
    ),
    Command::group(
        "member",
        "<subcommand>",
        "Membership related commands",
        &[
            Command::new(
                "add",
                "<memberName> [options]",
                "Adds a member into the cluster",
                Action::MemberAdd,
            )
            .flags(&[
                Flag::switch("learner", "indicates if the new member is raft learner"),
                Flag::text("peer-urls", "", "comma separated peer URLs for the new member."),
            ]),
            Command::new("remove", "<memberID>", "Removes a member from the cluster", Action::MemberRemove),
            Command::new(
                "update",
                "<memberID> [options]",
                "Updates a member in the cluster",
                Action::MemberUpdate,
            )
            .flags(&[Flag::text(
                "peer-urls",
                "",
                "comma separated peer URLs for the updated member.",
            )]),
            Command::new("list", "", "Lists all members in the cluster", Action::MemberList)
                .description(MEMBER_LIST),
            Command::new(
                "promote",
                "<memberID>",
                "Promotes a non-voting member in the cluster",
                Action::MemberPromote,
            )
            .description("Promotes a non-voting learner member to a voting one in the cluster."),
        ],
    ),
    Command::group(
        "snapshot",
        "<subcommand>",
        "Manages etcd node snapshots",
        &[Command::new(
            "save",
            "<filename>",
            "Stores an etcd node backend snapshot to a given file",
            Action::SnapshotSave,
        ), Command::new(
            "status",
            "<filename>",
            "[deprecated] Gets backend snapshot status of a given file",
            Action::SnapshotStatus,
        )
        .description(SNAPSHOT_STATUS)],
    ),
    Command::new(
        "make-mirror",
        "[options] <destination>",
        "Makes a mirror at the destination etcd cluster",
        Action::MakeMirror,
    )
    .flags(MIRROR_FLAGS),
    Command::new("lock", "<lockname> [exec-command arg1 arg2 ...]", "Acquires a named lock", Action::Lock)
        .flags(&[Flag::number("ttl", "10", "timeout for session")]),
    Command::new(
        "elect",
        "<election-name> [proposal]",
        "Observes and participates in leader election",
        Action::Elect,
    )
    .flags(&[Flag::switch("listen", "observation mode").short('l')]),
    Command::group(
        "auth",
        "<enable or disable>",
        "Enable or disable authentication",
        &[
            Command::new("enable", "", "Enables authentication", Action::AuthEnable),
            Command::new("disable", "", "Disables authentication", Action::AuthDisable),
            Command::new("status", "", "Returns authentication status", Action::AuthStatus),
        ],
    ),
    Command::group("user", "<subcommand>", "User related commands", USER),
    Command::group("role", "<subcommand>", "Role related commands", ROLE),
    Command::group(
        "check",
        "<subcommand>",
        "commands for checking properties of the etcd cluster",
        &[
            Command::new("perf", "[options]", "Check the performance of the etcd cluster", Action::CheckPerf).flags(&[
                AUTO_COMPACT,
                AUTO_DEFRAG,
                Flag::text(
                    "load",
                    "s",
                    "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
                ),
                Flag::text(
                    "prefix",
                    "/etcdctl-check-perf/",
                    "The prefix for writing the performance check's keys.",
                ),
            ]),
            Command::new(
                "datascale",
                "[options]",
                "Check the memory usage of holding data for different workloads on a given server endpoint.",
                Action::CheckDataScale,
            )
            .description(DATA_SCALE)
            .flags(&[
                AUTO_COMPACT,
                AUTO_DEFRAG,
                Flag::text(
                    "load",
                    "s",
                    "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
                ),
                Flag::text(
                    "prefix",
                    "/etcdctl-check-datascale/",
                    "The prefix for writing the datascale check's keys.",
                ),
            ]),
        ],
    ),
    Command::group(
        "completion",
        "",
        "Generate the autocompletion script for the specified shell",
        &[
            Command::new("bash", "", "Generate the autocompletion script for bash", Action::Completion),
            Command::new("fish", "", "Generate the autocompletion script for fish", Action::Completion),
            Command::new(
                "powershell",
                "",
                "Generate the autocompletion script for powershell",
                Action::Completion,
            ),
            Command::new("zsh", "", "Generate the autocompletion script for zsh", Action::Completion),
        ],
    ),
    Command::new("help", "[command]", "Help about any command", Action::Help).description(HELP),
];

const USER: &[Command] = &[
    Command::new("add", "<user name or user:password> [options]", "Adds a new user", Action::UserAdd).flags(
        &[
            Flag::on("interactive", "Read password from stdin instead of interactive terminal"),
            Flag::text("new-user-password", "", "Supply password from the command line flag"),
            Flag::switch("no-password", "Create a user without password (CN based auth only)"),
        ],
    ),
    Command::new("delete", "<user name>", "Deletes a user", Action::UserDelete),
    Command::new("get", "<user name> [options]", "Gets detailed information of a user", Action::UserGet)
        .flags(&[Flag::switch("detail", "Show permissions of roles granted to the user")]),
    Command::new("list", "", "Lists all users", Action::UserList),
    Command::new("passwd", "<user name> [options]", "Changes password of user", Action::UserPasswd).flags(&[
        Flag::on("interactive", "If true, read password from stdin instead of interactive terminal"),
    ]),
    Command::new("grant-role", "<user name> <role name>", "Grants a role to a user", Action::UserGrantRole),
    Command::new(
        "revoke-role",
        "<user name> <role name>",
        "Revokes a role from a user",
        Action::UserRevokeRole,
    ),
];

const ROLE: &[Command] = &[
    Command::new("add", "<role name>", "Adds a new role", Action::RoleAdd),
    Command::new("delete", "<role name>", "Deletes a role", Action::RoleDelete),
    Command::new("get", "<role name>", "Gets detailed information of a role", Action::RoleGet),
    Command::new("list", "", "Lists all roles", Action::RoleList),
    Command::new(
        "grant-permission",
        "[options] <role name> <permission type> <key> [endkey]",
        "Grants a key to a role",
        Action::RoleGrantPermission,
    )
    .flags(&[
        Flag::switch(
            "from-key",
            "grant a permission of keys that are greater than or equal to the given key using byte compare",
        ),
        Flag::switch("prefix", "grant a prefix permission"),
    ]),
    Command::new(
        "revoke-permission",
        "<role name> <key> [endkey]",
        "Revokes a key from a role",
        Action::RoleRevokePermission,
    )
    .flags(&[
        Flag::switch(
            "from-key",
            "revoke a permission of keys that are greater than or equal to the given key using byte compare",
        ),
        Flag::switch("prefix", "revoke a prefix permission"),
    ]),
];

/// The flags of a watch, which the lines of an interactive one have too.
pub(crate) const WATCH_FLAGS: &[Flag] = &[
    Flag::switch("interactive", "Interactive mode").short('i'),
    Flag::switch("prefix", "Watch on a prefix if prefix is set"),
    Flag::switch("prev-kv", "get the previous key-value pair before the event happens"),
    Flag::switch("progress-notify", "get periodic watch progress notification from server"),
    Flag::number("rev", "0", "Revision to start watching"),
];

const MIRROR_FLAGS: &[Flag] = &[
    Flag::text("dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle"),
    Flag::text(
        "dest-cert",
        "",
        "Identify secure client using this TLS certificate file for the destination cluster",
    ),
    Flag::on("dest-insecure-transport", "Disable transport security for client connections"),
    Flag::text("dest-key", "", "Identify secure client using this TLS key file"),
    Flag::text(
        "dest-password",
        "",
        "Destination password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::text(
        "dest-prefix",
        "",
        "destination prefix to mirror a prefix to a different prefix in the destination cluster",
    ),
    Flag::text(
        "dest-user",
        "",
        "Destination username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    Flag::text("prefix", "", "Key-value prefix to mirror"),
];

const AUTO_COMPACT: Flag =
    Flag::switch("auto-compact", "Compact storage with last revision after test is finished.");
const AUTO_DEFRAG: Flag = Flag::switch("auto-defrag", "Defragment storage after test is finished.");
const DATA_SCALE: &str = "\
If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.";

const CLUSTER: Flag = Flag::switch("cluster", "use all endpoints from the cluster member list");

const PUT: &str = "\
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.";

const STATUS: &str = "\
When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied \
index, errors.";

const SNAPSHOT_STATUS: &str = "\
When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are hash, revision, total keys, total size.

Moved to 'etcdctl snapshot status ...'";

const MEMBER_LIST: &str = "\
When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.";

const HELP: &str = "\
Help provides help for any command in the application.
Simply type etcdctl help [path to command] for full details.";
