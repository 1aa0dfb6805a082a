//! What the disks hold, against where the metadata say that it should be. Judged here, from two lists that `cairn disk
//! list` and `cairn admin metadata placement` print: nothing of what a cluster says of its own health is believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use crate::error::ChaosError;

/// Where a disk's folder is, as whoever made it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    pub node: String,
    pub rack: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stripe {
    group: u64,
    blob: String,
    number: u64,
}

impl fmt::Display for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stripe {} of blob {} in group {}", self.number, self.blob, self.group)
    }
}

struct Found {
    disk: String,
    bytes: u64,
    /// None when its bytes are damaged.
    digest: Option<String>,
    /// Number of the segment file and where its record begins there, if the list tells.
    at: Option<(u64, u64)>,
}

/// A fragment in its place, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    /// The same for all fragments of a stripe.
    pub stripe: String,
    /// How many of them may be lost.
    pub parity: usize,
    pub disk: String,
    pub segment: u64,
    /// Byte of the segment's file at which its record begins.
    pub offset: u64,
    /// Of its payload, which is the last of the record.
    pub bytes: u64,
}

struct Group {
    data: usize,
    parity: usize,
    members: Vec<String>,
}

/// One look at the disks of a cluster and at its metadata.
#[derive(Default)]
pub struct Audit {
    disks: BTreeMap<String, Home>,
    found: BTreeMap<(Stripe, usize), Vec<Found>>,
    groups: BTreeMap<u64, Group>,
    stripes: BTreeSet<Stripe>,
    /// Of all blobs that something references.
    blob_bytes: u64,
    /// Blobs whose runs do not fit their length.
    misfits: Vec<String>,
}

/// Fragments on certain disks, of stripes that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub fragments: u64,
    pub bytes: u64,
    /// Those of stripes of which fewer fragments are within reach than suffice to make them anew.
    pub out_of_reach: u64,
}

impl Audit {
    /// Takes what `cairn admin metadata placement` printed.
    pub fn of(placement: &str) -> Result<Self, ChaosError> {
        let mut audit = Self::default();
        for line in placement.lines() {
            let object: Value = serde_json::from_str(line).map_err(|error| unreadable(line, &error.to_string()))?;
            let taken = if let Some(group) = object.get("group") {
                audit.take_group(group)
            } else if let Some(blob) = object.get("blob") {
                audit.take_blob(blob)
            } else {
                object.get("disk").map(drop)
            };
            taken.ok_or_else(|| unreadable(line, "a field is missing"))?;
        }
        Ok(audit)
    }

    fn take_group(&mut self, group: &Value) -> Option<()> {
        let count = |field: &str| usize::try_from(group[field].as_u64()?).ok();
        let members = group["members"].as_array()?.iter().map(|id| Some(id.as_str()?.to_owned()));
        let members = members.collect::<Option<Vec<String>>>()?;
        self.groups.insert(group["id"].as_u64()?, Group { data: count("data")?, parity: count("parity")?, members });
        Some(())
    }

    fn take_blob(&mut self, blob: &Value) -> Option<()> {
        let (id, length, stripe_bytes) =
            (blob["id"].as_str()?, blob["length"].as_u64()?, blob["stripe_bytes"].as_u64()?);
        let mut number = 0;
        for run in blob["runs"].as_array()? {
            let (group, stripes) = (run["group"].as_u64()?, run["stripes"].as_u64()?);
            let stripe = |number| Stripe { group, blob: id.to_owned(), number };
            self.stripes.extend((number..number + stripes).map(stripe));
            number += stripes;
        }
        if number != length.div_ceil(stripe_bytes.max(1)) {
            self.misfits.push(format!("blob {id} of {length} bytes has {number} stripes of {stripe_bytes}"));
        }
        self.blob_bytes += length;
        Some(())
    }

    /// Takes what `cairn disk list --digests --json` printed of a disk.
    pub fn take_disk(&mut self, home: Home, list: &str) -> Result<(), ChaosError> {
        let mut lines = list.lines();
        let head = lines.next().unwrap_or_default();
        let disk: Value = serde_json::from_str(head).map_err(|error| unreadable(head, &error.to_string()))?;
        let disk = disk["disk"].as_str().ok_or_else(|| unreadable(head, "it names no disk"))?.to_owned();
        for line in lines {
            let fragment: Value = serde_json::from_str(line).map_err(|error| unreadable(line, &error.to_string()))?;
            let taken = self.take_fragment(&disk, &fragment);
            taken.ok_or_else(|| unreadable(line, "a field is missing"))?;
        }
        self.disks.insert(disk, home);
        Ok(())
    }

