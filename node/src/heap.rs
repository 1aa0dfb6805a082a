//! The heap: set up so that it can give memory back, and made to do so.
//!
//! The system's allocator (glibc's) serves all threads from a few arenas, and one call returns every free page of all
//! of them to the system. Allocators with a heap for each thread cannot do that: fragments come and go on dozens of
//! threads, and what idle threads hold of free memory was several times what was in use.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the resident set is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Near the bound, free memory is given back this often at most,
const NEAR_PAUSE: Duration = Duration::from_millis(300);
/// else this often, so that what is needed again in a moment is still there,
const FAR_PAUSE: Duration = Duration::from_secs(2);
/// and so often whatever the resident set does: what is freed stays in it, so it does not tell what came free.
const REST_PAUSE: Duration = Duration::from_secs(10);
/// Less is not worth the call.
const WORTH_IT: u64 = 8 << 20;

/// Sets the allocator up. Call it before threads are started: arenas that there are stay.
pub(crate) fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // With one arena for every few threads none waits long, and none keeps much for itself.
        let arenas = std::thread::available_parallelism().map_or(4, |cores| (2 * cores.get()).clamp(4, 32));
        // Fixed: glibc would raise the bound with every large block that is freed, and return ever less of them by
        // itself.
        let settings =
            [(libc::M_ARENA_MAX, arenas), (libc::M_MMAP_THRESHOLD, 16 << 20), (libc::M_TRIM_THRESHOLD, 32 << 20)];
        for (setting, value) in settings {
            // SAFETY: sets a number in the allocator; no block is touched.
            unsafe { libc::mallopt(setting, value as libc::c_int) };
        }
    }
}

/// Gives every free page back to the system.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: returns free pages; the allocator takes its own locks, and no block in use is touched.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Bytes of this process that are in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// When free memory is given back: soon when the process nears its bound, else whenever it has grown since the last
/// time, and from time to time in any case. So a process at rest keeps only what is in use.
#[derive(Debug)]
struct Rule {
    bound: u64,
    last: Option<Instant>,
    /// The resident set after the last time, or less.
    kept: u64,
}

impl Rule {
    fn new(bound: u64) -> Self {
        Self { bound, last: None, kept: 0 }
    }

    fn is_due(&mut self, now: Instant, resident: u64) -> bool {
        self.kept = self.kept.min(resident);
        if resident < self.kept.saturating_add(WORTH_IT) {
            return self.last.is_some_and(|last| now.duration_since(last) >= REST_PAUSE);
        }
        let pause = if resident / 3 >= self.bound / 4 { NEAR_PAUSE } else { FAR_PAUSE };
        self.last.is_none_or(|last| now.duration_since(last) >= pause)
    }

    fn done(&mut self, now: Instant, resident: u64) {
        self.last = Some(now);
        self.kept = resident;
    }
}

/// The thread that watches over the heap. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(bound: u64) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let work = move || {
            let mut rule = Rule::new(bound);
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let Some(before) = resident() else { return };
                if rule.is_due(Instant::now(), before) {
                    give_back();
                    rule.done(Instant::now(), resident().unwrap_or(before));
                }
            }
        };
        let thread = std::thread::Builder::new().name("heap".into()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the heap's keeper panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn bnd_1_free_memory_goes_back_soon_near_the_bound_and_seldom_far_from_it() {
        let (start, mut rule) = (Instant::now(), Rule::new(100 * MIB));
        let at = |ms| start + Duration::from_millis(ms);
        assert!(rule.is_due(at(0), 20 * MIB));
        rule.done(at(0), 15 * MIB);
        assert!(!rule.is_due(at(1000), 50 * MIB), "too soon, far from the bound");
        assert!(rule.is_due(at(1000), 80 * MIB), "near the bound it is not");
        rule.done(at(1000), 78 * MIB);
        assert!(!rule.is_due(at(1100), 95 * MIB), "even there not all the time");
        assert!(rule.is_due(at(1300), 95 * MIB));
        rule.done(at(1300), 95 * MIB);
        assert!(!rule.is_due(at(5000), 95 * MIB), "nothing has come since");
        assert!(rule.is_due(at(11_300), 95 * MIB), "what was in use then may be free by now");
        rule.done(at(11_300), 95 * MIB);
        assert!(!rule.is_due(at(12_000), 30 * MIB), "it went by itself");
        assert!(rule.is_due(at(14_000), 45 * MIB), "and what has come since is looked at again");
    }

    /// In a process of its own: what other tests hold meanwhile would count.
    #[test]
    fn bnd_1_what_is_freed_is_given_back() {
        const ALONE: &str = "CAIRN_TEST_HEAP_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return give_back_what_is_freed();
        }
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "heap::tests::bnd_1_what_is_freed_is_given_back"]).env(ALONE, "1");
        let output = alone.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    fn give_back_what_is_freed() {
        set_up();
        let before = resident().unwrap();
        let blocks: Vec<Vec<u8>> = (0..4000).map(|_| vec![1; 32 << 10]).collect();
        // It lies behind the others, so that the heap cannot just shrink at its end.
        let last = vec![1u8; 32 << 10];
        assert!(resident().unwrap() > before + 100 * MIB);
        drop(blocks);
        let keeper = Keeper::start(64 * MIB).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while resident().unwrap() > before + 40 * MIB {
            assert!(Instant::now() < deadline, "{} MiB are still resident", resident().unwrap() / MIB);
            std::thread::sleep(TICK);
        }
        drop((keeper, last));
    }
}
