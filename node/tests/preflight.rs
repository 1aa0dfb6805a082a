//! `cairn config check` and a start look at the same: what the one calls good the other takes, and both refuse with the
//! same words.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use common::{Serving, cairn, free_tcp, free_udp, run, text};

/// A node that could start: its certificates, its keys, its addresses. The metadata store is embedded.
struct Setup {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let tls = root.join("tls").to_string_lossy().into_owned();
        assert!(run(&["cert", "new-ca", "--dir", &tls]).status.success());
        for id in ["n1", "n2"] {
            assert!(run(&["cert", "new-node", "--dir", &tls, "--id", id]).status.success());
        }
        fs::write(root.join("secret"), "rootsecret\n").unwrap();
        let (quic, gossip, s3, admin) = (free_udp(), free_udp(), free_tcp(), free_tcp());
        let text = format!(
            "version = 1\n[node]\nid = \"n1\"\nrack = \"r1\"\nzone = \"z1\"\n\
             [[disks]]\npath = \"disk1\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
             [[disks]]\npath = \"disk2\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
             [listen]\nquic = \"{quic}\"\ngossip = \"{gossip}\"\n\
             [tls]\nca = \"tls/ca.pem\"\ncert = \"tls/n1.pem\"\nkey = \"tls/n1.key\"\n\
             [metadata]\nkind = \"embedded\"\npath = \"metadata\"\n\
             [policy]\nscheme = \"1+1\"\nsmall_scheme = \"replicated(2)\"\nfailure_domain = \"disk\"\n\
             [limits]\nmemory = \"128 MiB\"\n\
             [s3]\nlisten = \"{s3}\"\naccess_key = \"root\"\nsecret_key_file = \"secret\"\n[admin]\nlisten = \"{admin}\"\n"
        );
        let config = root.join("node.toml");
        fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from} in\n{text}");
        fs::write(&self.config, text.replace(from, to)).unwrap();
    }

    /// With keys of objects in a file.
    fn encrypt(&self, path: &str, keys: &str) {
        fs::write(self.root().join(path), keys).unwrap();
        self.replace("[admin]", &format!("[s3.encryption]\nkey_file = \"{path}\"\n[admin]"));
    }

    /// The address that a field names.
    fn address(&self, field: &str) -> String {
        let text = fs::read_to_string(&self.config).unwrap();
        let (_, rest) = text.split_once(field).unwrap();
        rest.split('"').nth(1).unwrap().to_owned()
    }

    fn check(&self) -> Output {
        run(&["config", "check", &self.config.to_string_lossy()])
    }

    fn start(&self) -> Serving {
        let mut command = cairn();
        command.arg("node").arg("--config").arg(&self.config);
        Serving::spawn(self.root(), "n1", command)
    }

    /// Everything below the folder, with lengths.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                }
                found.push((entry.path(), entry.metadata().unwrap().len()));
            }
        }
        let mut found = Vec::new();
        walk(self.root(), &mut found);
        found.sort();
        found
    }
}

fn key_file() -> String {
    format!("a/1 {}\n", "0f".repeat(32))
}

/// The check refuses with `said`, changes nothing, and the start ends by itself with the very same words.
#[track_caller]
fn both_refuse(setup: &Setup, said: &str) {
    let before = setup.files();
    let checked = setup.check();
    let words = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "config check calls this good: {said}\n{}", text(&checked.stdout));
    assert!(words.contains(said), "{said} is not in\n{words}");
    assert_eq!(setup.files(), before, "config check changed something");
    let (code, log) = setup.start().end();
    assert_eq!(code, Some(1), "{log}");
    for line in words.lines() {
        assert!(log.contains(line.trim_start_matches("cairn: ")), "the start does not say {line}\n{log}");
    }
}

