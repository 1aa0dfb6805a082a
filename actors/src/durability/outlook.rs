//! The formula: one group as a chain of states, and as many of them as there are.

use std::collections::BTreeMap;

use cairn_schema::record::{FailureDomain, Scheme};

use super::{DurabilityError, YEAR, chain::Chain};
use crate::placement::{members::even_spread, share_out::groups_per_disk};

/// Of one metadata store; each domain has a name of its own here, and so may each disk.
const MOST_DISKS: usize = 1_000_000;

/// A cluster, what befalls it, and how fast it heals.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    pub racks: usize,
    pub nodes_per_rack: usize,
    pub disks_per_node: usize,
    pub level: FailureDomain,
    /// What a disk holds.
    pub disk_bytes: f64,
    /// The part of all disks that fails for good in a year, such as 0.015.
    pub disk_failures: f64,
    /// The part of all failure domains that is lost for good in a year: fire, theft, a flood.
    pub domain_losses: f64,
    /// Errors for each bit read that no disk corrects, such as 1e-15.
    pub unreadable_bits: f64,
    /// Sectors that become unreadable on each disk in a year, until scrub finds them.
    pub bad_sectors: f64,
    /// From one verification of a byte to the next, in seconds.
    pub scrub_seconds: f64,
    /// Until a disk or a domain that does not answer is given up, in seconds.
    pub disk_given_up: f64,
    pub domain_given_up: f64,
    /// What one node makes anew in a second.
    pub repair_bytes: f64,
}

/// What is to be expected of data in one scheme.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    pub scheme: Scheme,
    /// Raw bytes for each byte kept.
    pub overhead: f64,
    pub groups: f64,
    /// From the failure of a disk, or the loss of a domain, until all of it is made anew, in seconds.
    pub disk_repair_seconds: f64,
    pub domain_repair_seconds: f64,
    /// Whole groups that are lost in a year, on average.
    pub group_losses: f64,
    /// The probability that anything at all is lost in a year.
    pub annual_loss: f64,
    /// The probability that a certain stripe is lost in a year.
    pub annual_stripe_loss: f64,
}

/// How often a nine stands at the head of the probability that nothing is lost: 3.5 for 0.9997.
pub fn nines(annual_loss: f64) -> f64 {
    -annual_loss.log10()
}

impl Assumptions {
    pub(super) fn nodes(&self) -> usize {
        self.racks * self.nodes_per_rack
    }

    pub(super) fn disks(&self) -> usize {
        self.nodes() * self.disks_per_node
    }

    /// Failure domains, and the disks of each. Zones are not among what is assumed: racks stand for them.
    pub(super) fn domains(&self) -> (usize, usize) {
        let domains = match self.level {
            FailureDomain::Disk => self.disks(),
            FailureDomain::Node => self.nodes(),
            FailureDomain::Rack | FailureDomain::Zone => self.racks,
        };
        (domains, self.disks() / domains)
    }

