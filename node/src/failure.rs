//! Why a command did not do what was asked. Printed once, by `main`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cairn_actors::{
    durability::DurabilityError,
    fragment::DiskError,
    runtime::{NodeFailure, RuntimeError},
};
use cairn_gateway::GatewayError;
use cairn_schema::{
    MetaError,
    ids::{DiskId, NodeId},
    record::Scheme,
};

use crate::{
    admin::{AdminError, client::ClientError},
    config::{ConfigError, MetaShares, Size, TooSmall},
    data_dir::RecordError,
    files::FileError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Dev(#[from] RecordError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("node {0}: {1}")]
    Node(NodeId, RuntimeError),
    #[error("node {0} did not start within {1:?}; the log says how far it came")]
    Slow(NodeId, Duration),
    #[error("S3 gateway: {0}")]
    Gateway(#[from] GatewayError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("metadata at {0}: {1}")]
    Metadata(String, MetaError),
    #[error(
        "{place} does not answer within {limit:?}; does it run, and does the configuration name it rightly? ({why})"
    )]
    MetadataAway { place: String, limit: Duration, why: String },
    #[error("ended because {place} cannot be written to: {why}")]
    MetadataFailed { place: String, why: String },
    #[error("ended because node {0} cannot go on: {1}")]
    NodeFailed(NodeId, NodeFailure),
    #[error("ended because its {0} accepts no connections any more; the log says why")]
    Deaf(&'static str),
    #[error("there is no metadata store in {}: check the path", .0.display())]
    NoStore(PathBuf),
    #[error("no {0} is registered; `cairn status` shows what there is")]
    NoSuchDisk(String),
    #[error("disk {disk} of node {node} is up: stop its node first, if what it holds is to be made anew elsewhere")]
    DiskIsUp { disk: DiskId, node: NodeId },
    #[error("{given_up} of {of} disks were given up: the others came back meanwhile")]
    DisksCameBack { given_up: usize, of: usize },
    #[error("{problems} contradictions in the metadata: {first}")]
    Miscounted { problems: u64, first: String },
    #[error(
        "this build has no FoundationDB backend: build it with `--features fdb`, or use metadata.kind = \"remote\""
    )]
    NoFdb,
    #[error("QUIC: {0}")]
    Quic(String),
    #[error("certificates: {0}")]
    Certificates(String),
    #[error("disk: {0}")]
    Disk(DiskError),
    #[error("{}: the disk is damaged", .0.display())]
    DamagedDisk(PathBuf),
    #[error("encode the report: {0}")]
    Encode(String),
    #[error("meta.memory: {0} is too little: give at least {least}", least = MetaShares::LEAST)]
    MetaMemory(Size),
    #[error("--memory: {0} {1}: give at least {least}", least = .1.least)]
    Memory(Size, TooSmall),
    #[error("root keys: {0}")]
    Keys(String),
    #[error(
        "the admin API asks for no credentials, and {0} can be reached from other machines: use 127.0.0.1, or say \
         --admin-allow-remote"
    )]
    AdminRemote(SocketAddr),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the policy stays as it is: {0}")]
    PolicyRefused(String),
    #[error("the rates stay as they are: {0}")]
    RatesRefused(String),
    #[error("keys of objects: {0}")]
    KmsRefused(String),
    #[error("events: {0}")]
    EventsRefused(String),
    #[error("s3.events: {0}")]
    Targets(String),
    #[error("s3.web_identity: {0}")]
    Roles(String),
    #[error("it is not done: {0}")]
    JobRefused(String),
    #[error("nothing was changed: {0}")]
    AccessRefused(String),
    #[error("buckets: {0}")]
    BucketRefused(String),
    #[error("there is no outlook for {scheme}: {why}")]
    NoOutlook { scheme: Scheme, why: DurabilityError },
    #[error("nothing was changed: {0}")]
    MaintenanceRefused(String),
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// Of a command whose exit code is its answer.
    #[error("{why}")]
    Told { code: u8, why: Box<Failure> },
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("log: {0}")]
    Log(String),
    #[error("start the asynchronous runtime: {0}")]
    Runtime(std::io::Error),
    #[error("stopped before it was done")]
    Interrupted,
}

impl Failure {
    /// The same, with an exit code that is none of the command's answers.
    pub(crate) fn told(self, code: u8) -> Self {
        Self::Told { code, why: Box::new(self) }
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // A server that went on would only refuse: whoever supervises it should start it again, and look when that
            // repeats.
            Self::MetadataFailed { .. } | Self::NodeFailed(..) | Self::Deaf(_) => 3,
            Self::Told { code, .. } => *code,
            _ => 1,
        }
    }
}
