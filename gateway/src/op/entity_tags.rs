//! Lists of entity tags, as `If-Match` and its kin bring them (RFC 9110, 8.8.3 and 13.1).

use http::{HeaderMap, HeaderName};

/// One tag. S3's clients send them without quotes too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag {
    pub(crate) weak: bool,
    pub(crate) value: String,
}

impl EntityTag {
    /// Strong comparison: a weak tag is equal to none.
    pub(crate) fn is(&self, etag: &str) -> bool {
        !self.weak && self.value == etag
    }
}

/// What a condition on tags names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntityTags {
    /// `*`
    Any,
    Listed(Vec<EntityTag>),
}

impl EntityTags {
    /// Of a header, whose lines are one list. None if it is absent or empty.
    pub(crate) fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<String> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let text = lines.join(",");
        match text.trim() {
            "*" => Some(Self::Any),
            text => Some(Self::Listed(parse_list(text))).filter(|tags| *tags != Self::Listed(Vec::new())),
        }
    }

    /// For `If-Match`.
    pub(crate) fn strongly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.is(etag)),
        }
    }

    /// For `If-None-Match`.
    pub(crate) fn weakly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.value == etag),
        }
    }
}

/// Never fails: what is no tag is a tag that no object has.
fn parse_list(mut text: &str) -> Vec<EntityTag> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return tags;
        }
        let (tag, rest) = parse_one(text);
        tags.push(tag);
        text = rest;
    }
}

fn parse_one(text: &str) -> (EntityTag, &str) {
    let (weak, quoted) = match text.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let tag = |value: &str| EntityTag { weak, value: value.to_owned() };
    match quoted.strip_prefix('"') {
        Some(rest) => match rest.split_once('"') {
            Some((value, rest)) => (tag(value), rest),
            None => (tag(quoted), ""),
        },
        None => {
            let (value, rest) = quoted.split_once(',').unwrap_or((quoted, ""));
            (tag(value.trim_end()), rest)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderValue, header::IF_MATCH};

    use super::*;

    fn tags(lines: &[&str]) -> Option<EntityTags> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, HeaderValue::from_str(line).unwrap());
        }
        EntityTags::of(&headers, &IF_MATCH)
    }

    fn listed(lines: &[&str]) -> Vec<(bool, String)> {
        match tags(lines).unwrap() {
            EntityTags::Listed(tags) => tags.into_iter().map(|tag| (tag.weak, tag.value)).collect(),
            EntityTags::Any => panic!("{lines:?} is any"),
        }
    }

    #[test]
    fn tags_come_in_lists_in_quotes_and_without_weak_and_strong() {
        let (strong, weak) = (|value: &str| (false, value.to_owned()), |value: &str| (true, value.to_owned()));
        for (lines, wanted) in [
            (&["\"a\""][..], vec![strong("a")]),
            (&["a"], vec![strong("a")]),
            (&["W/\"a\""], vec![weak("a")]),
            (&["\"a\", W/\"b\",c ,\td"], vec![strong("a"), weak("b"), strong("c"), strong("d")]),
            (&["\"a\"", "\"b\""], vec![strong("a"), strong("b")]),
            (&[",, \"a\",,"], vec![strong("a")]),
            (&["\"a,b\""], vec![strong("a,b")]),
            (&["\"\""], vec![strong("")]),
            (&["\"a"], vec![strong("\"a")]),
            (&["\"a\", *"], vec![strong("a"), strong("*")]),
        ] {
            assert_eq!(listed(lines), wanted, "{lines:?}");
        }
        assert_eq!(tags(&[" * "]), Some(EntityTags::Any));
        assert_eq!(tags(&[]), None);
        assert_eq!(tags(&["", " , "]), None);
    }

    #[test]
    fn a_weak_tag_matches_weakly_only() {
        let weak = tags(&["W/\"a\", \"b\""]).unwrap();
        assert!(weak.weakly("a") && weak.weakly("b") && weak.strongly("b"));
        assert!(!weak.strongly("a") && !weak.weakly("c"));
        assert!(EntityTags::Any.strongly("x") && EntityTags::Any.weakly("x"));
    }
}