    fn take_fragment(&mut self, disk: &str, fragment: &Value) -> Option<()> {
        let stripe = Stripe {
            group: fragment["group"].as_u64()?,
            blob: fragment["blob"].as_str()?.to_owned(),
            number: fragment["stripe"].as_u64()?,
        };
        let position = usize::try_from(fragment["position"].as_u64()?).ok()?;
        let digest = fragment["digest"].as_str().map(str::to_owned);
        let at = fragment["segment"].as_u64().zip(fragment["offset"].as_u64());
        let found = Found { disk: disk.to_owned(), bytes: fragment["bytes"].as_u64()?, digest, at };
        self.found.entry((stripe, position)).or_default().push(found);
        Some(())
    }

    /// The fragment where the group says that it is, if it is there whole.
    fn in_place(&self, stripe: &Stripe, position: usize) -> Option<&Found> {
        let member = self.groups.get(&stripe.group)?.members.get(position)?;
        let found = self.found.get(&(stripe.clone(), position))?;
        found.iter().find(|found| found.disk == *member && found.digest.is_some())
    }

    /// Every fragment that is in its place, in order of stripe.
    pub fn lying(&self) -> Vec<Lying> {
        let places = self.stripes.iter().filter_map(|stripe| Some((stripe, self.groups.get(&stripe.group)?)));
        let fragments = places.flat_map(|(stripe, group)| {
            (0..group.members.len()).filter_map(move |position| {
                let Found { disk, bytes, at, .. } = self.in_place(stripe, position)?;
                let (segment, offset) = (*at)?;
                let (stripe, parity) = (stripe.to_string(), group.parity);
                Some(Lying { stripe, parity, disk: disk.clone(), segment, offset, bytes: *bytes })
            })
        });
        fragments.collect()
    }

    /// What is wrong: RED-2 (every stripe has all its fragments, whole, each on the disk that the group names) and
    /// PLC-1 (on distinct disks, of which no rack has more than the stripe can lose).
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.misfits.clone();
        for (id, group) in &self.groups {
            problems.extend(self.crowding(group).into_iter().map(|what| format!("PLC-1: group {id}: {what}")));
        }
        for stripe in &self.stripes {
            let Some(group) = self.groups.get(&stripe.group) else {
                problems.push(format!("{stripe}: there is no such group"));
                continue;
            };
            let missing = (0..group.members.len()).filter(|position| self.in_place(stripe, *position).is_none());
            problems.extend(missing.map(|position| format!("RED-2: {stripe}: position {position} is missing")));
        }
        problems
    }

    /// How a group breaks PLC-1. Disks that were not looked at are in no rack that is known, and count as missing.
    fn crowding(&self, group: &Group) -> Option<String> {
        let disks: BTreeSet<&String> = group.members.iter().collect();
        if disks.len() < group.data + group.parity {
            return Some(format!("{} of {} members are different disks", disks.len(), group.data + group.parity));
        }
        let mut racks: BTreeMap<&str, usize> = BTreeMap::new();
        for home in group.members.iter().filter_map(|disk| self.disks.get(disk)) {
            *racks.entry(&home.rack).or_default() += 1;
        }
        let (rack, most) = racks.into_iter().max_by_key(|(_, count)| *count)?;
        (most > group.parity).then(|| format!("rack {rack} has {most} members, and a stripe can lose {}", group.parity))
    }

    /// Fragments that are not what they were, byte for byte, when `before` was taken: whatever was made anew since must
    /// be the same.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for stripe in self.stripes.intersection(&before.stripes) {
            let width = self.groups.get(&stripe.group).map_or(0, |group| group.members.len());
            for position in 0..width {
                if let (Some(now), Some(then)) = (self.in_place(stripe, position), before.in_place(stripe, position))
                    && (now.bytes != then.bytes || now.digest != then.digest)
                {
                    differences.push(format!("INT-1: {stripe}: position {position} has other bytes than before"));
                }
            }
        }
        differences
    }

    /// What is lost with the disks that `gone` says, while only those that `within_reach` says can be read.
    pub fn lost(&self, gone: impl Fn(&Home) -> bool, within_reach: impl Fn(&Home) -> bool) -> Lost {
        let mut lost = Lost::default();
        for stripe in &self.stripes {
            let Some(group) = self.groups.get(&stripe.group) else { continue };
            let placed = (0..group.members.len()).filter_map(|position| {
                let found = self.in_place(stripe, position)?;
                Some((self.disks.get(&found.disk)?, found.bytes))
            });
            let placed: Vec<(&Home, u64)> = placed.collect();
            let bytes: Vec<u64> = placed.iter().filter(|(home, _)| gone(home)).map(|(_, bytes)| *bytes).collect();
            lost.fragments += bytes.len() as u64;
            lost.bytes += bytes.iter().sum::<u64>();
            let readable = placed.iter().filter(|(home, _)| !gone(home) && within_reach(home)).count();
            if readable < group.data {
                lost.out_of_reach += bytes.len() as u64;
            }
        }
        lost
    }

    /// Bytes of all blobs that something references.
    pub fn blob_bytes(&self) -> u64 {
        self.blob_bytes
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let racks: BTreeSet<&String> = self.disks.values().map(|home| &home.rack).collect();
        let fragments: usize = self.found.values().map(Vec::len).sum();
        let (stripes, disks) = (self.stripes.len(), self.disks.len());
        write!(f, "{stripes} stripes, {fragments} fragments on {disks} disks in {} racks", racks.len())
    }
}

