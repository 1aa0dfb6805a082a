//! Keys of users, their groups, access keys and policies.

use bytes::Bytes;

use super::{DIVIDER, Key, Space};

pub fn access_key(access_key: &str) -> Bytes {
    Key::of(Space::AccessKey).raw(access_key.as_bytes()).done()
}

pub fn user(name: &str) -> Bytes {
    Key::of(Space::User).raw(name.as_bytes()).done()
}

pub fn user_group(name: &str) -> Bytes {
    Key::of(Space::UserGroup).raw(name.as_bytes()).done()
}

pub fn access_policy(name: &str) -> Bytes {
    Key::of(Space::AccessPolicy).raw(name.as_bytes()).done()
}

/// What a row says of a policy or a user group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkKind {
    PolicyOfUser = 1,
    PolicyOfGroup = 2,
    MemberOfGroup = 3,
}

/// All links of a kind to a policy or user group start with this.
pub fn links(kind: LinkKind, to: &str) -> Bytes {
    Key::of(Space::AccessLink).byte(kind as u8).raw(to.as_bytes()).byte(DIVIDER).done()
}

pub fn link(kind: LinkKind, to: &str, from: &str) -> Bytes {
    Key(links(kind, to).into()).raw(from.as_bytes()).done()
}

/// The parts of a link's key: what is linked to, and from where.
pub fn split_link(key: &[u8]) -> Option<(LinkKind, &str, &str)> {
    let kind = match key.get(1)? {
        1 => LinkKind::PolicyOfUser,
        2 => LinkKind::PolicyOfGroup,
        3 => LinkKind::MemberOfGroup,
        _ => return None,
    };
    let (to, from) = std::str::from_utf8(key.get(2..)?).ok()?.split_once('\0')?;
    Some((kind, to, from))
}
