//! A cluster of real processes on this machine: one `cairn meta`, many `cairn node`s, each with its own disks and
//! ports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

mod outfit;
mod ports;
mod spec;

pub use ports::free_tcp;
use ports::free_udp;
use spec::Leftovers;
pub use spec::{Metadata, Outfit, Spec};

use crate::{
    admin,
    error::ChaosError,
    lab::{clock::Clock, net::Net, volume::Volume},
    process::{Process, run},
};

pub const ACCESS_KEY: &str = "chaosroot";
pub const SECRET_KEY: &str = "chaosrootsecret";

/// One node: its process while it runs, and what it needs to run again in the same place.
pub struct Node {
    pub id: String,
    pub rack: String,
    pub s3: String,
    pub admin: String,
    /// The admin port as it is reached from where the node is.
    own_admin: String,
    config: PathBuf,
    folder: PathBuf,
    disks: usize,
    volumes: Vec<Volume>,
    clock: Option<Clock>,
    is_old: bool,
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

    /// The names of its disks' folders.
    pub fn disks(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.disks).map(|disk| format!("disk{disk}"))
    }

    /// It stops where it is, its sockets open, as a machine that hangs.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets a frozen one go on.
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }
}

/// A running cluster; its processes die with it, its files with the folder it was given.
pub struct Cluster {
    pub nodes: Vec<Node>,
    meta: Option<MetaServer>,
    binary: PathBuf,
    folder: PathBuf,
    lab: Outfit,
    net: Option<Net>,
    /// Dropped last, when no process writes any more.
    _leftovers: Option<Leftovers>,
}

/// `cairn meta`, and what it needs to run again in the same place.
struct MetaServer {
    folder: PathBuf,
    volume: Option<Volume>,
    clock: Option<Clock>,
    is_old: bool,
    process: Option<Process>,
}

/// The name of the metadata server.
const META: &str = "meta";
/// In a network of its own each process has all ports for itself.
const OWN_PORTS: [u16; 4] = [9000, 9001, 7000, 7001];

/// How long a process may take until it serves: machines are small and may be busy.
const READY: Duration = Duration::from_secs(90);
/// And until it has ended when it is told to.
const STOPPED: Duration = Duration::from_secs(60);

