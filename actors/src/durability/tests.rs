#![allow(clippy::unwrap_used)]
use cairn_schema::record::{FailureDomain, Scheme};
use proptest::prelude::*;

use super::*;

fn scheme(text: &str) -> Scheme {
    text.parse().unwrap()
}

fn usual() -> Assumptions {
    Assumptions {
        racks: 20,
        nodes_per_rack: 3,
        disks_per_node: 12,
        level: FailureDomain::Rack,
        disk_bytes: 14e12,
        disk_failures: 0.015,
        domain_losses: 0.001,
        unreadable_bits: 1e-15,
        bad_sectors: 1.0,
        scrub_seconds: 14.0 * 86_400.0,
        disk_given_up: 900.0,
        domain_given_up: 86_400.0,
        repair_bytes: 100e6,
    }
}

/// A cluster in which so much fails that years of it show losses.
fn dire(racks: usize) -> Assumptions {
    Assumptions {
        racks,
        nodes_per_rack: 2,
        disks_per_node: 3,
        disk_bytes: 1e12,
        disk_failures: 6.0,
        domain_losses: 0.0,
        unreadable_bits: 0.0,
        bad_sectors: 0.0,
        repair_bytes: 4e6,
        ..usual()
    }
}

#[test]
fn the_formula_and_the_trial_agree() {
    // Scheme, racks, failures a year of each disk, losses a year of each rack.
    let worlds = [
        ("4+2", 6, 6.0, 0.0),
        ("4+2", 12, 6.0, 0.0),
        ("4+2", 6, 6.0, 0.5),
        ("replicated(3)", 6, 15.0, 0.0),
        ("8+4", 12, 15.0, 0.0),
    ];
    let years = 60.0;
    for (text, racks, disk_failures, domain_losses) in worlds {
        let of = Assumptions { disk_failures, domain_losses, ..dire(racks) };
        let expected = of.outlook(scheme(text)).unwrap().group_losses * years;
        let tried = trial(&of, scheme(text), years, 7).unwrap();
        let ratio = tried.groups_lost as f64 / expected;
        println!("{text} over {racks} racks: {} lost, {expected:.1} expected, {ratio:.2}", tried.groups_lost);
        assert!(tried.groups_lost >= 20, "too few to tell: {tried:?}");
        assert!((0.4..2.5).contains(&ratio), "{text} over {racks} racks: {tried:?}, {expected} expected");
    }
}

#[test]
fn the_same_seed_gives_the_same_years() {
    let years = |seed| trial(&dire(6), scheme("4+2"), 10.0, seed).unwrap();
    assert_eq!(years(3), years(3));
    assert_ne!(years(3), years(4));
    let disks = 36.0 * 6.0 * 10.0;
    let failed = years(3).disks_failed as f64;
    assert!((failed / disks - 1.0).abs() < 0.15, "{failed} of about {disks}");
}

#[test]
fn one_copy_is_lost_with_its_disk() {
    let of = Assumptions { bad_sectors: 0.0, domain_losses: 0.0, ..usual() };
    let outlook = of.outlook(scheme("replicated(1)")).unwrap();
    assert!((outlook.annual_stripe_loss / 0.015 - 1.0).abs() < 0.01, "{outlook:?}");
    assert!(outlook.annual_loss > 0.99, "{outlook:?}");
}

#[test]
fn what_cannot_be_is_said() {
    let few = Assumptions { racks: 4, ..usual() };
    let why = few.outlook(scheme("8+2")).unwrap_err();
    assert!(matches!(why, DurabilityError::CannotForm(_)), "{why}");
    let none = Assumptions { racks: 0, ..usual() };
    let why = none.outlook(scheme("4+2")).unwrap_err().to_string();
    assert_eq!(why, "racks: 0 is not from 1 to 10000");
    for wrong in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let of = Assumptions { disk_bytes: wrong, ..usual() };
        let why = of.outlook(scheme("4+2")).unwrap_err();
        assert!(matches!(why, DurabilityError::OutOfRange { field: "bytes of a disk", .. }), "{why}");
        assert_eq!(trial(&of, scheme("4+2"), 1.0, 1).unwrap_err().to_string(), why.to_string());
    }
    let many = Assumptions { racks: 10_000, nodes_per_rack: 10_000, disks_per_node: 10_000, ..usual() };
    let why = many.outlook(scheme("4+2")).unwrap_err().to_string();
    assert_eq!(why, "1000000000000 disks are too many for the formula, which takes up to 1000000");
    let why = trial(&Assumptions { disks_per_node: 100, ..usual() }, scheme("4+2"), 1.0, 1).unwrap_err().to_string();
    assert_eq!(why, "6000 disks are too many for a trial, which takes up to 2000");
    let of = Assumptions { domain_losses: 0.0, ..usual() };
    let why = trial(&of, scheme("4+2"), 1e6, 1).unwrap_err().to_string();
    assert_eq!(why, "10800000 disks would fail in that time, and a trial takes up to 10000000: give fewer years");
    let slow = Assumptions { repair_bytes: 1.0, ..usual() };
    assert!(matches!(slow.outlook(scheme("4+2")), Err(DurabilityError::RepairTooSlow(_))));
}

fn schemes() -> impl Strategy<Value = Scheme> {
    let names = ["replicated(2)", "replicated(3)", "4+2", "6+3", "8+4", "10+4", "17+3"];
    prop::sample::select(names.map(|name| name.parse().unwrap()).to_vec())
}

proptest! {
    /// Whatever is worse for the data is never better in the figures, and these are probabilities.
    #[test]
    fn worse_is_never_better(
        scheme in schemes(),
        (racks, nodes, disks) in (10usize..30, 1usize..4, 1usize..12),
        (failures, losses) in (0.001f64..5.0, 0.0f64..0.1),
        what in 0usize..6,
        factor in 1.01f64..20.0,
    ) {
        let of = Assumptions {
            racks, nodes_per_rack: nodes, disks_per_node: disks, disk_failures: failures, domain_losses: losses, ..usual()
        };
        let mut worse = of.clone();
        match what {
            0 => worse.disk_failures *= factor,
            1 => worse.domain_losses = worse.domain_losses * factor + 1e-6,
            2 => worse.unreadable_bits *= factor,
            3 => worse.scrub_seconds *= factor,
            4 => worse.repair_bytes /= factor,
            _ => worse.disk_given_up *= factor,
        }
        let loss = |of: &Assumptions| of.outlook(scheme).map(|outlook| (outlook.annual_loss, outlook.annual_stripe_loss));
        if let (Ok(usual), Ok(worse)) = (loss(&of), loss(&worse)) {
            for (usual, worse) in [(usual.0, worse.0), (usual.1, worse.1)] {
                prop_assert!((0.0..=1.0).contains(&usual) && (0.0..=1.0).contains(&worse));
                prop_assert!(worse >= usual * (1.0 - 1e-9), "{usual} before, {worse} when it is worse");
            }
        }
    }
}
