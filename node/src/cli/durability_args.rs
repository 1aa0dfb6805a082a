//! The arguments of `cairn durability`.

use cairn_schema::record::Scheme;
use clap::Args;

use super::DomainArg;
use crate::config::{Period, Size};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cairn durability --racks 12 --nodes-per-rack 4 --disks 12\n  \
    cairn durability --scheme 8+4 --disk-failures 300% --years 100    so bad that a trial shows losses\n\n\
    What it goes by, and what it leaves out, is in ops/docs/durability.md.")]
pub(crate) struct DurabilityArgs {
    /// Schemes to compare [default: replicated(3), 4+2, 6+3, 8+4, 10+4 and 17+3]
    #[arg(long, value_name = "SCHEME", num_args = 1..)]
    pub scheme: Vec<Scheme>,
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub racks: usize,
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub nodes_per_rack: usize,
    /// Disks of each node
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub disks: usize,
    /// What each disk holds
    #[arg(long, value_name = "SIZE", default_value = "14 TB")]
    pub disk_bytes: Size,
    /// What may fail as a whole; racks stand for zones
    #[arg(long, value_name = "LEVEL", default_value = "rack")]
    pub failure_domain: DomainArg,
    /// The part of all disks that fails in a year
    #[arg(long, value_name = "PART", default_value = "1.5%", value_parser = part)]
    pub disk_failures: f64,
    /// The part of all failure domains that is lost for good in a year
    #[arg(long, value_name = "PART", default_value = "0.1%", value_parser = part)]
    pub domain_losses: f64,
    /// Errors for each bit read that a disk does not correct
    #[arg(long, value_name = "RATE", default_value_t = 1e-15)]
    pub unreadable_bits: f64,
    /// Sectors that become unreadable on each disk in a year
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub bad_sectors: f64,
    /// As timings.scrub_interval
    #[arg(long, value_name = "PERIOD", default_value = "14 d")]
    pub scrub: Period,
    /// As timings.down_to_lost
    #[arg(long, value_name = "PERIOD", default_value = "15 min")]
    pub down_to_lost: Period,
    /// As timings.domain_down_to_lost
    #[arg(long, value_name = "PERIOD", default_value = "24 h")]
    pub domain_down_to_lost: Period,
    /// What one node makes anew in a second, as rates.repair if its disks and network give as much
    #[arg(long, value_name = "SIZE", default_value = "100 MiB")]
    pub repair: Size,
    /// Beside the formula try so many years of such a cluster
    #[arg(long, value_name = "YEARS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub years: Option<u32>,
    /// What decides the trial's chances: the same seed gives the same years
    #[arg(long, default_value_t = 1, requires = "years")]
    pub seed: u64,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// "1.5%", or a plain number such as 0.015.
fn part(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    let part =
        number.trim().parse::<f64>().map_err(|_| "neither a number nor a percentage, such as 1.5%".to_owned())?;
    Ok(part * unit)
}
