#![allow(clippy::unwrap_used)]
use std::path::Path;

use super::{problem::Problem, *};

const NODE: &str = include_str!("../../../ops/config/node.toml");
const NODE_FDB: &str = include_str!("../../../ops/config/node-fdb.toml");
const META: &str = include_str!("../../../ops/config/meta.toml");

fn problems<F: ConfigFile>(text: &str) -> Vec<Problem> {
    match parse::<F>(Path::new("test.toml"), text) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { problems, .. }) => problems,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_examples_are_valid() {
    assert_eq!(problems::<NodeFile>(NODE), []);
    assert_eq!(problems::<NodeFile>(NODE_FDB), []);
    assert_eq!(problems::<MetaFile>(META), []);
}

/// (what to replace in the example, with what, the field blamed, a part of what is said)
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("version = 1", "version = 2", "version", "version 1, not 2"),
    ("rack = \"r1\"", "rack = \"\"", "node.rack", "not a usable name"),
    ("rack = \"r1\"", "rak = \"r1\"", "node.rak", "unknown field `rak`"),
    ("id = \"n1\"", "id = \"N 1\"", "node.id", "not a node id"),
    ("scheme = \"4+2\"", "scheme = \"4x2\"", "policy.scheme", "is not a scheme"),
    ("scheme = \"4+2\"", "scheme = \"300+2\"", "policy.scheme", "is not a scheme"),
    ("failure_domain = \"rack\"", "failure_domain = \"cage\"", "policy.failure_domain", "unknown variant `cage`"),
    ("write_margin = 1", "write_margin = 3", "policy.write_margin", "can never be durable"),
    ("fragment = \"1 MiB\"", "fragment = \"1000 B\"", "policy.fragment", "is not a multiple of 64 KiB"),
    ("memory = \"512 MiB\"", "memory = \"1 MiB\"", "limits.memory", "too little for 1 node, 2 disks"),
    ("memory = \"512 MiB\"", "memory = \"lots\"", "limits.memory", "is not a size"),
    ("client_memory_percent = 75", "client_memory_percent = 0", "limits.client_memory_percent", "no share"),
    ("client_memory_percent = 75", "client_memory_percent = 101", "limits.client_memory_percent", "no share"),
    ("header_timeout = \"15 s\"", "header_timeout = \"0 s\"", "limits.header_timeout", "could not keep to it"),
    ("answer_timeout = \"2 min\"", "answer_timeout = \"10 ms\"", "limits.answer_timeout", "could not keep to it"),
    ("scrub = \"32 MiB\"", "scrub = \"10 B\"", "rates.scrub", "too little"),
    ("repair = \"256 MiB\"", "repair = \"0 B\"", "rates.repair", "too little"),
    ("background_percent = 20", "background_percent = 0", "rates.background_percent", "no part of a disk's time"),
    ("background_percent = 20", "background_percent = 101", "rates.background_percent", "101 is no part"),
    ("# dead_after = \"24 h\"", "dead_after = \"1 s\"", "s3.events.dead_after", "would miss events"),
    ("# refusals = 5", "refusals = 0", "s3.events.refusals", "nothing would be tried"),
    ("min_rate = \"1 KiB\"", "min_rate = \"slow\"", "limits.min_rate", "is not a size"),
    ("gossip_interval = \"500 ms\"", "gossip_interval = \"0 ms\"", "timings.gossip_interval", "too short"),
    ("gossip_interval = \"500 ms\"", "gossip_interval = 5", "timings.gossip_interval", "expected a string"),
    ("quic = \"127.0.0.1:7400\"", "quic = \"0.0.0.0:7400\"", "listen.quic", "cannot be dialled"),
    ("quic = \"127.0.0.1:7400\"", "quic = \"everywhere\"", "listen.quic", "invalid socket address"),
    (
        "seeds = [\"127.0.0.1:7411\", \"127.0.0.1:7421\"]",
        "seeds = [\"127.0.0.1:7411\", \"n3\"]",
        "gossip.seeds[1]",
        "not host:port",
    ),
    ("path = \"/var/lib/cairn/disk2\"", "path = \"/var/lib/cairn/disk1\"", "disks[1].path", "is disks[0] already"),
    ("path = \"/var/lib/cairn/disk2\"", "path = \"/var/lib/cairn/disk1/b\"", "disks[1].path", "lies inside disks[0]"),
    ("path = \"/var/lib/cairn/disk1\"", "path = \"/var/lib/cairn/disk2/a\"", "disks[0].path", "lies inside disks[1]"),
    ("gossip = \"127.0.0.1:7401\"", "gossip = \"127.0.0.1:7400\"", "listen.gossip", "is listen.quic already"),
    ("listen = \"127.0.0.1:9001\"", "listen = \"127.0.0.1:9000\"", "admin.listen", "is s3.listen already"),
    ("kind = \"remote\"", "kind = \"embedded\"", "metadata.path", "is needed by kind = \"embedded\""),
    ("kind = \"remote\"", "kind = \"carrier pigeon\"", "metadata.kind", "unknown variant"),
    ("server = \"meta\"", "path = \"x\"", "metadata.path", "has no meaning"),
    ("server = \"meta\"", "prefix = \"x\"", "metadata.prefix", "has no meaning"),
    ("server = \"meta\"", "prefix = \"x\\ny\"", "metadata.prefix", "not plain text"),
    ("listen = \"127.0.0.1:9001\"", "listen = \"0.0.0.0:9001\"", "admin.listen", "no credentials"),
    ("reclaim_grace = \"24 h\"", "reclaim_grace = \"31 d\"", "timings.reclaim_grace", "too long"),
    ("# abort_uploads_after = \"30 d\"", "abort_uploads_after = \"1 h\"", "timings.abort_uploads_after", "too short"),
    ("filter = \"info\"", "filter = \"a=b=c\"", "log.filter", "not a log filter"),
    ("region = \"us-east-1\"", "proxy_protocol_from = [\"10.0.0.1/8\"]", "s3.proxy_protocol_from[0]", "is no network"),
    (
        "# [[s3.certificates]]\n# names = [\"s3.example.org\", \"*.s3.example.org\"]\n# cert = \"/etc/cairn/tls/example.pem\"\n# key",
        "[[s3.certificates]]\nnames = []\ncert = \"a\"\nkey",
        "s3.certificates",
        "without a default",
    ),
    (
        "# [[s3.web_identity]]\n# name = \"staff\"\n# issuer",
        "[[s3.web_identity]]\nname = \"staff\"\nclient_ids = []\nissuer",
        "s3.web_identity",
        "needs s3.secrets_key_file",
    ),
    ("region = \"us-east-1\"", "tls_cert = \"a.pem\"", "s3.tls_cert", "stands alone"),
];

