//! Values of policies that are compared with text: wildcards where they count, and policy variables.

use crate::{
    error::Fault,
    request::Context,
    table,
    wildcard::{Pattern, Piece},
};

/// What a value may become at most when its variables are put in, in bytes: no resource is as long. One that becomes
/// longer cannot be told.
const PUT_IN_MAX_BYTES: usize = 8 << 10;

/// What `*` and `?` are in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stars {
    Wild,
    Plain,
}

#[derive(Clone, Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// None if there are variables.
    fixed: Option<Pattern>,
}

#[derive(Clone, Debug)]
enum Part {
    Piece(Piece),
    Variable { key: String, default: Option<String> },
}

impl Template {
    /// `variables`: whether `${…}` is one; else it is text like any other.
    pub(crate) fn read(value: &str, stars: Stars, variables: bool) -> Result<Self, Fault> {
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), value);
        while let Some(letter) = rest.chars().next() {
            let mut part = None;
            if variables && let Some(inside) = rest.strip_prefix("${") {
                let (read, after) = escape_or_variable(inside).ok_or_else(|| Fault::Variable(rest.to_owned()))?;
                rest = after;
                match read {
                    Ok(letter) => text.push(letter),
                    Err(variable) => part = Some(variable),
                }
            } else {
                rest = &rest[letter.len_utf8()..];
                match letter {
                    '*' if stars == Stars::Wild => part = Some(Part::Piece(Piece::Many)),
                    '?' if stars == Stars::Wild => part = Some(Part::Piece(Piece::One)),
                    letter => text.push(letter),
                }
            }
            if let Some(part) = part {
                push_text(&mut parts, &mut text);
                parts.push(part);
            }
        }
        push_text(&mut parts, &mut text);
        let pieces = parts.iter().map(|part| if let Part::Piece(piece) = part { Some(piece.clone()) } else { None });
        let fixed = pieces.collect::<Option<Vec<Piece>>>().map(|pieces| Pattern::of(&pieces));
        Ok(Self { parts, fixed })
    }

    /// None if a variable has no value, so that nobody can say.
    pub(crate) fn matches(&self, text: &str, context: &Context<'_>) -> Option<bool> {
        match &self.fixed {
            Some(pattern) => Some(pattern.matches(text)),
            None => Some(Pattern::of(&self.put_in(context)?).matches(text)),
        }
    }

    /// The text of a value without wildcards. None as above.
    pub(crate) fn text(&self, context: &Context<'_>) -> Option<String> {
        let pieces = self.put_in(context)?;
        let texts = pieces.iter().map(|piece| if let Piece::Text(text) = piece { &**text } else { "" });
        Some(texts.collect())
    }

    /// What is put in is text: its stars are no wildcards.
    fn put_in(&self, context: &Context<'_>) -> Option<Vec<Piece>> {
        let mut room = PUT_IN_MAX_BYTES;
        let put_in = self.parts.iter().map(|part| match part {
            Part::Piece(piece) => Some(piece.clone()),
            Part::Variable { key, default } => {
                let mut values = context.values(key);
                let value = match (values.next(), values.next()) {
                    (Some(value), None) => value,
                    (None, _) => default.as_deref()?,
                    (Some(_), Some(_)) => return None,
                };
                room = room.checked_sub(value.len())?;
                Some(Piece::Text(value.to_owned()))
            }
        });
        put_in.collect()
    }

    /// The keys of its variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| if let Part::Variable { key, .. } = part { Some(&**key) } else { None })
    }

    /// Neither wildcards nor variables: it stands for one text only.
    pub(crate) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Piece(Piece::Text(_))))
    }

    /// The text before the first wildcard or variable.
    pub(crate) fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Piece(Piece::Text(text))) => text,
            _ => "",
        }
    }

    /// Whether some text that begins with `beginning` and is longer may match, whatever the variables are.
    pub(crate) fn may_go_on_from(&self, beginning: &str) -> bool {
        let mut rest = beginning;
        for part in &self.parts {
            match part {
                Part::Piece(Piece::Many) | Part::Variable { .. } => return true,
                Part::Piece(Piece::One) => match rest.chars().next() {
                    Some(letter) => rest = &rest[letter.len_utf8()..],
                    None => return true,
                },
                Part::Piece(Piece::Text(text)) => match rest.strip_prefix(&**text) {
                    Some(after) => rest = after,
                    None => return text.len() > rest.len() && text.starts_with(rest),
                },
            }
        }
        false
    }

    /// Whether it may match the text, whatever the variables are.
    pub(crate) fn may_match(&self, text: &str) -> bool {
        let pieces = self.parts.iter().map(|part| match part {
            Part::Piece(piece) => piece.clone(),
            Part::Variable { .. } => Piece::Many,
        });
        Pattern::of(&pieces.collect::<Vec<_>>()).matches(text)
    }
}

fn push_text(parts: &mut Vec<Part>, text: &mut String) {
    if !text.is_empty() {
        parts.push(Part::Piece(Piece::Text(std::mem::take(text))));
    }
}

/// What follows `${`, and what follows that: a letter that would else mean something, or a variable.
fn escape_or_variable(inside: &str) -> Option<(Result<char, Part>, &str)> {
    let end = inside.find(['}', ',', '\''])?;
    let (key, rest) = inside.split_at(end);
    if let Some(after) = rest.strip_prefix('}') {
        return Some(match key {
            "*" => (Ok('*'), after),
            "?" => (Ok('?'), after),
            "$" => (Ok('$'), after),
            _ => (Err(variable(key, None)?), after),
        });
    }
    let default = rest.strip_prefix(',')?.trim_start_matches(' ').strip_prefix('\'')?;
    let (default, after) = default.split_once('\'')?;
    let after = after.trim_start_matches(' ').strip_prefix('}')?;
    Some((Err(variable(key.trim_end_matches(' '), Some(default))?), after))
}

fn variable(key: &str, default: Option<&str>) -> Option<Part> {
    table::condition_key(key)?;
    Some(Part::Variable { key: key.to_owned(), default: default.map(str::to_owned) })
}
