//! Twelve nodes in six racks; one rack is lost for good, and after it another. Nodes that rebuild are killed on the
//! way.
//!
//! The status must count exactly what is missing, and come to nothing missing by itself. That it is true is not taken
//! from the status: every disk is looked at, fragment by fragment, before, between and after, and compared with where
//! the metadata say that each should be (RED-2, PLC-1) and with what it was before the loss, byte for byte (INT-1).

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::Value;

use super::workload::Workload;
use crate::{
    ChaosError, admin,
    audit::{Audit, Home, Lost},
    cluster::{Cluster, Metadata, Spec},
    inspect,
    setting::Setting,
};

const RACKS: usize = 6;
const NODES_PER_RACK: usize = 2;
const DISKS: usize = 2;
const DISKS_IN_RACK: usize = NODES_PER_RACK * DISKS;
/// In turn: replicated ones, erasure-coded ones of one stripe and of several.
const SIZES: [usize; 20] = [
    1, 700, 4_096, 65_536, 65_536, 30_000, 65_536, 1_048_576, 4_096, 200_000, 1_048_576, 65_536, 130_000, 1_048_576,
    4_096, 300_000, 65_536, 1_048_576, 4_718_592, 9_437_184,
];
/// So slow that there is time to kill a node while it rebuilds.
const REPAIR_RATE: &str = "16 MiB";
const WRITTEN: Duration = Duration::from_secs(240);
const NOTICED: Duration = Duration::from_secs(120);
const HEALED: Duration = Duration::from_secs(240);
/// A count that is right stays so for as long as nothing changes.
const STEADY: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// How many of the problems that an audit found are told.
const TOLD: usize = 5;

pub async fn run(setting: &Setting, scheme: &str, objects: usize) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let spec = Spec {
        nodes_per_rack: NODES_PER_RACK,
        disks: DISKS,
        scheme: scheme.into(),
        repair_rate: Some(REPAIR_RATE.into()),
        // Stripes of 8+4 are larger.
        memory: "160 MiB".into(),
        ..Spec::six_racks(setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb))
    };
    let cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    let workload = Workload::start(setting, &cluster.nodes[0].s3)?;
    let rng = StdRng::seed_from_u64(setting.seed);
    let mut ward = Ward { cluster, workload, rng, aside: folder.path().into(), lost: Vec::new() };
    ward.until("all disks to be up", NOTICED, |status| admin::disks_in(status, "up") == RACKS * DISKS_IN_RACK).await?;
    let written = ward.write(objects)?;
    ward.until_whole().await?;
    let before = ward.audited("as written", None)?;
    if before.blob_bytes() != written {
        let what = format!("{written} bytes were written, and the blobs have {}", before.blob_bytes());
        return Err(ChaosError::Workload(what));
    }

    let first = ward.lose_a_rack().await?;
    ward.workload.verify("without a rack")?;
    ward.heal_with_others_away(&before, &first).await?;
    ward.workload.verify("after healing")?;
    let between = ward.audited("after the first loss", Some(&before))?;

    let second = ward.lose_a_rack().await?;
    ward.workload.verify("without a second rack")?;
    ward.heal(&between, &second).await?;
    ward.workload.verify("after healing again")?;
    println!("   {}", ward.cluster.check_metadata()?.trim_end());
    let after = inspect::stopped(&mut ward.cluster)?;
    judged(&after, "after the second loss", Some(&before))?;
    ward.cluster.stop()
}

struct Ward {
    cluster: Cluster,
    workload: Workload,
    rng: StdRng,
    /// Where copies of disks may lie.
    aside: PathBuf,
    /// Racks that will not come back.
    lost: Vec<String>,
}

impl Ward {
    /// Returns how many bytes there are.
    fn write(&mut self, objects: usize) -> Result<u64, ChaosError> {
        let sizes: Vec<String> = SIZES.iter().map(usize::to_string).collect();
        self.workload.ask(&format!("endpoints {}", self.cluster.endpoints().join(" ")))?;
        let answer = self.workload.ask(&format!("write {objects} {} {}", WRITTEN.as_secs(), sizes.join(" ")))?;
        let (count, bytes) = (answer["objects"].as_u64(), answer["bytes"].as_u64());
        match bytes {
            Some(bytes) if count == Some(objects as u64) => {
                println!("   {objects} objects of {bytes} bytes were written");
                Ok(bytes)
            }
            _ => Err(ChaosError::NotInTime { what: format!("{objects} writes"), detail: answer.to_string() }),
        }
    }

