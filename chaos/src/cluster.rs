//! A cluster of real processes on this machine: one `cairn meta`, many `cairn node`s, each with its own disks and ports.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{admin, error::ChaosError, process::Process};

pub const ACCESS_KEY: &str = "chaosroot";
pub const SECRET_KEY: &str = "chaosrootsecret";

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    pub racks: usize,
    pub nodes_per_rack: usize,
    pub disks: usize,
    /// As in the configuration: `4+2`.
    pub scheme: String,
    /// Where the metadata is.
    pub metadata: Metadata,
    /// How long deleted bytes are kept; short in tests that wait for them to go.
    pub reclaim_grace: String,
    pub scrub_interval: String,
}

#[derive(Clone, Debug)]
pub enum Metadata {
    /// One `cairn meta`, which is part of the cluster.
    Remote,
    /// A FoundationDB that runs already; the binary must have the `fdb` feature.
    Fdb { cluster_file: PathBuf },
}

/// One node: its process while it runs, and what it needs to run again in the same place.
pub struct Node {
    pub id: String,
    pub rack: String,
    pub s3: String,
    pub admin: String,
    config: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
}

impl Node {
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where its disks are, for whoever wants to damage one.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A running cluster; its processes die with it, its files with the folder it was given.
pub struct Cluster {
    pub nodes: Vec<Node>,
    meta: Option<Process>,
    binary: PathBuf,
    folder: PathBuf,
}

/// How long a process may take until it serves: machines are small and may be busy.
const READY: Duration = Duration::from_secs(90);

impl Cluster {
    /// Writes certificates and configurations below `folder`, starts every process and waits until all serve.
    pub fn start(binary: &Path, folder: &Path, spec: &Spec) -> Result<Self, ChaosError> {
        let mut cluster = Self { nodes: Vec::new(), meta: None, binary: binary.into(), folder: folder.into() };
        cluster.certificates(spec)?;
        let metadata = cluster.metadata(&spec.metadata)?;
        let mut seeds: Vec<String> = Vec::new();
        for rack in 1..=spec.racks {
            for number in 1..=spec.nodes_per_rack {
                let gossip = free_udp()?;
                let node = cluster.configure(spec, rack, number, &gossip, &seeds, &metadata)?;
                if seeds.len() < 3 {
                    seeds.push(gossip);
                }
                cluster.nodes.push(node);
            }
        }
        for index in 0..cluster.nodes.len() {
            cluster.spawn(index)?;
        }
        for index in 0..cluster.nodes.len() {
            cluster.wait_ready(index)?;
        }
        Ok(cluster)
    }

    fn certificates(&self, spec: &Spec) -> Result<(), ChaosError> {
        let tls = self.folder.join("tls");
        fs::create_dir_all(&tls).map_err(ChaosError::io("create the certificates' folder"))?;
        self.cairn(&["cert", "new-ca", "--dir", &tls.to_string_lossy()])?;
        let nodes = (1..=spec.racks).flat_map(|rack| (1..=spec.nodes_per_rack).map(move |n| node_id(rack, n)));
        for id in nodes.chain(["meta".to_owned()]) {
            self.cairn(&["cert", "new-node", "--dir", &tls.to_string_lossy(), "--id", &id])?;
        }
        Ok(())
    }

    /// Runs one `cairn` command to its end.
    fn cairn(&self, arguments: &[&str]) -> Result<(), ChaosError> {
        let what = format!("cairn {}", arguments.join(" "));
        let output = Command::new(&self.binary).args(arguments).output().map_err(ChaosError::io(&what))?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(ChaosError::Io { what, why })
    }

    /// Starts the metadata server if it is ours; returns the nodes' `[metadata]` table.
    fn metadata(&mut self, kind: &Metadata) -> Result<String, ChaosError> {
        let quic = match kind {
            Metadata::Fdb { cluster_file } => {
                return Ok(format!("kind = \"fdb\"\ncluster_file = {:?}\n", cluster_file.to_string_lossy()));
            }
            Metadata::Remote => free_udp()?,
        };
        let folder = self.folder.join("meta");
        fs::create_dir_all(&folder).map_err(ChaosError::io("create the metadata folder"))?;
        let config = format!(
            "version = 1\n[meta]\nid = \"meta\"\npath = \"store\"\nlisten = \"{quic}\"\n{}[admin]\nlisten = \"{}\"\n",
            tls_table("meta"),
            free_tcp()?,
        );
        let file = folder.join("meta.toml");
        fs::write(&file, config).map_err(ChaosError::io("write meta.toml"))?;
        let ready = folder.join("ready.json");
        let mut command = Command::new(&self.binary);
        command.arg("meta").arg("--config").arg(&file).arg("--ready-file").arg(&ready);
        let mut process = Process::start("meta", command, &folder.join("log"))?;
        wait_for_file(&ready, &mut process)?;
        self.meta = Some(process);
        Ok(format!("kind = \"remote\"\naddress = \"{quic}\"\nserver = \"meta\"\n"))
    }

