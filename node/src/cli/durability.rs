//! `cairn durability`: how likely data is lost in a year, of clusters that need not exist.

use std::fmt::Write;

use cairn_actors::durability::{Assumptions, Outlook, Trial, nines, trial};
use cairn_schema::record::Scheme;
use serde_json::{Value, json};

use super::{durability_args::DurabilityArgs, status::write_table};
use crate::{
    failure::Failure,
    words::{bytes, duration},
};

const USUAL: [&str; 6] = ["replicated(3)", "4+2", "6+3", "8+4", "10+4", "17+3"];

/// Computes it, and says it.
pub(crate) fn run(args: &DurabilityArgs) -> Result<String, Failure> {
    let of = assumptions(args);
    let usual = || USUAL.iter().filter_map(|scheme| scheme.parse().ok()).collect();
    let schemes: Vec<Scheme> = if args.scheme.is_empty() { usual() } else { args.scheme.clone() };
    let mut rows = Vec::new();
    for scheme in schemes {
        let outlook = of.outlook(scheme);
        if let (Err(why), false) = (&outlook, args.scheme.is_empty()) {
            return Err(Failure::NoOutlook { scheme, why: why.clone() });
        }
        let tried = match (&outlook, args.years) {
            (Ok(_), Some(years)) => {
                let tried = trial(&of, scheme, years.into(), args.seed);
                Some(tried.map_err(|why| Failure::NoOutlook { scheme, why })?)
            }
            _ => None,
        };
        rows.push((scheme, outlook, tried));
    }
    if args.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(scheme, outlook, tried)| match outlook {
                Ok(outlook) => as_json(outlook, *tried, args.years),
                Err(why) => json!({"scheme": scheme.to_string(), "impossible": why.to_string()}),
            })
            .collect();
        return Ok(format!("{}\n", json!({"schemes": rows})));
    }
    // Writing to a String cannot fail, so results are dropped throughout.
    let mut text = String::new();
    let disks = args.racks * args.nodes_per_rack * args.disks;
    let _ = writeln!(
        text,
        "{disks} disks with {} each, in {} nodes of {} racks; {} of all disks fail in a year\n",
        bytes(args.disk_bytes.0),
        args.racks * args.nodes_per_rack,
        args.racks,
        percent(args.disk_failures)
    );
    let head =
        ["SCHEME", "RAW/DATA", "GROUPS", "A DISK MADE ANEW", "ANYTHING LOST A YEAR", "NINES", "A CERTAIN STRIPE"];
    let mut table = vec![head.map(str::to_owned)];
    for (_, outlook, _) in &rows {
        table.extend(outlook.as_ref().ok().map(row));
    }
    write_table(&mut text, table);
    for (scheme, outlook, tried) in &rows {
        match (outlook, tried) {
            (Err(why), _) => {
                let _ = writeln!(text, "\n{scheme}: none: {why}");
            }
            (Ok(outlook), Some(tried)) => {
                let years = args.years.unwrap_or_default();
                let _ = writeln!(
                    text,
                    "\n{scheme}, {years} years tried (seed {}): {} losses of one of {} groups, where the formula has {:.1}; {} disks failed, {} domains were lost",
                    args.seed,
                    tried.groups_lost,
                    tried.groups,
                    outlook.group_losses * f64::from(years),
                    tried.disks_failed,
                    tried.domains_lost
                );
            }
            (Ok(_), None) => {}
        }
    }
    Ok(text)
}

fn assumptions(args: &DurabilityArgs) -> Assumptions {
    Assumptions {
        racks: args.racks,
        nodes_per_rack: args.nodes_per_rack,
        disks_per_node: args.disks,
        level: args.failure_domain.domain(),
        disk_bytes: args.disk_bytes.0 as f64,
        disk_failures: args.disk_failures,
        domain_losses: args.domain_losses,
        unreadable_bits: args.unreadable_bits,
        bad_sectors: args.bad_sectors,
        scrub_seconds: args.scrub.0.as_secs_f64(),
        disk_given_up: args.down_to_lost.0.as_secs_f64(),
        domain_given_up: args.domain_down_to_lost.0.as_secs_f64(),
        repair_bytes: args.repair.0 as f64,
    }
}

fn row(outlook: &Outlook) -> [String; 7] {
    [
        outlook.scheme.to_string(),
        format!("{:.2}", outlook.overhead),
        format!("{:.0}", outlook.groups),
        duration(outlook.disk_repair_seconds as u64),
        format!("{:.1e}", outlook.annual_loss),
        format!("{:.1}", nines(outlook.annual_loss)),
        format!("{:.1e}", outlook.annual_stripe_loss),
    ]
}

fn as_json(outlook: &Outlook, tried: Option<Trial>, years: Option<u32>) -> Value {
    let tried = tried.map(|tried| {
        json!({
            "years": years,
            "groups": tried.groups,
            "groups_lost": tried.groups_lost,
            "disks_failed": tried.disks_failed,
            "domains_lost": tried.domains_lost,
        })
    });
    json!({
        "scheme": outlook.scheme.to_string(),
        "overhead": outlook.overhead,
        "groups": outlook.groups,
        "disk_repair_seconds": outlook.disk_repair_seconds,
        "domain_repair_seconds": outlook.domain_repair_seconds,
        "annual_loss": outlook.annual_loss,
        "nines": nines(outlook.annual_loss),
        "annual_stripe_loss": outlook.annual_stripe_loss,
        "group_losses_a_year": outlook.group_losses,
        "trial": tried,
    })
}

fn percent(part: f64) -> String {
    format!("{} %", (part * 1e6).round() / 1e4)
}
