//! Patterns: `*` stands for any run of characters, `?` for any one character.
//!
//! Between two stars lies a segment, and each segment is sought from where the one before it ended, leftmost first:
//! since stars take anything, that is never worse than a later place. A segment is sought in time linear in the text,
//! or, if it has question marks, in the text's length times a 64th of its own, so that nothing grows exponentially.

use memchr::memmem;

/// One character of a pattern, or a run of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    One,
    Many,
}

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// Never empty. A single one is the whole text; else the first begins it and the last ends it.
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    /// Empty if it has question marks.
    text: String,
    /// Its characters if it has question marks, which are None.
    gapped: Vec<Option<char>>,
}

impl Pattern {
    pub(crate) fn of(pieces: &[Piece]) -> Self {
        let segments = pieces.split(|piece| *piece == Piece::Many).map(Segment::of).collect();
        Self { segments }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.segments.split_first() else { return false };
        let Some(text) = first.strip_from_start(text) else { return false };
        let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
        let Some(mut text) = last.strip_from_end(text) else { return false };
        middle.iter().all(|segment| match segment.end_of_first(text) {
            Some(end) => {
                text = &text[end..];
                true
            }
            None => false,
        })
    }
}

impl Segment {
    fn of(pieces: &[Piece]) -> Self {
        if pieces.contains(&Piece::One) {
            let mut gapped = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Text(text) => gapped.extend(text.chars().map(Some)),
                    Piece::One => gapped.push(None),
                    Piece::Many => {}
                }
            }
            return Self { text: String::new(), gapped };
        }
        let texts = pieces.iter().filter_map(|piece| if let Piece::Text(text) = piece { Some(&**text) } else { None });
        Self { text: texts.collect(), gapped: Vec::new() }
    }

    fn strip_from_start<'a>(&self, text: &'a str) -> Option<&'a str> {
        if self.gapped.is_empty() {
            return text.strip_prefix(&*self.text);
        }
        let mut chars = text.chars();
        let fits = self.gapped.iter().all(|wanted| fits(*wanted, chars.next()));
        fits.then_some(chars.as_str())
    }

    fn strip_from_end<'a>(&self, text: &'a str) -> Option<&'a str> {
        if self.gapped.is_empty() {
            return text.strip_suffix(&*self.text);
        }
        let mut chars = text.chars();
        let fits = self.gapped.iter().rev().all(|wanted| fits(*wanted, chars.next_back()));
        fits.then_some(chars.as_str())
    }

    /// Where the first place ends at which the segment stands.
    fn end_of_first(&self, text: &str) -> Option<usize> {
        if self.gapped.is_empty() {
            return Some(memmem::find(text.as_bytes(), self.text.as_bytes())? + self.text.len());
        }
        // A character has a byte at least.
        if self.gapped.len() > text.len() { None } else { end_of_first_gapped(&self.gapped, text) }
    }
}

fn fits(wanted: Option<char>, found: Option<char>) -> bool {
    found.is_some() && (wanted.is_none() || wanted == found)
}

/// The algorithm of Baeza-Yates and Gonnet (Shift-And): bit i of the state says that the last i + 1 characters read are
/// the first i + 1 of the segment, and all bits move on together.
fn end_of_first_gapped(gapped: &[Option<char>], text: &str) -> Option<usize> {
    let words = gapped.len().div_ceil(64);
    let bit = |at: usize| 1u64 << (at % 64);
    let mut gaps = vec![0u64; words];
    for (at, _) in gapped.iter().enumerate().filter(|(_, wanted)| wanted.is_none()) {
        gaps[at / 64] |= bit(at);
    }
    let mut letters: Vec<char> = gapped.iter().copied().flatten().collect();
    letters.sort_unstable();
    letters.dedup();
    // For each letter, the places where it or any character may stand.
    let mut places = vec![gaps.clone(); letters.len()];
    for (at, wanted) in gapped.iter().enumerate() {
        if let Some(letter) = wanted.and_then(|letter| letters.binary_search(&letter).ok()) {
            places[letter][at / 64] |= bit(at);
        }
    }
    let last = gapped.len() - 1;
    let mut state = vec![0u64; words];
    for (at, letter) in text.char_indices() {
        let allowed = letters.binary_search(&letter).map_or(&gaps, |letter| &places[letter]);
        let mut carry = 1;
        for (word, allowed) in state.iter_mut().zip(allowed) {
            let out = *word >> 63;
            *word = (*word << 1 | carry) & allowed;
            carry = out;
        }
        if state[last / 64] & bit(last) != 0 {
            return Some(at + letter.len_utf8());
        }
    }
    None
}
