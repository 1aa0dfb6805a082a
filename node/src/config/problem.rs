//! What is wrong with a configuration file, said so that it can be put right: file, line, field, what and what to do.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

/// One thing wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// From 1; None when nothing in the file can be pointed at.
    pub line: Option<usize>,
    /// Such as `policy.scheme` or `disks[1].path`.
    pub field: Option<String>,
    pub what: String,
    /// What to do about it; empty when `what` says so already.
    pub fix: String,
}

/// A file that cannot be used as a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: cannot be read: {why}", file.display())]
    Read { file: PathBuf, why: String },
    #[error("{}", Listing(file, problems))]
    Invalid { file: PathBuf, problems: Vec<Problem> },
}

/// One problem a line, in the form editors and CI logs turn into links.
struct Listing<'a>(&'a PathBuf, &'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.1.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.0.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            if let Some(field) = &problem.field {
                write!(f, " {field}:")?;
            }
            write!(f, " {}", problem.what)?;
            if !problem.fix.is_empty() {
                write!(f, " ({})", problem.fix)?;
            }
        }
        Ok(())
    }
}

/// Collects problems of one file and finds the lines of its fields.
pub(crate) struct Findings<'a> {
    text: &'a str,
    table: Option<DeTable<'a>>,
    pub problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let table = DeTable::parse(text).ok().map(toml::Spanned::into_inner);
        Self { text, table, problems: Vec::new() }
    }

    /// Notes that `field` is wrong. Its line is that of the field or, if it is absent, of the nearest table around it.
    pub(crate) fn refuse(&mut self, field: &str, what: impl Into<String>, fix: impl Into<String>) {
        let line = self.span_of(field).map(|span| self.line_at(span.start));
        self.problems.push(Problem { line, field: Some(field.to_owned()), what: what.into(), fix: fix.into() });
    }

    /// Notes what the parser refused.
    pub(crate) fn refuse_parse(&mut self, error: &toml::de::Error) {
        let span = error.span();
        let line = span.as_ref().map(|span| self.line_at(span.start));
        let field = span.and_then(|span| self.field_at(span));
        let fix = match error.message() {
            message if message.starts_with("unknown field") => "remove it, or correct its spelling",
            message if message.starts_with("missing field") => "add it; ops/config has commented examples",
            _ => "",
        };
        self.problems.push(Problem { line, field, what: error.message().to_owned(), fix: fix.to_owned() });
    }

    /// Whether anything was noted, as the error of the file at `path`.
    pub(crate) fn verdict(self, path: &Path) -> Result<(), ConfigError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Invalid { file: path.to_owned(), problems: self.problems })
    }

    fn line_at(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
    }

    fn span_of(&self, field: &str) -> Option<Range<usize>> {
        let mut table = self.table.as_ref()?;
        let mut best = None;
        for segment in field.split('.') {
            let (name, index) = match segment.split_once('[') {
                Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
                None => (segment, None),
            };
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
            best = Some(key.span());
            let mut value = value;
            if let Some(index) = index {
                let Some(element) = value.get_ref().as_array().and_then(|array| array.get(index)) else { break };
                best = Some(element.span());
                value = element;
            }
            match value.get_ref().as_table() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        best
    }

    /// The path of the innermost field whose key or value covers `span`.
    fn field_at(&self, span: Range<usize>) -> Option<String> {
        let path = field_in(self.table.as_ref()?, &span)?;
        (!path.is_empty()).then_some(path)
    }
}

fn field_in(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table.iter() {
        // A table's own span is only its header when it is written as `[name]`, so tables are always looked into.
        if let Some(rest) = field_in_value(value.get_ref(), span) {
            return Some(join(key.get_ref(), &rest));
        }
        if covers(key.span()) || covers(value.span()) {
            return Some(key.get_ref().clone().into_owned());
        }
    }
    None
}

fn field_in_value(value: &DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => field_in(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
            if let Some(rest) = field_in_value(element.get_ref(), span) {
                return Some(join(&format!("[{index}]"), &rest));
            }
            let outer = element.span();
            (outer.start <= span.start && span.end <= outer.end).then(|| format!("[{index}]"))
        }),
        _ => None,
    }
}

fn join(first: &str, rest: &str) -> String {
    if rest.is_empty() || rest.starts_with('[') { format!("{first}{rest}") } else { format!("{first}.{rest}") }
}
