//! Keeps the house clean: layers, lengths, and nothing unfinished.
#![allow(clippy::unwrap_used)]

mod imports;
mod layers;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use layers::{CRATES, FLOORS};

/// A file longer than this has more than one idea in it.
const MOST_LINES: usize = 600;

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
    for (crate_folder, _) in CRATES {
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
    for (crate_folder, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(crate_folder).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|line| line.starts_with("cairn")) {
            let name = line.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&name), "{crate_folder} imports {name}: the layers are in ARCHITECTURE.md");
        }
    }
}

/// A crate without its part of the profile would be optimised like a library and keep no lines for its traces.
#[test]
fn the_profile_of_tests_names_every_crate() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (crate_folder, _) in CRATES {
        let manifest = fs::read_to_string(root().join(crate_folder).join("Cargo.toml")).unwrap();
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
        let section = format!("[profile.dev.package.{name}]\nopt-level = 1\ndebug = \"line-tables-only\"\n");
        assert!(workspace.contains(&section), "Cargo.toml lacks {section}");
    }
}

/// No crate has its docs tried: what looks like an example there would be one that nobody ran.
#[test]
fn docs_have_no_examples_that_would_have_to_run() {
    for (path, text) in sources() {
        let fences = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        let fences = fences.filter_map(|line| line.split_once("```")).map(|(_, kind)| kind);
        let opening: Vec<_> = fences.step_by(2).filter(|kind| *kind != "text").collect();
        assert!(opening.is_empty(), "{}: make it a test, or ```text", path.display());
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

#[test]
fn no_files_import_each_other_in_a_loop() {
    let loops = imports::loops(imports::read(&sources()));
    assert!(loops.is_empty(), "these files import each other in a loop: {loops:#?}");
}

#[test]
fn modules_import_only_the_floors_below() {
    let imports = imports::read(&sources());
    for (of, floors) in FLOORS {
        let src = Path::new(of).join("src");
        let module = |file: &Path| -> Option<String> {
            let name = Path::new(file.strip_prefix(&src).ok()?.iter().next()?).file_stem()?.to_str()?;
            (!matches!(name, "lib" | "main" | "bin")).then(|| name.to_owned())
        };
        let floor = |name: &str| floors.iter().position(|floor| floor.split(' ').any(|module| module == name));
        let written: BTreeSet<String> = floors.iter().flat_map(|floor| floor.split(' ')).map(str::to_owned).collect();
        let there: BTreeSet<String> = imports.keys().filter_map(|file| module(file)).collect();
        assert_eq!(written, there, "left, the modules of {of} by layers.rs; right, those that there are");
        for (file, imported) in imports.iter().filter(|(file, _)| file.starts_with(&src)) {
            let Some(above) = module(file) else { continue };
            for other in imported {
                let below = module(other).unwrap_or_else(|| panic!("{} imports the crate's root", file.display()));
                let (from, to) = (floor(&above), floor(&below));
                assert!(
                    above == below || from < to,
                    "{} imports {}, which is not below it",
                    file.display(),
                    other.display()
                );
            }
        }
    }
}

#[test]
fn tests_spell_the_ids_of_invariants_one_way() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let ids = architecture.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let is_id = |id: &&str| id.contains('-') && id.ends_with(char::is_numeric);
    let ids: Vec<String> = ids.map(|(id, _)| id).filter(is_id).map(|id| id.replace('-', "").to_lowercase()).collect();
    assert!(ids.len() > 5, "ARCHITECTURE.md's table of invariants was not read: {ids:?}");
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let Some((_, name)) = line.split_once("fn ") else { continue };
            let name = name.split(['(', '<']).next().unwrap();
            let run_together = name.split('_').find(|part| ids.iter().any(|id| id == part));
            assert_eq!(run_together, None, "{}:{}: write dur_1_, not dur1_", path.display(), number + 1);
        }
    }
}

/// The formatter leaves comments alone.
#[test]
fn comments_fit_the_formatters_width() {
    let formatter = fs::read_to_string(root().join("rustfmt.toml")).unwrap();
    let width = formatter.lines().find_map(|line| line.strip_prefix("max_width = ")?.parse().ok()).unwrap();
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        let too_long = lines.filter(|(_, line)| line.chars().count() > width);
        long.extend(too_long.map(|(number, _)| format!("{}:{}", path.display(), number + 1)));
    }
    assert!(long.is_empty(), "comments of more than {width} characters: {long:#?}");
}

#[test]
fn every_dependency_is_used() {
    let members = CRATES.map(|(folder, _)| Path::new(folder));
    let sources = sources();
    let mut everywhere = BTreeSet::new();
    for folder in members {
        // What lies in a crate within this folder is that crate's.
        let owner = |path: &Path| {
            members.into_iter().filter(|other| path.starts_with(other)).max_by_key(|other| other.as_os_str().len())
        };
        let own: Vec<&String> =
            sources.iter().filter(|(path, _)| owner(path) == Some(folder)).map(|(_, text)| text).collect();
        for name in dependencies(&folder.join("Cargo.toml")) {
            let in_code = name.replace('-', "_");
            assert!(own.iter().any(|text| text.contains(&in_code)), "{} does not use {name}", folder.display());
            everywhere.insert(name);
        }
    }
    for name in dependencies(Path::new("Cargo.toml")) {
        assert!(everywhere.contains(&name) || name.starts_with("cairn-"), "no crate uses {name}");
    }
}

/// The names below every heading of a manifest that ends in "dependencies".
fn dependencies(manifest: &Path) -> Vec<String> {
    let (mut names, mut listed) = (Vec::new(), false);
    for line in fs::read_to_string(root().join(manifest)).unwrap().lines() {
        if let Some(heading) = line.strip_prefix('[') {
            listed = heading.contains("dependencies]");
        } else if let Some((name, _)) = line.split_once(['.', ' ', '=']).filter(|_| listed && !line.starts_with('#')) {
            names.push(name.to_owned());
        }
    }
    names
}
