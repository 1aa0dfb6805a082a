//! Users, their keys, groups and policies: each names what exists, and each link between them is told at both ends.

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Audit, Problem,
    source::{Scan, Source},
};
use crate::{
    codec::Stored,
    error::Result,
    keyspace::{self, LinkKind, Space},
    kv::Row,
    record::{AccessKey, AttachedPolicy, User, UserGroup},
    transfer::check,
};

const SPACES: [Space; 5] = [Space::User, Space::UserGroup, Space::AccessPolicy, Space::AccessKey, Space::AccessLink];

/// Sums of hashes, equal whatever the order of the rows.
#[derive(Default)]
struct Sums {
    /// Links that users and groups tell of, and those that there are.
    told: u64,
    links: u64,
    /// Keys that users tell of, and those that there are.
    held: u64,
    keys: u64,
}

pub(super) async fn audit(source: &mut Source<'_>, audit: &mut Audit) -> Result<()> {
    let mut sums = Sums::default();
    for space in SPACES {
        let mut scan = Scan::of(space);
        while let Some(rows) = source.next(&mut scan).await? {
            for row in &rows {
                if audit.readable(check::row(row)).is_some() {
                    sums.add(space, row)?;
                }
            }
            if space == Space::AccessLink {
                targets(source, audit, &rows).await?;
            }
        }
    }
    if sums.told != sums.links {
        audit.report(Problem::AccessLinks);
    }
    if sums.held != sums.keys {
        audit.report(Problem::AccessKeys);
    }
    Ok(())
}

impl Sums {
    fn add(&mut self, space: Space, (key, value): &Row) -> Result<()> {
        match space {
            Space::User => {
                let user = User::read(key, value)?;
                self.policies(LinkKind::PolicyOfUser, &user.name, &user.policies);
                for group in &user.groups {
                    self.tell(&keyspace::link(LinkKind::MemberOfGroup, group, &user.name));
                }
                for access_key in &user.access_keys {
                    self.held = self.held.wrapping_add(of_key(access_key, &user.name));
                }
            }
            Space::UserGroup => {
                let group = UserGroup::read(key, value)?;
                self.policies(LinkKind::PolicyOfGroup, &group.name, &group.policies);
            }
            Space::AccessKey => {
                let found = AccessKey::read(key, value)?;
                self.keys = self.keys.wrapping_add(of_key(&found.access_key, &found.user));
            }
            Space::AccessLink => self.links = self.links.wrapping_add(xxh3_64(key)),
            _ => {}
        }
        Ok(())
    }

    fn policies(&mut self, kind: LinkKind, holder: &str, policies: &[AttachedPolicy]) {
        for policy in policies.iter().filter(|policy| policy.text.is_none()) {
            self.tell(&keyspace::link(kind, &policy.name, holder));
        }
    }

    fn tell(&mut self, link: &[u8]) {
        self.told = self.told.wrapping_add(xxh3_64(link));
    }
}

fn of_key(access_key: &str, user: &str) -> u64 {
    xxh3_64(format!("{access_key}\0{user}").as_bytes())
}

/// What links lead to must exist.
async fn targets(source: &mut Source<'_>, audit: &mut Audit, links: &[Row]) -> Result<()> {
    let parts: Vec<_> = links.iter().filter_map(|(key, _)| keyspace::split_link(key)).collect();
    let target = |(kind, to, _): &(LinkKind, &str, &str)| match kind {
        LinkKind::MemberOfGroup => keyspace::user_group(to),
        LinkKind::PolicyOfUser | LinkKind::PolicyOfGroup => keyspace::access_policy(to),
    };
    let found = source.get_many(&parts.iter().map(target).collect::<Vec<_>>()).await?;
    for ((_, to, from), row) in parts.into_iter().zip(found) {
        if row.is_none() {
            audit.report(Problem::AccessTarget { from: from.to_owned(), to: to.to_owned() });
        }
    }
    Ok(())
}
