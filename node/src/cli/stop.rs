//! `cairn admin safe-to-stop`: may it be stopped? The exit code is the answer.

use std::fmt::Write;

use serde::Deserialize;

use super::{
    ask::{self, Page},
    operate_args::{NamedArg, SafeToStopArgs},
};
use crate::{failure::Failure, words::plural};

const PAGE: Page = Page { path: "/v1/safe-to-stop", refused: Failure::NoAnswer };

/// What is printed, and what the process ends with.
pub(crate) struct Told {
    pub text: String,
    pub code: u8,
}

const YES: u8 = 0;
const NO: u8 = 1;
/// Also of errors: whoever is not told yes must not stop anything.
pub(crate) const UNKNOWN: u8 = 2;

/// `/v1/safe-to-stop`, read leniently; what does not say yes is no yes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnswerView {
    seen_by: String,
    names: Vec<String>,
    disks: usize,
    counted_as_stopped: Vec<String>,
    answer: String,
    least_before: Option<i64>,
    least_after: Option<i64>,
    unreadable_groups: u64,
    unreadable_stripes: Option<u64>,
    doubtful_groups: u64,
    writes: Vec<WritesView>,
    why: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WritesView {
    scheme: String,
    writes: String,
    why: Option<String>,
    groups_refusing: u64,
    groups: u64,
}

/// Asks a node, and says what it answered.
pub(crate) async fn run(args: &SafeToStopArgs) -> Result<Told, Failure> {
    let pairs: Vec<String> = args.names.iter().map(|name| format!("{}={}", args.kind.name(), encoded(name))).collect();
    let json = PAGE.look(&args.api.admin, &pairs.join("&")).await?;
    let answer: AnswerView = ask::read(&args.api.admin, &json)?;
    let code = answer.code(args.writes);
    let text = match args.api.json {
        true => String::from_utf8_lossy(&json).into_owned(),
        false => answer.in_words(args.kind, args.writes),
    };
    Ok(Told { text, code })
}

/// As in a URL's query.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    name.bytes().fold(String::new(), |mut text, byte| {
        match plain(byte) {
            true => text.push(byte.into()),
            false => text += &format!("%{byte:02X}"),
        }
        text
    })
}

impl AnswerView {
    fn refuses_writes(&self) -> bool {
        // A node that does not tell of any scheme does not say that writes go on.
        self.writes.is_empty() || self.writes.iter().any(|scheme| !matches!(&*scheme.writes, "whole" | "degraded"))
    }

    fn code(&self, writes: bool) -> u8 {
        match &*self.answer {
            "yes" if writes && self.refuses_writes() => NO,
            "yes" => YES,
            "no" => NO,
            _ => UNKNOWN,
        }
    }

