//! `cargo xtask verify`: everything that must hold before a change lands.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    python,
    report::Report,
    workspace::{cargo, root, target},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Also the 1 GiB round trip of every client, the 5 GiB stream, and two racks lost for good. On by itself in CI.
    #[arg(long, env = "CI", value_parser = clap::builder::FalseyValueParser::new())]
    large: bool,
    /// Seed of the chaos scenarios; each prints its own when none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only formatting, lints, licences and the Rust tests.
    #[arg(long)]
    quick: bool,
}

/// A cluster file of a running FoundationDB: tests that need one run when it is set.
const FDB: &str = "CAIRN_FDB_CLUSTER_FILE";
/// The `fdbserver` that a scenario may start and kill, with `fdbcli` beside it.
const FDB_SERVER: &str = "CAIRN_FDB_SERVER";
/// Given to the whole workspace, so that what does not depend on the backend is not compiled twice.
const FDB_FEATURES: &str = "cairn/fdb,cairn-schema/fdb,cairn-bench/fdb";
const PROMETHEUS_MISSING: &str = "is not installed (apt-get install prometheus)";
/// What runs with the metadata in FoundationDB too.
const WITH_FDB: [(&str, &[&str]); 9] = [
    ("real clients", &["clients"]),
    ("corrupted bytes", &["corrupt"]),
    ("kill -9 and restart", &["restart"]),
    ("two racks of six killed", &["racks"]),
    ("a rack lost for good, then another", &["heal"]),
    ("two racks of six away", &["away"]),
    ("what safe-to-stop allows is killed", &["stop"]),
    ("a rack drained under load", &["drain"]),
    ("faults by seed", &["run", "smoke", "--metadata", "fdb"]),
];

pub(crate) fn run(options: &Options) -> ExitCode {
    let mut report = Report::default();
    // Waits for downloads more than for the processor: it is made while the lints are run.
    let python = std::thread::spawn(python::environment);
    report.command("format", cargo("fmt").args(["--all", "--check"]));
    report.command("lints", cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]));
    lint_fdb(&mut report);
    let mut bin = None;
    report.step("S3 clients and licence checker installed", || {
        let folder = python.join().unwrap_or_else(|_| Err("its thread panicked".to_owned()));
        folder.map(|folder| bin = Some(folder))
    });
    licences(&mut report, bin.as_deref());
    monitoring(&mut report);
    units(&mut report);
    report.command("Rust tests", cargo("test").args(["--workspace", "--no-fail-fast"]));
    let fdb = std::env::var_os(FDB).map(PathBuf::from);
    if fdb.is_some() {
        let arguments = ["--workspace", "--features", FDB_FEATURES, "--test", "fdb"];
        report.command("metadata tests on FoundationDB", cargo("test").args(arguments));
    } else {
        report.skip("metadata tests on FoundationDB", &format!("{FDB} is not set"));
    }
    if options.quick {
        report.skip("real clients and chaos", "--quick was given");
    } else if let Some(bin) = bin {
        let fdb = Fdb { cluster: fdb.is_some(), server: std::env::var_os(FDB_SERVER).is_some() };
        scenarios(&mut report, options, &bin, fdb);
    } else {
        report.skip("real clients and chaos", "their Python could not be set up");
    }
    report.finish()
}

/// The feature links libfdb_c, which most machines lack; checking it needs only libclang, for the bindings.
fn lint_fdb(report: &mut Report) {
    let name = "lints with the fdb feature";
    if has_libclang() {
        // All other tests are the same without it, and were seen to above.
        let targets = ["--lib", "--bins", "--test", "fdb", "--test", "preflight"];
        let mut lint = cargo("clippy");
        lint.args(["--workspace", "--features", FDB_FEATURES]).args(targets).args(["--", "-D", "warnings"]);
        report.command(name, &mut lint);
    } else {
        report.skip(name, "libclang was not found (apt-get install libclang-dev)");
    }
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let folders =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let llvm = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path().join("lib"));
    let mut all = folders.into_iter().map(PathBuf::from).chain(llvm);
    all.any(|folder| {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.into_iter().any(|file| is_libclang(&file.file_name().to_string_lossy()))
    })
}

