//! `node.toml`: one node of a cluster.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cairn_actors::policy::{Policy, Rates, Timings};
use cairn_schema::{
    ids::NodeId,
    kv::limits,
    record::{FailureDomain, RateOverrides, Scheme, SettingProblem},
};
use serde::Deserialize;

use super::{
    ConfigFile, Findings, Period, SchemeText, Sharers, Shares, Size, TooSmall,
    s3_section::{CertificateSection, S3Section},
    shared::{
        AdminSection, AuditSection, LogSection, TlsSection, check_apart, check_dialled, check_host_port, check_label,
        check_version,
    },
    stripes,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFile {
    pub version: u32,
    pub node: NodeSection,
    pub disks: Vec<DiskSection>,
    pub listen: ListenSection,
    #[serde(default)]
    pub gossip: GossipSection,
    pub tls: TlsSection,
    pub metadata: MetadataSection,
    pub policy: PolicySection,
    #[serde(default)]
    pub timings: TimingsSection,
    #[serde(default)]
    pub rates: RatesSection,
    #[serde(default)]
    pub limits: LimitsSection,
    pub s3: S3Section,
    #[serde(default)]
    pub admin: AdminSection,
    pub audit: Option<AuditSection>,
    #[serde(default)]
    pub log: LogSection,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// The name in this node's certificate.
    pub id: NodeId,
    pub rack: String,
    pub zone: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskSection {
    pub path: PathBuf,
    /// Caps the disk below its file system's size.
    pub capacity: Option<Size>,
    /// Space that writes never fill.
    #[serde(default = "default_reserved")]
    pub reserved: Size,
    /// Size of a segment file.
    #[serde(default = "default_segment")]
    pub segment: Size,
}

fn default_reserved() -> Size {
    Size::gib(1)
}

fn default_segment() -> Size {
    Size::mib(256)
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenSection {
    /// QUIC (UDP): fragments and probes between nodes.
    pub quic: SocketAddr,
    /// Gossip (UDP).
    pub gossip: SocketAddr,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GossipSection {
    pub seeds: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MetadataKind {
    /// In this process: for a cluster of one node.
    Embedded,
    /// Served by `cairn meta`.
    Remote,
    /// FoundationDB.
    Fdb,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetadataSection {
    pub kind: MetadataKind,
    /// embedded: the store's folder.
    pub path: Option<PathBuf>,
    /// remote: where `cairn meta` listens.
    pub address: Option<String>,
    /// remote: the name in the metadata server's certificate.
    pub server: Option<NodeId>,
    /// fdb: the cluster file.
    pub cluster_file: Option<PathBuf>,
    /// fdb: stands before every key, so that others can use the same FoundationDB. [`DEFAULT_PREFIX`] unless given.
    pub prefix: Option<String>,
}

/// What a FoundationDB's keys start with.
pub(crate) const DEFAULT_PREFIX: &str = "cairn/";

/// What a new cluster is told. After that the metadata keep it, and the node says where this is otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicySection {
    pub scheme: SchemeText,
    #[serde(default = "default_small_scheme")]
    pub small_scheme: SchemeText,
    #[serde(default = "default_small_below")]
    pub small_below: Size,
    pub failure_domain: FailureDomain,
    #[serde(default = "default_write_margin")]
    pub write_margin: u8,
    /// Data bytes per fragment of a full stripe.
    #[serde(default = "default_fragment")]
    pub fragment: Size,
}

fn default_small_scheme() -> SchemeText {
    SchemeText(Scheme::Replicated { copies: 3 })
}

fn default_small_below() -> Size {
    Size(Policy::SMALL_BELOW)
}

fn default_write_margin() -> u8 {
    Policy::WRITE_MARGIN
}

fn default_fragment() -> Size {
    Size(u64::from(Policy::FRAGMENT_BYTES))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimingsSection {
    pub gossip_interval: Period,
    pub probe_timeout: Period,
    pub down_to_lost: Period,
    pub domain_down_to_lost: Period,
    pub fragment_deadline: Period,
    pub reclaim_grace: Period,
    pub scrub_interval: Period,
    /// Each blob is decoded once in so many passes of scrub; 0: never.
    pub deep_scrub_passes: u32,
    /// Uploads that no rule speaks of and nobody completes are aborted at this age; without it never.
    pub abort_uploads_after: Option<Period>,
}

impl Default for TimingsSection {
    fn default() -> Self {
        let usual = Timings::default();
        Self {
            gossip_interval: Period(usual.gossip_interval),
            probe_timeout: Period(usual.probe_timeout),
            down_to_lost: Period(usual.down_to_lost),
            domain_down_to_lost: Period(usual.domain_down_to_lost),
            fragment_deadline: Period(usual.fragment_deadline),
            reclaim_grace: Period(usual.reclaim_grace),
            scrub_interval: Period(usual.scrub_interval),
            deep_scrub_passes: usual.deep_scrub_passes,
            abort_uploads_after: usual.abort_uploads_after.map(Period),
        }
    }
}

/// Bytes a second.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RatesSection {
    /// Of one disk.
    pub scrub: Size,
    /// Of the whole node.
    pub repair: Size,
    /// Of a disk's time, what repair and scrub get while clients use it.
    pub background_percent: u8,
}

impl Default for RatesSection {
    fn default() -> Self {
        let usual = Rates::default();
        Self {
            scrub: Size(usual.scrub_bytes),
            repair: Size(usual.repair_bytes),
            background_percent: usual.background_percent(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// What the whole process may have resident; see [`Shares`].
    pub memory: Size,
    /// Of it, what one client's address or access key may take while nobody else takes any. The more take some, the
    /// less each may.
    pub client_memory_percent: u8,
    /// Open S3 connections; further ones are closed at once.
    pub connections: usize,
    /// S3 requests being answered at once; further ones get 503 SlowDown.
    pub requests: usize,
    /// From the first byte of a request to the end of its headers, and for the handshake of TLS.
    pub header_timeout: Period,
    /// How long a connection without a request is kept.
    pub idle_timeout: Period,
    /// The time of waiting in which a client that sends a body must send `min_rate`.
    pub body_timeout: Period,
    /// The time of waiting in which a client that reads an answer must take `min_rate`.
    pub answer_timeout: Period,
    /// Bytes a second.
    pub min_rate: Size,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            memory: Size::mib(512),
            client_memory_percent: 75,
            connections: 20_000,
            requests: 12_000,
            header_timeout: Period::seconds(15),
            idle_timeout: Period::seconds(60),
            body_timeout: Period::seconds(30),
            answer_timeout: Period::seconds(120),
            min_rate: Size::kib(1),
        }
    }
}

impl ConfigFile for NodeFile {
    fn check(&self, findings: &mut Findings<'_>) {
        check_version(self.version, findings);
        check_label("node.rack", &self.node.rack, findings);
        check_label("node.zone", &self.node.zone, findings);
        self.check_disks(findings);
        check_dialled("listen.quic", self.listen.quic, findings);
        check_dialled("listen.gossip", self.listen.gossip, findings);
        check_apart([("listen.quic", self.listen.quic), ("listen.gossip", self.listen.gossip)], findings);
        check_apart([("s3.listen", self.s3.listen), ("admin.listen", self.admin.listen)], findings);
        for (index, seed) in self.gossip.seeds.iter().enumerate() {
            check_host_port(&format!("gossip.seeds[{index}]"), seed, findings);
        }
        self.metadata.check(findings);
        self.policy.check(self.metadata.prefix_bytes(), findings);
        self.timings.check(findings);
        self.rates.check(findings);
        self.check_limits(findings);
        self.s3.check(findings);
        self.admin.check(findings);
        self.log.check(findings);
    }

    fn resolve(&mut self, folder: &Path) {
        self.tls.resolve(folder);
        for disk in &mut self.disks {
            disk.path = folder.join(&disk.path);
        }
        self.s3.encryption.resolve(folder);
        if let Some(audit) = &mut self.audit {
            audit.path = folder.join(&audit.path);
        }
        self.s3.events.resolve(folder);
        for CertificateSection { cert, key, .. } in &mut self.s3.certificates {
            (*cert, *key) = (folder.join(&*cert), folder.join(&*key));
        }
        self.s3.web_identity.iter_mut().for_each(|role| role.resolve(folder));
        let optional = [
            &mut self.s3.secret_key_file,
            &mut self.s3.secrets_key_file,
            &mut self.s3.tls_cert,
            &mut self.s3.tls_key,
            &mut self.metadata.cluster_file,
            &mut self.metadata.path,
        ];
        for path in optional.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

/// A segment is written, synced and compacted as one file.
const SEGMENT_RANGE: (Size, Size) = (Size::mib(1), Size::gib(4));

impl NodeFile {
    fn check_disks(&self, findings: &mut Findings<'_>) {
        if self.disks.is_empty() {
            findings.refuse("disks", "no disk is named", "add a [[disks]] table with a path for each disk");
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let field = |name: &str| format!("disks[{index}].{name}");
            if disk.path.as_os_str().is_empty() {
                findings.refuse(&field("path"), "is empty", "name the folder where the disk is mounted");
            }
            if let Some(twin) = self.disks[..index].iter().position(|other| other.path == disk.path) {
                findings.refuse(
                    &field("path"),
                    format!("{} is disks[{twin}] already", disk.path.display()),
                    "give every disk a folder of its own, each on a device of its own",
                );
            }
            let inside = |other: &DiskSection| other.path != disk.path && disk.path.starts_with(&other.path);
            if let Some(outer) = self.disks.iter().position(inside) {
                findings.refuse(
                    &field("path"),
                    format!("{} lies inside disks[{outer}]", disk.path.display()),
                    "give every disk a folder of its own, each on a device of its own",
                );
            }
            let (smallest, largest) = SEGMENT_RANGE;
            if disk.segment < smallest || disk.segment > largest {
                let what = format!("{} is outside {smallest} to {largest}", disk.segment);
                findings.refuse(&field("segment"), what, "leave it out for the default");
            }
            if let Some(capacity) = disk.capacity
                && capacity.0 <= disk.reserved.0.saturating_add(disk.segment.0)
            {
                findings.refuse(
                    &field("capacity"),
                    format!(
                        "{capacity} leaves no room beside {} reserved and a segment of {}",
                        disk.reserved, disk.segment
                    ),
                    "raise capacity, or lower reserved or segment",
                );
            }
        }
    }

    /// How the process divides its memory, as far as this file tells.
    pub(crate) fn memory(&self) -> Result<Shares, TooSmall> {
        self.divide(&[self.policy.told()])
    }

    /// How it does in a cluster of this policy.
    pub(crate) fn memory_for(&self, policy: &Policy) -> Result<Shares, TooSmall> {
        self.divide(&[self.policy.told(), *policy])
    }

    fn divide(&self, policies: &[Policy]) -> Result<Shares, TooSmall> {
        let embedded = self.metadata.kind == MetadataKind::Embedded;
        Shares::divide(self.limits.memory, &Sharers::of(1, self.disks.len(), embedded, policies))
    }

    fn check_limits(&self, findings: &mut Findings<'_>) {
        if let Err(too_small) = self.memory() {
            findings.refuse(
                "limits.memory",
                format!("{} {too_small}", self.limits.memory),
                format!("give at least {}, or lower policy.fragment", too_small.least),
            );
        }
        let percent = self.limits.client_memory_percent;
        if !(1..=100).contains(&percent) {
            findings.refuse(
                "limits.client_memory_percent",
                format!("is {percent}, which is no share of the memory"),
                "give 1 to 100; 100 lets one client take all of it",
            );
        }
        for (field, value) in
            [("limits.connections", self.limits.connections), ("limits.requests", self.limits.requests)]
        {
            if value == 0 {
                findings.refuse(field, "is 0: nothing could be served", "leave it out for the default");
            }
        }
        for (field, value) in [
            ("limits.header_timeout", self.limits.header_timeout),
            ("limits.idle_timeout", self.limits.idle_timeout),
            ("limits.body_timeout", self.limits.body_timeout),
            ("limits.answer_timeout", self.limits.answer_timeout),
        ] {
            if value < LEAST_PATIENCE {
                let what = format!("is {value}: clients could not keep to it");
                findings.refuse(
                    field,
                    what,
                    format!("give at least {LEAST_PATIENCE}, or leave it out for the default"),
                );
            }
        }
    }
}

/// Below this, a network that stumbles for a moment would end requests.
const LEAST_PATIENCE: Period = Period::seconds(1);

impl MetadataSection {
    /// Bytes that stand before every key in the store.
    pub(crate) fn prefix_bytes(&self) -> usize {
        match self.kind {
            MetadataKind::Fdb => self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX).len(),
            MetadataKind::Embedded | MetadataKind::Remote => 0,
        }
    }

    fn check(&self, findings: &mut Findings<'_>) {
        let given = [
            ("path", self.path.is_some(), MetadataKind::Embedded),
            ("address", self.address.is_some(), MetadataKind::Remote),
            ("server", self.server.is_some(), MetadataKind::Remote),
            ("cluster_file", self.cluster_file.is_some(), MetadataKind::Fdb),
            ("prefix", self.prefix.is_some(), MetadataKind::Fdb),
        ];
        for (name, present, kind) in given {
            let field = format!("metadata.{name}");
            // FoundationDB's client has a default cluster file, and we have a default prefix.
            let needed = kind == self.kind && kind != MetadataKind::Fdb;
            if needed && !present {
                let fix = format!("add metadata.{name}; ops/config has commented examples");
                findings.refuse(&field, format!("is needed by kind = \"{}\"", self.kind.name()), fix);
            }
            if present && kind != self.kind {
                let fix = format!("remove it, or set kind = \"{}\"", kind.name());
                findings.refuse(&field, format!("has no meaning for kind = \"{}\"", self.kind.name()), fix);
            }
        }
        if let Some(address) = &self.address {
            check_host_port("metadata.address", address, findings);
        }
        if let Some(prefix) = &self.prefix
            && (prefix.len() > limits::PREFIX_BYTES || prefix.chars().any(char::is_control))
        {
            findings.refuse(
                "metadata.prefix",
                format!("is longer than {} bytes, or not plain text", limits::PREFIX_BYTES),
                format!("leave it out for {DEFAULT_PREFIX:?}"),
            );
        }
    }
}

impl MetadataKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Remote => "remote",
            Self::Fdb => "fdb",
        }
    }
}

impl PolicySection {
    /// The policy that the node is told.
    pub(crate) fn told(&self) -> Policy {
        Policy {
            scheme: self.scheme.0,
            small_scheme: self.small_scheme.0,
            small_below: self.small_below.0,
            failure_domain: self.failure_domain,
            write_margin: self.write_margin,
            // One that is too large is told so.
            fragment_bytes: u32::try_from(self.fragment.0).unwrap_or(u32::MAX),
        }
    }

    fn check(&self, prefix_bytes: usize, findings: &mut Findings<'_>) {
        let policy = self.told();
        for problem in policy.problems().into_iter().chain(stripes::problems(&policy, prefix_bytes)) {
            findings.refuse(problem.field, problem.what, problem.fix);
        }
    }
}

impl TimingsSection {
    fn check(&self, findings: &mut Findings<'_>) {
        let at_least = [
            ("timings.gossip_interval", self.gossip_interval, Period::millis(20)),
            ("timings.probe_timeout", self.probe_timeout, Period::millis(50)),
            ("timings.fragment_deadline", self.fragment_deadline, Period::millis(100)),
            ("timings.down_to_lost", self.down_to_lost, Period::seconds(1)),
            ("timings.scrub_interval", self.scrub_interval, Period::seconds(1)),
        ];
        for (field, value, least) in at_least {
            if value < least {
                findings.refuse(field, format!("{value} is too short"), format!("use at least {least}"));
            }
        }
        if self.down_to_lost < self.probe_timeout {
            findings.refuse(
                "timings.down_to_lost",
                format!("{} is shorter than one probe of {}", self.down_to_lost, self.probe_timeout),
                "a disk must be down for longer than a probe takes before its data is copied elsewhere",
            );
        }
        let shortest = Period::seconds(24 * 3600);
        if let Some(age) = self.abort_uploads_after.filter(|age| *age < shortest) {
            findings.refuse(
                "timings.abort_uploads_after",
                format!("{age} is too short"),
                format!("use at least {shortest}, and rather 30 d: an upload may take its time"),
            );
        }
        let longest = Period(Timings::LONGEST_GRACE);
        if self.reclaim_grace > longest {
            findings.refuse(
                "timings.reclaim_grace",
                format!("{} is too long", self.reclaim_grace),
                format!("use at most {longest}: bytes that nothing refers to could otherwise come to be referred to too late"),
            );
        }
        if self.domain_down_to_lost < self.down_to_lost {
            findings.refuse(
                "timings.domain_down_to_lost",
                format!("{} is shorter than timings.down_to_lost, {}", self.domain_down_to_lost, self.down_to_lost),
                "a whole failure domain is waited for at least as long as one disk",
            );
        }
    }
}

impl RatesSection {
    pub(crate) fn told(&self) -> Rates {
        let background_share = f64::from(self.background_percent) / 100.0;
        Rates { scrub_bytes: self.scrub.0, repair_bytes: self.repair.0, background_share }
    }

    fn check(&self, findings: &mut Findings<'_>) {
        let all = RateOverrides {
            scrub_bytes: Some(self.scrub.0),
            repair_bytes: Some(self.repair.0),
            background_percent: Some(self.background_percent),
        };
        for SettingProblem { field, what, fix } in all.problems() {
            findings.refuse(field, what, fix);
        }
    }
}
