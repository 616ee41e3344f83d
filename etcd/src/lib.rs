//! The server: a member of a replicated key-value store with the etcd v2 API, or a proxy in front of members.

mod addresses;
pub mod admin;
pub mod api;
pub mod auth;
pub mod backend;
pub mod config;
mod connections;
mod dashboard;
pub mod discovery;
mod go_json;
pub mod launcher_0_4;
mod locks;
pub mod log;
pub mod metrics;
pub mod peers;
pub mod profiles;
pub mod proxy;
pub mod server;
pub mod systemd;
pub mod tls;
pub mod transport;
pub mod upgrade;
pub mod version;
