//! Keeps the house clean: layers, lengths, and nothing unfinished.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file longer than this has more than one idea in it.
const MOST_LINES: usize = 600;

/// Which of our crates each may import: the layers of ARCHITECTURE.md.
const LAYERS: [(&str, &[&str]); 10] = [
    ("fdb-schema", &[]),
    ("actors/fragment", &["cairn-schema"]),
    ("actors/disk", &["cairn-schema", "cairn-fragment"]),
    ("actors/net", &["cairn-schema", "cairn-fragment"]),
    ("actors", &["cairn-schema", "cairn-fragment", "cairn-disk", "cairn-net"]),
    ("gateway", &["cairn-schema", "cairn-actors"]),
    ("node", &["cairn-schema", "cairn-actors", "cairn-gateway"]),
    ("chaos", &[]),
    ("ops/bench", &["cairn-schema", "cairn-actors"]),
    ("ops/xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every Rust file of the workspace, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    for (crate_folder, _) in LAYERS {
        walk(&root().join(crate_folder), &mut found);
    }
    found.sort();
    found.dedup();
    found.retain(|(path, _)| !path.starts_with("target"));
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

#[test]
fn crates_import_only_the_layers_below() {
    for (crate_folder, allowed) in LAYERS {
        let manifest = fs::read_to_string(root().join(crate_folder).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|line| line.starts_with("cairn")) {
            let name = line.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&name), "{crate_folder} imports {name}: the layers are in ARCHITECTURE.md");
        }
    }
}

#[test]
fn no_file_outgrows_one_idea() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "split these files: {long:?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let marks =
        [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat(), ["#[ig", "nore"].concat()];
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for mark in &marks {
                assert!(!line.contains(mark.as_str()), "{}:{}: {mark}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn s3s_and_http_stay_in_the_gateway_and_above() {
    for (path, text) in sources() {
        if path.starts_with("actors") || path.starts_with("fdb-schema") {
            for word in ["use s3s", "s3s::", "use hyper", "hyper::"] {
                assert!(!text.contains(word), "{} knows of {word}", path.display());
            }
        }
    }
}