/// As the bindings' generator looks for it: `libclang.so`, `libclang-14.so.1`, but not `libclang-cpp.so`, which comes
/// with other packages.
fn is_libclang(file: &str) -> bool {
    let Some(rest) = file.strip_prefix("libclang") else { return false };
    let version = rest.strip_prefix('-').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    rest.starts_with(".so") || version.is_some_and(|rest| rest.starts_with("so"))
}

/// Licences, banned crates and sources. Advisories need a database from the network and are left to whoever has one.
fn licences(report: &mut Report, bin: Option<&Path>) {
    let name = "licences";
    let checker = bin.map(|bin| bin.join("cargo-deny")).filter(|checker| checker.exists());
    let Some(checker) = checker else {
        report.skip(name, "cargo-deny could not be installed");
        return;
    };
    // The sources of all dependencies are needed; where they can't be had, nothing can be said about them.
    if !cargo("fetch").arg("--locked").status().is_ok_and(|status| status.success()) {
        report.skip(name, "the dependencies' sources could not be fetched");
        return;
    }
    let arguments = ["--offline", "--log-level", "error", "check", "licenses", "bans", "sources"];
    report.command(name, Command::new(checker).current_dir(root()).args(arguments));
}

/// Dashboards are what their script writes; rules are well-formed, and raise what their tests say.
fn monitoring(report: &mut Report) {
    let mut dashboards = Command::new("python3");
    report.command("dashboards", dashboards.current_dir(root()).args(["ops/grafana/make.py", "--check"]));
    if !is_there("promtool") {
        report.skip("rules of Prometheus", &format!("promtool {PROMETHEUS_MISSING}"));
        return;
    }
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        command.current_dir(root().join("ops/prometheus")).args(arguments);
        command
    };
    report.command("configuration of Prometheus", &mut promtool(&["check", "config", "prometheus.yml"]));
    report.command("rules of Prometheus", &mut promtool(&["test", "rules", "cairn.rules.test.yml"]));
}

/// The units of systemd. Their program is another one here: theirs need not be installed.
fn units(report: &mut Report) {
    let name = "units of systemd";
    if !is_there("systemd-analyze") {
        report.skip(name, "systemd-analyze is not installed (apt-get install systemd)");
        return;
    }
    report.step(name, || {
        let failed = |error: std::io::Error| error.to_string();
        let folder = target().join("units");
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut verify = Command::new("systemd-analyze");
        verify.arg("verify");
        for unit in ["cairn-node.service", "cairn-meta.service"] {
            let text = std::fs::read_to_string(root().join("ops/systemd").join(unit)).map_err(failed)?;
            let copy = folder.join(unit);
            std::fs::write(&copy, text.replace("/usr/bin/cairn", "/bin/true")).map_err(failed)?;
            verify.arg(copy);
        }
        let output = verify.output().map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It exits with 0 for what it only warns of, and warns of the machine's other units too.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("cairn-")).collect();
        if output.status.success() && ours.is_empty() { Ok(()) } else { Err(said.into_owned()) }
    });
}

/// Whether a command is on the path.
fn is_there(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
}

/// What of FoundationDB there is.
#[derive(Clone, Copy)]
struct Fdb {
    cluster: bool,
    server: bool,
}