    fn configure(
        &self,
        spec: &Spec,
        rack: usize,
        number: usize,
        gossip: &str,
        seeds: &[String],
        metadata: &str,
    ) -> Result<Node, ChaosError> {
        let id = node_id(rack, number);
        let folder = self.folder.join(&id);
        fs::create_dir_all(&folder).map_err(ChaosError::io(format!("create the folder of {id}")))?;
        let (s3, admin) = (free_tcp()?, free_tcp()?);
        let mut text = format!("version = 1\n[node]\nid = \"{id}\"\nrack = \"r{rack}\"\nzone = \"z1\"\n");
        for disk in 1..=spec.disks {
            text += &format!("[[disks]]\npath = \"disk{disk}\"\nreserved = \"16 MiB\"\nsegment = \"64 MiB\"\n");
        }
        text += &format!("[listen]\nquic = \"{}\"\ngossip = \"{gossip}\"\n[gossip]\nseeds = {seeds:?}\n", free_udp()?);
        text += &tls_table(&id);
        text += &format!("[metadata]\n{metadata}[policy]\nscheme = \"{}\"\nfailure_domain = \"rack\"\n", spec.scheme);
        text += &format!(
            "[timings]\ngossip_interval = \"200 ms\"\nfragment_deadline = \"5 s\"\nreclaim_grace = \"{}\"\nscrub_interval = \"{}\"\n",
            spec.reclaim_grace, spec.scrub_interval
        );
        text += &format!("[limits]\nmemory = \"128 MiB\"\n[s3]\nlisten = \"{s3}\"\n[admin]\nlisten = \"{admin}\"\n");
        let config = folder.join("node.toml");
        fs::write(&config, text).map_err(ChaosError::io("write node.toml"))?;
        Ok(Node {
            id,
            rack: format!("r{rack}"),
            s3: format!("http://{s3}"),
            admin: format!("http://{admin}"),
            config,
            folder,
            process: None,
        })
    }

    fn spawn(&mut self, index: usize) -> Result<(), ChaosError> {
        let node = &mut self.nodes[index];
        let ready = node.folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(&self.binary);
        command.arg("node").arg("--config").arg(&node.config).arg("--ready-file").arg(&ready);
        command.env("CAIRN_ROOT_ACCESS_KEY", ACCESS_KEY).env("CAIRN_ROOT_SECRET_KEY", SECRET_KEY);
        node.process = Some(Process::start(&node.id, command, &node.folder.join("log"))?);
        Ok(())
    }

    fn wait_ready(&mut self, index: usize) -> Result<(), ChaosError> {
        let node = &mut self.nodes[index];
        let ready = node.folder.join("ready.json");
        match &mut node.process {
            Some(process) => wait_for_file(&ready, process),
            None => Ok(()),
        }
    }

    /// `kill -9` of every node in a rack.
    pub fn kill_rack(&mut self, rack: &str) {
        for node in self.nodes.iter_mut().filter(|node| node.rack == rack) {
            if let Some(mut process) = node.process.take() {
                process.kill();
            }
        }
    }

    /// Starts every node that does not run, as it was, and waits until they serve.
    pub fn revive(&mut self) -> Result<(), ChaosError> {
        let dead: Vec<_> = (0..self.nodes.len()).filter(|index| !self.nodes[*index].is_running()).collect();
        for index in &dead {
            self.spawn(*index)?;
        }
        dead.into_iter().try_for_each(|index| self.wait_ready(index))
    }

    /// S3 endpoints of the nodes that run.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().filter(|node| node.is_running()).map(|node| node.s3.clone()).collect()
    }

    /// The cluster's status as some running node sees it.
    pub async fn status(&self) -> Result<Value, ChaosError> {
        let running = self.nodes.iter().find(|node| node.is_running());
        let node = running.ok_or_else(|| ChaosError::Admin { url: "-".into(), why: "no node runs".into() })?;
        admin::json(&format!("{}/v1/status", node.admin)).await
    }

    /// Stops every process as an operator would and asks that each ends well.
    pub fn stop(mut self) -> Result<(), ChaosError> {
        let mut stopped = Ok(());
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()).chain(self.meta.as_mut()) {
            let ended = process.terminate(Duration::from_secs(60));
            stopped = stopped.and(ended);
        }
        self.nodes.clear();
        stopped
    }
}

fn node_id(rack: usize, number: usize) -> String {
    format!("r{rack}n{number}")
}

fn tls_table(id: &str) -> String {
    format!("[tls]\nca = \"../tls/ca.pem\"\ncert = \"../tls/{id}.pem\"\nkey = \"../tls/{id}.key\"\n")
}

pub fn wait_for_file(file: &Path, process: &mut Process) -> Result<(), ChaosError> {
    let ends = Instant::now() + READY;
    while !file.exists() {
        if let Some(status) = process.exited() {
            return Err(ChaosError::Exited { name: process.name.clone(), status, log: process.log_tail() });
        }
        if Instant::now() > ends {
            return Err(ChaosError::NotInTime {
                what: format!("{} to serve", process.name),
                detail: process.log_tail(),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A port that was free a moment ago. Restarted nodes must come back at the same place, so they can't pick one themselves.
pub fn free_tcp() -> Result<String, ChaosError> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    address.map(|address| address.to_string()).map_err(ChaosError::io("find a free TCP port"))
}

fn free_udp() -> Result<String, ChaosError> {
    let address = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    address.map(|address| address.to_string()).map_err(ChaosError::io("find a free UDP port"))
}
