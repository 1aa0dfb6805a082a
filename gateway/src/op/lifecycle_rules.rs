//! The document of a bucket's lifecycle: into rules, and out again as it was put.

use bytes::Bytes;
use cairn_schema::record::{Expiration, LifecycleFilter, LifecycleRule, NoncurrentExpiration};
use s3s::{S3Error, S3Result, s3_error};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::tag_set::{self, Tagged};
use crate::{
    error::invalid_argument,
    shown::iso_time,
    xml::{Element, Writer, XmlError},
};

const RULES_MAX: usize = 1000;
const ID_MAX_CHARS: usize = 255;
const KEEP_NEWER_MAX: u32 = 100;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A rule, and how it was put.
pub(super) struct Put {
    pub(super) rule: LifecycleRule,
    /// With the prefix of before there were filters.
    legacy: bool,
    spelling: Spelling,
    keep_newer: Option<u32>,
    marker: Option<bool>,
}

/// How a filter was put.
#[derive(Clone, Copy, Default)]
struct Spelling {
    /// With an `And`.
    joined: bool,
    /// With a prefix, be it an empty one.
    prefix: bool,
}

/// # Errors
/// S3's, and NotImplemented for transitions.
pub(super) fn read(root: &Element) -> S3Result<Vec<Put>> {
    let ([], rules) = root.fields_and_some([], "Rule", RULES_MAX)?;
    let rules: Vec<Put> = rules.into_iter().map(read_rule).collect::<S3Result<_>>()?;
    let mut ids: Vec<&str> = rules.iter().map(|put| put.rule.id.as_str()).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = "Rule ID must be unique. Found same ID for more than one rule";
        return Err(invalid_argument("ID", pair[0], message));
    }
    Ok(rules)
}

fn read_rule(element: &Element) -> S3Result<Put> {
    let names = [
        "ID",
        "Prefix",
        "Filter",
        "Status",
        "Expiration",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
    ];
    let (fields, transitions) = element.fields_and_lists(names, ["Transition", "NoncurrentVersionTransition"])?;
    let [id, prefix, filter, status, expiration, noncurrent, abort] = fields;
    if transitions.iter().any(|list| !list.is_empty()) {
        return Err(s3_error!(NotImplemented, "Transitions between storage classes are not implemented."));
    }
    let id = match id.map(Element::value).transpose()?.filter(|id| !id.is_empty()) {
        Some(id) if id.chars().count() > ID_MAX_CHARS => {
            return Err(invalid_argument("ID", id, "ID length should not exceed allowed limit of 255"));
        }
        Some(id) => id.to_owned(),
        None => hex::encode(rand::random::<[u8; 24]>()),
    };
    let enabled = match element.required(status, "Status")?.word()? {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(XmlError::Value("Status".into()).into()),
    };
    let (read_filter, spelling) = match (prefix, filter) {
        (Some(prefix), None) => (predicates(Some(prefix), Vec::new(), None, None)?, Spelling::default()),
        (None, Some(filter)) => read_filter(filter)?,
        (None, None) => return Err(XmlError::Missing { parent: "Rule".into(), element: "Filter" }.into()),
        (Some(_), Some(_)) => return Err(unexpected("Rule", "Prefix")),
    };
    let (expiration, marker) = expiration.map(read_expiration).transpose()?.unwrap_or_default();
    let noncurrent = noncurrent.map(read_noncurrent).transpose()?;
    let abort_uploads_days = abort.map(read_abort).transpose()?;
    let rule = LifecycleRule {
        id,
        enabled,
        filter: read_filter,
        expiration,
        noncurrent: noncurrent.map(|(noncurrent, _)| noncurrent),
        abort_uploads_days,
    };
    if expiration.is_none() && marker.is_none() && rule.noncurrent.is_none() && abort_uploads_days.is_none() {
        return Err(s3_error!(InvalidRequest, "At least one action needs to be specified in a rule"));
    }
    check_together(&rule)?;
    Ok(Put { rule, legacy: prefix.is_some(), spelling, keep_newer: noncurrent.and_then(|(_, keep)| keep), marker })
}

