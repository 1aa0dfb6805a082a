//! File systems of a disk's own, in a file: they can be full, turn read-only as ext4 does after an error, and lose what
//! was not synced as in a power cut.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use super::system;
use crate::error::ChaosError;

/// The file that takes the space of a full disk.
const BALLAST: &str = "ballast";
/// `EXT4_IOC_SHUTDOWN` of Linux, `_IOR('X', 125, __u32)`, and its flag by which not even the journal is written any
/// more.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const WITHOUT_JOURNAL: u32 = 2;
/// Smaller pieces of ballast are not worth a call.
const PIECE: u64 = 64 << 10;

/// One file system; it is unmounted with this value, and nothing of it stays but its file.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    at: PathBuf,
    is_mounted: bool,
}

impl Volume {
    /// A new one of so many bytes, mounted at `at`.
    pub fn new(at: &Path, bytes: u64) -> Result<Self, ChaosError> {
        let image = at.with_extension("image");
        fs::create_dir_all(at).map_err(ChaosError::io(format!("create {}", at.display())))?;
        let made = File::create(&image).and_then(|file| file.set_len(bytes));
        made.map_err(ChaosError::io(format!("create {}", image.display())))?;
        // No blocks are kept for root, who the nodes may be.
        system("mkfs.ext4", &["-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        let mut volume = Self { image, at: at.into(), is_mounted: false };
        volume.mount()?;
        fs::remove_dir(at.join("lost+found")).map_err(ChaosError::io("empty a new file system"))?;
        Ok(volume)
    }

    fn mount(&mut self) -> Result<(), ChaosError> {
        system("mount", &["-t", "ext4", "-o", "loop", &self.image.to_string_lossy(), &self.at.to_string_lossy()])?;
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), ChaosError> {
        if std::mem::take(&mut self.is_mounted) {
            system("umount", &[&self.at.to_string_lossy()])?;
        }
        Ok(())
    }

    /// Nobody may use it now. As a machine that starts finds it: its journal is looked at.
    pub fn mount_again(&mut self) -> Result<(), ChaosError> {
        self.unmount()?;
        self.mount()
    }

    /// What ext4 does by itself when its device fails: everything is refused with EROFS, but for reads.
    pub fn turn_read_only(&self) -> Result<(), ChaosError> {
        system("mount", &["-o", "remount,abort", &self.at.to_string_lossy()]).map(drop)
    }

    /// From now on nothing reaches the device, and what had not reached it is lost when it is mounted again.
    pub fn cut_power(&self) -> Result<(), ChaosError> {
        let folder = File::open(&self.at).map_err(ChaosError::io(format!("open {}", self.at.display())))?;
        let flags = WITHOUT_JOURNAL;
        // SAFETY: the call reads four bytes at the pointer, which the value has.
        if unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &raw const flags) } == 0 {
            return Ok(());
        }
        let why = std::io::Error::last_os_error().to_string();
        Err(ChaosError::Io { what: format!("cut the power of {}", self.at.display()), why })
    }

    /// Somebody else's file takes all the space that is left, the product's reserve too.
    pub fn fill(&self) -> Result<(), ChaosError> {
        let failed = ChaosError::io(format!("fill {}", self.at.display()));
        let file = File::create(self.at.join(BALLAST)).map_err(failed)?;
        let (mut length, mut piece) = (0u64, 1 << 30);
        while piece >= PIECE {
            // SAFETY: plain system call on a file that is open.
            let took = unsafe { libc::fallocate(file.as_raw_fd(), 0, length as i64, piece as i64) } == 0;
            if took { length += piece } else { piece /= 2 }
        }
        Ok(())
    }

    /// Takes that file away.
    pub fn relieve(&self) -> Result<(), ChaosError> {
        match fs::remove_file(self.at.join(BALLAST)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ChaosError::io(format!("relieve {}", self.at.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Volume {
    /// Whoever still uses it goes on until it ends.
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = system("umount", &["-l", &self.at.to_string_lossy()]);
        }
    }
}