impl Cluster {
    /// Writes certificates and configurations below `folder`, starts every process and waits until all serve.
    pub fn start(binary: &Path, folder: &Path, spec: &Spec) -> Result<Self, ChaosError> {
        let mut cluster = Self {
            nodes: Vec::new(),
            meta: None,
            binary: binary.into(),
            folder: folder.into(),
            lab: spec.lab.clone(),
            net: None,
            _leftovers: spec.metadata.leftovers(),
        };
        let ids: Vec<String> = (1..=spec.racks)
            .flat_map(|rack| (1..=spec.nodes_per_rack).map(move |number| node_id(rack, number)))
            .collect();
        if spec.lab.network {
            cluster.net = Some(Net::new(ids.iter().cloned().chain([META.to_owned()]).collect())?);
        }
        cluster.certificates(&ids)?;
        let metadata = cluster.metadata(&spec.metadata)?;
        let mut seeds: Vec<String> = Vec::new();
        for rack in 1..=spec.racks {
            for number in 1..=spec.nodes_per_rack {
                let gossip = cluster.places(&node_id(rack, number))?[3].clone();
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

    /// Addresses for S3, the admin port, QUIC and gossip; those of gossip are the same each time it is asked only in a
    /// network of one's own.
    fn places(&self, id: &str) -> Result<[String; 4], ChaosError> {
        match &self.net {
            Some(net) => Ok(OWN_PORTS.map(|port| format!("{}:{port}", net.address(id)))),
            None => Ok([free_tcp()?, free_tcp()?, free_udp()?, free_udp()?]),
        }
    }

    /// Runs the newer program, or the older one, where this member is.
    fn program(&self, id: &str, is_old: bool) -> Command {
        let binary = self.lab.before.as_ref().filter(|_| is_old).unwrap_or(&self.binary);
        self.net.as_ref().map_or_else(|| Command::new(binary), |net| net.command(id, binary))
    }

    fn clock(&self, id: &str) -> Result<Option<Clock>, ChaosError> {
        let control = self.folder.join(format!("{id}.clock"));
        self.lab.clocks.as_ref().map(|library| Clock::new(library, control)).transpose()
    }

    fn volume(&self, at: &Path) -> Result<Option<Volume>, ChaosError> {
        self.lab.disk_bytes.map(|bytes| Volume::new(at, bytes)).transpose()
    }

    fn certificates(&self, ids: &[String]) -> Result<(), ChaosError> {
        let tls = self.folder.join("tls");
        fs::create_dir_all(&tls).map_err(ChaosError::io("create the certificates' folder"))?;
        for (name, before) in [("secrets.key", ""), ("objects.keys", "cairn/1 ")] {
            let key: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
            write_secret(&tls.join(name), &format!("{before}{key}\n")).map_err(ChaosError::io("write a key"))?;
        }
        self.cairn(&["cert", "new-ca", "--dir", &tls.to_string_lossy()])?;
        for id in ids.iter().map(String::as_str).chain([META]) {
            self.cairn(&["cert", "new-node", "--dir", &tls.to_string_lossy(), "--id", id])?;
        }
        Ok(())
    }

    /// Runs one `cairn` command to its end; what it printed.
    pub(crate) fn cairn(&self, arguments: &[&str]) -> Result<String, ChaosError> {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        run(command, &format!("cairn {}", arguments.join(" ")))
    }

    /// Starts the metadata server if it is ours; returns the nodes' `[metadata]` table.
    fn metadata(&mut self, kind: &Metadata) -> Result<String, ChaosError> {
        let quic = match kind {
            Metadata::Fdb { cluster_file, prefix } => {
                let file = cluster_file.to_string_lossy();
                return Ok(format!("kind = \"fdb\"\ncluster_file = {file:?}\nprefix = {prefix:?}\n"));
            }
            Metadata::Embedded => return Ok("kind = \"embedded\"\npath = \"metadata\"\n".into()),
            Metadata::Remote => self.places(META)?[2].clone(),
        };
        let admin = self.places(META)?[1].clone();
        let folder = self.folder.join("meta");
        fs::create_dir_all(&folder).map_err(ChaosError::io("create the metadata folder"))?;
        let config = format!(
            "version = 1\n[meta]\nid = \"meta\"\npath = \"store\"\nlisten = \"{quic}\"\n{}[admin]\nlisten = \"{}\"\nallow_remote = {}\n",
            tls_table(META),
            admin,
            self.net.is_some(),
        );
        fs::write(folder.join("meta.toml"), config).map_err(ChaosError::io("write meta.toml"))?;
        let (volume, clock) = (self.volume(&folder.join("store"))?, self.clock(META)?);
        let is_old = self.lab.before.is_some();
        self.meta = Some(MetaServer { folder, volume, clock, is_old, process: None });
        self.revive_meta()?;
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
        let [s3, admin, quic, _] = self.places(&id)?;
        let own_admin = if self.net.is_some() { format!("127.0.0.1:{}", OWN_PORTS[1]) } else { admin.clone() };
        // Behind cables of one's own nobody else is there.
        let admin_listen = if self.net.is_some() { format!("0.0.0.0:{}", OWN_PORTS[1]) } else { admin.clone() };
        let segment = if spec.lab.disk_bytes.is_some() { "16 MiB" } else { "64 MiB" };
        let mut text = format!("version = 1\n[node]\nid = \"{id}\"\nrack = \"r{rack}\"\nzone = \"z1\"\n");
        for disk in 1..=spec.disks {
            text += &format!("[[disks]]\npath = \"disk{disk}\"\nreserved = \"16 MiB\"\nsegment = \"{segment}\"\n");
        }
        text += &format!("[listen]\nquic = \"{quic}\"\ngossip = \"{gossip}\"\n[gossip]\nseeds = {seeds:?}\n");
        text += &tls_table(&id);
        let domain = if matches!(spec.metadata, Metadata::Embedded) { "disk" } else { "rack" };
        text +=
            &format!("[metadata]\n{metadata}[policy]\nscheme = \"{}\"\nfailure_domain = \"{domain}\"\n", spec.scheme);
        text += &format!(
            "[timings]\ngossip_interval = \"200 ms\"\nfragment_deadline = \"5 s\"\nreclaim_grace = \"{}\"\nscrub_interval = \"{}\"\n",
            spec.reclaim_grace, spec.scrub_interval
        );
        if let Some(rate) = &spec.repair_rate {
            text += &format!("[rates]\nrepair = \"{rate}\"\n");
        }
        text += &format!(
            "[limits]\nmemory = \"{}\"\n[s3]\nlisten = \"{s3}\"\n{KEYS}[[s3.events.webhook]]\nname = \"nobody\"\nurl = \"http://127.0.0.1:1/\"\n[admin]\nlisten = \"{admin_listen}\"\nallow_remote = {}\n",
            spec.memory,
            self.net.is_some()
        );
        let config = folder.join("node.toml");
        fs::write(&config, text).map_err(ChaosError::io("write node.toml"))?;
        let mut places: Vec<PathBuf> = (1..=spec.disks).map(|disk| folder.join(format!("disk{disk}"))).collect();
        if matches!(spec.metadata, Metadata::Embedded) {
            places.push(folder.join("metadata"));
        }
        let volumes: Result<Vec<_>, _> = places.iter().filter_map(|at| self.volume(at).transpose()).collect();
        let (volumes, clock, is_old) = (volumes?, self.clock(&id)?, self.lab.before.is_some());
        Ok(Node {
            id,
            rack: format!("r{rack}"),
            s3: format!("http://{s3}"),
            admin: format!("http://{admin}"),
            own_admin: format!("http://{own_admin}"),
            config,
            folder,
            disks: spec.disks,
            volumes,
            clock,
            is_old,
            process: None,
        })
    }

    fn spawn(&mut self, index: usize) -> Result<(), ChaosError> {
        let mut command = self.program(&self.nodes[index].id, self.nodes[index].is_old);
        let node = &mut self.nodes[index];
        let ready = node.folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        if let Some(clock) = &node.clock {
            clock.into(&mut command);
        }
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

    /// `kill -9` of one node.
    pub fn kill_node(&mut self, index: usize) {
        if let Some(mut process) = self.nodes[index].process.take() {
            process.kill();
        }
    }

    /// Starts a node that does not run, as it was, without waiting until it serves.
    pub fn begin(&mut self, index: usize) -> Result<(), ChaosError> {
        if self.nodes[index].is_running() { Ok(()) } else { self.spawn(index) }
    }

    /// Whether a node that was started serves.
    pub fn is_serving(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        node.is_running() && node.folder.join("ready.json").exists()
    }

    /// Stops a node as an operator would; it must end well.
    pub fn stop_node(&mut self, index: usize) -> Result<(), ChaosError> {
        self.nodes[index].process.take().map_or(Ok(()), |mut process| process.terminate(STOPPED))
    }

    /// The processes that ended though nobody ended them, each told once; they count as dead from now on.
    pub fn fallen(&mut self) -> Vec<ChaosError> {
        let places = self.nodes.iter_mut().map(|node| &mut node.process);
        let mut fallen = Vec::new();
        for place in places.chain(self.meta.as_mut().map(|meta| &mut meta.process)) {
            if let Some(process) = place
                && let Some(status) = process.exited()
            {
                fallen.push(ChaosError::Exited { name: process.name.clone(), status, log: process.log_tail() });
                *place = None;
            }
        }
        fallen
    }

    /// Names and ids of all processes that run.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let nodes = self.nodes.iter().filter_map(|node| Some((node.id.clone(), node.pid()?)));
        let meta = self.meta.as_ref().and_then(|meta| meta.process.as_ref());
        nodes.chain(meta.map(|process| ("meta".to_owned(), process.pid()))).collect()
    }

    /// The metadata server stops where it is.
    pub fn freeze_meta(&self) {
        self.signal_meta(libc::SIGSTOP);
    }

    /// Lets a frozen one go on.
    pub fn thaw_meta(&self) {
        self.signal_meta(libc::SIGCONT);
    }

    fn signal_meta(&self, signal: libc::c_int) {
        if let Some(process) = self.meta.as_ref().and_then(|meta| meta.process.as_ref()) {
            process.signal(signal);
        }
    }

    /// Every node in a rack stops where it is.
    pub fn freeze_rack(&self, rack: &str) {
        self.rack(rack).for_each(Node::freeze);
    }

    /// Lets the nodes of a frozen rack go on.
    pub fn thaw_rack(&self, rack: &str) {
        self.rack(rack).for_each(Node::thaw);
    }

    fn rack(&self, rack: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.rack == rack)
    }

    /// `kill -9` of these nodes, which are then started again as they were, and waited for.
    pub fn restart(&mut self, nodes: &[usize]) -> Result<(), ChaosError> {
        for index in nodes {
            if let Some(mut process) = self.nodes[*index].process.take() {
                process.kill();
            }
        }
        nodes.iter().try_for_each(|index| self.spawn(*index))?;
        nodes.iter().try_for_each(|index| self.wait_ready(*index))
    }

    /// Starts every node that does not run, as it was, and waits until they serve.
    pub fn revive(&mut self) -> Result<(), ChaosError> {
        let dead: Vec<_> = (0..self.nodes.len()).filter(|index| !self.nodes[*index].is_running()).collect();
        for index in &dead {
            self.spawn(*index)?;
        }
        dead.into_iter().try_for_each(|index| self.wait_ready(index))
    }

    /// `kill -9` of the metadata server.
    pub fn kill_meta(&mut self) {
        if let Some(mut process) = self.meta.as_mut().and_then(|meta| meta.process.take()) {
            process.kill();
        }
    }

    /// Starts the metadata server as it was, and waits until it serves.
    pub fn revive_meta(&mut self) -> Result<(), ChaosError> {
        self.begin_meta()?;
        let Some(meta) = &mut self.meta else { return Ok(()) };
        let ready = meta.folder.join("ready.json");
        meta.process.as_mut().map_or(Ok(()), |process| wait_for_file(&ready, process))
    }

    /// Whether the metadata server serves; where there is none of ours, it does.
    pub fn meta_serves(&self) -> bool {
        self.meta.as_ref().is_none_or(|meta| meta.process.is_some() && meta.folder.join("ready.json").exists())
    }

    /// Starts the metadata server as it was, without waiting until it serves.
    pub fn begin_meta(&mut self) -> Result<(), ChaosError> {
        let is_old = self.meta.as_ref().is_some_and(|meta| meta.is_old);
        let mut command = self.program(META, is_old);
        let Some(meta) = self.meta.as_mut().filter(|meta| meta.process.is_none()) else { return Ok(()) };
        let ready = meta.folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        if let Some(clock) = &meta.clock {
            clock.into(&mut command);
        }
        command.arg("meta").arg("--config").arg(meta.folder.join("meta.toml")).arg("--ready-file").arg(&ready);
        meta.process = Some(Process::start(META, command, &meta.folder.join("log"))?);
        Ok(())
    }

    /// Runs one `cairn` command where a node is, which some commands must, asking its admin port.
    pub fn cairn_at(&self, index: usize, arguments: &[&str]) -> Result<String, ChaosError> {
        let node = &self.nodes[index];
        let mut command = self.program(&node.id, false);
        command.args(arguments).args(["--admin", &node.own_admin]);
        run(command, &format!("cairn {}", arguments.join(" ")))
    }

    /// Stops the metadata server as an operator would.
    pub fn stop_meta(&mut self) -> Result<(), ChaosError> {
        let process = self.meta.as_mut().and_then(|meta| meta.process.take());
        process.map_or(Ok(()), |mut process| process.terminate(STOPPED))
    }

    /// `kill -9` of every node.
    pub fn kill_all(&mut self) {
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            process.kill();
        }
        self.nodes.iter_mut().for_each(|node| node.process = None);
    }

    /// Runs `cairn admin give-up` with what it is to give up, such as `--node n1`.
    pub fn give_up(&self, which: &[&str]) -> Result<String, ChaosError> {
        self.cairn_as(0, &[&["admin", "give-up"], which].concat())
    }

    /// Prints where everything should be: `cairn admin metadata placement`.
    pub fn placement(&self) -> Result<String, ChaosError> {
        self.placement_by(0)
    }

    /// The same, asked by a node that the metadata hear.
    pub fn placement_by(&self, index: usize) -> Result<String, ChaosError> {
        self.cairn_as(index, &["admin", "metadata", "placement"])
    }

    /// Runs a command of the administrator with the certificates and metadata of a node, where that is.
    fn cairn_as(&self, index: usize, arguments: &[&str]) -> Result<String, ChaosError> {
        let node = self.nodes.get(index).ok_or(ChaosError::Workload("a cluster without nodes".into()))?;
        let mut command = self.program(&node.id, false);
        command.args(arguments).arg("--config").arg(&node.config);
        run(command, &format!("cairn {}", arguments.join(" ")))
    }

    /// Stops all nodes as an operator would, and not the metadata server. Those that had been killed before are gone
    /// for good.
    pub fn stop_nodes(&mut self) -> Result<(), ChaosError> {
        let processes = self.nodes.iter_mut().filter_map(|node| node.process.take());
        processes.into_iter().try_for_each(|mut process| process.terminate(STOPPED))
    }

    /// Runs `cairn admin metadata check` as a node would reach the metadata; what it printed. Fails if it found
    /// anything wrong.
    pub fn check_metadata(&self) -> Result<String, ChaosError> {
        self.cairn_as(0, &["admin", "metadata", "check"])
    }

    /// Where the processes' folders are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every process that runs: the nodes and the metadata server.
    pub fn pids(&self) -> Vec<u32> {
        let meta = self.meta.as_ref().and_then(|meta| meta.process.as_ref()).map(Process::pid);
        self.nodes.iter().filter_map(Node::pid).chain(meta).collect()
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
        let meta = self.meta.as_mut().and_then(|meta| meta.process.as_mut());
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()).chain(meta) {
            let ended = process.terminate(STOPPED);
            stopped = stopped.and(ended);
        }
        self.nodes.clear();
        stopped
    }
}

fn node_id(rack: usize, number: usize) -> String {
    format!("r{rack}n{number}")
}

/// What clients may ask of a node beyond plain objects: users with sessions, and encryption by the cluster's keys and
/// their own.
const KEYS: &str = "secrets_key_file = \"../tls/secrets.key\"\n[s3.encryption]\nkey_file = \"../tls/objects.keys\"\ncustomer_keys_over_http = true\n";

/// Nodes refuse keys that others may read.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
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