#[test]
fn every_wrong_field_is_named_with_its_line() {
    for (from, to, field, what) in WRONG {
        assert_eq!(NODE.matches(from).count(), 1, "the example has {from:?} once");
        let line = 1 + NODE[..NODE.find(from).unwrap()].matches('\n').count();
        let reported = problems::<NodeFile>(&NODE.replace(from, to));
        // One field can have several problems: all are told.
        let blamed = |problem: &&Problem| problem.field.as_deref() == Some(*field) && problem.what.contains(what);
        let blamed = reported.iter().find(blamed);
        let blamed = blamed.unwrap_or_else(|| panic!("{to:?} should blame {field} and say {what:?}, got {reported:?}"));
        // An absent field is blamed on the table that lacks it, somewhere above.
        let given = to.contains(field.rsplit('.').next().unwrap_or_default().split('[').next().unwrap_or_default());
        assert!(
            blamed.line.is_some_and(|blamed| if given { blamed == line } else { blamed <= line }),
            "{to:?}: {blamed:?}"
        );
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = NODE.replace("rack = \"r1\"", "rack = \"r 1\"").replace("write_margin = 1", "write_margin = 9");
    let fields: Vec<_> = problems::<NodeFile>(&text).into_iter().filter_map(|problem| problem.field).collect();
    assert_eq!(fields, ["node.rack", "policy.write_margin", "policy.write_margin"]);
}

#[test]
fn a_broken_text_names_the_line_and_reads_like_a_compiler() {
    let text = NODE.replace("[policy]", "[policy");
    let error = parse::<NodeFile>(Path::new("/etc/cairn/node.toml"), &text).unwrap_err().to_string();
    let line = 1 + NODE[..NODE.find("[policy]").unwrap()].matches('\n').count();
    assert!(error.starts_with(&format!("/etc/cairn/node.toml:{line}:")), "{error}");
}

#[test]
fn a_metadata_server_without_enough_memory_is_refused() {
    let text = META.replace("memory = \"256 MiB\"", "memory = \"100 MiB\"");
    let [problem] = &problems::<MetaFile>(&text)[..] else { panic!("one problem, of the memory") };
    assert_eq!(problem.field.as_deref(), Some("meta.memory"));
    assert!(problem.what.contains("too little"), "{problem:?}");
    assert_eq!(problems::<MetaFile>(&META.replace("memory = \"256 MiB\"", "")), []);
}

#[test]
fn the_admin_api_listens_remotely_only_when_told_twice() {
    let text = META.replace("listen = \"127.0.0.1:9002\"", "listen = \"10.0.0.1:9002\"");
    assert_ne!(text, META);
    assert_eq!(problems::<MetaFile>(&text).len(), 1);
    assert_eq!(problems::<MetaFile>(&text.replace("# allow_remote = false", "allow_remote = true")), []);
}

#[test]
fn relative_paths_start_at_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, NODE.replace("/etc/cairn/tls/ca.pem", "ca.pem")).unwrap();
    let loaded = load::<NodeFile>(&path).unwrap();
    assert_eq!(loaded.file.tls.ca, folder.path().join("ca.pem"));
    assert!(matches!(load_any(&path), Ok(AnyFile::Node(_))));
    let line = 1 + NODE[..NODE.find("ca = ").unwrap()].matches('\n').count();
    let later = loaded.check(|_, findings| findings.refuse("tls.ca", "is found wrong later", ""));
    assert_eq!(later.unwrap_err().to_string(), format!("{}:{line}: tls.ca: is found wrong later", path.display()));
}

