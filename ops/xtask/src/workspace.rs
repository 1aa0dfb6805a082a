//! Where things are, and how cargo is called here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// `cargo` with the flag that lets s3s build, in the workspace.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says to a program that it runs is about that program. Build scripts that look at it would run again,
    // and half of the libraries be compiled again, each time that cargo is called by xtask and by hand in turn.
    for (name, _) in std::env::vars_os() {
        let of_xtask = ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start));
        if of_xtask {
            cargo.env_remove(name);
        }
    }
    cargo.arg(command).current_dir(root());
    if !matches!(command, "fmt" | "fetch") {
        cargo.arg("--ignore-rust-version");
    }
    cargo
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