    fn check(&self) -> Result<(), DurabilityError> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1e3).contains(&value);
        let count = |value: usize| (1..=10_000).contains(&value);
        let checks = [
            ("racks", self.racks as f64, count(self.racks), "from 1 to 10000"),
            ("nodes of a rack", self.nodes_per_rack as f64, count(self.nodes_per_rack), "from 1 to 10000"),
            ("disks of a node", self.disks_per_node as f64, count(self.disks_per_node), "from 1 to 10000"),
            ("bytes of a disk", self.disk_bytes, positive(self.disk_bytes), "a positive number"),
            (
                "failures of disks",
                self.disk_failures,
                share(self.disk_failures) && self.disk_failures > 0.0,
                "above 0 and below 1000",
            ),
            ("losses of domains", self.domain_losses, share(self.domain_losses), "from 0 to 1000"),
            ("unreadable bits", self.unreadable_bits, (0.0..=1e-6).contains(&self.unreadable_bits), "from 0 to 1e-6"),
            ("bad sectors", self.bad_sectors, (0.0..=1e6).contains(&self.bad_sectors), "from 0 to a million"),
            ("the scrub's period", self.scrub_seconds, positive(self.scrub_seconds), "a positive number"),
            (
                "the time until a disk is given up",
                self.disk_given_up,
                positive(self.disk_given_up),
                "a positive number",
            ),
            (
                "the time until a domain is given up",
                self.domain_given_up,
                positive(self.domain_given_up),
                "a positive number",
            ),
            ("bytes that repair makes", self.repair_bytes, positive(self.repair_bytes), "a positive number"),
        ];
        if let Some((field, value, _, allowed)) = checks.into_iter().find(|(_, _, holds, _)| !holds) {
            return Err(DurabilityError::OutOfRange { field, value, allowed });
        }
        match self.disks() {
            disks if disks > MOST_DISKS => {
                Err(DurabilityError::TooManyDisks { disks, limit: MOST_DISKS, what: "the formula" })
            }
            _ => Ok(()),
        }
    }

    /// Most members of a group in one domain.
    pub(super) fn crowd(&self, scheme: Scheme) -> Result<usize, DurabilityError> {
        let (domains, disks) = self.domains();
        let sizes: BTreeMap<String, usize> = (0..domains).map(|domain| (domain.to_string(), disks)).collect();
        Ok(even_spread(scheme, self.level, &sizes)?)
    }

    /// What is to be expected of data in a scheme.
    ///
    /// A group is a chain over how many members it lacks, by disks and by domains. A disk's repair waits until the disk
    /// is given up and then for all that is lost with it, of which every node makes a share; of two disks lost at once
    /// only the groups in which both are, come first, so they wait for less. What all groups come to is their sum: an
    /// upper bound, which is near as long as it is small.
    pub fn outlook(&self, scheme: Scheme) -> Result<Outlook, DurabilityError> {
        let repair = Repair::of(self, scheme)?;
        let rate = self.group_chain(scheme, &repair)?;
        let annual = |rate: f64| -f64::exp_m1(-rate * YEAR);
        Ok(Outlook {
            scheme,
            overhead: scheme.width() as f64 / scheme.data() as f64,
            groups: repair.groups,
            disk_repair_seconds: self.disk_given_up + repair.disk,
            domain_repair_seconds: self.domain_given_up + repair.domain,
            group_losses: repair.groups * rate.group * YEAR,
            annual_loss: annual(repair.groups * rate.any),
            annual_stripe_loss: annual(rate.group),
        })
    }

    fn group_chain(&self, scheme: Scheme, repair: &Repair) -> Result<Rates, DurabilityError> {
        let (width, parity, crowd) = (scheme.width(), scheme.parity(), self.crowd(scheme)?);
        let disk = self.disk_failures / YEAR;
        let domain = if self.domains().1 > 1 { self.domain_losses / YEAR } else { 0.0 };
        let states: Vec<(usize, usize)> = (0..=parity)
            .flat_map(|disks| (0..=parity - disks).map(move |domains| (disks, domains)))
            .filter(|(_, domains)| domains % crowd == 0)
            .collect();
        let index = |state: (usize, usize)| states.iter().position(|of| *of == state);
        let unreadable = self.unreadable(scheme, repair);
        // The end of the one is that a whole group is lost, of the other that anything is.
        let (mut groups, mut any) = (Chain::new(states.len()), Chain::new(states.len()));
        for (from, &(disks, domains)) in states.iter().enumerate() {
            let left = (width - disks - domains) as f64;
            for (to, rate) in
                [((disks + 1, domains), left * disk), ((disks, domains + crowd), left / crowd as f64 * domain)]
            {
                match index(to) {
                    Some(to) => [&mut groups, &mut any].map(|chain| chain.add(from, to, rate)),
                    None => [&mut groups, &mut any].map(|chain| chain.add_end(from, rate)),
                };
            }
            let Some((to, seconds)) = self.mended(disks, domains, crowd, repair) else { continue };
            // A sector that cannot be read costs a stripe when there is nothing else to make it from.
            let bare = disks + domains == parity;
            if let Some(to) = index(to) {
                groups.add(from, to, 1.0 / seconds);
                any.add(from, to, (1.0 - if bare { unreadable } else { 0.0 }) / seconds);
                if bare {
                    any.add_end(from, unreadable / seconds);
                }
            }
        }
        if parity == 0 {
            // Nothing is ever made anew, and any bad sector is the end of what lay in it.
            any.add_end(0, self.bad_sectors / YEAR / repair.groups_of_disk * width as f64);
        }
        Ok(Rates { group: groups.rate_of_ends(), any: any.rate_of_ends() })
    }

    /// Where repair leads, and the seconds until then. What a disk took is made anew first: there is less of it.
    fn mended(&self, disks: usize, domains: usize, crowd: usize, repair: &Repair) -> Option<((usize, usize), f64)> {
        let queue = |all: f64, both: f64, at_once: usize| (all * both.powi(at_once as i32 - 1)).max(repair.group);
        if disks > 0 {
            let seconds = self.disk_given_up + queue(repair.disk, repair.disks_both, disks);
            Some(((disks - 1, domains), seconds))
        } else if domains > 0 {
            let seconds = self.domain_given_up + queue(repair.domain, repair.domains_both, domains / crowd);
            Some(((disks, domains - crowd), seconds))
        } else {
            None
        }
    }

    /// That one of the members that are read to make a group anew cannot give something that is read of it.
    fn unreadable(&self, scheme: Scheme, repair: &Repair) -> f64 {
        // Sectors are found after half the scrub's period, on average.
        let of_disk = self.disk_bytes * 8.0 * self.unreadable_bits + self.bad_sectors * self.scrub_seconds / 2.0 / YEAR;
        let expected = scheme.data() as f64 * of_disk / repair.groups_of_disk;
        -f64::exp_m1(-expected)
    }
}

