//! Five nodes in five racks, of which 2+2 may lose two: nodes are stopped by `kill -9` if `cairn admin safe-to-stop`
//! allows it, while the cluster is whole, with a rack dead, while what it held is made anew, and after that.
//!
//! Whatever it allowed must have held (DUR-1): every object is read then, byte for byte. And it must not refuse
//! everything: what the scheme tolerates is to be allowed.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

use crate::{
    ChaosError, admin,
    cluster::{ACCESS_KEY, Cluster, Metadata, SECRET_KEY, Spec},
    s3::{Account, S3},
    setting::Setting,
};

const RACKS: usize = 5;
const SCHEME: &str = "2+2";
/// Copies, stripes, several stripes.
const SIZES: [usize; 4] = [20_000, 300_000, 1_500_000, 5_000_000];
const OBJECTS: usize = 16;
const BUCKET: &str = "stop";
/// So slow that nodes are stopped while it goes on.
const REPAIR_RATE: &str = "2 MiB";
const NOTICED: Duration = Duration::from_secs(90);
/// How long a reader tries again before an object counts as lost.
const READABLE: Duration = Duration::from_secs(60);

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let spec = Spec {
        racks: RACKS,
        disks: 1,
        scheme: SCHEME.into(),
        repair_rate: Some(REPAIR_RATE.into()),
        ..Spec::six_racks(setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb))
    };
    let cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    let rng = StdRng::seed_from_u64(setting.seed);
    let mut drill = Drill { setting, cluster, rng, objects: Vec::new(), dead: Vec::new(), held: 0 };
    drill.until_settled().await?;
    drill.s3(0).create_bucket(BUCKET).await?;
    for _ in 0..OBJECTS {
        drill.write().await?;
    }
    drill.until_settled().await?;
    drill.while_whole().await?;
    drill.under_maintenance().await?;
    drill.with_a_rack_dead().await?;
    println!("   {} times something was stopped, and everything was read", drill.held);
    println!("   {}", drill.cluster.check_metadata()?.trim_end());
    drill.cluster.stop()
}

struct Drill<'a> {
    setting: &'a Setting,
    cluster: Cluster,
    rng: StdRng,
    objects: Vec<Bytes>,
    /// Nodes that stay dead.
    dead: Vec<usize>,
    held: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    CannotTell,
}