/// Some actions know nothing of what some filters ask.
fn check_together(rule: &LifecycleRule) -> S3Result<()> {
    let sized = rule.filter.larger_than.is_some() || rule.filter.smaller_than.is_some();
    let tagged = !rule.filter.tags.is_empty();
    let message = match (rule.abort_uploads_days, rule.expiration) {
        (Some(_), _) if tagged => "AbortIncompleteMultipartUpload cannot be specified with Tags.",
        (Some(_), _) if sized => "AbortIncompleteMultipartUpload cannot be specified with Object Size.",
        (_, Some(Expiration::LoneMarkers)) if tagged => "ExpiredObjectDeleteMarker cannot be specified with Tags.",
        (_, Some(Expiration::LoneMarkers)) if sized => {
            "ExpiredObjectDeleteMarker cannot be specified with Object Size."
        }
        _ => return Ok(()),
    };
    Err(s3_error!(InvalidRequest, "{message}"))
}

fn unexpected(parent: &str, element: &str) -> S3Error {
    XmlError::UnknownElement { parent: parent.into(), element: element.into() }.into()
}

fn read_filter(filter: &Element) -> S3Result<(LifecycleFilter, Spelling)> {
    let fields = filter.fields(["Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan", "And"])?;
    if fields.iter().flatten().count() > 1 {
        return Err(unexpected("Filter", "And"));
    }
    let [prefix, tag, larger, smaller, and] = fields;
    let Some(and) = and else {
        let spelling = Spelling { joined: false, prefix: prefix.is_some() };
        return Ok((predicates(prefix, tag.into_iter().collect(), larger, smaller)?, spelling));
    };
    let ([prefix, larger, smaller], tags) =
        and.fields_and_list(["Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan"], Some("Tag"))?;
    let count = [prefix, larger, smaller].iter().flatten().count() + tags.len();
    if count < 2 {
        return Err(XmlError::Missing { parent: "And".into(), element: "Tag" }.into());
    }
    let spelling = Spelling { joined: true, prefix: prefix.is_some() };
    Ok((predicates(prefix, tags, larger, smaller)?, spelling))
}

fn predicates(
    prefix: Option<&Element>,
    tags: Vec<&Element>,
    larger: Option<&Element>,
    smaller: Option<&Element>,
) -> S3Result<LifecycleFilter> {
    let filter = LifecycleFilter {
        prefix: prefix.map(Element::value).transpose()?.unwrap_or_default().to_owned(),
        tags: tag_set::read_tags(tags)?,
        larger_than: larger.map(Element::number).transpose()?,
        smaller_than: smaller.map(Element::number).transpose()?,
    };
    tag_set::check(&filter.tags, Tagged::Object)?;
    if let (Some(larger), Some(smaller)) = (filter.larger_than, filter.smaller_than)
        && larger >= smaller
    {
        let message = "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.";
        return Err(s3_error!(InvalidRequest, "{message}"));
    }
    Ok(filter)
}

/// S3 takes days of one and more.
fn days(element: &Element, action: &str) -> S3Result<u32> {
    let word = element.word()?;
    let number: i64 = word.parse().map_err(|_| XmlError::Value(element.name.clone()))?;
    u32::try_from(number).ok().filter(|days| (1..=i32::MAX as u32).contains(days)).ok_or_else(|| {
        let message = format!("'{}' for {action} action must be a positive integer", element.name);
        invalid_argument(&element.name, word, message)
    })
}

fn read_expiration(element: &Element) -> S3Result<(Option<Expiration>, Option<bool>)> {
    let fields = element.fields(["Days", "Date", "ExpiredObjectDeleteMarker"])?;
    if fields.iter().flatten().count() != 1 {
        return Err(XmlError::Missing { parent: "Expiration".into(), element: "Days" }.into());
    }
    let [in_days, date, marker] = fields;
    if let Some(element) = in_days {
        return Ok((Some(Expiration::Days(days(element, "Expiration")?)), None));
    }
    if let Some(date) = date {
        return Ok((Some(Expiration::Date(read_date(date)?)), None));
    }
    let marker = marker.map(Element::flag).transpose()?;
    Ok(((marker == Some(true)).then_some(Expiration::LoneMarkers), marker))
}

