//! How far the scrub of a disk has come, kept in a file on the disk itself: a pass takes days, and a restart must not
//! begin it anew. The file says nothing that would be missed: without it, or with one that cannot be read, a pass
//! begins at the beginning.
//!
//! ```text
//! cairn scrub 3                          the format; 2 had nothing skipped, 1 neither passes nor inconsistent blobs
//! pass 17                                how many passes have begun
//! verified 1700000000000                 when the last whole pass began: all was verified since (ms since 1970)
//! began 1700000000000                    when the pass under way began
//! after 7/00112233445566778899aabbccddeeff/3/1
//! inconsistent 00112233445566778899aabbccddeeff    a blob that is not what was written; any number of these
//! skipped 7/00112233445566778899aabbccddeeff/2/1   what the pass under way could not look at yet; any number
//! ```

use std::{collections::BTreeSet, fs::File, io::Write, path::Path};

use cairn_schema::ids::{BlobId, FragmentName, GroupId};

const FILE: &str = "scrub";
const FORMAT: &str = "cairn scrub 3";
const FORMATS_BEFORE: [&str; 2] = ["cairn scrub 2", "cairn scrub 1"];
/// Inconsistent blobs that are remembered; more are only counted when they are found.
const MOST_INCONSISTENT: usize = 1000;
/// Of a disk that does not answer for more than these no more is skipped (BND-1).
const MOST_SKIPPED: usize = 1000;

/// Where the scrub of one disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// How many passes have begun.
    pub pass: u64,
    /// When the last whole pass began. None: there was none.
    pub verified_ms: Option<u64>,
    /// When the pass under way began. None: there is none.
    pub began_ms: Option<u64>,
    /// The last fragment that it verified.
    pub after: Option<FragmentName>,
    /// Blobs that deep scrub found not to be what was written, and could not mend.
    pub inconsistent: BTreeSet<BlobId>,
    /// What the pass under way went on without, and must look at before it was a whole one.
    pub skipped: BTreeSet<FragmentName>,
}

/// Why a position was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PositionError {
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path}: line {line} is not what this version writes: {text:?}")]
    Format { path: String, line: usize, text: String },
}

impl Position {
    /// A pass begins.
    pub(super) fn begin(self, now_ms: u64) -> Self {
        let skipped = BTreeSet::new();
        Self { pass: self.pass.wrapping_add(1), began_ms: Some(now_ms), after: None, skipped, ..self }
    }

    /// The pass under way is over. It was of the whole disk if it left nothing out.
    pub(super) fn finish(self) -> Self {
        let verified_ms = if self.skipped.is_empty() { self.began_ms } else { self.verified_ms };
        Self { verified_ms, began_ms: None, after: None, skipped: BTreeSet::new(), ..self }
    }

    /// Whether so many more may be skipped.
    pub(super) fn may_skip(&self, more: usize) -> bool {
        self.skipped.len() + more <= MOST_SKIPPED
    }

    pub(super) fn note_inconsistent(&mut self, blob: BlobId) {
        if self.inconsistent.len() < MOST_INCONSISTENT {
            self.inconsistent.insert(blob);
        }
    }