impl Drill<'_> {
    /// Any pair of racks may go.
    async fn while_whole(&mut self) -> Result<(), ChaosError> {
        let mut nodes: Vec<usize> = (0..RACKS).collect();
        nodes.shuffle(&mut self.rng);
        for node in &nodes {
            self.must(&[*node], Said::Yes, "while all is whole").await?;
        }
        // Without three a stripe may stand, by chance; without four of the five none of the large ones does.
        self.must(&nodes[..4], Said::No, "of five racks of which two may go").await?;
        self.stop_if_allowed(&nodes[..2], true).await?;
        self.stop_if_allowed(&nodes[2..4], true).await.map(drop)
    }

    /// Who works on one node may stop one more, and not three.
    async fn under_maintenance(&mut self) -> Result<(), ChaosError> {
        let (first, second, others) = (0, 2, [1, 3, 4]);
        self.maintenance(first, &["start", &self.id(first), "--for", "10m"])?;
        self.must(&[first], Said::Yes, "which is under maintenance").await?;
        self.must(&others, Said::No, "besides one under maintenance").await?;
        self.must(&[second], Said::Yes, "besides one under maintenance").await?;
        self.kill(&[first]);
        self.stop_if_allowed(&[second], false).await?;
        self.cluster.revive()?;
        self.maintenance(second, &["end", &self.id(first)])?;
        self.until_settled().await
    }

    /// Any other may go, but not three; then what the dead one held is made anew, and at the end two may go again.
    async fn with_a_rack_dead(&mut self) -> Result<(), ChaosError> {
        let victim = self.rng.random_range(0..RACKS);
        self.kill(&[victim]);
        self.dead.push(victim);
        let others: Vec<usize> = (0..RACKS).filter(|node| *node != victim).collect();
        let down = |status: &Value| admin::disks_in(status, "down") == 1;
        admin::until("the dead node's disk to be down", NOTICED, async || self.status().await, down).await?;
        self.must(&others[..3], Said::No, "with another dead").await?;
        self.stop_if_allowed(&others[..1], true).await?;
        self.stop_if_allowed(&others[1..2], true).await?;

        self.cluster.give_up(&["--node", &self.cluster.nodes[victim].id])?;
        // The first of these while it is made anew, as far as that is allowed.
        let (mut stopped, began) = (0, Instant::now());
        for node in &others {
            if self.missing().await? > 0 {
                stopped += usize::from(self.stop_if_allowed(&[*node], false).await?);
            }
        }
        println!("   {stopped} nodes were stopped within {:.0} s of the giving up", began.elapsed().as_secs_f64());
        self.until_settled().await?;
        self.must(&others[..2], Said::Yes, "once everything is made anew").await?;
        self.stop_if_allowed(&others[2..4], true).await.map(drop)
    }

    fn id(&self, node: usize) -> String {
        self.cluster.nodes[node].id.clone()
    }

    /// A node that runs, and is none of these.
    fn other_than(&self, nodes: &[usize]) -> usize {
        let runs = |node: &usize| self.cluster.nodes[*node].is_running() && !nodes.contains(node);
        (0..RACKS).find(runs).unwrap_or(0)
    }

    fn cairn(&self, asked: usize, arguments: &[&str]) -> Result<Output, ChaosError> {
        let mut command = Command::new(&self.setting.binary);
        command.args(arguments).args(["--admin", &self.cluster.nodes[asked].admin]);
        command.output().map_err(ChaosError::io("run cairn"))
    }

    /// Asks as an operator does: the exit code is the answer, and the JSON says the same.
    fn ask(&self, nodes: &[usize]) -> Result<(Said, Value), ChaosError> {
        let names: Vec<String> = nodes.iter().map(|node| self.id(*node)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let output =
            self.cairn(self.other_than(nodes), &[&["admin", "safe-to-stop", "node", "--json"], &names[..]].concat())?;
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let told = match (output.status.code(), said["answer"].as_str()) {
            (Some(0), Some("yes")) => Said::Yes,
            (Some(1), Some("no")) => Said::No,
            (Some(2), Some("unknown")) => Said::CannotTell,
            _ => {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                let what = format!("safe-to-stop of {names:?} ended with {}, said {said} and {errors}", output.status);
                return Err(ChaosError::Workload(what));
            }
        };
        Ok((told, said))
    }

    /// The one who is asked may need a moment until it reaches nodes that were started again, and cannot tell until
    /// then; but a definite answer is right at once.
    async fn must(&self, nodes: &[usize], expected: Said, when: &str) -> Result<(), ChaosError> {
        let began = Instant::now();
        let (said, why) = loop {
            let (said, why) = self.ask(nodes)?;
            if said == expected {
                return Ok(());
            }
            if said != Said::CannotTell || began.elapsed() > NOTICED {
                break (said, why);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let names: Vec<String> = nodes.iter().map(|node| self.id(*node)).collect();
        let what = format!("may {names:?} be stopped {when}? {said:?}, not {expected:?}: {why:#}");
        Err(ChaosError::Workload(what))
    }

    fn maintenance(&self, asked: usize, arguments: &[&str]) -> Result<(), ChaosError> {
        let output = self.cairn(asked, &[&["admin", "maintenance"], arguments].concat())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(ChaosError::Workload(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    fn kill(&mut self, nodes: &[usize]) {
        for node in nodes {
            let rack = self.cluster.nodes[*node].rack.clone();
            self.cluster.kill_rack(&rack);
        }
    }

    /// Asks, and if the answer is yes: kills them, reads everything, and starts them again. Whether it was allowed.
    async fn stop_if_allowed(&mut self, nodes: &[usize], settle: bool) -> Result<bool, ChaosError> {
        self.write().await?;
        if settle {
            // A fragment that came too late is made good first.
            self.until_settled().await?;
            self.must(nodes, Said::Yes, "as the scheme tolerates it").await?;
        }
        let (said, why) = self.ask(nodes)?;
        if said != Said::Yes {
            return Ok(false);
        }
        self.kill(nodes);
        let asked = self.other_than(nodes);
        let status = self.cairn(asked, &["status"])?;
        if status.status.success() {
            let words = String::from_utf8_lossy(&status.stdout).into_owned();
            return Err(ChaosError::Workload(format!("{nodes:?} were killed, and all is called safe:\n{words}")));
        }
        self.read(asked, &why).await?;
        self.held += 1;
        // The dead stay dead.
        let health = String::from_utf8_lossy(&status.stdout).lines().next().unwrap_or_default().to_owned();
        println!("   without {nodes:?} and {:?} all {} objects were read; {health}", self.dead, self.objects.len());
        self.cluster.restart(nodes)?;
        if settle {
            self.until_settled().await?;
        } else {
            self.until_up().await?;
        }
        Ok(true)
    }

    fn s3(&self, node: usize) -> S3 {
        let endpoint = self.cluster.nodes[node].s3.clone();
        S3::new(Account { endpoint, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() })
    }

    async fn write(&mut self) -> Result<(), ChaosError> {
        let number = self.objects.len();
        let mut body = vec![0; SIZES[number % SIZES.len()]];
        self.rng.fill(body.as_mut_slice());
        let (body, key) = (Bytes::from(body), number.to_string());
        let s3 = self.s3(self.other_than(&[]));
        let put = async || Ok(s3.put(BUCKET, &key, body.clone()).await?);
        admin::until("an object to be written", NOTICED, put, |()| true).await?;
        self.objects.push(body);
        Ok(())
    }

    async fn read(&self, node: usize, allowed: &Value) -> Result<(), ChaosError> {
        let s3 = self.s3(node);
        for (number, object) in self.objects.iter().enumerate() {
            let key = number.to_string();
            let get = async || Ok(s3.get(BUCKET, &key).await?);
            let got = admin::until("an object to be read", READABLE, get, |_| true).await.map_err(|error| {
                ChaosError::Violated {
                    invariant: "DUR-1",
                    what: format!("{key}: {error}; it was allowed: {allowed:#}"),
                }
            })?;
            if got != *object {
                return Err(ChaosError::Violated { invariant: "INT-1", what: format!("{key}: other bytes") });
            }
        }
        Ok(())
    }

    async fn status(&self) -> Result<Value, ChaosError> {
        self.cluster.status().await
    }

    async fn missing(&self) -> Result<u64, ChaosError> {
        let status = self.status().await?;
        let lost = status["lost_members"].as_u64().unwrap_or(0);
        Ok(lost + status["missing_fragments"].as_u64().unwrap_or(0))
    }

    fn running(&self) -> usize {
        self.cluster.nodes.iter().filter(|node| node.is_running()).count()
    }

    async fn until_up(&self) -> Result<(), ChaosError> {
        let all = self.running();
        let up = |status: &Value| admin::disks_in(status, "up") == all;
        admin::until(&format!("{all} disks to be up"), NOTICED, async || self.status().await, up).await.map(drop)
    }

    /// All that is not dead is up, and nothing is missing of what is not on a disk that may return.
    async fn until_settled(&self) -> Result<(), ChaosError> {
        let all = self.running();
        let settled = |status: &Value| {
            let waits = admin::disks_in(status, "down") > 0;
            admin::disks_in(status, "up") == all
                && (waits || status["health"]["state"] == "safe")
                && status["missing_fragments"] == 0
                && status["lost_members"] == 0
        };
        admin::until("the cluster to settle", NOTICED, async || self.status().await, settled).await.map(drop)
    }
}
