//! Keys, and what is done with them.
//!
//! [`ed25519`] holds the one rule by which every replica, client and third party accepts or refuses a signature,
//! singly and in batches alike. [`verifier`] makes it quick for keys that are seen often.
#![forbid(unsafe_code)]

pub mod ed25519;
mod table;
pub mod verifier;

pub use ed25519::{SigningKey, verify, verify_batch};
pub use verifier::Ed25519Verifier;
