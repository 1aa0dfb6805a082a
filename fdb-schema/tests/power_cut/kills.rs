//! Processes that are killed while they work.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use cairn_schema::Meta;
use rand::Rng;

use crate::{
    check, close, open, seeded,
    work::{Model, Notes, prepare, run},
};

const STORE: &str = "CAIRN_POWER_CUT_STORE";
const NOTES: &str = "CAIRN_POWER_CUT_NOTES";
const SEED: &str = "CAIRN_POWER_CUT_SEED";
const ROUND: &str = "CAIRN_POWER_CUT_ROUND";

const ROUNDS: u64 = 8;
const OPENINGS: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test of its own: the process that is killed. It works until then.
#[test]
fn the_process_that_is_killed() {
    let Some(store) = std::env::var_os(STORE) else { return };
    let number = |name| std::env::var(name).unwrap().parse().unwrap();
    let (seed, round) = (number(SEED), number(ROUND));
    let notes = Notes::create(Path::new(&std::env::var_os(NOTES).unwrap()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let meta = Meta::new(open(Path::new(&store)).unwrap());
        let group = prepare(&meta).await;
        run(&meta, &group, &notes, &Model::default(), seed, round, Arc::new(AtomicBool::new(false))).await;
    });
}

fn start(store: &Path, notes: &Path, seed: u64, round: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["kills::the_process_that_is_killed", "--exact", "--nocapture"]);
    command.env(STORE, store).env(NOTES, notes).env(SEED, seed.to_string()).env(ROUND, round.to_string());
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// SIGKILL. It must not have ended by itself.
fn kill(mut child: Child, context: &str) {
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_none(), "{context}: the process ended by itself: {ended:?}");
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count())
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_kills_under_load_take_back_nothing_acknowledged() {
    let (seed, mut rng) = seeded();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("metadata");
    let mut model = Model::default();
    for round in 0..ROUNDS {
        let context = format!("seed {seed}, round {round}");
        let notes = directory.path().join(round.to_string());
        let child = start(&store, &notes, seed, round);
        let wanted = rng.random_range(1..2500);
        let deadline = Instant::now() + PATIENCE;
        while lines(&notes) < wanted {
            assert!(Instant::now() < deadline, "{context}: {} of {wanted} lines", lines(&notes));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kill(child, &context);
        let done = model.read(&notes);
        println!("{context}: killed after {done} changes");
        let kv = open(&store).expect(&context);
        check(&kv, &mut model, &context).await;
        close(kv).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_a_store_is_made_leaves_one_that_opens() {
    let (seed, mut rng) = seeded();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..OPENINGS {
        let context = format!("seed {seed}, round {round}");
        let (store, notes) = (directory.path().join(format!("metadata-{round}")), directory.path().join("notes"));
        let child = start(&store, &notes, seed, round);
        // From the first file it makes, because starting a process takes longer than making a store.
        let deadline = Instant::now() + PATIENCE;
        while !store.exists() {
            assert!(Instant::now() < deadline, "{context}: no store");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..50_000))).await;
        kill(child, &context);
        let kv = open(&store).expect(&context);
        let meta = Meta::new(kv.clone());
        prepare(&meta).await;
        close((meta, kv)).await;
    }
}
