//! The command line: every flag, with a help text that answers what an operator would ask next.

use std::{net::SocketAddr, path::PathBuf};

use cairn_schema::{
    ids::{DiskId, NodeId},
    record::Scheme,
};
use clap::{Args, Parser, Subcommand};

use super::{
    access_args::AccessArgs,
    buckets::BucketArgs,
    domain_arg::DomainArg,
    durability_args::DurabilityArgs,
    events::EventArgs,
    job_args::{JobsArgs, RemoveArgs, WorkArgs},
    operate_args::{MaintenanceArgs, SafeToStopArgs},
    setting_args::{KmsArgs, PolicyArgs, RatesArgs},
};
use crate::config::{LogFormat, Size};

/// Cairn: an S3-compatible object store that keeps objects as erasure-coded fragments over disks, nodes and racks, and
/// heals itself.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with `cairn dev`: a whole cluster in one process, ready for any S3 client.\n\
    The environment variable CAIRN_LOG sets what is logged, such as `info,cairn_actors=debug`.\n\n\
    Exit codes: 0 done or stopped; 1 refused, or failed (`status` and `admin safe-to-stop` have their own); 2 not a command\n\
    line; 3 a server that ended itself, because it\n\
    could only have refused, as when its metadata store takes no more changes; 130 a second signal ended it at once.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster in this process: six nodes in six racks, S3 on 127.0.0.1:9000
    Dev(DevArgs),
    /// Run one node of a cluster
    Node(ServeArgs),
    /// Run the metadata server of a lab cluster
    ///
    /// Serves one embedded metadata store to all nodes over QUIC with mutual TLS. It is a single point of failure: use
    /// FoundationDB (metadata.kind = "fdb" in node.toml) for production.
    Meta(ServeArgs),
    /// Show whether the data is safe, and the cluster: nodes, racks, disks, groups, and what is missing
    Status(StatusArgs),
    /// Check configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make the certificates of the mutual TLS between nodes
    #[command(subcommand)]
    Cert(CertCommand),
    /// Work on a cluster's metadata, and decide what nodes do not decide by themselves
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Look into a disk's folder while no node uses it
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Compute how likely data is lost in a year, by scheme: for planning, without any cluster
    Durability(DurabilityArgs),
    /// Print a script that completes these commands in a shell
    #[command(after_help = "Example:\n  cairn completions bash > /etc/bash_completion.d/cairn")]
    Completions { shell: clap_complete::Shell },
    /// Print the version and what this build can do
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// How to log to standard error: lines for people, or one JSON object a line [default: human, or as the
    /// configuration file says]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(Debug, Args)]
#[command(after_help = "The root user's keys are `cairndev` and `cairndevsecret` unless the environment variables \
    CAIRN_ROOT_ACCESS_KEY and CAIRN_ROOT_SECRET_KEY say otherwise.\n\n\
    Examples:\n  cairn dev\n  cairn dev --racks 1 --disks 6 --failure-domain disk    one machine with six disks\n  \
    cairn dev --scheme 8+4 --racks 6 --nodes-per-rack 2     twelve nodes")]
