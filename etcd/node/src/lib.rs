//! One member of a cluster, as a value: nothing in this crate reads a clock, opens a file or a socket, or starts a
//! thread. Time, messages and what the disk did come in as arguments; what is to be done comes out.

pub mod member;
pub mod time;
pub mod version;
