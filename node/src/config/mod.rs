//! Configuration files: read, checked as a whole, every problem named at once with its line and its remedy.

mod meta_file;
mod node_file;
mod problem;
mod shared;
mod stripes;
mod values;

use std::path::{Path, PathBuf};

pub use meta_file::MetaFile;
#[cfg(feature = "fdb")]
pub use node_file::DEFAULT_PREFIX;
pub use node_file::{MetadataKind, MetadataSection, NodeFile};
pub use problem::{ConfigError, Findings};
use serde::de::DeserializeOwned;
pub use shared::{LogFormat, LogSection, TlsSection};
pub use values::{Period, SchemeText, Size};

/// A file that is read, checked and then used.
pub trait ConfigFile: DeserializeOwned {
    /// Everything that can be judged from the text alone.
    fn check(&self, findings: &mut Findings<'_>);
    /// Files the configuration names, with the field that names them: they must be readable.
    fn files(&self) -> Vec<(String, PathBuf)>;
    /// Makes relative paths relative to the folder of the file they stand in, so that they mean the same from anywhere.
    fn resolve(&mut self, folder: &Path);
}

/// Which kind of process a file configures.
#[derive(Debug)]
pub enum AnyFile {
    Node(Box<NodeFile>),
    Meta(Box<MetaFile>),
}

/// Reads and checks `path`.
pub fn load<F: ConfigFile>(path: &Path) -> Result<F, ConfigError> {
    let text = read(path)?;
    let mut file: F = parse(path, &text)?;
    file.resolve(path.parent().unwrap_or(Path::new("")));
    Ok(file)
}

/// Like [`load`] for a file of either kind: one with a `[meta]` table is a metadata server's, any other a node's.
/// With `files` the certificates and keys it names must be readable too.
pub fn load_any(path: &Path, files: bool) -> Result<AnyFile, ConfigError> {
    let text = read(path)?;
    let is_meta = toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("meta"));
    if is_meta {
        let file: MetaFile = load(path)?;
        check_files(path, &text, &file, files)?;
        Ok(AnyFile::Meta(Box::new(file)))
    } else {
        let file: NodeFile = load(path)?;
        check_files(path, &text, &file, files)?;
        Ok(AnyFile::Node(Box::new(file)))
    }
}

/// Parses and checks a text as if it stood in `path`.
pub fn parse<F: ConfigFile>(path: &Path, text: &str) -> Result<F, ConfigError> {
    let mut findings = Findings::new(text);
    let parsed = match toml::from_str::<F>(text) {
        Ok(file) => {
            file.check(&mut findings);
            Some(file)
        }
        Err(error) => {
            findings.refuse_parse(&error);
            None
        }
    };
    let problems = findings.problems;
    match parsed {
        Some(file) if problems.is_empty() => Ok(file),
        _ => Err(ConfigError::Invalid { file: path.to_owned(), problems }),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { file: path.to_owned(), why: error.to_string() })
}

fn check_files<F: ConfigFile>(path: &Path, text: &str, file: &F, wanted: bool) -> Result<(), ConfigError> {
    if !wanted {
        return Ok(());
    }
    let mut findings = Findings::new(text);
    for (field, named) in file.files() {
        if let Err(error) = std::fs::File::open(&named) {
            findings.refuse(
                &field,
                format!("{} cannot be read: {error}", named.display()),
                "create it, correct the path, or let this user read it",
            );
        }
    }
    let problems = findings.problems;
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { file: path.to_owned(), problems }) }
}

#[cfg(test)]
mod tests;