#[test]
fn what_a_start_refuses_is_refused_by_the_check() {
    type Break = fn(&Setup);
    let table: &[(&str, Break)] = &[
        ("tls.ca: ", |setup| fs::remove_file(setup.root().join("tls/ca.pem")).unwrap()),
        ("tls.cert: the certificate is for n2, but node.id is n1", |setup| {
            setup.replace("tls/n1.pem", "tls/n2.pem");
            setup.replace("tls/n1.key", "tls/n2.key");
        }),
        ("tls.key: ", |setup| setup.replace("tls/n1.key", "tls/n2.key")),
        ("tls.cert: the node's certificate is not PEM", |setup| {
            fs::write(setup.root().join("tls/n1.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
                .unwrap();
        }),
        ("tls.cert: the node's certificate is not a usable certificate: not one of this CA", |setup| {
            let other = setup.root().join("other").to_string_lossy().into_owned();
            assert!(run(&["cert", "new-ca", "--dir", &other]).status.success());
            setup.replace("tls/ca.pem", "other/ca.pem");
        }),
        ("s3.secret_key_file: ", |setup| setup.replace("\"secret\"", "\"nothing\"")),
        ("s3.secret_key_file: the first line of", |setup| fs::write(setup.root().join("secret"), "\n\n").unwrap()),
        ("s3.access_key: want printable ASCII", |setup| setup.replace("\"root\"", "\"ro/ot\"")),
        ("s3.tls_cert: cannot be used for https", |setup| {
            setup.replace("[admin]", "tls_cert = \"tls/n1.pem\"\ntls_key = \"tls/n2.key\"\n[admin]");
        }),
        ("s3.tls_key: ", |setup| {
            setup.replace("[admin]", "tls_cert = \"tls/n1.pem\"\ntls_key = \"tls/n9.key\"\n[admin]");
        }),
        ("s3.encryption.key_file: ", |setup| setup.encrypt("keys", "a/1 12\n")),
        ("lies in ", |setup| {
            fs::create_dir(setup.root().join("metadata")).unwrap();
            setup.encrypt("metadata/../metadata/keys", &key_file());
        }),
        ("s3.encryption.vault.token_file: ", |setup| {
            let vault = "[s3.encryption.vault]\naddress = \"http://127.0.0.1:1\"\nkey = \"k\"\ntoken_file = \"none\"\n";
            setup.replace("[admin]", &format!("{vault}[admin]"));
        }),
        ("s3.encryption.vault: the address must be https", |setup| {
            fs::write(setup.root().join("token"), "t").unwrap();
            let vault = "[s3.encryption.vault]\naddress = \"http://10.0.0.1:1\"\nkey = \"k\"\ntoken_file = \"token\"\n";
            setup.replace("[admin]", &format!("{vault}[admin]"));
        }),
        ("s3.events.webhook[0].ca: ", |setup| {
            let webhook = "[[s3.events.webhook]]\nname = \"ci\"\nurl = \"https://hook.example/\"\nca = \"none\"\n";
            setup.replace("[admin]", &format!("{webhook}[admin]"));
        }),
        ("s3.events: target ci: an https url needs the CA", |setup| {
            let webhook = "[[s3.events.webhook]]\nname = \"ci\"\nurl = \"https://hook.example/\"\n";
            setup.replace("[admin]", &format!("{webhook}[admin]"));
        }),
        ("disks[0].path: ", |setup| {
            fs::create_dir(setup.root().join("disk1")).unwrap();
            fs::write(setup.root().join("disk1/thesis.tex"), "").unwrap();
        }),
        ("metadata.path: ", |setup| {
            fs::create_dir_all(setup.root().join("metadata/store")).unwrap();
        }),
        ("metadata.path: ", |setup| {
            fs::create_dir(setup.root().join("metadata")).unwrap();
            fs::write(setup.root().join("metadata/FORMAT"), "cairn metadata 99 of the future\n").unwrap();
        }),
        #[cfg(not(feature = "fdb"))]
        ("metadata.kind: this build has no FoundationDB backend", |setup| {
            setup.replace("kind = \"embedded\"\npath = \"metadata\"", "kind = \"fdb\"");
        }),
        #[cfg(feature = "fdb")]
        ("metadata.cluster_file: ", |setup| {
            fs::write(setup.root().join("fdb.cluster"), "garbage").unwrap();
            setup.replace("kind = \"embedded\"\npath = \"metadata\"", "kind = \"fdb\"\ncluster_file = \"fdb.cluster\"");
        }),
    ];
    for (said, break_it) in table {
        let setup = Setup::new();
        break_it(&setup);
        both_refuse(&setup, said);
    }
    // Several at once are told at once.
    let setup = Setup::new();
    fs::remove_file(setup.root().join("tls/n1.key")).unwrap();
    fs::write(setup.root().join("secret"), "").unwrap();
    both_refuse(&setup, "tls.key: ");
    both_refuse(&setup, "s3.secret_key_file: ");
}

/// Ports are told by the check, and met by a start: in use by others, or no address of this machine. Both refuse.
#[test]
fn ports_in_use_are_refused_unless_the_node_itself_has_them() {
    let setup = Setup::new();
    for (field, what) in [("quic = ", "listen.quic"), ("gossip = ", "listen.gossip"), ("[s3]\nlisten = ", "s3.listen")]
    {
        let address = setup.address(field);
        let tcp = (what == "s3.listen").then(|| TcpListener::bind(&address).unwrap());
        let udp = (what != "s3.listen").then(|| UdpSocket::bind(&address).unwrap());
        let checked = setup.check();
        assert_eq!(checked.status.code(), Some(1), "{what}: {}", text(&checked.stdout));
        let said = format!("{what}: {address} is in use by another process");
        assert!(text(&checked.stderr).contains(&said), "{said}: {}", text(&checked.stderr));
        assert_eq!(setup.start().end().0, Some(1), "{what}");
        drop((tcp, udp));
    }
    let (tcp, gossip) = (setup.address("[s3]\nlisten = "), setup.address("gossip = "));
    setup.replace(&tcp, "192.0.2.1:9000");
    assert!(text(&setup.check().stderr).contains("s3.listen: 192.0.2.1:9000 is no address of this machine"));
    setup.replace("192.0.2.1:9000", &tcp);
    setup.replace(&gossip, "192.0.2.1:7401");
    assert!(text(&setup.check().stderr).contains("listen.gossip: 192.0.2.1:7401 is no address of this machine"));
    setup.replace("192.0.2.1:7401", &gossip);

    setup.encrypt("keys", &key_file());
    assert!(setup.check().status.success(), "{}", text(&setup.check().stderr));
    let mut node = setup.start();
    node.wait();
    let checked = setup.check();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("it runs, so its ports were not tried"), "{}", text(&checked.stdout));
    assert_eq!(node.terminate(), Some(0));
}

/// Disks of two clusters, one disk under two names, and a node whose metadata store is another cluster's.
#[test]
fn disks_of_another_cluster_are_refused() {
    let (setup, other) = (Setup::new(), Setup::new());
    for setup in [&setup, &other] {
        let mut node = setup.start();
        node.wait();
        assert_eq!(node.terminate(), Some(0));
        assert!(setup.check().status.success(), "{}", text(&setup.check().stderr));
    }
    let strange = other.root().join("disk2").to_string_lossy().into_owned();
    setup.replace("\"disk2\"", &format!("{strange:?}"));
    both_refuse(&setup, "disks[1].path: this disk belongs to cluster");
    std::os::unix::fs::symlink(setup.root().join("disk1"), setup.root().join("alias")).unwrap();
    setup.replace(&format!("{strange:?}"), "\"alias\"");
    both_refuse(&setup, "disks[1].path: ");
}

/// A metadata server is asked whose the disks are; one that does not answer is a note and no error, because a start
/// waits for it.
#[test]
fn the_metadata_server_is_asked_whose_the_disks_are() {
    let setup = Setup::new();
    let mut node = setup.start();
    node.wait();
    assert_eq!(node.terminate(), Some(0));

    let tls = setup.root().join("tls").to_string_lossy().into_owned();
    assert!(run(&["cert", "new-node", "--dir", &tls, "--id", "meta"]).status.success());
    let address = free_udp();
    let remote = format!("kind = \"remote\"\naddress = \"{address}\"\nserver = \"meta\"");
    setup.replace("kind = \"embedded\"\npath = \"metadata\"", &remote);
    let started = Instant::now();
    let checked = setup.check();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(
        text(&checked.stdout).contains("note: whether the disks are of its cluster is not known"),
        "{}",
        text(&checked.stdout)
    );
    assert!(started.elapsed() < Duration::from_secs(30));

    // Also of its cluster, if it serves the store that the node had embedded.
    let serve = |name: &str, store: &str| {
        let config = setup.root().join(format!("{name}.toml"));
        let text = format!(
            "version = 1\n[meta]\nid = \"meta\"\npath = \"{store}\"\nlisten = \"{address}\"\n\
             [tls]\nca = \"tls/ca.pem\"\ncert = \"tls/meta.pem\"\nkey = \"tls/meta.key\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        fs::write(&config, text).unwrap();
        let checked = run(&["config", "check", &config.to_string_lossy()]);
        assert!(checked.status.success(), "{}", self::text(&checked.stderr));
        let mut command = cairn();
        command.arg("meta").arg("--config").arg(&config);
        Serving::start(setup.root(), name, command)
    };
    let own = serve("own", "metadata");
    let checked = setup.check();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(!text(&checked.stdout).contains("note: whether"), "{}", text(&checked.stdout));
    assert_eq!(own.terminate(), Some(0));

    let new = serve("new", "elsewhere");
    let checked = setup.check();
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked.stdout));
    assert!(text(&checked.stderr).contains("the metadata store is new and has none"), "{}", text(&checked.stderr));
    assert_eq!(setup.start().end().0, Some(1));
    assert_eq!(new.terminate(), Some(0));
}

/// Keys that only the service's environment has are not the check's business, but worth a word.
#[test]
fn keys_of_the_environment_are_noted() {
    let setup = Setup::new();
    setup.replace("access_key = \"root\"\nsecret_key_file = \"secret\"\n", "");
    let checked = setup.check();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("CAIRN_ROOT_ACCESS_KEY"), "{}", text(&checked.stdout));
    let (code, log) = setup.start().end();
    assert_eq!(code, Some(1));
    assert!(log.contains("CAIRN_ROOT_ACCESS_KEY"), "{log}");
}
