//! Keys, and what is done with them: signatures under one acceptance rule, key files, and channels pinned to keys.
//!
//! [`ed25519`] holds the one rule by which every replica, client and third party accepts or refuses a signature,
//! singly and in batches alike. [`verifier`] makes it quick for keys that are seen often. [`mod@file`] keeps a node's
//! secrets on disk, [`keyring`] those that it makes while it lives, and [`channel`] binds a TLS connection to the identity
//! key at its other end.
#![forbid(unsafe_code)]

pub mod channel;
pub mod ed25519;
pub mod file;
pub mod keyring;
mod table;
pub mod verifier;

pub use channel::{Accepts, ChannelError, Refused, peer_key, peer_of};
pub use ed25519::{SigningKey, verify, verify_batch};
pub use file::{KeyFileError, NodeKey, ParseError, parse_public_key};
pub use keyring::{KEYS_FOLDER, Keyring, KeyringError, MemberSigner, parse_voting_key};
pub use verifier::Ed25519Verifier;
