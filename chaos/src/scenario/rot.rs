//! A thousand fragments rot while nobody reads them, never more of a stripe than it can lose, and one disk finds its
//! segment files gone: a pass of scrub over each disk finds all of it, and repair makes it anew (RED-1, RED-2).
//!
//! No client reads before that is done, for reads find damage too. That everything is whole again is not taken from the
//! status: every disk is looked at, fragment by fragment, and compared with what it was (INT-1).

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

use crate::{
    ChaosError, admin,
    audit::Audit,
    cluster::{ACCESS_KEY, Cluster, Metadata, SECRET_KEY, Spec},
    disk_files::{HEAD, flip_bit, segments},
    inspect,
    s3::{Account, S3},
    setting::Setting,
};

const DISKS: usize = 12;
/// Copied ones and erasure-coded ones of one stripe, each of which may lose two fragments.
const OBJECTS: usize = 700;
const SMALL: std::ops::Range<usize> = 1..6000;
const LARGE: std::ops::Range<usize> = 130_000..150_000;
const DAMAGED: usize = 1000;
const BUCKET: &str = "rot";
const SCRUB_INTERVAL: &str = "8 s";
const WRITTEN_AT_ONCE: usize = 8;
const NOTICED: Duration = Duration::from_secs(90);
const SCRUBBED: Duration = Duration::from_secs(120);
const HEALED: Duration = Duration::from_secs(120);
/// How many of the problems that an audit found are told.
const TOLD: usize = 5;

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let metadata = setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb);
    let spec = Spec { scrub_interval: SCRUB_INTERVAL.into(), ..Spec::six_racks(metadata) };
    let mut cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    until_whole(&cluster).await?;
    let mut rng = StdRng::seed_from_u64(setting.seed);
    let objects: Vec<Bytes> = (0..OBJECTS).map(|number| object(&mut rng, number)).collect();
    let s3 = s3(&cluster);
    s3.create_bucket(BUCKET).await?;
    let puts: Vec<_> = objects.iter().enumerate().map(|(number, object)| put(&s3, number, object.clone())).collect();
    let () = futures::stream::iter(puts).buffer_unordered(WRITTEN_AT_ONCE).try_collect().await?;
    until_whole(&cluster).await?;

    let before = inspect::stopped(&mut cluster)?;
    judged(&before, "as written", None)?;
    let disks = folders(&cluster)?;
    let (emptied, lost) = empty_one(&mut rng, &before, &disks)?;
    let flipped = flip(&mut rng, &before, &disks, &emptied)?;
    println!("   {flipped} fragments damaged, {lost} deleted with the segments of a disk");
    let damaged_at = Instant::now();
    cluster.revive()?;
    until_scrubbed(&cluster, damaged_at).await?;
    until_whole(&cluster).await?;

    // Another pass finds nothing that the first did not.
    let (found, whole_at) = (findings(&cluster).await?, Instant::now());
    let [corrupt, missing] = found;
    if corrupt + missing < flipped as f64 / 2.0 {
        let what = format!("scrub found {corrupt} fragments corrupt and {missing} missing, of {flipped}");
        return Err(ChaosError::Workload(what));
    }
    until_scrubbed(&cluster, whole_at).await?;
    let again = findings(&cluster).await?;
    if again != found {
        let what = format!(
            "{} fragments were found corrupt and {} missing when the ledger was empty already",
            again[0] - corrupt,
            again[1] - missing
        );
        return Err(ChaosError::Violated { invariant: "RED-2", what });
    }
    for (number, object) in objects.iter().enumerate() {
        if s3.get(BUCKET, &number.to_string()).await? != *object {
            let what = format!("object {number}: other bytes were served");
            return Err(ChaosError::Violated { invariant: "INT-1", what });
        }
    }
    println!("   {}", cluster.check_metadata()?.trim_end());
    let after = inspect::stopped(&mut cluster)?;
    judged(&after, "after scrub and repair", Some(&before))?;
    cluster.stop()
}

fn s3(cluster: &Cluster) -> S3 {
    let endpoint = cluster.nodes[0].s3.clone();
    S3::new(Account { endpoint, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() })
}

fn object(rng: &mut StdRng, number: usize) -> Bytes {
    let bytes = if number.is_multiple_of(3) { LARGE } else { SMALL };
    let mut object = vec![0; rng.random_range(bytes)];
    rng.fill(object.as_mut_slice());
    object.into()
}

async fn put(s3: &S3, number: usize, object: Bytes) -> Result<(), ChaosError> {
    Ok(s3.put(BUCKET, &number.to_string(), object).await?)
}

async fn until_whole(cluster: &Cluster) -> Result<(), ChaosError> {
    let up = |status: &Value| admin::disks_in(status, "up") == DISKS;
    admin::until("all disks to be up", NOTICED, async || cluster.status().await, up).await?;
    let whole = |status: &Value| status["missing_fragments"] == 0;
    admin::until("the ledger to empty", HEALED, async || cluster.status().await, whole).await.map(drop)
}

