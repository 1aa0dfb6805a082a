//! What a scenario file says. Whatever it leaves out has the value that is written here; what it gets wrong is refused
//! with the file, the key and what is allowed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    kind::{Drawn, Kind, Needs, Place},
    units::{Size, Span},
};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {why}", file.display())]
    Unreadable { file: PathBuf, why: String },
    #[error("{}: {}", file.display(), why.trim_end())]
    Malformed { file: PathBuf, why: String },
    #[error("{}: {key}: {why}", file.display())]
    Refused { file: PathBuf, key: String, why: String },
}

/// With what rots at rest, so that a run sees a whole pass.
const MOST_SCRUB_INTERVAL: Span = Span::seconds(60);

/// Of a disk that is a file system of its own.
const LEAST_DISK: Size = Size(64 << 20);
const MOST_DISK: Size = Size(8 << 30);

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Of the format: 1.
    pub version: u32,
    /// In one sentence, for `cairn-chaos list`.
    pub about: String,
    /// How long faults go on; healing comes after that.
    pub duration: Span,
    #[serde(default)]
    pub topology: Topology,
    #[serde(default)]
    pub workload: Workload,
    /// The timeline.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// Besides the timeline, or instead of it: faults drawn by the seed.
    pub random: Option<Random>,
    #[serde(default)]
    pub must: Must,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    pub racks: usize,
    pub nodes_per_rack: usize,
    pub disks: usize,
    pub scheme: String,
    pub metadata: MetadataKind,
    /// What each node may have resident.
    pub memory: Size,
    pub scrub_interval: Span,
    /// How long deleted bytes are kept.
    pub reclaim_grace: Span,
    /// Each disk, and the store of the metadata, is a file system of its own, of that size (needs root).
    pub disk_size: Option<Size>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            racks: 6,
            nodes_per_rack: 1,
            disks: 2,
            scheme: "4+2".into(),
            metadata: MetadataKind::Remote,
            memory: Size(128 << 20),
            scrub_interval: Span::seconds(3600),
            reclaim_grace: Span::seconds(3600),
            disk_size: None,
        }
    }
}

/// Where the metadata are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MetadataKind {
    /// In the one node that there is, whose disks are the failure domains.
    Embedded,
    /// In a `cairn meta` of the cluster's own.
    #[default]
    Remote,
    /// In a FoundationDB that runs already and to which nothing is done.
    Fdb,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    pub clients: usize,
    /// Keys in each bucket that all clients write and read.
    pub hot_keys: usize,
    pub sizes: Vec<Size>,
    /// Of all clients together.
    pub requests_per_second: u32,
    pub mix: Mix,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            clients: 8,
            hot_keys: 6,
            sizes: [0, 1, 700, 20 << 10, 200 << 10, 1 << 20, 5 << 20].map(Size).into(),
            requests_per_second: 60,
            mix: Mix::default(),
        }
    }
}

/// How often each request is drawn, relative to the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    #[serde(default)]
    pub put: u32,
    #[serde(default)]
    pub get: u32,
    #[serde(default)]
    pub head: u32,
    #[serde(default)]
    pub delete: u32,
    #[serde(default)]
    pub list: u32,
    #[serde(default)]
    pub multipart: u32,
    #[serde(default)]
    pub copy: u32,
    /// PUT with If-None-Match: *.
    #[serde(default)]
    pub put_if_absent: u32,
    /// PUT with If-Match.
    #[serde(default)]
    pub put_if_match: u32,
    /// PUT of a key that is written once.
    #[serde(default)]
    pub put_once: u32,
    /// GET of such a key, or of a version by its id.
    #[serde(default)]
    pub get_old: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            put: 20,
            get: 28,
            head: 6,
            delete: 7,
            list: 5,
            multipart: 5,
            copy: 5,
            put_if_absent: 5,
            put_if_match: 5,
            put_once: 6,
            get_old: 8,
        }
    }
}

/// One fault of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// From the beginning of the load.
    pub at: Span,
    pub what: Kind,
    #[serde(rename = "where")]
    pub place: Place,
    /// `r2`, `r2n1`; without it the seed chooses.
    pub name: Option<String>,
    /// How long it lasts; a restart and rot take no time of their own.
    #[serde(rename = "for", default = "ten_seconds")]
    pub lasts: Span,
    /// How often in a row, on the same target.
    #[serde(default = "one")]
    pub times: u32,
    /// From the end of one to the beginning of the next.
    #[serde(default = "ten_seconds")]
    pub pause: Span,
    /// Not before everything is whole again.
    #[serde(default)]
    pub when_whole: bool,
}

fn ten_seconds() -> Span {
    Span::seconds(10)
}

fn one() -> u32 {
    1
}

