//! What a run makes for itself where it may: namespaces of its own, in which it mounts and cables as it likes and which
//! are gone with it, however it ends.

pub mod clock;
mod filter;
pub mod net;
pub mod volume;

use crate::error::ChaosError;

/// Whether this process has entered namespaces of its own, and if not, why.
pub type Lab = Result<(), String>;

/// Before the process has a second thread. From then on mounts and the network are its own: nobody else sees them, and
/// nothing is left of them when its last process has ended. Only a privileged process may; Err says why it could not.
pub fn enter(with_network: bool) -> Lab {
    // SAFETY: a query without side effects.
    if unsafe { libc::geteuid() } != 0 {
        return Err("namespaces and file systems of one's own need root".into());
    }
    let flags = if with_network { libc::CLONE_NEWNS | libc::CLONE_NEWNET } else { libc::CLONE_NEWNS };
    // SAFETY: plain system calls; the strings are constants that end with a zero.
    let entered = unsafe {
        libc::unshare(flags) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
    };
    if entered { Ok(()) } else { Err(format!("namespaces of one's own: {}", std::io::Error::last_os_error())) }
}

/// Runs a command of the system to its end.
fn system(command: &str, arguments: &[&str]) -> Result<String, ChaosError> {
    let mut process = std::process::Command::new(command);
    process.args(arguments);
    crate::process::run(process, &format!("{command} {}", arguments.join(" ")))
}
