//! Compares what a disk has of a group with what another member has, by digests, and asks the metadata only about the
//! ranges of blobs in which they differ: what it takes grows with the differences, and with the number of groups, not
//! with what the disk holds.
//!
//! Two members that lack the same are not told apart by this; the second half of a scrub pass, which reads all that the
//! metadata expect, finds that (RED-1).

use cairn_fragment::{BlobRange, NameDigest, PARTS};
use cairn_schema::ids::*;

use super::{
    Context,
    inventory::{GroupCheck, Page},
};
use crate::{placement::Rows, supervisor::StepError};

/// Other members that are asked, to go by the one that differs least: one may lack much itself.
const PARTNERS: usize = 2;
/// So few fragments are looked for by name rather than divided further.
const FEW: u64 = 256;

/// One disk in one position of a group, a step at a time.
pub struct Comparison {
    disk: DiskId,
    group: GroupId,
    position: u8,
    /// The other member, once it is chosen.
    partner: Option<Member>,
    /// Ranges to compare by digests; the last is next.
    left: Vec<BlobRange>,
    /// Ranges to compare by name.
    differing: Vec<BlobRange>,
    check: Option<GroupCheck>,
}

type Digests = Vec<NameDigest>;

#[derive(Clone, Copy)]
struct Member {
    position: u8,
    disk: DiskId,
}

impl Comparison {
    pub fn new(disk: DiskId, group: GroupId, position: u8) -> Self {
        let (left, differing) = (vec![BlobRange::ALL], Vec::new());
        Self { disk, group, position, partner: None, left, differing, check: None }
    }

    /// The next step, and what of it was compared by name; None after the last.
    pub async fn step(&mut self, ctx: &Context, rows: &Rows) -> Result<Option<Page>, StepError> {
        if let Some(check) = &mut self.check {
            let page = check.page(ctx).await?;
            if page.is_none() {
                self.check = None;
            }
            return Ok(Some(page.unwrap_or_default()));
        }
        if let Some(range) = self.differing.pop() {
            self.check = Some(GroupCheck::within(self.disk, self.group, self.position, range));
            return Ok(Some(Page::default()));
        }
        let Some(range) = self.left.pop() else { return Ok(None) };
        match self.digests(ctx, rows, range).await? {
            Some((own, theirs)) => self.divide(range, &own, &theirs),
            // Nobody else tells: nodes of before know no digests, and all others may be away.
            None => self.differing.push(range),
        }
        Ok(Some(Page::default()))
    }

    /// Notes which parts of a range are to be looked at further, and how.
    fn divide(&mut self, range: BlobRange, own: &[NameDigest], theirs: &[NameDigest]) {
        let both = own.iter().zip(theirs);
        let differ: Vec<(usize, u64)> = both
            .enumerate()
            .filter(|(_, (own, theirs))| own != theirs)
            .map(|(part, (own, theirs))| (part, own.fragments.max(theirs.fragments)))
            .collect();
        // Most of it: one walk over the range costs less than one over each part.
        if differ.len() > PARTS / 2 {
            self.differing.push(range);
            return;
        }
        for (part, fragments) in differ {
            match range.part(part) {
                Some(part) if fragments > FEW && part.depth() < BlobRange::DEEPEST => self.left.push(part),
                Some(part) => self.differing.push(part),
                None => self.differing.push(range),
            }
        }
    }

    /// The disk's own digests and another member's; None if no other tells.
    async fn digests(
        &mut self,
        ctx: &Context,
        rows: &Rows,
        range: BlobRange,
    ) -> Result<Option<(Digests, Digests)>, StepError> {
        let own = self.ask(ctx, Member { position: self.position, disk: self.disk }, range).await?;
        let partners = match self.partner {
            Some(partner) => vec![partner],
            None => self.others(rows),
        };
        let mut best: Option<(usize, Member, Digests)> = None;
        let mut answered = 0;
        for partner in partners {
            let Ok(theirs) = self.ask(ctx, partner, range).await else { continue };
            let differ = own.iter().zip(&theirs).filter(|(own, theirs)| own != theirs).count();
            if best.as_ref().is_none_or(|(least, ..)| differ < *least) {
                best = Some((differ, partner, theirs));
            }
            answered += 1;
            if differ == 0 || answered == PARTNERS {
                break;
            }
        }
        let Some((_, partner, theirs)) = best else { return Ok(None) };
        self.partner = Some(partner);
        Ok(Some((own, theirs)))
    }

    async fn ask(&self, ctx: &Context, member: Member, range: BlobRange) -> Result<Digests, StepError> {
        let Member { position, disk } = member;
        Ok(ctx.fragments.digests(disk, self.group, position, range, ctx.deadline()).await?)
    }

    /// Those whose disks are up, the next after this one first: each group's members then ask different ones.
    fn others(&self, rows: &Rows) -> Vec<Member> {
        let Some(group) = rows.groups.get(&self.group) else { return Vec::new() };
        let members = (0u8..).zip(group.members.iter().copied()).map(|(position, disk)| Member { position, disk });
        let up = |member: &Member| member.position != self.position && is_up(rows, member.disk);
        let (before, after): (Vec<Member>, Vec<Member>) =
            members.filter(up).partition(|member| member.position < self.position);
        after.into_iter().chain(before).collect()
    }
}

fn is_up(rows: &Rows, disk: DiskId) -> bool {
    rows.state(disk).is_some_and(cairn_schema::record::DiskState::serves)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
