//! One disk of twelve falls sick: some of what it holds cannot be read, then nothing, then it hangs. No client notices;
//! what could not be read is made anew; a disk that is of no use is down within seconds, and up again once it works.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{
    ChaosError, admin,
    cluster::{ACCESS_KEY, Cluster, Metadata, Node, SECRET_KEY, Spec},
    s3::{Account, S3},
    setting::Setting,
    strace::Injection,
};

const RACKS: usize = 6;
const DISKS: usize = 2;
/// Erasure-coded, and more than a disk may fail to read in a row before it is given up.
const OBJECTS: usize = 60;
const OBJECT_BYTES: usize = 300_000;
const BUCKET: &str = "sick";
/// The node whose first disk falls sick; clients ask another.
const SICK: usize = 3;
const READS: &str = "pread64,preadv,preadv2";
/// A hang is one that takes longer than a disk may; then it must be decided.
const NOTICED: Duration = Duration::from_secs(90);
const HEALED: Duration = Duration::from_secs(120);

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let spec = Spec::six_racks(setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb));
    let cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    let endpoint = cluster.nodes[0].s3.clone();
    let s3 = S3::new(Account { endpoint, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() });
    s3.create_bucket(BUCKET).await?;
    until_up(&cluster, RACKS * DISKS).await?;
    let mut ward = Ward { cluster, s3, rng: StdRng::seed_from_u64(setting.seed), objects: Vec::new() };
    ward.write(OBJECTS).await?;
    if let Err(why) = ward.inject(&format!("{READS}:error=EIO:when=9999")) {
        println!("   SKIPPED: errors cannot be injected here: {why}");
        return ward.cluster.stop();
    }
    ward.bad_sectors().await?;
    ward.reads_nothing().await?;
    ward.hangs().await?;
    println!("   {}", ward.cluster.check_metadata()?.trim_end());
    ward.cluster.stop()
}

struct Ward {
    cluster: Cluster,
    s3: S3,
    rng: StdRng,
    objects: Vec<Bytes>,
}

impl Ward {
    fn patient(&self) -> &Node {
        &self.cluster.nodes[SICK]
    }

    /// Into the calls of the patient on the segments of its first disk.
    fn inject(&self, what: &str) -> Result<Injection, String> {
        let segments = self.patient().folder().join("disk1/segments");
        let files = std::fs::read_dir(&segments).map_err(|error| format!("{}: {error}", segments.display()))?;
        let files: Vec<PathBuf> = files.filter_map(|entry| Some(entry.ok()?.path())).collect();
        Injection::into(self.patient().pid().ok_or("the node does not run")?, what, &files)
    }

    fn fall_sick(&self, what: &str) -> Result<Injection, ChaosError> {
        self.inject(what).map_err(ChaosError::Workload)
    }

    async fn write(&mut self, count: usize) -> Result<(), ChaosError> {
        for _ in 0..count {
            let mut body = vec![0; OBJECT_BYTES];
            self.rng.fill(body.as_mut_slice());
            let (body, key) = (Bytes::from(body), self.objects.len().to_string());
            self.s3.put(BUCKET, &key, body.clone()).await?;
            self.objects.push(body);
        }
        Ok(())
    }

    /// Every object, whole.
    async fn read(&self) -> Result<(), ChaosError> {
        for (number, object) in self.objects.iter().enumerate() {
            let lost = |what: String| ChaosError::Violated { invariant: "DUR-1", what: format!("{number}: {what}") };
            let got = self.s3.get(BUCKET, &number.to_string()).await.map_err(|error| lost(error.to_string()))?;
            if got != *object {
                return Err(ChaosError::Violated { invariant: "INT-1", what: format!("{number}: other bytes") });
            }
        }
        Ok(())
    }

    async fn status(&self) -> Result<Value, ChaosError> {
        self.cluster.status().await
    }

    async fn until_healed(&self) -> Result<(), ChaosError> {
        let healed =
            |status: &Value| status["missing_fragments"] == 0 && admin::disks_in(status, "up") == RACKS * DISKS;
        admin::until("every fragment and disk to be back", HEALED, async || self.status().await, healed).await?;
        Ok(())
    }

    /// Some reads fail, of every thread the first few.
    async fn bad_sectors(&self) -> Result<(), ChaosError> {
        let sick = self.fall_sick(&format!("{READS}:error=EIO:when=1..2"))?;
        let deadline = Instant::now() + NOTICED;
        loop {
            self.read().await?;
            let unreadable = self.unreadable().await?;
            let status = self.status().await?;
            if admin::disks_in(&status, "up") < RACKS * DISKS {
                return Err(ChaosError::Workload(format!(
                    "a disk with {unreadable} bad sectors was given up: {status}"
                )));
            }
            if unreadable > 0 {
                println!("   a disk could not read {unreadable} fragments, and stays up");
                break;
            }
            if Instant::now() > deadline {
                return Err(ChaosError::Workload("no read of the sick disk failed".into()));
            }
        }
        drop(sick);
        self.until_healed().await?;
        self.read().await
    }

    /// Reads of fragments that the patient's disks could not read.
    async fn unreadable(&self) -> Result<u64, ChaosError> {
        let text = admin::get(&format!("{}/metrics", self.patient().admin)).await?;
        let text = String::from_utf8_lossy(&text);
        let counts = text.lines().filter(|line| line.starts_with("cairn_disk_unreadable_total{"));
        Ok(counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    async fn reads_nothing(&self) -> Result<(), ChaosError> {
        let sick = self.fall_sick(&format!("{READS}:error=EIO"))?;
        let seconds = self.until_given_up().await?;
        println!("   a disk that reads nothing was down after {seconds:.0} s of reads");
        drop(sick);
        self.until_healed().await?;
        self.read().await
    }

    async fn hangs(&mut self) -> Result<(), ChaosError> {
        let sick = self.fall_sick(&format!("{READS},fdatasync:delay_enter=300000000"))?;
        self.write(5).await?;
        let seconds = self.until_given_up().await?;
        println!("   a disk that hangs was down after {seconds:.0} s, and clients wrote and read meanwhile");
        self.write(5).await?;
        drop(sick);
        self.until_healed().await?;
        self.read().await
    }

    /// Reads and reads, all of it well, until the sick disk is down; returns how long that took.
    async fn until_given_up(&self) -> Result<f64, ChaosError> {
        let begun = Instant::now();
        loop {
            self.read().await?;
            let status = self.status().await?;
            if admin::disks_in(&status, "down") == 1 {
                return Ok(begun.elapsed().as_secs_f64());
            }
            if begun.elapsed() > NOTICED {
                return Err(ChaosError::NotInTime {
                    what: "the sick disk to be down".into(),
                    detail: status.to_string(),
                });
            }
        }
    }
}

async fn until_up(cluster: &Cluster, disks: usize) -> Result<(), ChaosError> {
    let up = |status: &Value| admin::disks_in(status, "up") == disks;
    admin::until(&format!("{disks} disks to be up"), NOTICED, async || cluster.status().await, up).await.map(drop)
}