/// Where each disk is, by its id.
fn folders(cluster: &Cluster) -> Result<BTreeMap<String, PathBuf>, ChaosError> {
    let mut folders = BTreeMap::new();
    for folder in cluster.nodes.iter().flat_map(|node| node.disks().map(|disk| node.folder().join(disk))) {
        let list = cluster.cairn(&["disk", "list", "--json", &folder.to_string_lossy()])?;
        let head: Value = serde_json::from_str(list.lines().next().unwrap_or_default())
            .map_err(|error| ChaosError::Workload(format!("the list of a disk: {error}")))?;
        folders.insert(head["disk"].as_str().unwrap_or_default().to_owned(), folder);
    }
    Ok(folders)
}

/// Deletes all segment files of one disk; which one, and how many fragments were in them.
fn empty_one(
    rng: &mut StdRng,
    audit: &Audit,
    disks: &BTreeMap<String, PathBuf>,
) -> Result<(String, usize), ChaosError> {
    let number = rng.random_range(0..disks.len());
    let (id, folder) = disks.iter().nth(number).ok_or_else(|| ChaosError::Workload("there are no disks".into()))?;
    for segment in segments(folder)?.values() {
        fs::remove_file(segment).map_err(ChaosError::io("delete a segment file"))?;
    }
    Ok((id.clone(), audit.lying().iter().filter(|fragment| fragment.disk == *id).count()))
}

/// Flips a bit of so many fragments as are to be damaged, of no stripe more than it can lose with the disk that was
/// emptied.
fn flip(
    rng: &mut StdRng,
    audit: &Audit,
    disks: &BTreeMap<String, PathBuf>,
    emptied: &str,
) -> Result<usize, ChaosError> {
    let mut fragments = audit.lying();
    let mut lost: HashMap<String, usize> = HashMap::new();
    for fragment in fragments.iter().filter(|fragment| fragment.disk == emptied) {
        *lost.entry(fragment.stripe.clone()).or_default() += 1;
    }
    fragments.retain(|fragment| fragment.disk != emptied);
    fragments.shuffle(rng);
    let files = disks.iter().map(|(disk, folder)| Ok((disk.as_str(), segments(folder)?)));
    let files = files.collect::<Result<HashMap<&str, BTreeMap<u64, PathBuf>>, ChaosError>>()?;
    let mut flipped = 0;
    for fragment in fragments {
        let lost = lost.entry(fragment.stripe.clone()).or_default();
        if flipped == DAMAGED || *lost == fragment.parity {
            continue;
        }
        let file = files.get(&*fragment.disk).and_then(|segments| segments.get(&fragment.segment));
        let file = file.ok_or_else(|| ChaosError::Workload(format!("no segment {} is there", fragment.segment)))?;
        let at = fragment.offset + rng.random_range(0..HEAD + fragment.bytes);
        flip_bit(file, at, rng.random_range(0..8))?;
        *lost += 1;
        flipped += 1;
    }
    if flipped < DAMAGED {
        return Err(ChaosError::Workload(format!("only {flipped} fragments could be damaged")));
    }
    Ok(flipped)
}

/// Waits until each disk has had a whole pass of scrub that began later than `since`.
async fn until_scrubbed(cluster: &Cluster, since: Instant) -> Result<(), ChaosError> {
    // Told in whole seconds.
    let scrubbed = |ages: &Vec<f64>| {
        let old = since.elapsed().as_secs_f64() - 1.0;
        ages.len() == DISKS && ages.iter().all(|age| (0.0..old).contains(age))
    };
    let ages = async || metrics(cluster, "cairn_scrub_oldest_seconds{").await;
    admin::until("a pass of scrub over every disk", SCRUBBED, ages, scrubbed).await.map(drop)
}

/// How many fragments scrub has found damaged, and how many missing.
async fn findings(cluster: &Cluster) -> Result<[f64; 2], ChaosError> {
    let mut found = [0.0; 2];
    for (found, kind) in found.iter_mut().zip(["corrupt", "missing"]) {
        *found = metrics(cluster, &format!("cairn_scrub_findings_total{{kind=\"{kind}\"")).await?.iter().sum::<f64>();
    }
    Ok(found)
}

/// The values of all series of all nodes whose lines begin so.
async fn metrics(cluster: &Cluster, begin: &str) -> Result<Vec<f64>, ChaosError> {
    let mut values = Vec::new();
    for node in &cluster.nodes {
        let text = admin::get(&format!("{}/metrics", node.admin)).await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.lines().filter(|line| line.starts_with(begin));
        values.extend(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()));
    }
    Ok(values)
}

fn judged(audit: &Audit, when: &str, before: Option<&Audit>) -> Result<(), ChaosError> {
    let mut problems = audit.problems();
    problems.extend(before.map(|before| audit.differences(before)).unwrap_or_default());
    if problems.is_empty() {
        println!("   {when}: {audit}; every stripe whole, every byte as it was");
        return Ok(());
    }
    let first = problems.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    Err(ChaosError::Violated { invariant: "RED-2", what: format!("{when}: {} problems: {first}", problems.len()) })
}
