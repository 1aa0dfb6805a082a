//! The audit log: one line of JSON for each request, and for each change an operator makes, in a file.
//!
//! Whoever is told of never waits for the file: lines go through a bounded queue to a thread of its own. What finds the
//! queue full, or the file not writable, is lost, and counted, and the log says so itself where they would stand. Lines
//! are on the disk within about a second. The file may be moved away at any time: another is begun in its place.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde::Serialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Of the lines.
const FORMAT: u32 = 1;
/// Lines that wait for the file, and their bytes (BND-1).
const QUEUE_LINES: usize = 65_536;
const QUEUE_BYTES: usize = 32 << 20;
/// How often lines are made durable, and the file is looked for where it should be.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The end of the log waits so long for lines that are still in the queue.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Who reads the log sees who did what to which object: nobody else on the machine does.
const MODE: u32 = 0o600;

/// Where lines go. Cheap to clone; the last clone that goes ends the log.
#[derive(Clone)]
pub struct AuditLog(Arc<Shared>);

struct Shared {
    /// None once it has ended.
    lines: Mutex<Option<SyncSender<Vec<u8>>>>,
    queue: Arc<Queue>,
    requests: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Queue {
    bytes: AtomicUsize,
    /// Lines that were not written since the log last said so.
    lost: AtomicU64,
    /// The file could not be written to, and this was logged.
    troubled: AtomicBool,
    told: IntCounter,
    lost_ever: IntCounter,
}

impl AuditLog {
    /// Begins or goes on with a file, whose folder there is. `requests`: also S3 requests are told of, not only what
    /// operators change.
    ///
    /// # Errors
    /// The file cannot be written to.
    pub fn open(path: &Path, requests: bool, metrics: &prometheus::Registry) -> io::Result<Self> {
        let told = IntCounter::new("cairn_audit_lines_total", "Lines of the audit log written").map_err(other)?;
        let lost = IntCounter::new(
            "cairn_audit_lost_total",
            "Lines of the audit log that were lost, because its file could not be written to as fast",
        );
        let lost_ever = lost.map_err(other)?;
        for counter in [&told, &lost_ever] {
            metrics.register(Box::new(counter.clone())).map_err(other)?;
        }
        let file = append(path)?;
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let queue = Arc::new(Queue {
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            troubled: AtomicBool::new(false),
            told,
            lost_ever,
        });
        let mut writer = Writer {
            path: path.to_owned(),
            file: Some(file),
            queue: queue.clone(),
            unsynced: false,
            looked: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver))?;
        let lines = Mutex::new(Some(sender));
        Ok(Self(Arc::new(Shared { lines, queue, requests, writer: Mutex::new(Some(thread)) })))
    }

    /// Whether S3 requests are to be told of.
    pub(crate) fn wants_requests(&self) -> bool {
        self.0.requests
    }

    /// Tells of something: `kind` and the fields that `what` has, with the time. Never waits.
    pub fn tell(&self, kind: &'static str, what: &impl Serialize) {
        let line = Line { v: FORMAT, time: now(), kind, what };
        let Ok(mut bytes) = serde_json::to_vec(&line) else { return self.0.queue.lose(1) };
        bytes.push(b'\n');
        self.0.push(bytes);
    }

    /// Ends it once what was told is in the file, or after some seconds. Blocks.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Shared {
    fn push(&self, line: Vec<u8>) {
        let length = line.len();
        let room = self.queue.bytes.fetch_add(length, Ordering::AcqRel) + length <= QUEUE_BYTES;
        let sent = room && self.lines.lock().as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if !sent {
            self.queue.bytes.fetch_sub(length, Ordering::AcqRel);
            self.queue.lose(1);
        }
    }

