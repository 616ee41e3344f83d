//! The data directory of etcd 0.1, 0.2 and 0.4: pure decoders that change nothing and guess nothing.
//!
//! ```text
//! DATA_DIR/log                     every entry of the raft log, see [`log`]
//! DATA_DIR/conf                    commit index and the other members, see [`Conf`]
//! DATA_DIR/snapshot/TERM_INDEX.ss  the store at an entry, see [`snapshot`]
//! DATA_DIR/standby_info            only after having been a standby, see [`StandbyInfo`]
//! DATA_DIR/info                    0.1 and 0.2 only: the member's own name and addresses, see [`Info`]
//! ```
//!
//! [`detect`] returns the kind of a directory. The decoders only decode the commands of the log; callers apply them.

pub mod command;
pub mod files;
pub mod log;
pub mod snapshot;

mod detect;
mod time;

pub use command::{Command, CommandError};
pub use detect::{LegacyDir, conf, conf_path, detect, info, log_path, snapshot_dir, standby_info};
pub use files::{Conf, FileError, Info, StandbyInfo, StandbyMember};
pub use log::{LogEntry, LogError};
pub use snapshot::{Snapshot, SnapshotError};
pub use time::Time;
