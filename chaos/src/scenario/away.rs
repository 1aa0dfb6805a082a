//! Two racks of six are frozen while objects are written, and return. What was written meanwhile lies crowded in four
//! racks when every fragment is where it belongs: `cairn status` must say so, until that is spread over all racks,
//! which happens by itself.

use std::{process::Command, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    ChaosError, admin,
    cluster::{ACCESS_KEY, Cluster, Metadata, SECRET_KEY, Spec},
    s3::{Account, S3},
    setting::Setting,
};

const RACKS: usize = 6;
const DISKS: usize = 2;
/// Erasure-coded, several stripes each.
const OBJECTS: usize = 6;
const OBJECT_BYTES: usize = 9 << 20;
const BUCKET: &str = "away";
const SCHEME: &str = "4+2";
/// Gossip must suspect, a probe confirm, and the metadata store decide; and the way back.
const NOTICED: Duration = Duration::from_secs(90);
/// The same, half a minute of patience with racks that come and go, and the moves of three groups.
const SPREAD: Duration = Duration::from_secs(300);

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let metadata = setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb);
    let spec = Spec { reclaim_grace: "20 s".into(), ..Spec::six_racks(metadata) };
    let cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    let endpoint = cluster.nodes[0].s3.clone();
    let s3 = S3::new(Account { endpoint, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() });
    s3.create_bucket(BUCKET).await?;
    until_up(&cluster, RACKS * DISKS).await?;
    write(&s3, "all-there").await?;
    let words = words(setting, &cluster)?;
    if thin(&cluster.status().await?) != Some(0) || !words.contains("thin      nothing") {
        return Err(ChaosError::Workload(format!("thin stripes although every rack was there:\n{words}")));
    }

    // The first rack has the node that is asked.
    let frozen = ["r5", "r6"];
    frozen.iter().for_each(|rack| cluster.freeze_rack(rack));
    until_up(&cluster, (RACKS - frozen.len()) * DISKS).await?;
    write(&s3, "two-away").await?;
    let status = cluster.status().await?;
    let words = self::words(setting, &cluster)?;
    let stripes = OBJECTS * OBJECT_BYTES.div_ceil(4 << 20);
    let expected =
        format!("{stripes} stripes of {SCHEME} could not lose 2 racks, as the layout allows: {stripes} only 1");
    if thin(&status) != Some(stripes as u64) || !words.contains(&expected) {
        let what = format!("{stripes} stripes lie in four racks of six, and the status does not say so:\n{words}");
        return Err(ChaosError::Workload(what));
    }
    println!("   {stripes} stripes were written while two racks were away, and the status counts them");
    let metrics = async || thin_in_metrics(&cluster).await;
    admin::until("a metric to count them too", NOTICED, metrics, |count| *count == stripes as i64).await?;

    frozen.iter().for_each(|rack| cluster.thaw_rack(rack));
    until_up(&cluster, RACKS * DISKS).await?;
    // Nothing is moved while something is missing, and not at once when racks return.
    let spread = |status: &Value| thin(status) == Some(0) && status["missing_fragments"] == 0;
    let status = async || cluster.status().await;
    let status = admin::until("the stripes to be spread over six racks", SPREAD, status, spread).await?;
    let job = &status["work"]["jobs"][0];
    if job["kind"] != "rebalance" || !job["by"].as_str().is_some_and(|by| by.ends_with("by itself")) {
        return Err(ChaosError::Workload(format!("spread, but not by a job that begins by itself: {job}")));
    }
    read(&s3, "all-there").await?;
    read(&s3, "two-away").await?;
    println!("   they were spread over six racks by itself, in job {}", job["id"]);
    println!("   {}", cluster.check_metadata()?.trim_end());
    cluster.stop()
}

async fn write(s3: &S3, prefix: &str) -> Result<(), ChaosError> {
    for number in 0..OBJECTS {
        let body = Bytes::from(vec![number as u8; OBJECT_BYTES]);
        let key = format!("{prefix}/{number}");
        admin::until(
            "an object to be written",
            NOTICED,
            async || Ok(s3.put(BUCKET, &key, body.clone()).await?),
            |()| true,
        )
        .await?;
    }
    Ok(())
}

async fn read(s3: &S3, prefix: &str) -> Result<(), ChaosError> {
    for number in 0..OBJECTS {
        let key = format!("{prefix}/{number}");
        if s3.get(BUCKET, &key).await? != vec![number as u8; OBJECT_BYTES] {
            return Err(ChaosError::Workload(format!("{key} is not what was written")));
        }
    }
    Ok(())
}

async fn until_up(cluster: &Cluster, disks: usize) -> Result<(), ChaosError> {
    let up = |status: &Value| admin::disks_in(status, "up") == disks;
    admin::until(&format!("{disks} disks to be up"), NOTICED, async || cluster.status().await, up).await.map(drop)
}

/// Stripes that could lose fewer racks than the layout allows; None if the status does not tell.
fn thin(status: &Value) -> Option<u64> {
    status["tolerance"].as_array()?.iter().map(|scheme| scheme["thin"].as_u64()).sum()
}

async fn thin_in_metrics(cluster: &Cluster) -> Result<i64, ChaosError> {
    let url = format!("{}/metrics", cluster.nodes[0].admin);
    let text = String::from_utf8_lossy(&admin::get(&url).await?).into_owned();
    let line = text.lines().find(|line| line.starts_with("cairn_thin_stripes{"));
    let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    value.ok_or_else(|| ChaosError::Admin { url, why: "no cairn_thin_stripes".into() })
}

/// `cairn status`, as an operator reads it.
fn words(setting: &Setting, cluster: &Cluster) -> Result<String, ChaosError> {
    let mut command = Command::new(&setting.binary);
    command.args(["status", "--admin", &cluster.nodes[0].admin]);
    let output = command.output().map_err(ChaosError::io("run cairn status"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
