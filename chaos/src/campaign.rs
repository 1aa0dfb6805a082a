//! Many runs of one scenario: by seeds, split over machines and gone on with; and of one that failed, with fewer and
//! fewer of its faults. Each is a process of its own, so that none is hurt by what another left.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::{error::ChaosError, report::Report};

/// `1..1000`, both ends included, or a single seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub RangeInclusive<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u64>().ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(format!("{text:?} is not FIRST..LAST, such as 1..1000, the first no more than the last")),
        }
    }
}

/// `1/4`: of four machines, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(format!("{text:?} is not NUMBER/OF, such as 1/4, counted from 1")),
        }
    }
}

impl Shard {
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Each seed falls to just one of the shards.
    pub fn has(self, seed: u64) -> bool {
        seed % self.of == self.number - 1
    }
}

/// A line of the state file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// A scenario's file, as it was, in short.
    pub scenario: String,
    /// What the program said of itself.
    pub program: String,
    pub seed: u64,
    pub held: bool,
    /// What did not hold.
    #[serde(default)]
    pub broken: Vec<String>,
    pub seconds: f64,
    pub began: String,
}

/// The lines of the state file; a line that a stop cut off is none.
pub fn read(state: &Path) -> Result<Vec<Ran>, ChaosError> {
    match fs::read_to_string(state) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ChaosError::io(format!("read {}", state.display()))(error)),
    }
}

