//! Which file of ours names something of which other, read from the text: from `use`, and from paths that begin with
//! `crate`, `super`, `self` or a module below. What a file shows by `pub use` it need not know itself, and a name that
//! is shown leads to where it is written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    ops::Range,
    path::{Path, PathBuf},
};

/// A path as it stands after `use`, segment by segment.
type Name = Vec<String>;

/// The modules of a crate by their paths.
type Crate = BTreeMap<Vec<String>, Module>;

struct Module {
    file: PathBuf,
    /// What the file names.
    named: Vec<Name>,
    /// Every name that the file has from elsewhere, and where from: others may have it from here.
    had: BTreeMap<String, Name>,
}

/// The files of product code, each with the files that it imports something from.
pub(crate) fn read(sources: &[(PathBuf, String)]) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let roots: BTreeSet<&Path> = sources.iter().filter_map(|(file, _)| root_of(file)).collect();
    let mut crates: BTreeMap<&Path, Crate> = BTreeMap::new();
    for (file, text) in sources {
        let Some(root) = file.ancestors().find(|folder| roots.contains(folder)).filter(|_| is_product(file)) else {
            continue;
        };
        crates.entry(root).or_default().insert(module_path(root, file), Module::read(file, text));
    }
    let mut imports = BTreeMap::new();
    for modules in crates.values() {
        for (path, module) in modules {
            let named = module.named.iter().filter_map(|name| written_in(modules, path, name, 0));
            imports.insert(module.file.clone(), named.filter(|file| *file != module.file).collect());
        }
    }
    imports
}

/// What is left when every file is taken away that imports none of the others, or that none of the others imports:
/// files in loops.
pub(crate) fn loops(mut imports: BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    loop {
        let before = imports.len();
        let imported: BTreeSet<PathBuf> = imports.values().flatten().cloned().collect();
        imports.retain(|file, of| !of.is_empty() && imported.contains(file));
        let left: BTreeSet<PathBuf> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|of| of.retain(|file| left.contains(file)));
        if imports.len() == before {
            return imports;
        }
    }
}

fn root_of(file: &Path) -> Option<&Path> {
    let is_root = file.ends_with("lib.rs") || file.ends_with("main.rs");
    file.parent().filter(|_| is_root && is_product(file))
}

/// Tests may name what they like.
fn is_product(file: &Path) -> bool {
    let is_test = |part: &OsStr| ["tests", "benches", "examples", "tests.rs"].iter().any(|name| part == *name);
    let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    file.iter().any(|part| part == "src") && !file.iter().any(is_test) && !stem.ends_with("_tests")
}

fn module_path(root: &Path, file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file
        .strip_prefix(root)
        .unwrap()
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    path.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    path
}

impl Module {
    fn read(file: &Path, text: &str) -> Self {
        let text: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
        let text = text.join("\n");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let inner = inner_modules(text);
        let (mut named, mut had, mut read_to) = (Vec::new(), BTreeMap::new(), 0);
        for (start, word) in words(text) {
            let end = start + word.len();
            if start < read_to {
                continue;
            }
            // A module within the file is part of it.
            let from_here = |mut name: Name| {
                if inner.iter().any(|range| range.contains(&start))
                    && name.first().is_some_and(|first| first == "super")
                {
                    name[0] = "self".to_owned();
                }
                name
            };
            if word == "use" {
                let tree = text[end..].split(';').next().unwrap();
                read_to = end + tree.len();
                let names: Vec<Name> = spread(tree).into_iter().map(from_here).collect();
                had.extend(names.iter().filter_map(|name| Some((name.last()?.clone(), name.clone()))));
                if !text[..start].rsplit('\n').next().unwrap().trim_start().starts_with("pub") {
                    named.extend(names);
                }
            } else if text[end..].starts_with("::") {
                let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                read_to = text[start..].find(|c| !is_path(c)).map_or(text.len(), |length| start + length);
                named.extend(spread(&text[start..read_to]).into_iter().map(from_here));
            }
        }
        Self { file: file.to_owned(), named, had }
    }
}

/// The file in which what `name` means in the module `at` is written down; None if that is in another crate.
fn written_in(modules: &Crate, at: &[String], name: &[String], hops: usize) -> Option<PathBuf> {
    let mut here = at.to_vec();
    for (depth, part) in name.iter().enumerate() {
        match part.as_str() {
            "crate" => here.clear(),
            "self" => {}
            "super" => drop(here.pop()),
            _ => {
                here.push(part.clone());
                if modules.contains_key(&here) {
                    continue;
                }
                here.pop();
                let module = modules.get(&here).filter(|_| depth > 0)?;
                let elsewhere = module.had.get(part).filter(|from| hops < 9 && (here != at || from.as_slice() != name));
                let elsewhere = elsewhere.and_then(|from| written_in(modules, &here, from, hops + 1));
                return Some(elsewhere.unwrap_or_else(|| module.file.clone()));
            }
        }
    }
    modules.get(&here).map(|module| module.file.clone())
}

/// Every word of the text with the place where it begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    words.map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Where modules are written out within the file.
fn inner_modules(text: &str) -> Vec<Range<usize>> {
    let begin = |(start, word): (usize, &str)| {
        let (name, _) = text[start..].strip_prefix("mod ").filter(|_| word == "mod")?.split_once(" {")?;
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let line_end = text[start..].find("\n}").map_or(text.len(), |length| start + length);
        is_name.then_some(start..line_end)
    };
    words(text).filter_map(begin).collect()
}

/// `a::{b, c::{self, d as e}}` as the paths a::b, a::c and a::c::d.
fn spread(tree: &str) -> Vec<Name> {
    let segments = |path: &str| -> Name {
        let parts = path.split("::").map(|part| part.trim().to_owned());
        parts.filter(|part| !part.is_empty() && part != "*").collect()
    };
    let Some((head, body)) = tree.trim().split_once('{') else {
        return vec![segments(tree.split(" as ").next().unwrap())];
    };
    let body = body.trim_end().strip_suffix('}').unwrap_or(body);
    let mut depth = 0;
    let items = body.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let head = segments(head);
    let of_item = |item: &str| {
        let names = spread(item).into_iter().filter(|name| !name.is_empty());
        names
            .map(|name| {
                head.iter().cloned().chain(name.into_iter().filter(|part| head.is_empty() || part != "self")).collect()
            })
            .collect::<Vec<Name>>()
    };
    items.flat_map(of_item).collect()
}
