//! The files in which a disk keeps its fragments, for whoever wants to damage some.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::error::ChaosError;

/// Of a record, before its checksums and payload.
pub const HEAD: u64 = 64;

/// Of a byte, counted from the lowest.
pub fn flip_bit(file: &Path, at: u64, bit: u32) -> Result<(), ChaosError> {
    let flip = || {
        let file = OpenOptions::new().read(true).write(true).open(file)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ (1 << bit)], at)
    };
    flip().map_err(ChaosError::io("flip a bit"))
}

/// The segment files of a disk by their numbers.
pub fn segments(folder: &Path) -> Result<BTreeMap<u64, PathBuf>, ChaosError> {
    let mut segments = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(ChaosError::io("list a disk's folder"))? {
            let path = entry.map_err(ChaosError::io("list a disk's folder"))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg")
                && let Some(number) = number
            {
                segments.insert(number, path);
            }
        }
    }
    Ok(segments)
}
