//! What is ordinary is not warned of. In a process of its own, because the disk's threads speak to the process's log.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fmt,
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use cairn_disk::{DiskHandle, DiskOptions};
use common::{fragment, name, options};
use tracing::{
    Event, Id, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};

/// Keeps what is worse than information.
#[derive(Clone, Default)]
struct Alarms(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Alarms {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

/// Keeps the file system at syncing, so that the sync of a folder takes long.
struct Busy(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Busy {
    fn begin(path: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let thread = std::thread::spawn(move || {
            let bytes = vec![7; 16 << 20];
            while !end.load(Ordering::Relaxed) {
                let mut file = std::fs::File::create(&path).unwrap();
                file.write_all(&bytes).unwrap();
                file.sync_all().unwrap();
            }
        });
        Self(ended, Some(thread))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().map(JoinHandle::join);
    }
}

/// Segments empty and are removed while their holes are still being punched and compaction looks for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn segments_that_empty_while_they_are_tidied_up_alarm_nobody() {
    const LENGTH: usize = 100_000;
    const BATCH: u32 = 16;
    let alarms = Alarms::default();
    tracing::subscriber::set_global_default(alarms.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let small = DiskOptions { segment_bytes: 1 << 20, reserved_bytes: 1 << 20, ..options(dir.path()) };
    let disk = DiskHandle::open(small).unwrap();
    let busy = Busy::begin(dir.path().join("busy"));
    for start in (0..1000).step_by(BATCH as usize) {
        let puts = (start..start + BATCH).map(|n| disk.put(fragment(n, LENGTH)));
        futures::future::try_join_all(puts).await.unwrap();
        // All but a few of what was put a little before; those go some time later.
        let old = start.saturating_sub(4 * BATCH);
        disk.delete((old..old + BATCH).filter(|n| !n.is_multiple_of(7)).map(name).collect()).await.unwrap();
        let older = start.saturating_sub(12 * BATCH);
        disk.delete((older..older + BATCH).map(name).collect()).await.unwrap();
        disk.checkpoint().await.unwrap();
    }
    disk.close().await;
    drop(busy);
    assert_eq!(*alarms.0.lock().unwrap(), Vec::<String>::new());
}
