//! `cairn completions`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::files::FileError;

/// A script for the shell.
pub(crate) fn script(shell: Shell) -> Result<String, FileError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut script);
    let unreadable = |error| FileError::new("encode", Path::new("standard output"), error);
    String::from_utf8(script).map_err(|error| unreadable(std::io::Error::other(error)))
}
