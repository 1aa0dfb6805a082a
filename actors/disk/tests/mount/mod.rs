//! File systems of our own in a file: what a test may fill, remount, cut the power of and take away.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::ioctl::{self, Opcode, Setter, opcode};

/// How long the kernel may keep a file system busy after its last file was closed.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Xfs,
    Ext4,
}

/// A file system on a loop device. Dropping it unmounts and removes it.
pub(crate) struct LoopFs {
    kind: Kind,
    mounted: bool,
    dir: tempfile::TempDir,
}

/// Says on the real standard error, past the capture of the test harness, that something was not tested.
pub(crate) fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {what}: {why}\n");
}

/// Runs a command; its output is the error when it fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}: {}", arguments.join(" "), output.status, said.trim()))
}

impl LoopFs {
    /// A mounted file system of `mib` MiB; None, said loudly, where this user or machine cannot make one.
    pub(crate) fn new(kind: Kind, mib: u64, test: &str) -> Option<Self> {
        match Self::try_new(kind, mib) {
            Ok(made) => Some(made),
            Err(why) => {
                skipped(test, &why);
                None
            }
        }
    }

    fn try_new(kind: Kind, mib: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".into());
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut made = Self { kind, mounted: false, dir };
        std::fs::create_dir(made.path()).unwrap();
        std::fs::File::create(made.image()).unwrap().set_len(mib << 20).unwrap();
        let image = made.image();
        match kind {
            Kind::Xfs => run("mkfs.xfs", &["-q", "-f", text(&image)])?,
            Kind::Ext4 => run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?,
        }
        made.try_mount()?;
        Ok(made)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn try_mount(&mut self) -> Result<(), String> {
        // The default of most installations, and the way in which a disk becomes read-only in practice.
        let options = if self.kind == Kind::Ext4 { "loop,errors=remount-ro" } else { "loop" };
        run("mount", &["-o", options, text(&self.image()), text(&self.path())])?;
        self.mounted = true;
        Ok(())
    }

    /// Replays the file system's log, as after a power cut.
    pub(crate) fn mount(&mut self) {
        self.try_mount().unwrap();
    }

    /// Waits for whoever still has files open.
    pub(crate) fn unmount(&mut self) {
        let deadline = Instant::now() + UNMOUNT_PATIENCE;
        while let Err(why) = run("umount", &[text(&self.path())]) {
            assert!(Instant::now() < deadline, "{why}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mounted = false;
    }

    /// Takes it away under those who use it; they keep the files they have open.
    pub(crate) fn detach(&mut self) {
        run("umount", &["-l", text(&self.path())]).unwrap();
        self.mounted = false;
    }

    /// Has ext4 meet an error, upon which it makes itself read-only. False if this kernel cannot be asked to.
    pub(crate) fn meet_error(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let path = self.path();
        let device = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?;
            (words.next()? == text(&path)).then(|| device.trim_start_matches("/dev/").to_owned())
        });
        let trigger = Path::new("/sys/fs/ext4").join(device.unwrap()).join("trigger_fs_error");
        // The write itself is answered with an error once it has worked.
        let _ = std::fs::write(&trigger, "a test");
        matches!(std::fs::write(path.join("probe"), "x"), Err(error) if error.raw_os_error() == Some(30))
    }

    /// Mends an unmounted ext4 that met an error.
    pub(crate) fn mend(&self) {
        // It exits with 1 when it has mended something.
        let _ = run("e2fsck", &["-f", "-y", text(&self.image())]);
    }

    /// From now on nothing reaches the medium any more, as in a power cut: what was not synced is lost.
    pub(crate) fn cut_power(&self) {
        /// `XFS_IOC_GOINGDOWN` and `XFS_FSOP_GOING_FLAGS_NOLOGFLUSH` of linux/xfs_fs.h; ext4 has the same.
        const GOING_DOWN: Opcode = opcode::read::<u32>(b'X', 125);
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(self.path()).unwrap();
        // SAFETY: the call reads four bytes of the flags, whatever its opcode says of the direction.
        let result = unsafe { ioctl::ioctl(&folder, Setter::<GOING_DOWN, u32>::new(NO_LOG_FLUSH)) };
        result.unwrap_or_else(|error| panic!("shut {:?} down: {error}", self.kind));
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        if self.mounted && run("umount", &[text(&self.path())]).is_err() {
            // Somebody still has files open (a failed test): let go of it as soon as they are closed.
            let _ = run("umount", &["-l", text(&self.path())]);
        }
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
