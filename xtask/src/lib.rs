//! The project's own tools, run as `cargo xtask COMMAND`. They belong to the workbench: nothing
//! that a user installs depends on them, and they depend on none of the project's crates, so that
//! a broken tree can still be examined.
//!
//! - [`codegen`] writes the Rust side of the etcd API from its protobuf files.
//! - [`new_protocol`] writes a protocol's folder from its family's templates.
//! - [`tidy`] holds the rules of the house that no compiler holds: which crate may depend on
//!   which, how long a function may grow, what every protocol's folder has to contain.
//!
//! What generation and tidiness demand is held by this crate's tests too, so that a change which
//! breaks a rule fails where every other mistake fails.

use std::path::{Path, PathBuf};

pub mod codegen;
pub mod new_protocol;
pub mod tidy;

/// The folder that holds the workspace's `Cargo.toml`.
///
/// The tools work on the tree in which they are run, so that one build of them serves every work tree; where they are run
/// outside of any, on the one that they were built from.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let around = here.ancestors().find(|folder| folder.join("xtask/templates").is_dir());
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    around.or(own.parent()).unwrap_or(own).to_path_buf()
}
