//! Text of clients and numbers of bytes, as they are shown in messages.

use std::fmt::{self, Write};

/// In quotes, otherwise as it is, but for control characters: they would break a line of a log and have no place in
/// XML, so each is shown by its picture (U+2400 and following). Not Rust's escapes, which nobody but a Rust programmer
/// reads.
#[derive(Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.0.chars().try_for_each(|c| f.write_char(picture(c)))?;
        f.write_char('"')
    }
}

fn picture(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// A number of bytes in the largest unit of which it is a whole number, as configuration files have it.
#[derive(Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_on_one_line() {
        assert_eq!(Shown("päth/to \"it\" \\n 🚀").to_string(), "\"päth/to \"it\" \\n 🚀\"");
        assert_eq!(Shown("no\u{8}such\nkey\u{7f}\u{85}").to_string(), "\"no␈such␊key␡\u{fffd}\"");
    }
}
