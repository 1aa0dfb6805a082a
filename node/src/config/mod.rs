//! Configuration files: read, checked as a whole, every problem named at once with its line and its remedy.

mod encryption;
mod events;
mod memory;
mod meta_file;
mod meta_memory;
mod node_file;
mod problem;
mod s3_section;
mod shared;
mod stripes;
mod values;
mod web_identity;

use std::path::{Path, PathBuf};

pub(crate) use encryption::{EncryptionSection, VaultSection};
pub(crate) use events::{EventsSection, WebhookSection};
pub(crate) use memory::{Sharers, Shares, TooSmall};
pub(crate) use meta_file::MetaFile;
pub(crate) use meta_memory::MetaShares;
#[cfg(feature = "fdb")]
pub(crate) use node_file::DEFAULT_PREFIX;
pub(crate) use node_file::{DiskSection, MetadataKind, MetadataSection, NodeFile};
pub(crate) use problem::{ConfigError, Findings};
pub(crate) use s3_section::CertificateSection;
use serde::de::DeserializeOwned;
pub(crate) use shared::{AuditSection, LogFormat, LogSection, TlsSection};
pub(crate) use stripes::problems as policy_problems;
pub(crate) use values::{Period, SchemeText, Size};
pub(crate) use web_identity::WebIdentitySection;

/// A file that is read, checked and then used.
pub(crate) trait ConfigFile: DeserializeOwned {
    /// Everything that can be judged from the text alone.
    fn check(&self, findings: &mut Findings<'_>);
    /// Makes relative paths relative to the folder of the file they stand in, so that they mean the same from anywhere.
    fn resolve(&mut self, folder: &Path);
}

/// Which kind of process a file configures.
#[derive(Debug)]
pub(crate) enum AnyFile {
    Node(Box<Loaded<NodeFile>>),
    Meta(Box<Loaded<MetaFile>>),
}

/// A file whose text is good, with the text, so that what turns out to be wrong later is told with its line.
#[derive(Debug)]
pub(crate) struct Loaded<F> {
    pub file: F,
    path: PathBuf,
    text: String,
}

impl<F> Loaded<F> {
    /// Looks at it once more; whatever `look` notes is an error.
    pub(crate) fn check(&self, look: impl FnOnce(&F, &mut Findings<'_>)) -> Result<(), ConfigError> {
        let mut findings = Findings::new(&self.text);
        look(&self.file, &mut findings);
        findings.verdict(&self.path)
    }
}

/// Reads `path` and checks its text.
pub(crate) fn load<F: ConfigFile>(path: &Path) -> Result<Loaded<F>, ConfigError> {
    of_text(path, read(path)?)
}

/// Like [`load`] for a file of either kind: one with a `[meta]` table is a metadata server's, any other a node's.
pub(crate) fn load_any(path: &Path) -> Result<AnyFile, ConfigError> {
    let text = read(path)?;
    let is_meta = toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("meta"));
    if is_meta {
        Ok(AnyFile::Meta(Box::new(of_text(path, text)?)))
    } else {
        Ok(AnyFile::Node(Box::new(of_text(path, text)?)))
    }
}

fn of_text<F: ConfigFile>(path: &Path, text: String) -> Result<Loaded<F>, ConfigError> {
    let mut file: F = parse(path, &text)?;
    file.resolve(path.parent().unwrap_or(Path::new("")));
    Ok(Loaded { file, path: path.to_owned(), text })
}

/// Parses and checks a text as if it stood in `path`.
pub(crate) fn parse<F: ConfigFile>(path: &Path, text: &str) -> Result<F, ConfigError> {
    let mut findings = Findings::new(text);
    match toml::from_str::<F>(text) {
        Ok(file) => {
            file.check(&mut findings);
            findings.verdict(path).map(|()| file)
        }
        Err(error) => {
            findings.refuse_parse(&error);
            Err(ConfigError::Invalid { file: path.to_owned(), problems: findings.problems })
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { file: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests;