fn unreadable(line: &str, why: &str) -> ChaosError {
    ChaosError::Workload(format!("a list is not as expected: {why} in {line:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A stripe of 2+1 on disks a, b and c, each in a rack of its own unless `racks` says otherwise.
    fn audit(racks: [&str; 3], listed: &[(&str, u64, &str)]) -> Audit {
        let placement = r#"{"disk":{"id":"a"}}
{"group":{"id":1,"scheme":"2+1","data":2,"parity":1,"members":["a","b","c"]}}
{"blob":{"id":"00","length":10,"stripe_bytes":20,"runs":[{"group":1,"stripes":1}]}}"#;
        let mut audit = Audit::of(placement).unwrap();
        for (disk, rack) in ["a", "b", "c"].into_iter().zip(racks) {
            let mut list = format!("{{\"disk\":\"{disk}\"}}\n");
            for (_, position, digest) in listed.iter().filter(|(on, ..)| *on == disk) {
                let digest = if digest.is_empty() { String::new() } else { format!(",\"digest\":\"{digest}\"") };
                list += &format!(
                    "{{\"group\":1,\"blob\":\"00\",\"stripe\":0,\"position\":{position},\"bytes\":5{digest}}}\n"
                );
            }
            audit.take_disk(Home { node: format!("n{disk}"), rack: rack.into() }, &list).unwrap();
        }
        audit
    }

    const APART: [&str; 3] = ["r1", "r2", "r3"];
    const WHOLE: [(&str, u64, &str); 3] = [("a", 0, "x"), ("b", 1, "y"), ("c", 2, "z")];

    #[test]
    fn a_whole_stripe_is_no_problem() {
        let audit = audit(APART, &WHOLE);
        assert_eq!(audit.problems(), Vec::<String>::new());
        assert_eq!(audit.blob_bytes(), 10);
        assert_eq!(audit.to_string(), "1 stripes, 3 fragments on 3 disks in 3 racks");
    }

    #[test]
    fn red_2_what_is_missing_damaged_or_elsewhere_is_a_problem() {
        for (listed, position) in
            [(&WHOLE[..2], 2), (&[WHOLE[0], ("b", 1, ""), WHOLE[2]], 1), (&[("b", 0, "x"), WHOLE[1], WHOLE[2]], 0)]
        {
            let problems = audit(APART, listed).problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(&format!("position {position} is missing")), "{problems:?}");
        }
    }

    #[test]
    fn plc_1_a_rack_with_more_than_a_stripe_can_lose_is_a_problem() {
        let problems = audit(["r1", "r2", "r1"], &WHOLE).problems();
        assert_eq!(problems, ["PLC-1: group 1: rack r1 has 2 members, and a stripe can lose 1"]);
    }

    #[test]
    fn int_1_a_fragment_made_anew_with_other_bytes_is_told() {
        let before = audit(APART, &WHOLE);
        assert_eq!(audit(APART, &WHOLE).differences(&before), Vec::<String>::new());
        let other = audit(APART, &[WHOLE[0], ("b", 1, "v"), WHOLE[2]]);
        assert_eq!(other.differences(&before).len(), 1);
    }

    #[test]
    fn what_is_lost_is_counted_and_what_cannot_be_made_anew_now() {
        let audit = audit(APART, &WHOLE);
        let gone = |home: &Home| home.rack == "r1";
        assert_eq!(audit.lost(gone, |_| true), Lost { fragments: 1, bytes: 5, out_of_reach: 0 });
        assert_eq!(audit.lost(gone, |home| home.node != "nc"), Lost { fragments: 1, bytes: 5, out_of_reach: 1 });
    }

    #[test]
    fn a_list_of_something_else_is_refused() {
        assert!(Audit::of("cairn: no").is_err());
        assert!(Audit::of("{\"group\":{\"id\":1}}").is_err());
        let home = Home { node: String::new(), rack: String::new() };
        assert!(Audit::default().take_disk(home, "disk d").is_err());
    }
}