/// Losses a second: of all of a group, and of anything in it.
struct Rates {
    group: f64,
    any: f64,
}

/// How long things take to be made anew, in seconds, once they are given up.
pub(super) struct Repair {
    pub groups: f64,
    groups_of_disk: f64,
    /// One position of a group, by one node.
    pub group: f64,
    /// All that a disk held, and all that a domain held.
    disk: f64,
    domain: f64,
    /// The part of a lost disk's groups that lost another one too, if that is lost at the same time.
    disks_both: f64,
    domains_both: f64,
}

impl Repair {
    pub(super) fn of(of: &Assumptions, scheme: Scheme) -> Result<Self, DurabilityError> {
        of.check()?;
        let (disks, width) = (of.disks() as f64, scheme.width() as f64);
        let groups_of_disk = groups_per_disk(of.disks()) as f64;
        let group = of.disk_bytes / groups_of_disk / of.repair_bytes;
        let crowd = of.crowd(scheme)? as f64;
        let (domains, disks_of_domain) = of.domains();
        // A node walks one group at a time.
        let workers = (of.nodes() as f64).min(groups_of_disk);
        let disk = of.disk_bytes / (of.repair_bytes * workers);
        let left = (of.nodes() as f64 * (1.0 - 1.0 / domains as f64)).max(1.0);
        let domain = disks_of_domain as f64 * of.disk_bytes / (of.repair_bytes * left);
        if domain > 100.0 * YEAR {
            return Err(DurabilityError::RepairTooSlow(domain / YEAR));
        }
        Ok(Self {
            groups: groups_of_disk * disks / width,
            groups_of_disk,
            group,
            disk: disk.max(group),
            domain: domain.max(group),
            disks_both: share(width - 1.0, disks - 1.0),
            domains_both: share(width / crowd - 1.0, domains as f64 - 1.0),
        })
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole <= 0.0 { 1.0 } else { (part / whole).clamp(0.0, 1.0) }
}
