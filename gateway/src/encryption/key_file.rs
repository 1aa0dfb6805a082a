//! Keys in a file, the same on every node: what a cluster without a key management has.
//!
//! Each line is `NAME/VERSION KEY`, the key as 64 hexadecimal digits; empty lines and those that begin with `#` mean
//! nothing. The first line's name is the default key. Of each name the highest version wraps, the others open what they
//! wrapped before. A version with the word `opens` behind its key does not wrap yet: so it can be given to all nodes
//! before one of them writes by it.

use std::collections::BTreeMap;

use super::{
    error::KeyError,
    secret::{KEY_BYTES, Secret},
};

/// Bounds what is kept of a file.
const MOST_KEYS: usize = 1000;
const OPENS: &str = "opens";

/// The master keys of a cluster. Shown without anything of the keys.
pub struct KeyFile {
    default: String,
    keys: BTreeMap<String, BTreeMap<u32, Key>>,
}

struct Key {
    secret: Secret,
    wraps: bool,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.keys.iter().map(|(name, versions)| (name, versions.keys()))).finish()
    }
}

/// What is wrong with a file of keys, never with anything of a key in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    #[error("it has no key: want a line NAME/VERSION and 64 hexadecimal digits, as `openssl rand -hex 32` prints them")]
    Empty,
    #[error("line {0}: want NAME/VERSION and, after a space, 64 hexadecimal digits")]
    Line(usize),
    #[error("line {0}: a name has 1 to 64 letters, digits, '-', '_' and '.'")]
    Name(usize),
    #[error("line {0}: a version is a number from 1 on")]
    Version(usize),
    #[error("line {0}: this version is there already")]
    Twice(usize),
    #[error("it has more than {MOST_KEYS} keys")]
    TooMany,
    #[error("of key {0} no version wraps")]
    NoneWraps(String),
}

/// As names of keys may be, here and in a key management.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.')
}

impl KeyFile {
    /// # Errors
    /// For what is not such a file.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys: BTreeMap<String, BTreeMap<u32, Key>> = BTreeMap::new();
        let mut default = None;
        let mut count = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (label, key) = line.split_once(char::is_whitespace).ok_or(KeyFileError::Line(number))?;
            let (name, version) = label.split_once('/').ok_or(KeyFileError::Line(number))?;
            if !is_name(name) {
                return Err(KeyFileError::Name(number));
            }
            let version: u32 = version.parse().ok().filter(|v| *v > 0).ok_or(KeyFileError::Version(number))?;
            let mut bytes = zeroize::Zeroizing::new([0; KEY_BYTES]);
            let (key, wraps) = match key.trim().split_once(char::is_whitespace) {
                None => (key.trim(), true),
                Some((key, rest)) if rest.trim() == OPENS => (key, false),
                Some(_) => return Err(KeyFileError::Line(number)),
            };
            hex::decode_to_slice(key, &mut *bytes).map_err(|_| KeyFileError::Line(number))?;
            let secret = Secret::of(&*bytes).ok_or(KeyFileError::Line(number))?;
            let key = Key { secret, wraps };
            if keys.entry(name.to_owned()).or_default().insert(version, key).is_some() {
                return Err(KeyFileError::Twice(number));
            }
            default.get_or_insert_with(|| name.to_owned());
            count += 1;
            if count > MOST_KEYS {
                return Err(KeyFileError::TooMany);
            }
        }
        let idle = keys.iter().find(|(_, versions)| !versions.values().any(|key| key.wraps));
        if let Some((name, _)) = idle {
            return Err(KeyFileError::NoneWraps(name.clone()));
        }
        Ok(Self { default: default.ok_or(KeyFileError::Empty)?, keys })
    }

    /// A new file with one key; None if the system gives no random numbers.
    pub fn generate() -> Option<String> {
        let key = Secret::draw().ok()?;
        Some(format!(
            "# Keys by which objects are encrypted: without them nobody can read those.\ncairn/1 {}\n",
            hex::encode(key.bytes())
        ))
    }

    pub(super) fn default_name(&self) -> &str {
        &self.default
    }

    /// Names with their versions in order, and the one that wraps.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Vec<u32>, u32)> {
        self.keys.iter().map(|(name, versions)| {
            let wraps = versions.iter().rfind(|(_, key)| key.wraps).map_or(0, |(version, _)| *version);
            (name.as_str(), versions.keys().copied().collect(), wraps)
        })
    }

    /// What wraps by a name.
    pub(super) fn newest(&self, name: &str) -> Result<(u32, &Secret), KeyError> {
        let newest = self.keys.get(name).and_then(|versions| versions.iter().rfind(|(_, key)| key.wraps));
        newest.map(|(version, key)| (*version, &key.secret)).ok_or_else(|| KeyError::NoSuchKey(name.to_owned()))
    }

    pub(super) fn get(&self, name: &str, version: u32) -> Result<&Secret, KeyError> {
        let found = self.keys.get(name).and_then(|versions| versions.get(&version));
        let missing = || KeyError::NoSuchVersion { key: name.to_owned(), version };
        found.map(|key| &key.secret).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn files_are_read_strictly() {
        let key = "ab".repeat(32);
        let file = KeyFile::parse(&format!("# x\n\nb/1 {key}\na/2 \t{key}\nb/10 {key}\nb/9 {key}\n")).unwrap();
        assert_eq!(file.default_name(), "b");
        assert_eq!(file.names().collect::<Vec<_>>(), [("a", vec![2], 2), ("b", vec![1, 9, 10], 10)]);
        assert_eq!(file.newest("b").unwrap().0, 10);
        assert!(file.get("b", 9).is_ok());
        assert_eq!(file.newest("c").err(), Some(KeyError::NoSuchKey("c".into())));
        let missing = KeyError::NoSuchVersion { key: "b".into(), version: 2 };
        assert_eq!(file.get("b", 2).err(), Some(missing));
        assert!(!format!("{file:?}").contains("ab"));
        for (text, error) in [
            (String::new(), KeyFileError::Empty),
            ("# only this".into(), KeyFileError::Empty),
            (key.clone(), KeyFileError::Line(1)),
            (format!("a {key}"), KeyFileError::Line(1)),
            (format!("a/1 {}", &key[1..]), KeyFileError::Line(1)),
            (format!("a/1 {key}00"), KeyFileError::Line(1)),
            (format!("a/1 {key}\n/1 {key}"), KeyFileError::Name(2)),
            (format!("../1 {key}"), KeyFileError::Name(1)),
            (format!("a/0 {key}"), KeyFileError::Version(1)),
            (format!("a/x {key}"), KeyFileError::Version(1)),
            (format!("a/1 {key}\na/01 {key}"), KeyFileError::Twice(2)),
            (format!("a/1 {key} closes"), KeyFileError::Line(1)),
            (format!("a/1 {key} opens"), KeyFileError::NoneWraps("a".into())),
        ] {
            assert_eq!(KeyFile::parse(&text).err(), Some(error), "{text}");
        }
        let next = KeyFile::parse(&format!("a/1 {key}\na/2 {key} opens")).unwrap();
        assert_eq!(next.names().collect::<Vec<_>>(), [("a", vec![1, 2], 1)]);
        assert_eq!(next.newest("a").unwrap().0, 1);
        assert!(next.get("a", 2).is_ok());
        assert!(KeyFile::parse(&KeyFile::generate().unwrap()).is_ok());
    }
}