    /// Of the disk in this folder. Blocks.
    pub(super) fn load(disk: &Path) -> Result<Self, PositionError> {
        let path = disk.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|(line, text)| PositionError::Format {
                path: path.display().to_string(),
                line,
                text: text.chars().take(80).collect(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Replaces the file whole or not at all. Blocks.
    pub(super) fn save(&self, disk: &Path) -> Result<(), PositionError> {
        let (path, aside) = (disk.join(FILE), disk.join("scrub.new"));
        let write = || {
            let mut file = File::create(&aside)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&aside, &path)
        };
        write().map_err(|error| failed(&path, error))
    }

    fn text(&self) -> String {
        let mut text = format!("{FORMAT}\npass {}\n", self.pass);
        let times = [("verified", self.verified_ms), ("began", self.began_ms)];
        for (word, ms) in times.into_iter().filter_map(|(word, ms)| Some((word, ms?))) {
            text += &format!("{word} {ms}\n");
        }
        let names = self.after.iter().map(|name| ("after", name));
        for (word, name) in names.chain(self.skipped.iter().map(|name| ("skipped", name))) {
            let FragmentName { group, blob, stripe, position } = name;
            text += &format!("{word} {}/{blob}/{stripe}/{position}\n", group.0);
        }
        for blob in &self.inconsistent {
            text += &format!("inconsistent {blob}\n");
        }
        text
    }

    /// Err: the number and the text of the line that is wrong.
    fn parse(text: &str) -> Result<Self, (usize, &str)> {
        let mut position = Self::default();
        let mut lines = text.lines().enumerate();
        match lines.next() {
            Some((_, format)) if format == FORMAT || FORMATS_BEFORE.contains(&format) => {}
            other => return Err((1, other.map_or("", |(_, line)| line))),
        }
        for (number, line) in lines {
            let wrong = (number + 1, line);
            let (word, value) = line.split_once(' ').ok_or(wrong)?;
            match word {
                "pass" => position.pass = value.parse().map_err(|_| wrong)?,
                "inconsistent" => position.note_inconsistent(value.parse().map_err(|_| wrong)?),
                "verified" => position.verified_ms = Some(value.parse().map_err(|_| wrong)?),
                "began" => position.began_ms = Some(value.parse().map_err(|_| wrong)?),
                "after" => position.after = Some(name(value).ok_or(wrong)?),
                "skipped" if position.may_skip(1) => drop(position.skipped.insert(name(value).ok_or(wrong)?)),
                _ => return Err(wrong),
            }
        }
        Ok(position)
    }
}

fn name(text: &str) -> Option<FragmentName> {
    let mut parts = text.split('/');
    let group = GroupId(parts.next()?.parse().ok()?);
    let blob: BlobId = parts.next()?.parse().ok()?;
    let (stripe, position) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(FragmentName { group, blob, stripe, position })
}

fn failed(path: &Path, error: std::io::Error) -> PositionError {
    PositionError::Io { path: path.display().to_string(), error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn somewhere() -> Position {
        let after =
            FragmentName { group: GroupId(7), blob: BlobId(std::array::from_fn(|i| i as u8)), stripe: 3, position: 1 };
        Position {
            pass: 17,
            verified_ms: Some(1_600_000_000_000),
            began_ms: Some(1_700_000_000_000),
            after: Some(after),
            inconsistent: [after.blob, BlobId([9; 16])].into(),
            skipped: [FragmentName { stripe: 2, ..after }].into(),
        }
    }

    /// A change here is a change of format: it needs another first line.
    #[test]
    fn the_golden_file() {
        let golden = "cairn scrub 3\npass 17\nverified 1600000000000\nbegan 1700000000000\n\
            after 7/000102030405060708090a0b0c0d0e0f/3/1\n\
            skipped 7/000102030405060708090a0b0c0d0e0f/2/1\n\
            inconsistent 000102030405060708090a0b0c0d0e0f\n\
            inconsistent 09090909090909090909090909090909\n";
        assert_eq!(somewhere().text(), golden);
        assert_eq!(Position::parse(golden), Ok(somewhere()));
        assert_eq!(Position::default().text(), "cairn scrub 3\npass 0\n");
        let before =
            golden.replace("scrub 3", "scrub 2").replace("skipped 7/000102030405060708090a0b0c0d0e0f/2/1\n", "");
        assert_eq!(Position::parse(&before), Ok(Position { skipped: BTreeSet::new(), ..somewhere() }));
        let before = "cairn scrub 1\nverified 1600000000000\nbegan 1700000000000\n\
            after 7/000102030405060708090a0b0c0d0e0f/3/1\n";
        assert_eq!(
            Position::parse(before),
            Ok(Position { pass: 0, inconsistent: BTreeSet::new(), skipped: BTreeSet::new(), ..somewhere() })
        );
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_line() {
        for (text, line) in [
            ("", 1),
            ("cairn scrub 4\n", 1),
            ("cairn scrub 3\nskipped 7\n", 2),
            ("cairn scrub 2\ninconsistent 7\n", 2),
            ("cairn scrub 1\nbegan soon\n", 2),
            ("cairn scrub 1\nbegan 1\nlater 2\n", 3),
            ("cairn scrub 1\nafter 7/0001/3/1\n", 2),
            ("cairn scrub 1\nafter 7/000102030405060708090a0b0c0d0e0f/3/1/9\n", 2),
        ] {
            assert_eq!(Position::parse(text).map_err(|(line, _)| line), Err(line), "{text:?}");
        }
    }

    #[test]
    fn a_position_is_found_again_and_a_disk_without_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Position::load(folder.path()).unwrap(), Position::default());
        for position in [somewhere(), Position::default()] {
            position.save(folder.path()).unwrap();
            assert_eq!(Position::load(folder.path()).unwrap(), position);
        }
        std::fs::write(folder.path().join(FILE), b"\xff\xfe").unwrap();
        assert!(Position::load(folder.path()).is_err());
    }
}
