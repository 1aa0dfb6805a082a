//! An XFS file system in a file, whose power can be cut.

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// The smallest that mkfs.xfs makes is 300 MiB; the file is sparse.
const BYTES: u64 = 512 << 20;

pub(crate) struct LoopFs {
    mount: PathBuf,
    image: PathBuf,
    mounted: bool,
    _directory: tempfile::TempDir,
}

fn run<I: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = I>) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl LoopFs {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// Why that cannot be done here: it takes root, loop devices, XFS and mkfs.xfs.
    pub(crate) fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, mount) = (directory.path().join("image"), directory.path().join("mount"));
        let file = File::create(&image).and_then(|file| file.set_len(BYTES));
        file.and_then(|()| std::fs::create_dir(&mount)).map_err(|error| error.to_string())?;
        run("mkfs.xfs", [OsStr::new("-q"), OsStr::new("-f"), image.as_os_str()])?;
        let mut made = Self { mount, image, mounted: false, _directory: directory };
        made.mount()?;
        // What cuts the power must work, or the tests would not test.
        made.cut()?;
        made.unmount()?;
        made.mount()?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on every operation fails, and what was not synced is lost. What `xfs_io -x -c shutdown` does, at once.
    pub(crate) fn cut(&self) -> Result<(), String> {
        /// `XFS_IOC_GOINGDOWN` and `XFS_FSOP_GOING_FLAGS_NOLOGFLUSH` of linux/xfs_fs.h.
        const GOING_DOWN: libc::c_ulong = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(&self.mount).map_err(|error| error.to_string())?;
        // SAFETY: the descriptor is open, and the call reads four bytes of the flags.
        let result = unsafe { libc::ioctl(folder.as_raw_fd(), GOING_DOWN as _, &NO_LOG_FLUSH) };
        if result == 0 { Ok(()) } else { Err(format!("shut XFS down: {}", std::io::Error::last_os_error())) }
    }

    /// The loop device goes with the mount.
    pub(crate) fn mount(&mut self) -> Result<(), String> {
        let arguments = ["-t", "xfs", "-o", "loop"].map(OsStr::new).into_iter();
        run("mount", arguments.chain([self.image.as_os_str(), self.mount.as_os_str()]))?;
        self.mounted = true;
        Ok(())
    }

    /// Waits for what still has files open.
    pub(crate) fn unmount(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match run("umount", [&self.mount]) {
                Ok(()) => {
                    self.mounted = false;
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        if self.mounted && run("umount", [&self.mount]).is_err() {
            // Whatever still holds it: gone from here now, and wholly when that ends.
            let _ = run("umount", [OsStr::new("-l"), self.mount.as_os_str()]);
        }
    }
}