    /// Kills all nodes of a rack for good, and waits until that is noticed. The first of the nodes that are left is
    /// asked for the status.
    async fn lose_a_rack(&mut self) -> Result<String, ChaosError> {
        let racks: Vec<String> = self.cluster.nodes.iter().map(|node| node.rack.clone()).collect();
        let left: Vec<String> = racks.into_iter().filter(|rack| !self.lost.contains(rack)).collect();
        let rack = left.choose(&mut self.rng).cloned().unwrap_or_default();
        println!("   kill -9 of rack {rack}, for good");
        self.cluster.kill_rack(&rack);
        self.lost.push(rack.clone());
        self.workload.ask(&format!("endpoints {}", self.cluster.endpoints().join(" ")))?;
        self.until("its disks to be down", NOTICED, |status| admin::disks_in(status, "down") == DISKS_IN_RACK).await?;
        Ok(rack)
    }

    /// While more nodes are away than most stripes can miss, the status counts just what cannot be made anew without
    /// them. When they return all of it is, though nodes are killed meanwhile.
    async fn heal_with_others_away(&mut self, before: &Audit, rack: &str) -> Result<(), ChaosError> {
        let away = self.choose_away();
        let names: Vec<String> = away.iter().map(|index| self.cluster.nodes[*index].id.clone()).collect();
        let within_reach = |home: &Home| !names.contains(&home.node);
        let Lost { fragments, out_of_reach, .. } = before.lost(|home| home.rack == rack, within_reach);
        if out_of_reach == 0 || out_of_reach == fragments {
            return Err(ChaosError::Workload(format!("{out_of_reach} of {fragments} fragments out of reach")));
        }
        away.iter().for_each(|index| self.cluster.nodes[*index].freeze());
        let down = DISKS_IN_RACK + away.len() * DISKS;
        self.until("the frozen disks to be down", NOTICED, |status| admin::disks_in(status, "down") == down).await?;
        print!("   {}", first_line(&self.cluster.give_up(&["--rack", &format!("z1/{rack}")])?));
        self.until_missing(out_of_reach, fragments).await?;
        println!(
            "   {fragments} fragments were lost; with {} frozen, the status counts the {out_of_reach} that cannot be made anew",
            names.join(", ")
        );
        let asked = self.asked();
        let mut repairing: Vec<usize> = (0..self.cluster.nodes.len()).collect();
        repairing.retain(|index| self.cluster.nodes[*index].is_running() && !away.contains(index) && *index != asked);
        repairing.shuffle(&mut self.rng);
        repairing.truncate(2);
        let names: Vec<&str> = repairing.iter().map(|index| &*self.cluster.nodes[*index].id).collect();
        // All of it is made within a second or two: they are killed while it begins.
        away.iter().for_each(|index| self.cluster.nodes[*index].thaw());
        println!("   kill -9 of {} as the frozen nodes return, and started again", names.join(" and "));
        self.cluster.restart(&repairing)?;
        self.until_whole().await
    }

    /// A whole rack and a node of another, none of them the one that is asked: a stripe of six or twelve fragments has
    /// one more there than it can miss, or not.
    fn choose_away(&mut self) -> Vec<usize> {
        let asked = &self.cluster.nodes[self.asked()].rack;
        let mut racks: Vec<String> = (1..=RACKS).map(|rack| format!("r{rack}")).collect();
        racks.retain(|rack| rack != asked && !self.lost.contains(rack));
        racks.shuffle(&mut self.rng);
        let in_rack = |rack: &str| {
            let nodes = self.cluster.nodes.iter().enumerate();
            nodes.filter(|(_, node)| node.rack == rack).map(|(index, _)| index).collect::<Vec<_>>()
        };
        let (whole, part) = (in_rack(&racks[0]), in_rack(&racks[1]));
        let one = part[self.rng.random_range(0..part.len())];
        whole.into_iter().chain([one]).collect()
    }

    /// The node whose status is looked at: the first that runs.
    fn asked(&self) -> usize {
        self.cluster.nodes.iter().position(|node| node.is_running()).unwrap_or(0)
    }

