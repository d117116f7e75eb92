//! How commands that begin a stream make its UID.

use clap::Args;

use super::gateway::{Failure, uid};
use crate::session::Uid;

/// The UID of the deployed release's `--mock`.
const MOCK_UID: &str = "4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3";

/// How a new UID is made.
#[derive(Args)]
pub(super) struct Mint {
    /// Make the UID a random UUID, for peers that want that shape; else 64 random digits
    #[arg(long)]
    uuid: bool,
    /// Use the fixed UID of the deployed release's tests, which everybody knows
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = crate::config::boolean, value_name = "BOOL")]
    mock: Option<bool>,
}

impl Mint {
    pub(super) fn uid(&self) -> Result<Uid, Failure> {
        if self.mock == Some(true) {
            eprintln!("s2uc: warning: --mock uses a UID, and with it a key, that everybody knows");
            return uid(MOCK_UID);
        }
        let uid = if self.uuid { Uid::random_uuid() } else { Uid::random() };
        uid.map_err(|e| Failure::local(format!("failed to make a UID: {e}")))
    }
}
