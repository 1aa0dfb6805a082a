//! `cairn node`: one node of a cluster, as its configuration says.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cairn_actors::{
    background::Deliver,
    disk::{DiskOptions, IndexMemory},
    runtime::{Identity, NodeMemory, NodeOptions, Timings},
};
use cairn_gateway::{AuditLog, GatewayLimits, GatewayOptions, NamedCertificate};
use cairn_schema::ids::ClusterId;

use crate::{
    certs,
    config::{AuditSection, CertificateSection, NodeFile},
    failure::Failure,
    files::{self, FileError},
    keys::{self, RootKeys},
    manager,
    metadata::{self, Network},
    process::{Stop, stopped},
    renewal::Files,
    roles,
    serve::{MAX_QUEUED_BYTES, MAX_QUEUED_READS, Plan, Serving},
    targets,
};

/// Runs until `stop`.
pub(crate) async fn run(
    file: &NodeFile,
    network: &Network,
    ready_file: Option<&Path>,
    max_fds: Option<u64>,
    json: bool,
    mut stop: Stop,
) -> Result<(), Failure> {
    // 1. Secrets and certificates, which have been looked at already.
    let keys = RootKeys::for_node(file)?;
    let identity = certs::read_identity(&file.tls)?;
    let gateway = gateway_options(file, &keys)?;
    // 2. Metadata. Its server may start after the nodes, so it is waited for.
    let opened = metadata::open(file, &identity, network, &mut stop, |text| tracing::info!("{text}")).await?;
    // 3. The engine, the gateway, the admin API. With too little memory for the cluster's policy, the node takes no
    //    writes and says so, but serves what its disks hold.
    let cluster = opened.cluster(file.policy.told()).await?;
    let shares = file.memory_for(&cluster.policy.policy).or_else(|_| file.memory());
    let shares = shares.map_err(|why| Failure::Memory(file.limits.memory, why))?;
    let index = shares.index(file.disks.len());
    let deliver = gateway.targets.clone().map(|targets| Arc::new(targets) as Arc<dyn Deliver>);
    let options = node_options(file, identity, &opened, cluster.id, (shares.node(1), &index));
    let options = NodeOptions { deliver, ..options };
    let metrics = options.metrics.clone();
    let audit = audit_log(file, &metrics)?;
    let gateway = GatewayOptions { metrics: metrics.clone(), audit: audit.clone(), ..gateway };
    let plan = Plan {
        nodes: vec![options],
        gateway,
        audit,
        certificates: certificate_files(file).map(|(cert, key)| Files::new(cert, key)).collect(),
        admin: file.admin.listen,
        prefix_bytes: file.metadata.prefix_bytes(),
        memory: (shares, index),
        metrics,
        max_fds,
    };
    let (serving, ready) = Serving::start(plan, &stop).await?;
    // 4. Tell where.
    if let Some(path) = ready_file {
        ready.write(path)?;
    }
    if json {
        ready.print()?;
    }
    manager::serves(&format!("serves S3 at {}", file.s3.listen));
    let ended = tokio::select! {
        () = stopped(&mut stop) => Ok(()),
        failure = opened.failed() => Err(failure),
        failure = serving.failed() => Err(failure),
    };
    manager::stops();
    if let Some(path) = ready_file {
        files::forget(path);
    }
    serving.stop().await;
    opened.close().await;
    ended
}

fn audit_log(file: &NodeFile, metrics: &prometheus::Registry) -> Result<Option<AuditLog>, Failure> {
    let open = |section: &AuditSection| {
        AuditLog::open(&section.path, section.requests, metrics)
            .map_err(|error| FileError::new("open", &section.path, error).into())
    };
    file.audit.as_ref().map(open).transpose()
}

fn node_options(
    file: &NodeFile,
    identity: Identity,
    opened: &metadata::Opened,
    cluster: ClusterId,
    (memory, index): (NodeMemory, &IndexMemory),
) -> NodeOptions {
    let disks = file.disks.iter().map(|disk| DiskOptions {
        path: disk.path.clone(),
        cluster,
        segment_bytes: disk.segment.0,
        reserved_bytes: disk.reserved.0,
        capacity_bytes: disk.capacity.map(|capacity| capacity.0),
        max_queued_bytes: MAX_QUEUED_BYTES,
        max_queued_reads: MAX_QUEUED_READS,
        index: index.clone(),
    });
    NodeOptions {
        id: file.node.id.clone(),
        rack: file.node.rack.clone(),
        zone: file.node.zone.clone(),
        meta: opened.meta(),
        disks: disks.collect(),
        listen: file.listen.quic,
        gossip_listen: file.listen.gossip,
        gossip_seeds: file.gossip.seeds.clone(),
        identity,
        policy: file.policy.told(),
        timings: timings(file),
        rates: file.rates.told(),
        memory,
        client_memory_percent: file.limits.client_memory_percent,
        metrics: prometheus::Registry::new(),
        deliver: None,
    }
}

fn timings(file: &NodeFile) -> Timings {
    let timings = &file.timings;
    Timings {
        gossip_interval: timings.gossip_interval.0,
        probe_timeout: timings.probe_timeout.0,
        down_to_lost: timings.down_to_lost.0,
        domain_down_to_lost: timings.domain_down_to_lost.0,
        fragment_deadline: timings.fragment_deadline.0,
        reclaim_grace: timings.reclaim_grace.0,
        scrub_interval: timings.scrub_interval.0,
        deep_scrub_passes: timings.deep_scrub_passes,
        abort_uploads_after: timings.abort_uploads_after.map(|age| age.0),
    }
}

/// Of the default certificate, then of the others, as the gateway has them.
fn certificate_files(file: &NodeFile) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let default = file.s3.tls_cert.clone().zip(file.s3.tls_key.clone());
    let others = file.s3.certificates.iter().map(|one| (one.cert.clone(), one.key.clone()));
    default.into_iter().chain(others)
}

pub(crate) fn gateway_options(file: &NodeFile, keys: &RootKeys) -> Result<GatewayOptions, Failure> {
    let mut options = GatewayOptions::new(file.s3.listen, &keys.access, &keys.secret);
    options.region = file.s3.region.clone();
    options.limits = GatewayLimits {
        connections: file.limits.connections,
        requests_in_flight: file.limits.requests,
        header_timeout: file.limits.header_timeout.0,
        idle_timeout: file.limits.idle_timeout.0,
        body_timeout: file.limits.body_timeout.0,
        answer_timeout: file.limits.answer_timeout.0,
        least_bytes_per_second: file.limits.min_rate.0,
        ..GatewayLimits::default()
    };
    options.keyring = keys::keyring(&file.s3.encryption)?;
    options.targets = targets::of(file)?;
    options.roles = roles::of(file)?;
    options.customer_keys_over_http = file.s3.encryption.customer_keys_over_http;
    options.secrets = file.s3.secrets_key_file.as_deref().map(keys::secrets_key).transpose()?;
    let pem = |path: &PathBuf| files::read_text(path);
    if let (Some(cert), Some(key)) = (&file.s3.tls_cert, &file.s3.tls_key) {
        options.tls = Some((pem(cert)?, pem(key)?));
    }
    for CertificateSection { names, cert, key } in &file.s3.certificates {
        options.certificates.push(NamedCertificate { names: names.clone(), pem: (pem(cert)?, pem(key)?) });
    }
    options.balancers = file.s3.balancers();
    Ok(options)
}
