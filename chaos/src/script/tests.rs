#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::{
    Kind, MetadataKind, Scenario, Target, schedule,
    units::{Size, Span},
};

const LEAST: &str = "version = 1\nabout = \"x\"\nduration = \"1 min\"\n";

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(Path::new("a.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn what_a_file_leaves_out_is_six_racks_of_4_2_with_a_remote_metadata_server() {
    let scenario = parse(LEAST).unwrap();
    assert_eq!((scenario.topology.racks, scenario.budget()), (6, 2));
    assert_eq!(scenario.topology.metadata, MetadataKind::Remote);
}

#[test]
fn what_a_file_gets_wrong_is_refused_with_the_file_the_key_and_what_is_allowed() {
    let fault = |rest: &str| format!("{LEAST}[[fault]]\nat = \"1 s\"\n{rest}");
    for (text, told) in [
        (format!("{LEAST}[topology]\nrack = 3"), vec!["a.toml", "rack", "expected one of", "`racks`", "line 5"]),
        (LEAST.replace("= 1\n", "= 2\n"), vec!["a.toml: version: 2 is unknown; this build reads 1"]),
        (LEAST.replace("1 min", "1 minute"), vec!["a.toml", "no time", "ms, s, min or h", "line 3"]),
        (format!("{LEAST}[topology]\nscheme = \"4-2\""), vec!["topology.scheme", "4+2"]),
        (format!("{LEAST}[topology]\nscheme = \"8+2\"\nracks = 4"), vec!["topology.scheme: 4 racks cannot hold 8+2"]),
        (format!("{LEAST}[topology]\nmetadata = \"embedded\""), vec!["topology.metadata", "racks = 1", "\"remote\""]),
        (format!("{LEAST}[topology]\nmetadata = \"etcd\""), vec!["a.toml", "`etcd`", "`embedded`, `remote`, `fdb`"]),
        (
            fault("what = \"kill\"\nwhere = \"metadata\"\n[topology]\nmetadata = \"fdb\""),
            vec!["fault 1, where: kill of \"metadata\"", "not the scenario's"],
        ),
        (format!("{LEAST}[workload]\nclients = 0"), vec!["workload.clients: must be between 1 and 256"]),
        (format!("{LEAST}[workload]\nsizes = [\"1 MB\"]"), vec!["a.toml", "no size", "KiB"]),
        (format!("{LEAST}[workload.mix]\n"), vec!["workload.mix"]),
        (fault("what = \"burn\"\nwhere = \"rack\""), vec!["a.toml", "`burn`", "`kill`", "line 6"]),
        (fault("what = \"eio\"\nwhere = \"rack\""), vec!["fault 1, where: eio", "allowed: \"disk\""]),
        (
            fault("what = \"kill\"\nwhere = \"rack\"\nname = \"r7\""),
            vec!["fault 1, name: there is no rack \"r7\"", "r6"],
        ),
        (fault("what = \"kill\"\nwhere = \"rack\"\n").replace("1 s", "2 min"), vec!["fault 1, at: 2 min"]),
        (fault("what = \"rot\"\nwhere = \"disk\""), vec!["topology.scrub_interval is 1 h, and may be 1 min at most"]),
        (fault("what = \"fill\"\nwhere = \"disk\""), vec!["fault 1, where: fill needs topology.disk_size"]),
        (fault("what = \"glut\"\nwhere = \"disk\""), vec!["fault 1, where: glut", "allowed: \"all\""]),
        (fault("what = \"part\"\nwhere = \"rack\""), vec!["fault 1, where: part", "allowed: \"pair\""]),
        (fault("what = \"upgrade\"\nwhere = \"node\""), vec!["fault 1, where: upgrade", "allowed: \"each\""]),
        (
            format!("{LEAST}[topology]\ndisk_size = \"1 MiB\""),
            vec!["topology.disk_size: 1 MiB is not between 64 MiB and 8 GiB"],
        ),
        (
            fault("what = \"cut\"\nwhere = \"minority\"") + "\n[topology]\nracks = 2\nscheme = \"2+2\"",
            vec!["fault 1, where: cut of \"minority\" needs three racks"],
        ),
        (
            format!(
                "{LEAST}[random]\nfaults = [\"kill/moon\"]\nevery = \"1 s\"\nshortest = \"1 s\"\nlongest = \"2 s\""
            ),
            vec!["a.toml", "kill/moon", "WHAT/WHERE", "metadata"],
        ),
        (
            format!(
                "{LEAST}[random]\nfaults = [\"kill/rack\"]\nevery = \"1 s\"\nshortest = \"3 s\"\nlongest = \"2 s\""
            ),
            vec!["random.shortest: 3 s is more than"],
        ),
    ] {
        let error = parse(&text).unwrap_err();
        for word in told {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    }
}

fn random() -> Scenario {
    let faults = "[\"kill/rack\", \"freeze/node\", \"eio/disk\", \"kill/metadata\", \"rot/disk\"]";
    let topology = "[topology]\nscrub_interval = \"8 s\"\n";
    parse(&format!(
        "{LEAST}{topology}[random]\nfaults = {faults}\nevery = \"2 s\"\nshortest = \"1 s\"\nlongest = \"9 s\""
    ))
    .unwrap()
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_one_another() {
    let minute = Span::seconds(60);
    let first = schedule(&random(), minute, 7);
    assert_eq!(first, schedule(&random(), minute, 7));
    assert_ne!(first, schedule(&random(), minute, 8));
    assert!((20..=60).contains(&first.len()), "{}", first.len());
    // A longer run begins as the shorter one.
    let longer = schedule(&random(), Span::seconds(120), 7);
    assert_eq!(longer[..first.len()], first[..]);
}

#[test]
fn two_racks_at_once_are_two_and_each_is_every_node() {
    let twice = "[[fault]]\nat = \"1 s\"\nwhat = \"kill\"\nwhere = \"rack\"\n";
    for seed in 0..20 {
        let steps = schedule(&parse(&format!("{LEAST}{twice}{twice}")).unwrap(), Span::seconds(60), seed);
        assert_ne!(steps[0].target, steps[1].target);
    }
    let each = "[[fault]]\nat = \"1 s\"\nwhat = \"restart\"\nwhere = \"each\"\n";
    let steps = schedule(&parse(&format!("{LEAST}{each}")).unwrap(), Span::seconds(60), 1);
    assert_eq!(
        steps.iter().map(|step| step.target.clone()).collect::<Vec<_>>(),
        (0..6).map(Target::Node).collect::<Vec<_>>()
    );
    assert!(steps.iter().all(|step| step.what == Kind::Restart && step.when_whole));
}

#[test]
fn a_minority_is_what_may_be_away_a_pair_two_racks_and_an_upgrade_everything_in_its_turn() {
    let fault =
        |what: &str, place: &str| format!("{LEAST}[[fault]]\nat = \"1 s\"\nwhat = \"{what}\"\nwhere = \"{place}\"\n");
    for seed in 0..20 {
        for (what, place) in [("cut", "minority"), ("part", "pair")] {
            let steps = schedule(&parse(&fault(what, place)).unwrap(), Span::seconds(60), seed);
            let Target::Racks(racks) = &steps[0].target else { panic!("{steps:?}") };
            assert!(racks.len() == 2 && racks[0] < racks[1] && racks[1] < 6, "{racks:?}");
            // All other pairs may stand in.
            assert_eq!(steps[0].instead.len(), 14);
            assert_eq!(steps[0].target.nodes(1, 6), *racks);
        }
    }
    let steps = schedule(&parse(&fault("upgrade", "each")).unwrap(), Span::seconds(60), 1);
    let targets: Vec<Target> = steps.iter().map(|step| step.target.clone()).collect();
    assert_eq!(targets, [Target::Metadata].into_iter().chain((0..6).map(Target::Node)).collect::<Vec<_>>());
    assert!(steps.iter().all(|step| step.when_whole));
}

#[test]
fn times_and_sizes_are_written_as_they_are_read() {
    for text in ["250 ms", "10 s", "5 min", "2 h", "0 s"] {
        assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
    }
    assert_eq!(Size::try_from("5 MiB".to_owned()).unwrap(), Size(5 << 20));
    assert_eq!(Size(1536).to_string(), "1536 B");
    assert!(Size::try_from("99999999999999999999 B".to_owned()).is_err());
}

#[test]
fn every_scenario_of_the_catalogue_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let scenario = Scenario::read(&file.unwrap().path()).unwrap();
        assert!(!schedule(&scenario, scenario.duration, 1).is_empty());
        count += 1;
    }
    assert!(count >= 23, "{count}");
}
