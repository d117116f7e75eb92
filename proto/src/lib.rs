//! The wire contracts of SciStream's control channel, compiled from
//! `scistream.proto` (as deployed) and `gateway.proto` (ours).

#![allow(missing_docs, clippy::doc_markdown, reason = "generated; documented in the proto files")]

tonic::include_proto!("scistream");

/// The gateway service.
pub mod gateway {
    tonic::include_proto!("scistream.gateway.v1");
}

/// The compiled contracts, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scistream.bin"));
