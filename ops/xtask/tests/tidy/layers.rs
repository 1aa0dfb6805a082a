//! What lies on what: the crates, and the modules of each crate from the top floor down.

/// Which of our crates each may import: the layers of ARCHITECTURE.md.
pub(crate) const CRATES: [(&str, &[&str]); 11] = [
    ("fdb-schema", &[]),
    ("actors/fragment", &["cairn-schema"]),
    ("actors/disk", &["cairn-schema", "cairn-fragment"]),
    ("actors/net", &["cairn-schema", "cairn-fragment"]),
    ("actors", &["cairn-schema", "cairn-fragment", "cairn-disk", "cairn-net"]),
    ("gateway/iam", &[]),
    ("gateway", &["cairn-schema", "cairn-actors", "cairn-iam"]),
    ("node", &["cairn-schema", "cairn-actors", "cairn-iam", "cairn-gateway"]),
    ("chaos", &[]),
    ("ops/bench", &["cairn-schema", "cairn-actors", "cairn-chaos"]),
    ("ops/xtask", &[]),
];

/// The modules of a crate's root, floor by floor: each may import those of the floors below its own, and nobody imports
/// the root itself. A new module is written on the lowest floor that is above all that it imports.
pub(crate) const FLOORS: [(&str, &[&str]); 9] = [
    (
        "fdb-schema",
        &[
            "audit conformance",
            "transfer",
            "verbs",
            "keyspace",
            "kv record",
            "codec",
            "error",
            "ids",
            "bytes16 clock text",
        ],
    ),
    (
        "actors/fragment",
        &["bounded checksum codec local", "cluster geometry", "fragment blocks name_digest positions sealing turn"],
    ),
    (
        "actors/disk",
        &[
            "handle tools",
            "engine",
            "writer",
            "compact",
            "log",
            "batch holes recover",
            "scan state",
            "identity metrics queue reader segment",
            "file index options turns",
            "format memory outstanding pace read_errors threads",
        ],
    ),
    ("actors/net", &["transport", "tls wire"]),
    (
        "actors",
        &[
            "runtime",
            "membership store metrics",
            "background put",
            "get supervisor",
            "data_path durability",
            "placement",
            "error policy",
        ],
    ),
    (
        "gateway/iam",
        &[
            "evaluate",
            "decision",
            "policy",
            "public",
            "statement",
            "conditions resources",
            "actions operators principals",
            "template",
            "json request table values wildcard",
            "error",
        ],
    ),
    (
        "gateway",
        &[
            "server",
            "service",
            "admit op",
            "access body cors query_headers witness",
            "checksum context honour",
            "copy_source",
            "error tls",
            "connection key_desk metrics options public_access query session",
            "events",
            "shown",
            "answer audit encryption expect fault http_date network pace percent recent secrets turnstile verified web_identity xml",
            "outbound",
        ],
    ),
    (
        "node",
        &[
            "preflight",
            "dev give_up meta_server node transfer",
            "named_store placement",
            "certs cli keys metadata roles serve targets",
            "failure",
            "data_dir",
            "admin layout process ready_file",
            "config files heap manager notice renewal words",
        ],
    ),
    (
        "chaos",
        &[
            "campaign run scenario",
            "report",
            "judge",
            "inject",
            "inspect target",
            "dev fdb prometheus traffic",
            "cluster load registers",
            "lab",
            "admin audit disk_files process",
            "error",
            "history s3 script setting strace",
        ],
    ),
];