#[test]
fn bnd_1_memory_suffices_for_the_largest_stripe_of_either_scheme() {
    let refused = |from: &str, to: &str| {
        let reported = problems::<NodeFile>(&NODE.replace(from, to));
        reported.into_iter().map(|problem| problem.field.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(refused("small_below = \"128 KiB\"", "small_below = \"1 GiB\""), ["limits.memory"]);
    assert_eq!(refused("small_scheme = \"replicated(3)\"", "small_scheme = \"100+100\""), ["limits.memory"]);
}

#[test]
fn bnd_1_no_object_has_more_absent_fragments_than_its_commit_can_note() {
    let fixes_for = |changes: &[(&str, &str)]| {
        let mut text = NODE.to_owned();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        let reported = problems::<NodeFile>(&text);
        assert!(reported.iter().all(|problem| problem.field.as_deref() == Some("policy.fragment")), "{reported:?}");
        reported.into_iter().map(|problem| problem.fix).collect::<Vec<_>>()
    };
    let (scheme, small) = ("scheme = \"4+2\"", "small_below = \"128 KiB\"");
    let (fragment, smallest) = ("fragment = \"1 MiB\"", "fragment = \"64 KiB\"");
    let copies = (scheme, "scheme = \"replicated(3)\"");
    assert_eq!(fixes_for(&[(fragment, smallest)]), [""; 0]);
    assert_eq!(fixes_for(&[copies]), [""; 0]);
    assert_eq!(fixes_for(&[copies, (fragment, smallest)]), ["use at least 256 KiB"]);
    assert_eq!(fixes_for(&[copies, (fragment, "fragment = \"192 KiB\"")]), ["use at least 256 KiB"]);
    assert_eq!(fixes_for(&[copies, (fragment, "fragment = \"256 KiB\"")]), [""; 0]);
    // A body of unknown length is gathered until it is known not to be small.
    let memory = ("memory = \"512 MiB\"", "memory = \"64 GiB\"");
    let not_small = (small, "small_below = \"9 GiB\"");
    assert_eq!(fixes_for(&[(fragment, smallest), not_small, memory]), ["use at least 256 KiB"]);
    assert_eq!(
        fixes_for(&[(scheme, "scheme = \"replicated(250)\""), (fragment, "fragment = \"16 MiB\""), memory]),
        ["use a policy.scheme with less redundancy"]
    );
}