    fn close(&self) {
        drop(self.lines.lock().take());
        let Some(writer) = self.writer.lock().take() else { return };
        let deadline = Instant::now() + CLOSE_LIMIT;
        while !writer.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::AcqRel);
        self.lost_ever.inc_by(lines);
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    v: u32,
    time: String,
    kind: &'a str,
    #[serde(flatten)]
    what: &'a T,
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_millisecond(now.millisecond()).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

fn other(error: prometheus::Error) -> io::Error {
    io::Error::other(error)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(MODE).open(path)
}

/// The thread that has the file.
struct Writer {
    path: PathBuf,
    /// None while it cannot be opened.
    file: Option<File>,
    queue: Arc<Queue>,
    unsynced: bool,
    looked: Instant,
}

impl Writer {
    fn run(&mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            match lines.recv_timeout(SYNC_EVERY) {
                Ok(line) => {
                    let mut batch = line;
                    let mut count = 1;
                    while batch.len() < 1 << 20
                        && let Ok(line) = lines.try_recv()
                    {
                        batch.extend_from_slice(&line);
                        count += 1;
                    }
                    self.write(&batch, count);
                    self.queue.bytes.fetch_sub(batch.len(), Ordering::AcqRel);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.looked.elapsed() >= SYNC_EVERY {
                self.looked = Instant::now();
                self.look();
            }
        }
        self.look();
    }

    fn write(&mut self, batch: &[u8], count: u64) {
        if self.file.is_none() {
            self.file = append(&self.path).ok();
        }
        let mut text = Vec::new();
        let lost = self.queue.lost.swap(0, Ordering::AcqRel);
        if lost > 0 {
            let line = Line { v: FORMAT, time: now(), kind: "lost", what: &json!({"lines": lost}) };
            text = serde_json::to_vec(&line).unwrap_or_default();
            text.push(b'\n');
        }
        text.extend_from_slice(batch);
        let written =
            self.file.as_mut().map_or_else(|| Err(io::ErrorKind::NotFound.into()), |file| file.write_all(&text));
        match written {
            Ok(()) => {
                self.unsynced = true;
                self.queue.told.inc_by(count);
                if self.queue.troubled.swap(false, Ordering::AcqRel) {
                    tracing::info!(path = %self.path.display(), "the audit log is written again");
                }
            }
            Err(error) => self.failed(&error, lost, count),
        }
    }

    /// The next batch tries again; a line that was written in part is ended first.
    fn failed(&mut self, error: &io::Error, lost_before: u64, count: u64) {
        self.queue.lost.fetch_add(lost_before, Ordering::AcqRel);
        self.queue.lose(count);
        if !self.queue.troubled.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, path = %self.path.display(), "the audit log cannot be written: lines are lost, and counted");
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(b"\n");
        }
        self.file = None;
    }

    /// Makes durable what was written, and begins another file if somebody moved this one away.
    fn look(&mut self) {
        let Some(file) = &self.file else { return };
        if std::mem::take(&mut self.unsynced)
            && let Err(error) = file.sync_data()
        {
            tracing::error!(%error, path = %self.path.display(), "the audit log cannot be made durable");
        }
        let same = |there: &std::fs::Metadata, ours: &std::fs::Metadata| {
            (there.dev(), there.ino()) == (ours.dev(), ours.ino())
        };
        let stands = match (std::fs::metadata(&self.path), file.metadata()) {
            (Ok(there), Ok(ours)) => same(&there, &ours),
            _ => false,
        };
        if !stands {
            self.file = append(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn lines_are_in_the_file_in_order_once_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for start in [0, 1000] {
            let log = AuditLog::open(&path, true, &prometheus::Registry::new()).unwrap();
            for number in start..start + 1000 {
                log.tell("request", &json!({"number": number, "key": "a\nb\u{7f}\"ü"}));
            }
            log.close();
            log.tell("request", &json!({"number": -1}));
        }
        let all = lines(&path);
        assert_eq!(all.len(), 2000, "nothing after the end");
        for (number, line) in all.iter().enumerate() {
            assert_eq!((line["number"].as_u64(), line["v"].as_u64()), (Some(number as u64), Some(1)));
            assert_eq!((line["kind"].as_str(), line["key"].as_str()), (Some("request"), Some("a\nb\u{7f}\"ü")));
            let time = OffsetDateTime::parse(line["time"].as_str().unwrap(), &Rfc3339).unwrap();
            assert!((OffsetDateTime::now_utc() - time).whole_seconds().abs() < 600);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let log = AuditLog::open(&path, false, &prometheus::Registry::new()).unwrap();
        log.tell("change", &json!({"number": 1}));
        wait_for("the first line", || lines(&path).len() == 1);
        std::fs::rename(&path, &old).unwrap();
        wait_for("another file", || path.exists());
        log.tell("change", &json!({"number": 2}));
        log.close();
        assert_eq!((lines(&old).len(), lines(&path)[0]["number"].as_u64()), (1, Some(2)));
    }

    /// A folder where the file should be stands for a disk that takes nothing.
    #[test]
    fn bnd_1_what_cannot_be_written_is_counted_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = AuditLog::open(&path, false, &prometheus::Registry::new()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let queue = log.0.queue.clone();
        wait_for("a loss", || {
            log.tell("change", &json!({"number": 1}));
            queue.lost_ever.get() > 0
        });
        std::fs::remove_dir(&path).unwrap();
        wait_for("a line", || {
            log.tell("change", &json!({"number": 2}));
            lines(&path).len() > 1
        });
        log.close();
        let all = lines(&path);
        assert_eq!(all[0]["kind"].as_str(), Some("lost"), "{all:?}");
        let said: u64 = all.iter().filter_map(|line| line["lines"].as_u64()).sum();
        assert_eq!((said, queue.bytes.load(Ordering::Acquire)), (queue.lost_ever.get(), 0));
        assert!(AuditLog::open(folder.path(), false, &prometheus::Registry::new()).is_err());
    }
}