fn append(state: &Path, ran: &Ran) -> Result<(), ChaosError> {
    let line = serde_json::to_string(ran).map_err(|error| ChaosError::Workload(error.to_string()))?;
    // Begins a line, because the last one may have been cut off.
    let file = OpenOptions::new().create(true).append(true).open(state);
    let written =
        file.and_then(|mut file| file.write_all(format!("\n{line}").as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(ChaosError::io(format!("write {}", state.display())))
}

/// How the runs are begun.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// This program, and what comes before `run` on its command line.
    pub program: PathBuf,
    pub options: Vec<String>,
    /// The scenario's file, as `run` is given it, and what stands in it.
    pub file: PathBuf,
    pub text: String,
    /// What follows it.
    pub run_options: Vec<String>,
    /// A folder with one for each run.
    pub reports: PathBuf,
    /// What the cairn program says of itself.
    pub version: String,
}

impl Campaign {
    /// Of the same file and the same program.
    fn scenario(&self) -> String {
        use sha2::Digest;
        hex::encode(&sha2::Sha256::digest(self.text.as_bytes())[..8])
    }

    /// Runs each seed that the state does not have yet; how many held and which did not, of all that the state has.
    pub fn seeds(&self, seeds: &Seeds, shard: Shard, state: &Path) -> Result<(usize, Vec<Ran>), ChaosError> {
        let mut known: BTreeMap<u64, Ran> = BTreeMap::new();
        let is_this = |ran: &Ran| ran.scenario == self.scenario() && ran.program == self.version;
        known.extend(read(state)?.into_iter().filter(is_this).map(|ran| (ran.seed, ran)));
        let todo: Vec<u64> = seeds.0.clone().filter(|seed| shard.has(*seed) && !known.contains_key(seed)).collect();
        println!("   {} seeds are done, {} are to do", known.len(), todo.len());
        for seed in todo {
            let ran = self.run(seed)?;
            append(state, &ran)?;
            let word = if ran.held { "held" } else { "FAILED" };
            println!("   seed {seed}: {word} in {:.0} s {}", ran.seconds, ran.broken.join(", "));
            known.insert(seed, ran);
        }
        let wanted = known.into_values().filter(|ran| seeds.0.contains(&ran.seed) && shard.has(ran.seed));
        let (held, failed): (Vec<Ran>, Vec<Ran>) = wanted.partition(|ran| ran.held);
        Ok((held.len(), failed))
    }

    /// The folder of a seed's report and log.
    pub fn folder(&self, seed: u64) -> PathBuf {
        self.reports.join(format!("seed-{seed}"))
    }

    fn run(&self, seed: u64) -> Result<Ran, ChaosError> {
        let (folder, start) = (self.folder(seed), Instant::now());
        let began = time::OffsetDateTime::now_utc();
        let report = self.once(seed, None, &folder)?;
        let broken = match report {
            Some(report) => broken(&report),
            None => vec![format!("no report; {}", folder.join("log").display())],
        };
        Ok(Ran {
            scenario: self.scenario(),
            program: self.version.clone(),
            seed,
            held: broken.is_empty(),
            broken,
            seconds: start.elapsed().as_secs_f64(),
            began: began.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
        })
    }

    /// One run, with all steps or only some; None: it ended without a report.
    fn once(&self, seed: u64, only: Option<&[usize]>, folder: &Path) -> Result<Option<Report>, ChaosError> {
        fs::create_dir_all(folder).map_err(ChaosError::io(format!("create {}", folder.display())))?;
        let file = folder.join("report.json");
        let _ = fs::remove_file(&file);
        let log = fs::File::create(folder.join("log")).map_err(ChaosError::io("create a log"))?;
        let also = log.try_clone().map_err(ChaosError::io("create a log"))?;
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg("run").arg(&self.file).args(&self.run_options);
        command.args(["--seed", &seed.to_string()]).arg("--report").arg(folder);
        if let Some(only) = only {
            let numbers: Vec<String> = only.iter().map(usize::to_string).collect();
            command.args(["--only", &numbers.join(",")]);
        }
        let status = command.stdout(log).stderr(also).status();
        status.map_err(ChaosError::io(format!("run {}", self.program.display())))?;
        Ok(fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Leaves out steps as long as one of `broken` still does not hold; the fewest that were found. Each try is a run,
    /// and `tries` bounds them.
    pub fn shrink(
        &self,
        seed: u64,
        steps: Vec<usize>,
        wanted: &[String],
        tries: usize,
    ) -> Result<Vec<usize>, ChaosError> {
        let mut number = 0;
        let fails = |some: &[usize]| {
            number += 1;
            let folder = self.reports.join(format!("try-{number}"));
            let report = self.once(seed, Some(some), &folder)?;
            let same = report.iter().flat_map(broken).any(|name| wanted.contains(&name));
            println!("   try {number}, steps {some:?}: {}", if same { "fails still" } else { "does not" });
            Ok::<_, ChaosError>(same)
        };
        smallest(steps, tries, fails)
    }
}

/// The lines of the table that do not hold.
pub fn broken(report: &Report) -> Vec<String> {
    report.verdicts.iter().filter(|verdict| !verdict.is_good()).map(|verdict| verdict.name.clone()).collect()
}

/// Leaves out halves, quarters, … and at last single ones (Zeller and Hildebrandt's ddmin, without its tests of the
/// pieces themselves), as long as the rest fails.
fn smallest<E>(
    mut steps: Vec<usize>,
    mut tries: usize,
    mut fails: impl FnMut(&[usize]) -> Result<bool, E>,
) -> Result<Vec<usize>, E> {
    let mut piece = steps.len().div_ceil(2);
    while piece > 0 && !steps.is_empty() {
        let (mut from, mut was_left_out) = (0, false);
        while from < steps.len() {
            let to = steps.len().min(from + piece);
            let rest = [&steps[..from], &steps[to..]].concat();
            if tries == 0 {
                return Ok(steps);
            }
            tries -= 1;
            if fails(&rest)? {
                (steps, was_left_out) = (rest, true);
            } else {
                from = to;
            }
        }
        if piece == 1 && !was_left_out {
            break;
        }
        piece = if piece == 1 { 1 } else { piece.div_ceil(2) };
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_seed_falls_to_one_shard_and_what_is_no_range_is_refused() {
        let shards: Vec<Shard> = (1..=4).map(|number| format!("{number}/4").parse().unwrap()).collect();
        for seed in 1..100 {
            assert_eq!(shards.iter().filter(|shard| shard.has(seed)).count(), 1);
            assert!(Shard::WHOLE.has(seed));
        }
        assert_eq!("1..1000".parse::<Seeds>().unwrap(), Seeds(1..=1000));
        assert_eq!("7".parse::<Seeds>().unwrap(), Seeds(7..=7));
        for wrong in ["", "2..1", "a..b", "1..", "-1"] {
            assert!(wrong.parse::<Seeds>().unwrap_err().contains("FIRST..LAST"), "{wrong}");
        }
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b"] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains("NUMBER/OF"), "{wrong}");
        }
    }

    #[test]
    fn what_was_run_is_read_back_and_a_line_that_was_cut_off_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(read(&state).unwrap(), []);
        let ran = |seed| Ran {
            scenario: "s".into(),
            program: "p".into(),
            seed,
            held: seed != 2,
            broken: Vec::new(),
            seconds: 1.5,
            began: String::new(),
        };
        append(&state, &ran(1)).unwrap();
        let text = fs::read_to_string(&state).unwrap();
        append(&state, &ran(2)).unwrap();
        let cut = fs::read_to_string(&state).unwrap();
        fs::write(&state, &cut[..text.len() + 9]).unwrap();
        append(&state, &ran(3)).unwrap();
        assert_eq!(read(&state).unwrap(), [ran(1), ran(3)]);
    }

    #[test]
    fn just_the_steps_that_are_needed_are_left() {
        let all: Vec<usize> = (1..=20).collect();
        let needed = [3, 11, 12];
        let mut count = 0;
        let fails = |some: &[usize]| {
            count += 1;
            Ok::<_, ()>(needed.iter().all(|step| some.contains(step)))
        };
        assert_eq!(smallest(all.clone(), 1000, fails).unwrap(), needed);
        assert!(count < 60, "{count}");
        // One that fails without any fault at all.
        assert_eq!(smallest(all.clone(), 1000, |_| Ok::<_, ()>(true)).unwrap(), Vec::<usize>::new());
        // When the tries are used up, what is left fails still.
        let left = smallest(all, 3, |some| Ok::<_, ()>(needed.iter().all(|step| some.contains(step)))).unwrap();
        assert!(needed.iter().all(|step| left.contains(step)));
    }
}