    fn in_words(&self, kind: NamedArg, writes: bool) -> String {
        let names = self.names.join(", ");
        let kind = kind.name();
        let s = if self.names.len() == 1 { "" } else { "s" };
        // Writing to a String cannot fail, so results are dropped throughout.
        let mut text = String::new();
        let _ = match (self.code(writes), &*self.answer) {
            (YES, _) if self.refuses_writes() => {
                writeln!(text, "yes, {kind}{s} {names} may be stopped: reads stay whole, new writes would be refused")
            }
            (YES, _) => writeln!(text, "yes, {kind}{s} {names} may be stopped"),
            (_, "yes") => {
                writeln!(text, "no: without {kind}{s} {names} new writes would be refused; reads would stay whole")
            }
            (NO, _) => writeln!(text, "no: without {kind}{s} {names} there would be data that cannot be read"),
            _ => writeln!(text, "cannot tell whether {kind}{s} {names} may be stopped, so do not"),
        };
        let left = |least: Option<i64>| match least {
            None => "nothing is stored".to_owned(),
            Some(left @ ..0) => format!("{} too few", plural(left.unsigned_abs() as usize, "fragment")),
            Some(0) => "nothing more".to_owned(),
            Some(left) => format!("{} more", plural(left as usize, "fragment")),
        };
        let _ = writeln!(
            text,
            "  {} seen by {}; the stripe with the least could lose: {} now, {} then",
            plural(self.disks, "disk"),
            self.seen_by,
            left(self.least_before),
            left(self.least_after)
        );
        if self.unreadable_groups + self.doubtful_groups > 0 {
            let stripes = self.unreadable_stripes.map_or("it is not known how many".to_owned(), |n| n.to_string());
            let _ = writeln!(
                text,
                "  groups with too little: {} for certain, {} perhaps; stripes: {stripes}",
                self.unreadable_groups, self.doubtful_groups
            );
        }
        for WritesView { scheme, writes, why, groups_refusing, groups } in &self.writes {
            let how = match &**writes {
                "whole" => "go on",
                "degraded" => "go on, to groups with members away",
                _ => "would be REFUSED",
            };
            let why = why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "  writes of {scheme} {how} ({groups_refusing} of {groups} groups would take none){why}"
            );
        }
        if !self.counted_as_stopped.is_empty() {
            let _ = writeln!(
                text,
                "  under maintenance, and so counted as stopped: {}",
                self.counted_as_stopped.join(", ")
            );
        }
        for why in &self.why {
            let _ = writeln!(text, "  {why}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn view(answer: &str, writes: &str) -> AnswerView {
        let page = json!({
            "format": 1, "seen_by": "n2", "kind": "node", "names": ["n1"], "disks": 2, "answer": answer,
            "least_before": 2, "least_after": 0, "unreadable_groups": 0, "unreadable_stripes": 0, "doubtful_groups": 0,
            "writes": [{"scheme": "4+2", "writes": writes, "why": "too few racks", "groups_refusing": 3, "groups": 9}],
            "counted_as_stopped": ["n9"], "why": ["because"], "of_the_future": 1
        });
        serde_json::from_value(page).unwrap()
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, writes, asked, code) in [
            ("yes", "whole", false, 0),
            ("yes", "degraded", true, 0),
            ("yes", "refused", false, 0),
            ("yes", "refused", true, 1),
            ("yes", "of the future", true, 1),
            ("no", "whole", false, 1),
            ("unknown", "whole", false, 2),
            ("perhaps", "whole", true, 2),
            ("", "whole", true, 2),
        ] {
            assert_eq!(view(answer, writes).code(asked), code, "{answer} {writes} {asked}");
        }
        assert_eq!(AnswerView::default().code(false), UNKNOWN);
        assert_eq!(AnswerView { answer: "yes".into(), ..AnswerView::default() }.code(true), NO, "no word about writes");
    }

    #[test]
    fn the_first_line_is_the_answer() {
        let first = |answer: &str, writes: &str, asked| {
            let words = view(answer, writes).in_words(NamedArg::Node, asked);
            words.lines().next().unwrap().to_owned()
        };
        assert_eq!(first("yes", "whole", false), "yes, node n1 may be stopped");
        let qualified = first("yes", "refused", false);
        assert_eq!(qualified, "yes, node n1 may be stopped: reads stay whole, new writes would be refused");
        assert!(first("yes", "refused", true).starts_with("no: without node n1 new writes would be refused"));
        assert!(first("no", "whole", false).starts_with("no: without node n1 there would be data"));
        assert!(first("unknown", "whole", false).starts_with("cannot tell"));
        let words = view("yes", "refused").in_words(NamedArg::Node, false);
        for part in [
            "could lose: 2 fragments more now, nothing more then",
            "writes of 4+2 would be REFUSED (3 of 9 groups would take none): too few racks",
            "counted as stopped: n9",
            "  because\n",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(encoded("z1/r1"), "z1/r1");
        assert_eq!(encoded("r 1&é"), "r%201%26%C3%A9");
    }
}