pub(crate) struct DevArgs {
    /// Folder of everything the cluster keeps: disks, metadata, certificates, its layout
    #[arg(long, value_name = "DIR", default_value = "cairn-data")]
    pub data: PathBuf,
    /// Where S3 clients connect; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub s3: SocketAddr,
    /// Where /metrics, /healthz, /readyz and /v1/status are; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub admin: SocketAddr,
    /// Let the admin API, which asks for no credentials, listen beyond this machine
    #[arg(long)]
    pub admin_allow_remote: bool,
    /// Racks; may grow from one start to the next [default: 6]
    #[arg(long, value_name = "N")]
    pub racks: Option<u32>,
    /// Nodes in each rack; may grow [default: 1]
    #[arg(long, value_name = "N")]
    pub nodes_per_rack: Option<u32>,
    /// Disks (folders) of each node; may grow [default: 2]
    #[arg(long, value_name = "N")]
    pub disks: Option<u32>,
    /// Zones that the racks are dealt to [default: 1, or one for each rack with --failure-domain zone]
    #[arg(long, value_name = "N")]
    pub zones: Option<u32>,
    /// Data and parity fragments of a stripe, such as 8+4, or replicated(3) [default: 4+2]
    #[arg(long, value_name = "SCHEME")]
    pub scheme: Option<Scheme>,
    /// Scheme of small objects [default: replicated(3)]
    #[arg(long, value_name = "SCHEME")]
    pub small_scheme: Option<Scheme>,
    /// What may fail as a whole without losing data [default: rack]
    #[arg(long, value_name = "LEVEL")]
    pub failure_domain: Option<DomainArg>,
    /// What the whole process may keep in memory
    #[arg(long, value_name = "SIZE", default_value = "512 MiB")]
    pub memory: Size,
    /// Write the addresses that really serve to this file, as JSON, once the cluster takes writes
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file; ops/config has commented examples
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Write the addresses that really serve to this file, as JSON, once the process serves
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub log: LogArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 safe; 1 degraded: some stripes lack fragments; 2 at risk, or unavailable: some may lose\n\
    nothing more, or cannot be read; 3 that is unknown, or nobody answers.\n\n\
    Examples:\n  cairn status\n  cairn status --admin http://10.0.1.11:9001 --json | jq .health"
)]
pub(crate) struct StatusArgs {
    /// The admin API of any node
    #[arg(long, value_name = "URL", env = "CAIRN_ADMIN", default_value = "http://127.0.0.1:9001")]
    pub admin: String,
    /// Print the whole status as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a node.toml or meta.toml without starting or changing anything
    ///
    /// Looks at the text, and at what it comes to on this machine: certificates, keys, disks, ports, the metadata store
    /// and, if that answers, whether the disks are of its cluster. A start looks at the same. Every problem is printed
    /// as FILE:LINE: FIELD: what is wrong (what to do). Exits with 1 if there is any.
    Check {
        /// The file to check
        file: PathBuf,
        /// Look at the text alone: it is for another machine
        #[arg(long)]
        syntax_only: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a certificate authority: ca.pem and ca.key
    ///
    /// Keep ca.key away from the nodes: whoever has it can make nodes that the cluster trusts. Existing files are never
    /// overwritten.
    NewCa {
        /// Folder to write to; created if need be
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// A name in the certificate, for people who keep several authorities
        #[arg(long, default_value = "cluster")]
        name: String,
    },
    /// Make a node's certificate and key, signed by the authority: ID.pem and ID.key
    ///
    /// Also for the metadata server, under the name that its meta.id says.
    NewNode {
        /// Folder with ca.pem and ca.key
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The node's name, as in node.id
        #[arg(long)]
        id: NodeId,
        /// Folder to write to; created if need be [default: the same folder]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Export all metadata to a file, or import it into an empty store
    #[command(subcommand)]
    Metadata(MetadataCommand),
    /// Give up disks that are down, so that what they held is made anew elsewhere
    ///
    /// Nodes give up single disks and nodes by themselves after timings.down_to_lost, and a whole failure domain of
    /// several nodes after the much longer timings.domain_down_to_lost, which this does not wait for. A disk that comes
    /// back later is taken in again. Disks that are up are not given up: stop their node first.
    GiveUp {
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        which: WhichDisks,
    },
    /// Show how the cluster keeps data, or change it with `set`
    ///
    /// Schemes, failure domain, write margin and sizes are one policy for all nodes. It is written at the cluster's
    /// birth, from the first node's configuration, and kept in the metadata. A node whose configuration says otherwise
    /// obeys the metadata, and says so in its log, in `cairn status` and here.
    Policy(PolicyArgs),
    /// Show how fast nodes repair and scrub, or change it for all of them with `set` and `reset`
    ///
    /// Each node goes by [rates] of its own configuration, but for the rates that are set here: those are kept in the
    /// metadata and hold on every node.
    Rates(RatesArgs),
    /// Say whether disks, nodes, racks or zones may be stopped now
    ///
    /// Yes if every stripe can be read without them, by all rows of the metadata and by what each disk says of itself;
    /// whatever is not known counts as no. It says as well whether writes go on. Nodes under maintenance count as
    /// stopped already. The answer is about this moment: stop what it allowed, and ask again before the next. It does
    /// not look at what else runs on these machines, such as FoundationDB.
    SafeToStop(SafeToStopArgs),
    /// Say that you work on a node, so that it is waited for
    Maintenance(MaintenanceArgs),
    /// The keys by which objects are encrypted
    #[command(name = "kms")]
    Kms(KmsArgs),
    /// Show what it would come to to empty disks or to spread data evenly; changes nothing
    ///
    /// Says what is moved and about how long that takes, what stripes can lose meanwhile and after, and all that stands
    /// against it: then it exits with 1.
    #[command(after_help = "Example:\n  cairn admin plan drain --node n3 --rack z1/r4")]
    Plan(WorkArgs),
    /// Begin to empty disks or to spread data evenly, as a job that goes on whatever nodes restart
    ///
    /// Refused is what `plan` finds something against. At most one group in twenty is under way at a time, nothing is
    /// moved while something is missing, and a group keeps its old members until the new ones have everything. Run it
    /// on the node's own machine; the admin API changes nothing for others.
    #[command(after_help = "Example:\n  cairn admin apply drain --node n3\n  cairn admin apply rebalance --json")]
    Apply(WorkArgs),
    /// Show jobs, or pause, resume or cancel one
    ///
    /// What was moved by a job that is paused or cancelled stays where it is. A drain that is cancelled, under way or
    /// done, makes its disks ordinary ones again.
    #[command(after_help = "Example:\n  cairn admin jobs\n  cairn admin jobs cancel 3")]
    Jobs(JobsArgs),
    /// Take out disks that were drained, for good
    ///
    /// Refused, naming what is left, unless they are empty.
    #[command(after_help = "Example:\n  cairn admin remove --node n3")]
    Remove(RemoveArgs),
    /// Users, groups, access keys and policies: who may do what through S3
    ///
    /// Run it on a node's own machine: the admin API serves nobody else with it. All nodes go by a change within 3
    /// seconds. Secrets are kept encrypted by the key in s3.secrets_key_file of each node, and shown once.
    Access(AccessArgs),
    /// What buckets hold, and what they may hold
    ///
    /// Run it on a node's own machine: the admin API serves nobody else with it.
    Bucket(BucketArgs),
    /// What waits for the targets of events, and what was given up
    ///
    /// Run it on a node's own machine: the admin API serves nobody else with it.
    Events(EventArgs),
}

/// Which disks are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichDisks {
    /// One disk, by the id that `cairn status` shows
    #[arg(long, value_name = "ID")]
    pub disk: Option<DiskId>,
    /// All disks of a node
    #[arg(long, value_name = "ID")]
    pub node: Option<NodeId>,
    /// All disks of a rack
    #[arg(long, value_name = "ZONE/RACK")]
    pub rack: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MetadataCommand {
    /// Write all metadata to one file: a backup, and the way to another backend
    ///
    /// The file is versioned and checksummed, as of one moment. Secrets of users are in it as the metadata have them:
    /// encrypted by the key in s3.secrets_key_file, which it does not hold. Stop the gateways before an export from a
    /// remote store or FoundationDB, which cannot be read while it changes; an embedded store must not be in use by
    /// another process.
    Export {
        #[command(flatten)]
        store: StoreArgs,
        /// The file to write; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Fill an empty store from an export, whatever backend it came from
    ///
    /// The whole file is verified first: a damaged one changes nothing. An import that was interrupted is started
    /// again.
    Import {
        #[command(flatten)]
        store: StoreArgs,
        /// The export to read
        #[arg(long = "in", value_name = "FILE")]
        input: PathBuf,
    },
    /// Recount everything, and compare with the counters, references and indexes that are kept
    ///
    /// Fails if any differ. A store in a folder is read as of one moment. On FoundationDB, stop the gateways first:
    /// what changes meanwhile is read at different moments and may differ.
    Check {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Print where everything is: disks, groups with their members, blobs with the groups of their stripes
    ///
    /// One JSON object a line, each with one field that says what it is: disk, group or blob. Position i of a stripe is
    /// on member i of its group; each blob is of the runs of stripes that it names, in order. Only blobs that something
    /// references are told. What changes meanwhile is told as of different moments.
    Placement {
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Which metadata store is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct StoreArgs {
    /// The store that a node.toml or meta.toml names
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The store of a `cairn dev` in this folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// Show what a disk's folder holds: its identity, segments, fragments, garbage
    Inspect {
        /// The disk's folder, as in disks.path
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List every fragment: group, blob, stripe and position, its length, and where on the disk it lies
    ///
    /// With `cairn admin metadata placement`, which tells where every fragment should be, this is enough to check from
    /// outside that nothing is missing.
    List {
        /// The disk's folder, as in disks.path
        dir: PathBuf,
        /// Read every fragment, check its checksums, and show the xxh3-128 of its bytes; exits with 1 if any is damaged
        #[arg(long)]
        digests: bool,
        /// Print JSON: the disk, then each fragment, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Read every fragment and check its checksums; exits with 1 if any is damaged
    Verify {
        /// The disk's folder, as in disks.path
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the index anew from the segments, which are the truth
    ///
    /// What cannot be read of them is given up: the cluster makes it anew from other disks.
    RebuildIndex {
        /// The disk's folder, as in disks.path
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_parse() {
        for line in [
            "cairn dev",
            "cairn dev --racks 1 --disks 6 --failure-domain disk --scheme 4+2/novelpoly --s3 127.0.0.1:0",
            "cairn dev --small-scheme replicated(2) --memory 64MiB --log-format json --ready-file r.json",
            "cairn node --config node.toml",
            "cairn meta --config meta.toml --ready-file r.json",
            "cairn status --json --admin 127.0.0.1:9001",
            "cairn config check node.toml",
            "cairn cert new-ca --dir tls",
            "cairn cert new-node --dir tls --id n1 --out there",
            "cairn admin metadata export --config node.toml --out m.cairn",
            "cairn admin metadata import --data cairn-data --in m.cairn",
            "cairn admin metadata check --config node.toml",
            "cairn admin give-up --config node.toml --node n1",
            "cairn admin give-up --data cairn-data --rack z1/r1",
            "cairn admin policy",
            "cairn admin policy --json --admin http://127.0.0.1:9011",
            "cairn admin policy set --scheme 8+4 --failure-domain rack --write-margin 1",
            "cairn admin policy set --small-scheme replicated(2) --small-below 64KiB --fragment 2MiB --admin 127.0.0.1:9",
            "cairn admin kms status --json",
            "cairn admin kms rewrap --bucket b --admin 127.0.0.1:9",
            "cairn admin rates --json",
            "cairn admin rates set --scrub 64MiB --repair default --background-percent 50 --admin 127.0.0.1:9",
            "cairn admin rates reset --json",
            "cairn admin safe-to-stop node n1 n2 --writes --admin 127.0.0.1:9",
            "cairn admin safe-to-stop rack z1/r1 --json",
            "cairn admin maintenance start n1 --for 30m",
            "cairn admin maintenance end n1 --json",
            "cairn admin maintenance list --admin 127.0.0.1:9",
            "cairn admin plan drain --node n3 --node n4 --rack z1/r2 --zone z2 --json",
            "cairn admin plan rebalance --admin 127.0.0.1:9",
            "cairn admin apply drain --disk 01010101010101010101010101010101",
            "cairn admin jobs --json",
            "cairn admin jobs list",
            "cairn admin jobs cancel 3 --json",
            "cairn admin remove --node n3",
            "cairn admin access user create alice --admin 127.0.0.1:9",
            "cairn admin access user attach alice own --file policy.json",
            "cairn admin access group list --json",
            "cairn admin access policy put photos --file policy.json",
            "cairn admin access key create alice --expires-in 90d --session-policy p.json",
            "cairn admin access key rotate AKIAX --grace 7d",
            "cairn admin access explain --user u --action s3:GetObject --resource arn:aws:s3:::b/k --with aws:SourceIp=::1",
            "cairn admin bucket list --after b --json",
            "cairn admin bucket show b",
            "cairn admin bucket limit b --per-second 5 --concurrent none",
            "cairn admin access user limit u --concurrent 5",
            "cairn admin bucket quota b --bytes 1TiB --objects none --admin 127.0.0.1:9",
            "cairn admin events list --json",
            "cairn admin events test ci",
            "cairn admin events dead ci --after 00 --admin 127.0.0.1:9",
            "cairn admin events redeliver ci --all",
            "cairn admin events discard ci --event 00",
            "cairn disk inspect /d --json",
            "cairn admin metadata placement --config node.toml",
            "cairn disk verify /d",
            "cairn disk list /d --digests --json",
            "cairn disk rebuild-index /d",
            "cairn version",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (line, reason) in [
            ("cairn dev --scheme 4x2", "is not a scheme"),
            ("cairn dev --s3 everywhere", "invalid socket address"),
            ("cairn dev --memory much", "is not a size"),
            ("cairn dev --failure-domain cage", "possible values: disk, node, rack, zone"),
            ("cairn cert new-node --dir tls --id N_1", "is not a node id"),
            ("cairn node", "--config"),
            ("cairn admin metadata export --out m", "--config <FILE>|--data <DIR>"),
            ("cairn admin metadata export --out m --config c --data d", "cannot be used with"),
            ("cairn admin policy set", "--scheme <SCHEME>"),
            ("cairn admin policy set --scheme 4x2", "is not a scheme"),
            ("cairn admin policy set --write-margin -1", "unexpected argument"),
            ("cairn admin rates set", "--scrub <SIZE>"),
            ("cairn admin rates set --repair fast", "is not a size"),
            ("cairn admin rates set --background-percent 300", "too large"),
            ("cairn admin bucket quota b", "--bytes <SIZE>"),
            ("cairn admin bucket limit b", "--per-second <N>"),
            ("cairn admin bucket quota b --objects many", "invalid digit"),
            ("cairn admin safe-to-stop node", "<NAME>"),
            ("cairn admin safe-to-stop cage c1", "possible values: disk, node, rack, zone"),
            ("cairn admin maintenance start n1 --for soon", "is not a period"),
            ("cairn admin plan drain", "--node <ID>"),
            ("cairn admin apply drain --node N_1", "is not a node id"),
            ("cairn admin jobs pause", "<JOB>"),
            ("cairn admin events redeliver ci", "--event <EVENT>"),
            ("cairn admin events discard ci --all --event 00", "cannot be used with"),
            ("cairn serve", "unrecognized subcommand"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