fn read_date(element: &Element) -> S3Result<u64> {
    let word = element.word()?;
    let whole = if word.len() == 10 { format!("{word}T00:00:00Z") } else { word.to_owned() };
    let date = OffsetDateTime::parse(&whole, &Rfc3339).ok();
    let ms = date.and_then(|date| u64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok());
    let ms = ms.ok_or_else(|| XmlError::Value("Date".into()))?;
    if ms % DAY_MS != 0 {
        return Err(invalid_argument("Date", word, "'Date' must be at midnight GMT"));
    }
    Ok(ms)
}

fn read_noncurrent(element: &Element) -> S3Result<(NoncurrentExpiration, Option<u32>)> {
    const ACTION: &str = "NoncurrentVersionExpiration";
    let [in_days, keep] = element.fields(["NoncurrentDays", "NewerNoncurrentVersions"])?;
    let in_days = days(element.required(in_days, "NoncurrentDays")?, ACTION)?;
    let keep = keep.map(|keep| days(keep, ACTION)).transpose()?;
    if let Some(keep) = keep.filter(|keep| *keep > KEEP_NEWER_MAX) {
        let message = format!("'NewerNoncurrentVersions' for {ACTION} action must be at most {KEEP_NEWER_MAX}");
        return Err(invalid_argument("NewerNoncurrentVersions", &keep.to_string(), message));
    }
    Ok((NoncurrentExpiration { days: in_days, keep_newer: keep.unwrap_or(0) }, keep))
}

fn read_abort(element: &Element) -> S3Result<u32> {
    let [after] = element.fields(["DaysAfterInitiation"])?;
    days(element.required(after, "DaysAfterInitiation")?, "AbortIncompleteMultipartUpload")
}

pub(super) fn write(rules: &[Put]) -> Bytes {
    Writer::document("LifecycleConfiguration", |xml| {
        for put in rules {
            xml.element("Rule", |xml| put.write(xml));
        }
    })
}

impl Put {
    fn write(&self, xml: &mut Writer) {
        let rule = &self.rule;
        xml.text("ID", &rule.id);
        if self.legacy {
            xml.text("Prefix", &rule.filter.prefix);
        } else {
            xml.element("Filter", |xml| match self.spelling.joined {
                true => xml.element("And", |xml| self.write_predicates(xml)),
                false => self.write_predicates(xml),
            });
        }
        xml.text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
        if rule.expiration.is_some() || self.marker.is_some() {
            xml.element("Expiration", |xml| match rule.expiration {
                Some(Expiration::Days(days)) => xml.shown("Days", days),
                Some(Expiration::Date(ms)) => xml.text("Date", &iso_time(ms)),
                Some(Expiration::LoneMarkers) | None => xml.optional("ExpiredObjectDeleteMarker", self.marker),
            });
        }
        if let Some(noncurrent) = rule.noncurrent {
            xml.element("NoncurrentVersionExpiration", |xml| {
                xml.shown("NoncurrentDays", noncurrent.days);
                xml.optional("NewerNoncurrentVersions", self.keep_newer);
            });
        }
        if let Some(days) = rule.abort_uploads_days {
            xml.element("AbortIncompleteMultipartUpload", |xml| xml.shown("DaysAfterInitiation", days));
        }
    }