    /// Waits until the status counts `exactly` so many fragments, and goes on to. More than were lost are never
    /// missing.
    async fn until_missing(&self, exactly: u64, lost: u64) -> Result<(), ChaosError> {
        let (ends, mut right_since) = (Instant::now() + HEALED, None);
        loop {
            let count = missing(&self.cluster.status().await?);
            if count > Some(lost) {
                let what = format!("{count:?} fragments are called missing of {lost} that were lost");
                return Err(ChaosError::Violated { invariant: "RED-1", what });
            }
            right_since = (count == Some(exactly)).then(|| right_since.unwrap_or_else(Instant::now));
            if right_since.is_some_and(|since| since.elapsed() > STEADY) {
                return Ok(());
            }
            if Instant::now() > ends {
                let what = format!("the status to count {exactly} of {lost} fragments as missing");
                return Err(ChaosError::NotInTime { what, detail: format!("it counts {count:?}") });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The nodes of the rack are given up one by one; never are more fragments called missing than were lost.
    async fn heal(&mut self, before: &Audit, rack: &str) -> Result<(), ChaosError> {
        let Lost { fragments, bytes, .. } = before.lost(|home| home.rack == rack, |_| true);
        let nodes = self.cluster.nodes.iter().filter(|node| node.rack == rack);
        for id in nodes.map(|node| node.id.clone()).collect::<Vec<_>>() {
            print!("   {}", first_line(&self.cluster.give_up(&["--node", &id])?));
        }
        let (begun, mut most) = (Instant::now(), 0);
        loop {
            let status = self.cluster.status().await?;
            most = most.max(missing(&status).unwrap_or(u64::MAX));
            if most > fragments {
                let what = format!("{most} fragments are called missing of {fragments} that were lost");
                return Err(ChaosError::Violated { invariant: "RED-1", what });
            }
            if self.is_whole(&status) {
                break;
            }
            if begun.elapsed() > HEALED {
                return Err(ChaosError::NotInTime { what: "nothing to be missing".into(), detail: brief(&status) });
            }
            tokio::time::sleep(POLL).await;
        }
        println!(
            "   {fragments} fragments of {bytes} bytes were lost, {most} at a time called missing; made anew in {:.0} s",
            begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Everything that is left is up, every group has all its members among it, and nothing is missing.
    fn is_whole(&self, status: &Value) -> bool {
        let groups = status["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
        missing(status) == Some(0)
            && admin::disks_in(status, "up") == (RACKS - self.lost.len()) * DISKS_IN_RACK
            && !groups.is_empty()
            && groups.iter().all(|group| group["up"] == group["width"])
    }

    async fn until_whole(&self) -> Result<(), ChaosError> {
        self.until("nothing to be missing", HEALED, |status| self.is_whole(status)).await
    }

    async fn until(&self, what: &str, within: Duration, holds: impl Fn(&Value) -> bool) -> Result<(), ChaosError> {
        let ends = Instant::now() + within;
        loop {
            let status = self.cluster.status().await;
            if status.as_ref().is_ok_and(&holds) {
                return Ok(());
            }
            if Instant::now() > ends {
                let detail = status.map_or_else(|error| error.to_string(), |status| brief(&status));
                return Err(ChaosError::NotInTime { what: what.into(), detail });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn audited(&self, when: &str, before: Option<&Audit>) -> Result<Audit, ChaosError> {
        let audit = inspect::running(&self.cluster, &self.aside)?;
        judged(&audit, when, before)?;
        Ok(audit)
    }
}

/// Every stripe has all its fragments, whole, where they should be, as they were before.
fn judged(audit: &Audit, when: &str, before: Option<&Audit>) -> Result<(), ChaosError> {
    let mut problems = audit.problems();
    problems.extend(before.map(|before| audit.differences(before)).unwrap_or_default());
    if problems.is_empty() {
        println!("   {when}: {audit}; every stripe whole, every byte as it was, PLC-1 kept");
        return Ok(());
    }
    let first = problems.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    Err(ChaosError::Violated { invariant: "RED-2", what: format!("{when}: {} problems: {first}", problems.len()) })
}

fn missing(status: &Value) -> Option<u64> {
    status["missing_fragments"].as_u64()
}

/// Of a status, what says how far healing is.
fn brief(status: &Value) -> String {
    let groups = status["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let part = groups.iter().filter(|group| group["up"] != group["width"]).count();
    let disks = ["up", "down", "lost"].map(|state| format!("{} {state}", admin::disks_in(status, state)));
    let missing = &status["missing_fragments"];
    format!(
        "{missing} missing {}; disks: {}; {part} groups without all members",
        status["ledger_by_cause"],
        disks.join(", ")
    )
}

fn first_line(text: &str) -> String {
    format!("{}\n", text.lines().next().unwrap_or_default())
}
