//! The agent replaces itself by a binary that the worker sends.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::layout;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// The largest binary that is accepted.
const SIZE_MAX: u64 = 256 << 20;

/// Reads exactly `size` bytes and puts them in the agent's place if their checksum is right. Whoever
/// starts the agent gets the old one or the new one, whole.
pub fn upgrade(input: &mut impl Read, sha256: &str, size: u64) -> Result<()> {
    if size > SIZE_MAX {
        return Err(Error::new("agent_too_large", "The new agent is larger than an agent can be."));
    }
    let mut bytes = Vec::new();
    input.take(size).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).ok() != Some(size) {
        return Err(Error::new(
            "agent_cut_off",
            "The new agent did not arrive whole; send it again.",
        ));
    }
    if hex::encode(Sha256::digest(&bytes)) != sha256 {
        return Err(Error::new(
            "agent_damaged",
            "The new agent's checksum is wrong; send it again.",
        ));
    }
    install(&bytes)
}

/// Puts a binary in the agent's place.
pub fn install(bytes: &[u8]) -> Result<()> {
    let path = Path::new(layout::AGENT);
    let name = path.file_name().unwrap_or_default();
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(Error::at(dir))?;
    Beneath::open(dir)?.write(name, bytes, Owner::root(0o755))
}
