//! Stars and question marks, against a matcher that tries everything.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use crate::{
    alice_may,
    reference::{like, wild},
};

/// Whether the object `text` is one of those of `arn:aws:s3:::b/` with the pattern.
fn resource_matches(pattern: &str, text: &str) -> bool {
    let policy = json!({
        "Statement": { "Effect": "Allow", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::b/{pattern}") },
    });
    alice_may(&policy.to_string(), "s3:GetObject", &format!("arn:aws:s3:::b/{text}"), &[])
}

/// The same of a condition.
fn condition_matches(pattern: &str, text: &str) -> bool {
    let policy = json!({
        "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": { "StringLike": { "aws:UserAgent": pattern } },
        },
    });
    alice_may(&policy.to_string(), "s3:GetObject", "arn:aws:s3:::b/a", &[("aws:UserAgent", text)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn patterns_match_what_trying_everything_matches(pattern in "[abä*?]{0,9}", text in "[abä]{0,10}") {
        let expected = like(&wild(&pattern), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(resource_matches(&pattern, &text), expected);
        prop_assert_eq!(condition_matches(&pattern, &text), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Segments longer than a word of 64 places, where bits are carried over.
    #[test]
    fn long_segments_with_gaps_are_found_wherever_they_stand(
        segment in "[ab]{60,200}",
        gaps in prop::collection::vec(any::<prop::sample::Index>(), 1..9),
        before in "[ab]{0,150}",
        after in "[ab]{0,80}",
        spoilt in any::<prop::sample::Index>(),
    ) {
        let mut pattern = segment.clone().into_bytes();
        gaps.iter().for_each(|gap| pattern[gap.index(segment.len())] = b'?');
        let pattern = String::from_utf8(pattern).unwrap();
        let around = format!("*{pattern}*");
        let text = format!("{before}{segment}{after}");
        prop_assert!(condition_matches(&around, &text));
        // With a letter that the text lacks there is no such place.
        let at = spoilt.index(segment.len());
        let spoilt = format!("*{}c{}*", &pattern[..at], &pattern[at + 1..]);
        prop_assert!(!condition_matches(&spoilt, &text));
    }
}

#[test]
fn one_character_is_one_whatever_its_bytes() {
    for (pattern, text, expected) in [
        ("?", "ä", true),
        ("??", "ä", false),
        ("?", "🦀", true),
        ("*?", "🦀", true),
        ("a?c", "aéc", true),
        ("*ä?", "xxäy", true),
        ("?", "", false),
        ("*", "", true),
        ("**", "", true),
        ("?*?", "a", false),
        ("?*?", "ab", true),
        ("a*a", "a", false),
        ("*.jpg", ".jpg", true),
        ("*.jpg", "a.jpg.exe", false),
        ("a/*/c", "a/b/b/c", true),
        ("a/*/c", "a/c", false),
        ("A*", "a", false),
    ] {
        assert_eq!(condition_matches(pattern, text), expected, "{pattern} {text}");
    }
}

/// The patterns that make a matcher which goes back at each star take for ever: the longest that there can be, on the
/// longest key and on a longer header.
#[test]
fn the_worst_patterns_take_no_time() {
    let (key, header) = ("a".repeat(1024), "a".repeat(8 << 10));
    let patterns = [
        "*a".repeat(4_500) + "b",
        "a*".repeat(4_500) + "b",
        "*?a".repeat(3_000) + "b",
        format!("*{}?b*", "a".repeat(1_000)),
        format!("*{}?b*", "a".repeat(8_000)),
        format!("*{}b", "?".repeat(900)),
        ("*".to_owned() + &"a".repeat(60) + "?b").repeat(140),
    ];
    let started = Instant::now();
    for pattern in &patterns {
        assert!(!resource_matches(pattern, &key));
        assert!(!condition_matches(pattern, &header));
    }
    // Milliseconds; a matcher that goes back would not end this year.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
