//! Single bytes of stored fragments are flipped under a running cluster: the wrong byte is never served, the object
//! still reads (INT-1, DUR-1), and the damage is healed.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{ChaosError, admin, setting::Setting, target::Target};

/// Sizes of the objects: replicated, one short stripe, several stripes.
const OBJECTS: [usize; 4] = [900, 100_000, 700_000, 11_000_000];
/// Bytes by which a place in an object is found on disk; random, so they stand nowhere else.
const NEEDLE: usize = 16;
const ROUNDS: usize = 4;
const HEALED: Duration = Duration::from_secs(120);
const BUCKET: &str = "corrupt";

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let cluster = Target::start(setting, folder.path())?;
    cluster.until_writable().await?;
    let s3 = cluster.s3()?;
    s3.create_bucket(BUCKET).await?;
    let mut rng = StdRng::seed_from_u64(setting.seed);
    let objects: Vec<Bytes> = OBJECTS.iter().map(|bytes| random(&mut rng, *bytes)).collect();
    for (number, object) in objects.iter().enumerate() {
        s3.put(BUCKET, &number.to_string(), object.clone()).await?;
    }
    let mut flipped = 0;
    for round in 0..ROUNDS {
        for object in &objects {
            // One place of one data fragment of each object: within what every stripe can lose.
            let at = rng.random_range(0..object.len() - NEEDLE);
            flipped += usize::from(flip(&cluster.data(), &object[at..at + NEEDLE])?);
        }
        for (number, object) in objects.iter().enumerate() {
            let got = s3.get(BUCKET, &number.to_string()).await;
            let what = |what: String| format!("round {round}, object {number}: {what}");
            let got =
                got.map_err(|error| ChaosError::Violated { invariant: "DUR-1", what: what(error.to_string()) })?;
            if got != *object {
                return Err(ChaosError::Violated { invariant: "INT-1", what: what("other bytes were served".into()) });
            }
        }
        let ask = async || admin::json(&format!("{}/v1/status", cluster.admin()?)).await;
        admin::until("the ledger to empty", HEALED, ask, |status: &Value| status["missing_fragments"] == 0).await?;
    }
    if flipped == 0 {
        return Err(ChaosError::Workload("no place of any object was found on disk".into()));
    }
    println!("   {flipped} bytes flipped in {ROUNDS} rounds, none served, every object read");
    cluster.stop()
}

fn random(rng: &mut StdRng, bytes: usize) -> Bytes {
    let mut object = vec![0; bytes];
    rng.fill(object.as_mut_slice());
    object.into()
}

/// Flips a bit of the first place below `folder` that holds `needle`; false when it straddles two fragments and stands
/// nowhere.
fn flip(folder: &Path, needle: &[u8]) -> Result<bool, ChaosError> {
    for file in files(folder)? {
        let Ok(bytes) = fs::read(&file) else { continue };
        let Some(at) = bytes.windows(NEEDLE).position(|window| window == needle) else { continue };
        let damage =
            OpenOptions::new().write(true).open(&file).and_then(|file| file.write_all_at(&[needle[0] ^ 1], at as u64));
        damage.map_err(ChaosError::io("flip a byte"))?;
        return Ok(true);
    }
    Ok(false)
}

/// Every file below `folder`.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ChaosError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(ChaosError::io("list the data folder"))? {
        let path = entry.map_err(ChaosError::io("list the data folder"))?.path();
        if path.is_dir() {
            paths.extend(files(&path)?);
        } else {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
