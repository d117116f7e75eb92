//! The wire contract of SciStream's control channel, compiled from `scistream.proto`.

#![allow(missing_docs, clippy::doc_markdown, reason = "generated; documented in the proto file")]

tonic::include_proto!("scistream");

/// The compiled contract, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scistream.bin"));
