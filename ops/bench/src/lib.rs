//! What the benchmarks share: how they print numbers, and what the kernel has cached.

use std::{
    fs::File,
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Advice, fadvise, fdatasync};

/// Why a benchmark has no figures.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Every file below `dir`.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Asks the kernel to forget what it has cached of all files below `dir`. The host below a virtual machine may still
/// remember.
pub fn forget_cached(dir: &Path) -> Result<(), Error> {
    for path in files_below(dir)? {
        let file = match File::open(path) {
            // Whoever uses the folder may have removed it since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        fdatasync(&file)?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// A rate for people: whole numbers with thousands separated.
pub fn per_second(count: u64, took: Duration) -> String {
    thousands((count as f64 / took.as_secs_f64().max(1e-9)).round() as u64)
}

pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(per_second(10, Duration::from_millis(500)), "20");
    }
}