    fn write_predicates(&self, xml: &mut Writer) {
        let filter = &self.rule.filter;
        xml.optional("Prefix", self.spelling.prefix.then_some(&filter.prefix));
        xml.optional("ObjectSizeGreaterThan", filter.larger_than);
        xml.optional("ObjectSizeLessThan", filter.smaller_than);
        for (key, value) in &filter.tags {
            xml.element("Tag", |xml| {
                xml.text("Key", key);
                xml.text("Value", value);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::xml::parse;

    fn configuration(rules: &str) -> S3Result<Vec<Put>> {
        read(&parse(format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>").as_bytes()).unwrap())
    }

    fn rule(inner: &str) -> String {
        format!("<Rule><ID>r</ID><Filter></Filter><Status>Enabled</Status>{inner}</Rule>")
    }

    const DAYS: &str = "<Expiration><Days>1</Days></Expiration>";

    #[test]
    fn rules_come_back_as_they_were_put() {
        let filtered = |filter: &str, actions: &str| {
            format!("<Rule><ID>r &amp; s</ID>{filter}<Status>Disabled</Status>{actions}</Rule>")
        };
        let and = "<Filter><And><Prefix></Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan>\
            <Tag><Key>a</Key><Value>b</Value></Tag><Tag><Key>c</Key><Value></Value></Tag></And></Filter>";
        let noncurrent = "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays><NewerNoncurrentVersions>2</NewerNoncurrentVersions>\
            </NoncurrentVersionExpiration>";
        let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
        for (filter, actions) in [
            ("<Filter></Filter>", DAYS),
            ("<Filter><Prefix></Prefix></Filter>", DAYS),
            ("<Prefix>logs/</Prefix>", noncurrent),
            (and, "<Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration>"),
            ("<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>", noncurrent),
            ("<Filter><ObjectSizeLessThan>5</ObjectSizeLessThan></Filter>", DAYS),
            ("<Filter><Prefix>x</Prefix></Filter>", abort),
            (
                "<Filter></Filter>",
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            ),
            (
                "<Filter></Filter>",
                "<Expiration><ExpiredObjectDeleteMarker>false</ExpiredObjectDeleteMarker></Expiration>",
            ),
        ] {
            let put = filtered(filter, actions);
            let written = String::from_utf8(write(&configuration(&put).unwrap()).to_vec()).unwrap();
            assert!(written.contains(&put), "{put}\n{written}");
        }
    }

    #[test]
    fn what_s3_does_not_take_is_refused() {
        let code = |rules: &str| match configuration(rules) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code().as_str().to_owned(),
        };
        let expiration = |inner: &str| rule(&format!("<Expiration>{inner}</Expiration>"));
        let filter = |filter: &str, action: &str| rule(action).replace("<Filter></Filter>", filter);
        let tag = "<Tag><Key>a</Key><Value>b</Value></Tag>";
        let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
        for (rules, outcome) in [
            (String::new(), "MalformedXML"),
            (rule(""), "InvalidRequest"),
            (rule(DAYS) + &rule(DAYS), "InvalidArgument"),
            (rule(DAYS).replace("Enabled", "On"), "MalformedXML"),
            (rule(DAYS).replace("<Filter></Filter>", ""), "MalformedXML"),
            (filter("<Filter></Filter><Prefix>a</Prefix>", DAYS), "MalformedXML"),
            (rule(DAYS).replace("<ID>r", &format!("<ID>{}", "r".repeat(256))), "InvalidArgument"),
            (expiration("<Days>0</Days>"), "InvalidArgument"),
            (expiration("<Days>x</Days>"), "MalformedXML"),
            (expiration("<Days>1</Days><Date>2030-01-01</Date>"), "MalformedXML"),
            (expiration("<Date>2030-01-01</Date>"), "ok"),
            (expiration("<Date>2030-01-01T01:00:00Z</Date>"), "InvalidArgument"),
            (expiration(""), "MalformedXML"),
            (filter(&format!("<Filter><Prefix>a</Prefix>{tag}</Filter>"), DAYS), "MalformedXML"),
            (filter(&format!("<Filter><And>{tag}</And></Filter>"), DAYS), "MalformedXML"),
            (filter(&format!("<Filter><And>{tag}{tag}</And></Filter>"), DAYS), "InvalidTag"),
            (filter(&format!("<Filter>{tag}</Filter>"), abort), "InvalidRequest"),
            (rule("<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"), "NotImplemented"),
            (rule("<NoncurrentVersionExpiration/>"), "MalformedXML"),
        ] {
            assert_eq!(code(&rules), outcome, "{rules}");
        }
        let many: String = (0..1001).map(|number| rule(DAYS).replace("<ID>r", &format!("<ID>{number}"))).collect();
        assert_eq!(code(&many), "MalformedXML");
        let unnamed = configuration(&rule(DAYS).replace("<ID>r</ID>", "")).unwrap();
        assert_eq!(unnamed[0].rule.id.len(), 48, "it is given a name");
    }
}