/// Faults drawn by the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// Written as `what/where`.
    pub faults: Vec<Drawn>,
    /// Between the beginnings of two, from half of this to one and a half.
    pub every: Span,
    /// Each lasts something between these.
    pub shortest: Span,
    pub longest: Span,
}

/// What must hold, besides that nothing is lost, wrong or out of order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Must {
    /// From the end of the last fault until everything is whole.
    pub heal_within: Span,
    /// No request to a node that works takes longer.
    pub answer_within: Span,
    /// The longest time without any request that succeeded, while the metadata and some nodes were there.
    pub silent_at_most: Span,
    /// Of what a process may have resident by its configuration, in percent.
    pub memory_percent: u32,
    pub threads: u64,
    pub handles: u64,
}

impl Default for Must {
    fn default() -> Self {
        Self {
            heal_within: Span::seconds(240),
            answer_within: Span::seconds(60),
            silent_at_most: Span::seconds(45),
            memory_percent: 125,
            threads: 400,
            handles: 4000,
        }
    }
}

impl Scenario {
    pub fn read(file: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(file)
            .map_err(|error| FileError::Unreadable { file: file.into(), why: error.to_string() })?;
        Self::parse(file, &text)
    }

    /// `file` is for errors.
    pub fn parse(file: &Path, text: &str) -> Result<Self, FileError> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| FileError::Malformed { file: file.into(), why: error.to_string() })?;
        scenario.check(file).map(|()| scenario)
    }

    /// Once more, when something was changed since it was read.
    pub fn check(&self, file: &Path) -> Result<(), FileError> {
        match self.problem() {
            None => Ok(()),
            Some((key, why)) => Err(FileError::Refused { file: file.into(), key, why }),
        }
    }

    /// How many failure domains may be hurt at once.
    pub fn budget(&self) -> usize {
        self.scheme().map_or(0, |(_, parity)| parity)
    }

    /// What any of its faults needs.
    pub fn needs(&self, what: Needs) -> bool {
        let drawn = self.random.iter().flat_map(|random| random.faults.iter().map(|Drawn(kind, _)| *kind));
        self.fault.iter().map(|fault| fault.what).chain(drawn).any(|kind| kind.needs().contains(&what))
    }

    fn scheme(&self) -> Option<(usize, usize)> {
        let (data, parity) = self.topology.scheme.split_once('+')?;
        Some((data.parse().ok()?, parity.parse().ok()?))
    }

    /// The first key that is wrong, and why.
    fn problem(&self) -> Option<(String, String)> {
        let wrong = |key: &str, why: String| Some((key.to_owned(), why));
        if self.version != 1 {
            return wrong("version", format!("{} is unknown; this build reads 1", self.version));
        }
        if self.duration.0.is_zero() {
            return wrong("duration", "must be more than 0 s".into());
        }
        self.topology_problem().or_else(|| self.workload_problem()).or_else(|| self.faults_problem())
    }

    fn topology_problem(&self) -> Option<(String, String)> {
        let Topology { racks, nodes_per_rack, disks, metadata, .. } = self.topology;
        let between = |key: &str, value: usize, most: usize| {
            let wrong = !(1..=most).contains(&value);
            wrong.then(|| (format!("topology.{key}"), format!("{value} is not between 1 and {most}")))
        };
        let size = self.topology.disk_size.filter(|size| !(LEAST_DISK..=MOST_DISK).contains(size));
        if let Some(size) = size {
            let why = format!("{size} is not between {LEAST_DISK} and {MOST_DISK}");
            return Some(("topology.disk_size".into(), why));
        }
        let counts = between("racks", racks, 16)
            .or_else(|| between("nodes_per_rack", nodes_per_rack, 8))
            .or_else(|| between("disks", disks, 16));
        if counts.is_some() {
            return counts;
        }
        let Some((data, parity)) = self.scheme().filter(|(data, parity)| *data > 0 && *parity > 0) else {
            let why = format!("{:?} is not of the form 4+2: data and parity fragments", self.topology.scheme);
            return Some(("topology.scheme".into(), why));
        };
        if metadata == MetadataKind::Embedded && racks * nodes_per_rack != 1 {
            let why = "\"embedded\" is for one node: racks = 1 and nodes_per_rack = 1; allowed otherwise: \"remote\"";
            return Some(("topology.metadata".into(), why.into()));
        }
        let domains = if metadata == MetadataKind::Embedded { disks } else { racks };
        // A domain holds no more than the parity of a stripe.
        (domains * parity < data + parity || nodes_per_rack * disks * racks < data + parity).then(|| {
            let what = if metadata == MetadataKind::Embedded { "disks" } else { "racks" };
            let why = format!("{domains} {what} cannot hold {} so that any may be lost", self.topology.scheme);
            ("topology.scheme".into(), why)
        })
    }

    fn workload_problem(&self) -> Option<(String, String)> {
        let Workload { clients, hot_keys, sizes, requests_per_second, mix } = &self.workload;
        let wrong = |key: &str, why: &str| Some((format!("workload.{key}"), why.to_owned()));
        if !(1..=256).contains(clients) {
            return wrong("clients", "must be between 1 and 256");
        }
        if !(1..=500).contains(hot_keys) {
            return wrong("hot_keys", "must be between 1 and 500: a page of a listing holds them all");
        }
        if sizes.is_empty() || sizes.iter().any(|size| size.0 > 64 << 20) {
            return wrong("sizes", "must name at least one size, and none above 64 MiB");
        }
        if *requests_per_second == 0 {
            return wrong("requests_per_second", "must be at least 1");
        }
        let all = serde_json::to_value(mix).unwrap_or_default();
        let sum: u64 = all.as_object().into_iter().flatten().filter_map(|(_, weight)| weight.as_u64()).sum();
        (sum == 0).then(|| ("workload.mix".into(), "must give at least one request a weight".into()))
    }

    fn faults_problem(&self) -> Option<(String, String)> {
        for (index, fault) in self.fault.iter().enumerate() {
            let key = |name: &str| format!("fault {}, {name}", index + 1);
            if let Some(why) = self.place_problem(fault.what, fault.place) {
                return Some((key("where"), why));
            }
            if fault.at >= self.duration {
                return Some((key("at"), format!("{} is not before the end, {}", fault.at, self.duration)));
            }
            if !(1..=100).contains(&fault.times) {
                return Some((key("times"), format!("{} is not between 1 and 100", fault.times)));
            }
            if let Some(why) = fault.name.as_ref().and_then(|name| self.name_problem(fault.place, name)) {
                return Some((key("name"), why));
            }
        }
        let random = self.random.as_ref()?;
        if random.faults.is_empty() {
            return Some(("random.faults".into(), "must name at least one".into()));
        }
        if random.every.0.is_zero() {
            return Some(("random.every".into(), "must be more than 0 s".into()));
        }
        if random.shortest > random.longest {
            let why = format!("{} is more than random.longest, {}", random.shortest, random.longest);
            return Some(("random.shortest".into(), why));
        }
        let wrong = random.faults.iter().find_map(|Drawn(what, place)| self.place_problem(*what, *place));
        wrong.map(|why| ("random.faults".into(), why))
    }

    fn place_problem(&self, what: Kind, place: Place) -> Option<String> {
        if !what.places().contains(&place) {
            let allowed: Vec<String> = what.places().iter().map(|place| format!("{:?}", place.to_string())).collect();
            return Some(format!("{what} cannot be done to {:?}; allowed: {}", place.to_string(), allowed.join(", ")));
        }
        if what.needs().contains(&Needs::FileSystems) && self.topology.disk_size.is_none() {
            return Some(format!("{what} needs topology.disk_size: each disk a file system of its own"));
        }
        if matches!(place, Place::Pair | Place::Minority) && self.topology.racks < 3 {
            return Some(format!("{what} of {:?} needs three racks at least", place.to_string()));
        }
        let scrubbed = self.topology.scrub_interval;
        if matches!(what, Kind::Rot | Kind::LoseSegments) && scrubbed > MOST_SCRUB_INTERVAL {
            let most = format!("topology.scrub_interval is {scrubbed}, and may be {MOST_SCRUB_INTERVAL} at most");
            return Some(format!("{what} is found by scrub alone: {most}"));
        }
        if self.topology.metadata == MetadataKind::Fdb && place == Place::Metadata {
            return Some(format!("{what} of \"metadata\": the FoundationDB is not the scenario's"));
        }
        let embedded = self.topology.metadata == MetadataKind::Embedded;
        (embedded && !matches!(place, Place::All | Place::Disk))
            .then(|| format!("{what} of {:?}: there is one node; allowed: \"all\", \"disk\"", place.to_string()))
    }

    fn name_problem(&self, place: Place, name: &str) -> Option<String> {
        let Topology { racks, nodes_per_rack, .. } = self.topology;
        let fits = match place {
            Place::Rack => (1..=racks).any(|rack| name == format!("r{rack}")),
            Place::Node | Place::Disk => {
                (1..=racks).any(|rack| (1..=nodes_per_rack).any(|node| name == format!("r{rack}n{node}")))
            }
            Place::Each | Place::All | Place::Metadata | Place::Pair | Place::Minority => false,
        };
        (!fits).then(|| {
            format!("there is no {place} {name:?}; racks are r1 to r{racks}, nodes r1n1 to r{racks}n{nodes_per_rack}")
        })
    }
}
