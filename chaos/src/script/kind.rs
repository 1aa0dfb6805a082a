//! The kinds of faults, what each can be done to, and what it needs.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL; started again after `for`.
    Kill,
    /// SIGTERM, which must end well, and started again at once.
    Restart,
    /// The same, and what starts is the newer of two programs.
    Upgrade,
    /// SIGSTOP, and SIGCONT after `for`.
    Freeze,
    /// The segments of a disk cannot be read.
    Eio,
    /// Each call on the segments of a disk takes 50 ms longer.
    Slow,
    /// Calls on the segments of a disk do not come back.
    Hang,
    /// Bits flip in some fragments of a disk, at rest.
    Rot,
    /// The segment files of a disk are deleted.
    LoseSegments,
    /// Groups are moved away, and after `for` the job is cancelled, done or not.
    Drain,
    /// Somebody else's file takes all the space of a disk.
    Fill,
    /// Clients write until nothing more fits, delete it all, and write again.
    Glut,
    /// The file system of a disk refuses every change; mounted anew after `for`.
    ReadOnly,
    /// SIGKILL, and what was not synced is lost; started again after `for`.
    PowerCut,
    /// Hears nobody, and nobody hears it.
    Cut,
    /// Hears nobody.
    Deaf,
    /// Nobody hears it.
    Mute,
    /// The metadata server and it do not hear each other.
    CutMetadata,
    /// Two racks do not hear each other; all others hear both.
    Part,
    /// 20 % of the packets to and from it are lost.
    Loss,
    /// Packets from it take 100 ms longer.
    Delay,
    /// The wall clock is a day ahead.
    ClockAhead,
    /// The wall clock is a day behind.
    ClockBehind,
    /// The wall clock runs an hour in each second.
    ClockFast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// One disk of a node.
    Disk,
    Node,
    Rack,
    /// Two racks.
    Pair,
    /// As many racks as may be away at once, fewer than half.
    Minority,
    /// Each node in its turn, one after another.
    Each,
    /// Every node at once.
    All,
    /// The metadata server.
    Metadata,
}

/// What the machine or the cluster must have for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A network namespace for each process.
    Network,
    /// Each disk a file system of its own.
    FileSystems,
    /// Clocks that can be set.
    Clocks,
    /// Two programs.
    Before,
}

const EVERYWHERE: &[Place] = &[Place::Node, Place::Rack, Place::All, Place::Metadata];

impl Kind {
    const ALL: [(Self, &'static str); 24] = [
        (Self::Kill, "kill"),
        (Self::Restart, "restart"),
        (Self::Upgrade, "upgrade"),
        (Self::Freeze, "freeze"),
        (Self::Eio, "eio"),
        (Self::Slow, "slow"),
        (Self::Hang, "hang"),
        (Self::Rot, "rot"),
        (Self::LoseSegments, "lose-segments"),
        (Self::Drain, "drain"),
        (Self::Fill, "fill"),
        (Self::Glut, "glut"),
        (Self::ReadOnly, "read-only"),
        (Self::PowerCut, "power-cut"),
        (Self::Cut, "cut"),
        (Self::Deaf, "deaf"),
        (Self::Mute, "mute"),
        (Self::CutMetadata, "cut-metadata"),
        (Self::Part, "part"),
        (Self::Loss, "loss"),
        (Self::Delay, "delay"),
        (Self::ClockAhead, "clock-ahead"),
        (Self::ClockBehind, "clock-behind"),
        (Self::ClockFast, "clock-fast"),
    ];

    /// Where it can be done.
    pub fn places(self) -> &'static [Place] {
        match self {
            Self::Kill | Self::Freeze | Self::ClockAhead | Self::ClockBehind | Self::ClockFast => EVERYWHERE,
            Self::Restart => &[Place::Node, Place::Rack, Place::Each],
            Self::Upgrade => &[Place::Each],
            Self::Drain => &[Place::Node, Place::Rack],
            Self::Eio | Self::Slow | Self::Hang | Self::Rot | Self::LoseSegments | Self::ReadOnly => &[Place::Disk],
            Self::Fill => &[Place::Disk, Place::All],
            Self::Glut => &[Place::All],
            Self::PowerCut => &[Place::Node, Place::Rack, Place::All],
            Self::Cut => &[Place::Node, Place::Rack, Place::Minority, Place::Metadata],
            Self::Deaf | Self::Mute => &[Place::Node, Place::Rack, Place::Metadata],
            Self::CutMetadata => &[Place::Node, Place::Rack],
            Self::Part => &[Place::Pair],
            Self::Loss | Self::Delay => &[Place::Node, Place::Rack, Place::All],
        }
    }

    /// Whether it needs no time: it is over as soon as it is done, but for healing.
    pub fn is_momentary(self) -> bool {
        matches!(self, Self::Restart | Self::Upgrade | Self::Rot | Self::LoseSegments | Self::Glut)
    }

    pub fn needs(self) -> &'static [Needs] {
        match self {
            Self::Fill | Self::Glut | Self::ReadOnly | Self::PowerCut => &[Needs::FileSystems],
            Self::Cut | Self::Deaf | Self::Mute | Self::CutMetadata | Self::Part | Self::Loss | Self::Delay => {
                &[Needs::Network]
            }
            Self::ClockAhead | Self::ClockBehind | Self::ClockFast => &[Needs::Clocks],
            Self::Upgrade => &[Needs::Before],
            _ => &[],
        }
    }

    /// Whether whoever it is done to is not there for the others, but clients may reach it.
    pub fn is_partition(self) -> bool {
        matches!(self, Self::Cut | Self::Deaf | Self::Mute | Self::CutMetadata)
    }

    pub fn is_of_clocks(self) -> bool {
        self.needs() == [Needs::Clocks]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(kind, _)| kind == self).map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

impl Place {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Disk, "disk"),
        (Self::Node, "node"),
        (Self::Rack, "rack"),
        (Self::Pair, "pair"),
        (Self::Minority, "minority"),
        (Self::Each, "each"),
        (Self::All, "all"),
        (Self::Metadata, "metadata"),
    ];
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(place, _)| place == self).map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

/// `kill/rack`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Drawn(pub Kind, pub Place);

impl TryFrom<String> for Drawn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(what, place)| {
            let (what, _) = Kind::ALL.iter().find(|(_, name)| *name == what)?;
            let (place, _) = Place::ALL.iter().find(|(_, name)| *name == place)?;
            Some(Self(*what, *place))
        });
        parsed.ok_or_else(|| {
            let whats = Kind::ALL.map(|(_, name)| name).join(", ");
            let places = Place::ALL.map(|(_, name)| name).join(", ");
            format!("{text:?} is not WHAT/WHERE, with WHAT one of {whats} and WHERE one of {places}")
        })
    }
}

impl From<Drawn> for String {
    fn from(drawn: Drawn) -> Self {
        format!("{}/{}", drawn.0, drawn.1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_kind_and_place_is_read_as_it_is_written() {
        for (kind, name) in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
            for place in kind.places() {
                assert_eq!(serde_json::to_value(place).unwrap(), place.to_string());
                let drawn = Drawn(kind, *place);
                assert_eq!(Drawn::try_from(String::from(drawn)), Ok(drawn));
            }
        }
    }
}