fn scenarios(report: &mut Report, options: &Options, bin: &Path, fdb: Fdb) {
    let mut build = cargo("build");
    if fdb.cluster || fdb.server {
        build.args(["--workspace", "--bins", "--test", "fdb", "--features", FDB_FEATURES]);
    } else {
        // With the tests, which were just built: alone, the binaries would have their libraries compiled once more,
        // with other features.
        build.args(["--workspace", "--bins", "--tests"]);
    }
    if !report.command("build the binaries", &mut build) {
        report.skip("real clients and chaos", "the binaries were not built");
        return;
    }
    let clients = if options.large { "real clients, up to 1 GiB" } else { "real clients, up to 64 MiB" };
    report.command(clients, &mut chaos(options, bin, &["clients"], false));
    report.command("corrupted bytes", &mut chaos(options, bin, &["corrupt"], false));
    report.command("a thousand fragments rotten, a disk emptied", &mut chaos(options, bin, &["rot"], false));
    report.command("kill -9 and restart", &mut chaos(options, bin, &["restart"], false));
    let large = if options.large { "5120" } else { "512" };
    let name = format!("{large} MiB streamed in bounded memory");
    report.command(&name, &mut chaos(options, bin, &["stream", "--large-mib", large], false));
    if Command::new("strace").arg("-V").output().is_ok() {
        report.command("a sick disk", &mut chaos(options, bin, &["sick"], false));
    } else {
        report.skip("a sick disk", "strace is not installed: it makes a disk's reads fail and hang");
    }
    // Two racks of six are among it, and every object's every version is read after it.
    report.command("two racks killed, faults by seed, all nodes killed", &mut smoke(options, bin));
    report.command("two racks of six away", &mut chaos(options, bin, &["away"], false));
    report.command("what safe-to-stop allows is killed", &mut chaos(options, bin, &["stop"], false));
    report.command("the metadata server killed", &mut chaos(options, bin, &["metadata"], false));
    on_fdb(report, options, bin, fdb);
    if options.large {
        report.command("a rack lost for good, then another", &mut chaos(options, bin, &["heal"], false));
        report.command("a rack drained under load", &mut chaos(options, bin, &["drain"], false));
        if is_there("prometheus") {
            report.command("Prometheus watches a rack's loss", &mut chaos(options, bin, &["watch"], false));
        } else {
            report.skip("Prometheus watches a rack's loss", &format!("prometheus {PROMETHEUS_MISSING}"));
        }
    } else {
        let left_out = "1 GiB round trips, the 5 GiB stream, a rack lost for good, a rack drained, Prometheus";
        report.skip(left_out, "give --large or set CI=true");
    }
}

/// Its report is kept as build output.
fn smoke(options: &Options, bin: &Path) -> Command {
    let mut command = chaos(options, bin, &["run", "smoke"], false);
    command.arg("--report").arg(target().join("chaos/smoke"));
    command
}

fn on_fdb(report: &mut Report, options: &Options, bin: &Path, fdb: Fdb) {
    for (name, scenario) in WITH_FDB {
        let name = format!("{name}, metadata in FoundationDB");
        if fdb.cluster {
            let mut command = chaos(options, bin, scenario, true);
            // Large objects do not come near the metadata.
            report.command(&name, command.env_remove("CAIRN_CLIENTS_LARGE"));
        } else {
            report.skip(&name, &format!("{FDB} is not set"));
        }
    }
    let name = "the FoundationDB server killed";
    if fdb.server {
        report.command(name, &mut chaos(options, bin, &["metadata", "--rounds", "5"], true));
    } else {
        report.skip(name, &format!("{FDB_SERVER} is not set: it names an fdbserver with fdbcli beside it"));
    }
}

fn chaos(options: &Options, bin: &Path, scenario: &[&str], fdb: bool) -> Command {
    let binaries = target().join("debug");
    let mut command = Command::new(binaries.join("cairn-chaos"));
    command.current_dir(root());
    command.arg("--binary").arg(binaries.join("cairn")).arg("--python").arg(bin.join("python"));
    if let Some(seed) = options.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if !fdb {
        command.env_remove(FDB).env_remove(FDB_SERVER);
    }
    if options.large {
        command.env("CAIRN_CLIENTS_LARGE", "1");
    }
    command.args(scenario);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_what_only_begins_like_it() {
        for file in ["libclang.so", "libclang.so.14", "libclang-14.so", "libclang-14.so.1", "libclang-14.0.6.so"] {
            assert!(is_libclang(file), "{file}");
        }
        for file in ["libclang-cpp.so.14", "libclang_rt.asan.so", "libclang.a", "libclangAST.so", "liblclang.so"] {
            assert!(!is_libclang(file), "{file}");
        }
    }
}
