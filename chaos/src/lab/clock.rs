//! Wall clocks that are wrong: a small library, compiled when it is needed and loaded before the process, adds to what
//! the system says. Timers (CLOCK_MONOTONIC) stay as they are, as on a machine whose clock somebody sets.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{error::ChaosError, process::run};

const SOURCE: &str = include_str!("clock.c");
/// Where the library finds its control file.
const CONTROL: &str = "CAIRN_CHAOS_CLOCK";

/// The compiled library.
#[derive(Clone, Debug)]
pub struct Library {
    file: PathBuf,
}

impl Library {
    /// Err says what is lacking here.
    pub fn compile(folder: &Path) -> Result<Self, String> {
        let (source, file) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, SOURCE).map_err(|error| format!("write {}: {error}", source.display()))?;
        let mut command = Command::new("cc");
        command.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&file).arg(&source).arg("-ldl");
        run(command, "cc").map_err(|error| error.to_string())?;
        Ok(Self { file })
    }
}

/// The clock of one process, wherever and however often it runs.
#[derive(Clone, Debug)]
pub struct Clock {
    library: Library,
    control: PathBuf,
}

impl Clock {
    pub fn new(library: &Library, control: PathBuf) -> Result<Self, ChaosError> {
        fs::write(&control, [0; 24]).map_err(ChaosError::io("write the control file of a clock"))?;
        Ok(Self { library: library.clone(), control })
    }

    pub fn into(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library.file).env(CONTROL, &self.control);
    }

    /// It is so much ahead of the system's at once, or behind.
    pub fn jump(&self, by: Duration, is_ahead: bool) -> Result<(), ChaosError> {
        let nanoseconds = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.set(if is_ahead { nanoseconds } else { -nanoseconds }, 0)
    }

    /// From now on it goes faster, by so many seconds in each.
    pub fn drift(&self, seconds: i64) -> Result<(), ChaosError> {
        self.set(0, seconds)
    }

    pub fn set_right(&self) -> Result<(), ChaosError> {
        self.set(0, 0)
    }

    /// How far off, how many seconds a second it goes too fast, and since when by the system's monotonic clock.
    fn set(&self, offset: i64, rate: i64) -> Result<(), ChaosError> {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a value of the right type that outlives the call.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let since = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        let mut bytes = [0; 24];
        for (place, number) in bytes.chunks_exact_mut(8).zip([offset, rate, since]) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        let file = OpenOptions::new().write(true).open(&self.control);
        file.and_then(|file| file.write_all_at(&bytes, 0)).map_err(ChaosError::io("set a clock"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seconds(clock: Option<&Clock>) -> i64 {
        let mut command = Command::new("date");
        command.arg("+%s");
        if let Some(clock) = clock {
            clock.into(&mut command);
        }
        run(command, "date").unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_process_believes_the_clock_that_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let library = match Library::compile(folder.path()) {
            Ok(library) => library,
            Err(why) => return eprintln!("SKIPPED: {why}"),
        };
        let clock = Clock::new(&library, folder.path().join("clock")).unwrap();
        let off = |clock: &Clock| seconds(Some(clock)) - seconds(None);
        assert!(off(&clock).abs() < 60);
        clock.jump(Duration::from_secs(86_400), true).unwrap();
        assert!((86_400 - 60..86_400 + 60).contains(&off(&clock)));
        clock.jump(Duration::from_secs(86_400), false).unwrap();
        assert!((-86_400 - 60..-86_400 + 60).contains(&off(&clock)));
        clock.set_right().unwrap();
        assert!(off(&clock).abs() < 60);
    }
}
