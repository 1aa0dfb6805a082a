//! What `cairn dev` prints once it serves: what runs where, and what to type next.

use std::{fmt::Write, path::Path};

use cairn_actors::policy::Policy;

use crate::{config::Size, keys::RootKeys, layout::Layout, ready_file::Ready, words::plural};

pub(super) fn print(layout: &Layout, policy: &Policy, recorded: bool, data: &Path, ready: &Ready, keys: &RootKeys) {
    // A closed standard output is no reason to stop serving.
    let _ =
        std::io::Write::write_all(&mut std::io::stdout(), text(layout, policy, recorded, data, ready, keys).as_bytes());
}

fn text(layout: &Layout, policy: &Policy, recorded: bool, data: &Path, ready: &Ready, keys: &RootKeys) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(&mut text, layout, policy, recorded, data, ready, keys);
    text
}

fn write_text(
    out: &mut String,
    layout: &Layout,
    policy: &Policy,
    recorded: bool,
    data: &Path,
    ready: &Ready,
    keys: &RootKeys,
) -> std::fmt::Result {
    writeln!(
        out,
        "\nCairn {} runs: {} in {}, {}, all in this process\n",
        env!("CARGO_PKG_VERSION"),
        plural(layout.nodes.len(), "node"),
        plural(layout.racks().len(), "rack"),
        plural(layout.total_disks(), "disk")
    )?;
    let endpoint = ready.s3.map(|address| format!("http://{address}")).unwrap_or_default();
    writeln!(out, "  S3          {endpoint}   region us-east-1")?;
    writeln!(out, "  admin       http://{}   /metrics /healthz /readyz /v1/status", ready.admin)?;
    writeln!(out, "  data        {}{}", data.display(), if recorded { " (found again)" } else { " (new)" })?;
    writeln!(
        out,
        "  scheme      {}: no {} holds more than {} of a stripe's {} fragments; below {} {}",
        policy.scheme,
        policy.failure_domain,
        policy.scheme.parity(),
        policy.scheme.width(),
        Size(policy.small_below),
        policy.small_scheme
    )?;
    for (node, at) in layout.nodes.iter().zip(&ready.nodes) {
        let place = format!("{}/{}", node.zone, node.rack);
        let disks = plural(node.disks as usize, "disk");
        writeln!(out, "  node {:<6} {place:<8} QUIC {}  gossip {}  {disks}", node.id, at.quic, at.gossip)?;
    }
    writeln!(
        out,
        "\n  users       `cairn admin access`; their secrets are encrypted by secrets.key in the data folder"
    )?;
    writeln!(out, "  encryption  SSE-S3, SSE-KMS and SSE-C, by objects.keys in the data folder")?;
    let secret = if keys.private { "$CAIRN_ROOT_SECRET_KEY" } else { &keys.secret };
    writeln!(out, "\n  access key  {}\n  secret key  {secret}\n\nTry:", keys.access)?;
    writeln!(out, "  export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={secret} AWS_REGION=us-east-1", keys.access)?;
    writeln!(out, "  aws --endpoint-url {endpoint} s3 mb s3://first")?;
    writeln!(out, "  aws --endpoint-url {endpoint} s3 cp README.md s3://first/")?;
    let admin = if ready.admin.port() == 9001 { String::new() } else { format!(" --admin http://{}", ready.admin) };
    writeln!(out, "\n`cairn status{admin}` shows the cluster. Ctrl-C drains and stops; a second one stops at once.\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{layout::Wanted, ready_file::ReadyNode};

    #[test]
    fn it_names_the_endpoint_and_a_first_command_but_no_private_key() {
        let layout = Layout::create(&Wanted::default()).unwrap();
        let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let nodes =
            layout.nodes.iter().map(|node| ReadyNode { id: node.id.clone(), quic: at(7), gossip: at(8) }).collect();
        let ready = Ready::of_nodes(Some(at(9000)), at(9001), nodes);
        let mut keys = RootKeys { access: "a".into(), secret: "hush".into(), private: false };
        let open = text(&layout, &layout.policy(), false, Path::new("/d"), &ready, &keys);
        assert!(open.contains("6 nodes in 6 racks, 12 disks"), "{open}");
        assert!(open.contains("aws --endpoint-url http://127.0.0.1:9000 s3 mb s3://first"), "{open}");
        assert!(open.contains("AWS_SECRET_ACCESS_KEY=hush"));
        keys.private = true;
        assert!(!text(&layout, &layout.policy(), true, Path::new("/d"), &ready, &keys).contains("hush"));
    }
}
