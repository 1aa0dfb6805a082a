//! A network of the run's own: each process in a network namespace with one cable to a bridge, so that what any of them
//! hears of any other can be cut. Who runs the scenario is at the bridge and is never cut off.

use std::{net::Ipv4Addr, process::Command};

pub use super::filter::Fate;
use super::{filter::program, system};
use crate::error::ChaosError;

const BRIDGE: &str = "cairn0";
const CABLE: &str = "eth0";
/// How much longer each packet of a slow cable takes, and by how much that differs, as `netem` reads it.
const DELAY: [&str; 2] = ["100ms", "20ms"];

/// The bridge and the namespaces; they belong to this process's own network namespace and end with it.
#[derive(Debug)]
pub struct Net {
    members: Vec<String>,
}

impl Net {
    /// For so many members. The process must have entered its own namespaces.
    pub fn new(members: Vec<String>) -> Result<Self, ChaosError> {
        system("ip", &["link", "set", "lo", "up"])?;
        // `ip netns` keeps names there, which nobody else is to see.
        let names = "/run/netns";
        std::fs::create_dir_all(names).map_err(ChaosError::io("create /run/netns"))?;
        system("mount", &["-t", "tmpfs", "none", names])?;
        system("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        system("ip", &["addr", "add", &format!("{}/16", address(0)), "dev", BRIDGE])?;
        system("ip", &["link", "set", BRIDGE, "up"])?;
        let net = Self { members };
        for (index, name) in net.members.iter().enumerate() {
            let (port, own) = (format!("port{}", index + 1), format!("{}/16", address(index + 1)));
            system("ip", &["netns", "add", name])?;
            system("ip", &["link", "add", &port, "type", "veth", "peer", "name", CABLE, "netns", name])?;
            system("ip", &["link", "set", &port, "master", BRIDGE, "up"])?;
            system("ip", &["-n", name, "link", "set", "lo", "up"])?;
            system("ip", &["-n", name, "addr", "add", &own, "dev", CABLE])?;
            system("ip", &["-n", name, "link", "set", CABLE, "up"])?;
            system("tc", &["-n", name, "qdisc", "add", "dev", CABLE, "clsact"])?;
        }
        Ok(net)
    }

    fn index(&self, member: &str) -> usize {
        self.members.iter().position(|name| name == member).unwrap_or_default()
    }

    pub fn address(&self, member: &str) -> Ipv4Addr {
        address(self.index(member) + 1)
    }

    /// A command that runs where this member is.
    pub fn command(&self, member: &str, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{member}")).arg(program);
        command
    }

    /// From now on, of the packets that `to` gets from others of the network, just these have this fate.
    pub fn hears(&self, to: usize, fates: &[(usize, Fate)]) -> Result<(), ChaosError> {
        let fates: Vec<(Ipv4Addr, Fate)> = fates.iter().map(|(from, fate)| (address(from + 1), *fate)).collect();
        let code = program(&fates);
        let filter = ["dev", CABLE, "ingress", "pref", "1", "handle", "1", "bpf", "da", "bytecode", &code];
        system("tc", &[&["-n", &self.members[to], "filter", "replace"], &filter[..]].concat()).map(drop)
    }

    /// What `member` sends takes longer; Err says why it cannot be done here, such as a kernel without netem.
    pub fn slow(&self, member: usize) -> Result<(), String> {
        let [delay, jitter] = DELAY;
        let queue = ["qdisc", "add", "dev", CABLE, "root", "netem", "delay", delay, jitter];
        system("tc", &[&["-n", &self.members[member]], &queue[..]].concat())
            .map(drop)
            .map_err(|error| error.to_string())
    }

    pub fn hasten(&self, member: usize) -> Result<(), ChaosError> {
        system("tc", &["-n", &self.members[member], "qdisc", "del", "dev", CABLE, "root"]).map(drop)
    }
}

/// 0 is the bridge.
fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, (index >> 8) as u8, (index & 0xff) as u8 + 1)
}
