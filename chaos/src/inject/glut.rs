//! A full cluster and back: clients write until nothing more fits. Then reads must go on, deletes must be done, and
//! when everything they wrote is deleted, writes must be taken again.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::StatusCode;

use crate::{
    s3::S3Error,
    traffic::{
        Book, Endpoints,
        content::{self, Label},
    },
};

/// A bucket of its own, which nobody else reads or writes.
pub const GLUT: &str = "chaos-glut";
const OBJECT: usize = 4 << 20;
/// Written and deleted at once.
const AT_ONCE: usize = 4;
/// So many refusals in a row, by different nodes, and it is full.
const REFUSALS: usize = 24;
/// So many requests in a row without any answer, and somebody is away who should not be.
const SILENT: usize = 40;
/// More than any of these clusters holds.
const MOST_OBJECTS: usize = 20_000;
const PAUSE: Duration = Duration::from_millis(250);
/// How long a read or a delete is tried again, as every client of S3 does, before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries again what is answered with 503 or not at all.
async fn patiently<'a, T>(ask: impl Fn() -> BoxFuture<'a, Result<T, S3Error>>) -> Result<T, S3Error> {
    let ends = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if error.status().is_some_and(|status| status != StatusCode::SERVICE_UNAVAILABLE) => {
                return Err(error);
            }
            Err(_) if Instant::now() < ends => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

struct Glut<'a> {
    endpoints: &'a Endpoints,
    book: &'a Book,
    within: Duration,
}

/// What came of it in one line; whatever does not hold is in the book, as FULL.
pub async fn glut(endpoints: Endpoints, book: Book, within: Duration) -> String {
    let glut = Glut { endpoints: &endpoints, book: &book, within };
    let (written, refused) = glut.fill().await;
    if written.is_empty() {
        book.broken("FULL", "nothing could be written to begin with".into());
    }
    let was_full = Instant::now();
    glut.full(&written).await;
    let deleted = glut.delete(written.clone()).await;
    let empty = Instant::now();
    glut.taken_again().await;
    format!(
        "{} MiB were taken until {refused}; {deleted} objects were deleted in {:.1} s, and {:.1} s later writes were taken",
        (written.len() * OBJECT) >> 20,
        (empty - was_full).as_secs_f64(),
        empty.elapsed().as_secs_f64()
    )
}

fn key(number: usize) -> String {
    format!("glut/{number:05}")
}

fn label(number: usize) -> Label {
    Label { nonce: 0x6c75_7400_0000 + number as u64, length: OBJECT }
}

fn body(number: usize) -> Bytes {
    content::body(&key(number), label(number))
}

impl Glut<'_> {
    fn broken(&self, what: String) {
        self.book.broken("FULL", what);
    }

    /// Writes until it is full; what was acknowledged, and how a write was refused.
    async fn fill(&self) -> (Vec<usize>, String) {
        let s3 = self.endpoints.s3(0);
        if let Err(error) = s3.create_bucket(GLUT).await {
            self.broken(format!("no bucket could be made: {error}"));
            return (Vec::new(), String::new());
        }
        let (mut written, mut refusals, mut refused) = (Vec::new(), 0, String::new());
        let mut silent = 0;
        for first in (0..MOST_OBJECTS).step_by(AT_ONCE) {
            let writes = (first..first + AT_ONCE).map(|number| async move {
                let s3 = self.endpoints.s3(number % self.endpoints.len());
                (number, s3.put(GLUT, &key(number), body(number)).await)
            });
            let before = refusals;
            for (number, answer) in futures::future::join_all(writes).await {
                match answer {
                    Ok(()) => {
                        written.push(number);
                        (refusals, silent) = (0, 0);
                    }
                    Err(S3Error::Status { status: StatusCode::SERVICE_UNAVAILABLE, body, .. }) => {
                        refusals += 1;
                        refused = format!("503 {}", crate::s3::elements(&body, "Code").next().unwrap_or_default());
                    }
                    // On a machine that is too busy connections fail now and then.
                    Err(error @ (S3Error::Transport { .. } | S3Error::Deadline { .. })) => {
                        silent += 1;
                        if silent >= SILENT {
                            self.broken(format!("writes to a full cluster get no answer: {error}"));
                            return (written, refused);
                        }
                    }
                    Err(error) => self.broken(format!("a write to a full cluster is not refused with 503: {error}")),
                }
            }
            if refusals >= REFUSALS {
                return (written, refused);
            }
            if refusals > before {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.broken(format!("it took {MOST_OBJECTS} objects and is not full"));
        (written, refused)
    }

    /// Everything is read and listed, through every node.
    async fn full(&self, written: &[usize]) {
        for node in 0..self.endpoints.len() {
            let s3 = self.endpoints.s3(node);
            for number in written.iter().skip(node).step_by(self.endpoints.len() * 4) {
                let key = key(*number);
                match patiently(|| s3.get(GLUT, &key).boxed()).await {
                    Ok(bytes) => {
                        if let Err(why) = content::verify(&key, label(*number), &bytes) {
                            self.broken(format!("{key} of a full cluster, by node {}: {why}", node + 1));
                        }
                    }
                    Err(error) => self.broken(format!("a read of a full cluster, by node {}: {error}", node + 1)),
                }
            }
            if let Err(error) = patiently(|| s3.list(GLUT, "glut/").boxed()).await {
                self.broken(format!("a listing of a full cluster, by node {}: {error}", node + 1));
            }
        }
    }

    /// Each delete must be done; how many were.
    async fn delete(&self, written: Vec<usize>) -> usize {
        let mut deleted = 0;
        for some in written.chunks(AT_ONCE) {
            let deletes = some.iter().map(|number| async move {
                let (s3, key) = (self.endpoints.s3(number % self.endpoints.len()), key(*number));
                (number, patiently(|| s3.delete(GLUT, &key).boxed()).await)
            });
            for (number, answer) in futures::future::join_all(deletes).await {
                match answer {
                    Ok(()) => deleted += 1,
                    Err(error) => self.broken(format!("{} cannot be deleted: {error}", key(*number))),
                }
            }
        }
        deleted
    }

    /// Each node takes a whole object again, within the time in which everything must be whole.
    async fn taken_again(&self) {
        let ends = Instant::now() + self.within;
        let numbers: Range<usize> = MOST_OBJECTS..MOST_OBJECTS + self.endpoints.len();
        for (node, number) in numbers.enumerate() {
            let s3 = self.endpoints.s3(node);
            loop {
                match s3.put(GLUT, &key(number), body(number)).await {
                    Ok(()) => break,
                    Err(_) if Instant::now() < ends => tokio::time::sleep(PAUSE).await,
                    Err(error) => {
                        let (node, within) = (node + 1, self.within);
                        self.broken(format!("node {node} takes no writes {within:?} after all was deleted: {error}"));
                        break;
                    }
                }
            }
            let key = key(number);
            if let Err(error) = patiently(|| s3.delete(GLUT, &key).boxed()).await {
                self.broken(format!("{key} cannot be deleted: {error}"));
            }
        }
    }
}
