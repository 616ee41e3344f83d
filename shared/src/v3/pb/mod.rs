//! The messages and services of the v3 API, and what version 3 keeps in its log and its database.
//!
//! The code is generated from the files in `shared/proto` by `shared/proto/generate`, and committed. With the feature
//! `grpc` each service has a client and a server.

/// Who is who, and who may do what.
#[expect(missing_docs, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/authpb.rs"]
pub mod authpb;

/// Requests, responses and services, and the entries of the log.
#[expect(missing_docs, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/etcdserverpb.rs"]
pub mod etcdserverpb;

/// Leases in the database, and requests for them between members.
#[expect(missing_docs, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/leasepb.rs"]
pub mod leasepb;

/// Keys and events.
#[expect(missing_docs, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/mvccpb.rs"]
pub mod mvccpb;

/// The service for elections.
#[expect(missing_docs, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/v3electionpb.rs"]
pub mod v3electionpb;

/// The service for locks.
#[expect(missing_docs, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/v3lockpb.rs"]
pub mod v3lockpb;

/// All messages and services as an encoded `google.protobuf.FileDescriptorSet`, for JSON and for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
