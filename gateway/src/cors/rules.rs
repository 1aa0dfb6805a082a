//! The document of a bucket's rules, and what a rule allows.

use bytes::Bytes;
use http::HeaderValue;
use s3s::{S3Result, s3_error};

use super::asked::CrossOrigin;
use crate::xml::{Element, Writer, XmlError};

const RULES_MAX: usize = 100;
const ID_MAX_CHARS: usize = 255;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

/// In the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    id: Option<String>,
    /// Each with one `*` at most.
    headers: Vec<String>,
    pub(super) methods: Vec<String>,
    /// Each with one `*` at most.
    origins: Vec<String>,
    pub(super) exposed_headers: Vec<String>,
    pub(super) max_age_seconds: Option<u32>,
}

impl Rules {
    pub(crate) fn read(document: &Element) -> S3Result<Self> {
        let ([], rules) = document.root("CORSConfiguration")?.fields_and_some([], "CORSRule", RULES_MAX)?;
        rules.into_iter().map(Rule::read).collect::<S3Result<_>>().map(Self)
    }

    pub(crate) fn write(&self) -> Bytes {
        Writer::document("CORSConfiguration", |xml| {
            for rule in &self.0 {
                xml.element("CORSRule", |xml| rule.write(xml));
            }
        })
    }

    pub(super) fn first_that_allows(&self, asked: &CrossOrigin) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.allows(asked))
    }
}

impl Rule {
    fn read(rule: &Element) -> S3Result<Self> {
        let lists = ["AllowedHeader", "AllowedMethod", "AllowedOrigin", "ExposeHeader"];
        let (fields, [headers, methods, origins, exposed_headers]) =
            rule.fields_and_lists(["ID", "MaxAgeSeconds"], lists)?;
        let [id, max_age] = fields;
        let read = Self {
            id: id.map(Element::value).transpose()?.map(ToOwned::to_owned),
            headers: texts(&headers)?,
            methods: texts(&methods)?,
            origins: texts(&origins)?,
            exposed_headers: texts(&exposed_headers)?,
            max_age_seconds: max_age.map(Element::number).transpose()?,
        };
        let missing = |element| XmlError::Missing { parent: "CORSRule".into(), element };
        if read.methods.is_empty() {
            return Err(missing("AllowedMethod").into());
        }
        if read.origins.is_empty() {
            return Err(missing("AllowedOrigin").into());
        }
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> S3Result<()> {
        if self.id.as_ref().is_some_and(|id| id.chars().count() > ID_MAX_CHARS) {
            return Err(XmlError::Value("ID".into()).into());
        }
        if let Some(method) = self.methods.iter().find(|method| !is_method(method)) {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        for (element, patterns) in [("AllowedOrigin", &self.origins), ("AllowedHeader", &self.headers)] {
            if let Some(pattern) = patterns.iter().find(|pattern| pattern.matches('*').count() > 1) {
                return Err(s3_error!(InvalidRequest, "{element} \"{pattern}\" can not have more than one wildcard."));
            }
        }
        if let Some(name) = self.exposed_headers.iter().find(|name| name.contains('*')) {
            return Err(s3_error!(
                InvalidRequest,
                "ExposeHeader \"{name}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
            ));
        }
        // They are sent as they are.
        if !self.exposed_headers.iter().all(|name| HeaderValue::from_bytes(name.as_bytes()).is_ok()) {
            return Err(XmlError::Value("ExposeHeader".into()).into());
        }
        Ok(())
    }

    fn write(&self, xml: &mut Writer) {
        xml.optional("ID", self.id.as_deref());
        for (element, texts) in [
            ("AllowedHeader", &self.headers),
            ("AllowedMethod", &self.methods),
            ("AllowedOrigin", &self.origins),
            ("ExposeHeader", &self.exposed_headers),
        ] {
            for text in texts {
                xml.text(element, text);
            }
        }
        xml.optional("MaxAgeSeconds", self.max_age_seconds);
    }

    fn allows(&self, asked: &CrossOrigin) -> bool {
        let Some(origin) = asked.origin() else { return false };
        let header_allowed = |name: &String| self.headers.iter().any(|pattern| fits(&pattern.to_lowercase(), name));
        self.origins.iter().any(|pattern| fits(pattern, origin))
            && self.methods.iter().any(|method| method == asked.method())
            && asked.requested_headers().iter().all(header_allowed)
    }

    pub(super) fn allows_every_origin(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }
}

fn texts(elements: &[&Element]) -> Result<Vec<String>, XmlError> {
    elements.iter().map(|element| element.word().map(ToOwned::to_owned)).collect()
}

/// Whether a text is the pattern with something, or nothing, in the place of its `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::xml::parse;

    fn read(rules: &str) -> S3Result<Rules> {
        Rules::read(&parse(format!("<CORSConfiguration>{rules}</CORSConfiguration>").as_bytes()).unwrap())
    }

    const LEAST: &str = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";

    #[test]
    fn a_pattern_has_its_ends_and_anything_between() {
        for (pattern, text, outcome) in [
            ("*", "", true),
            ("*", "http://a", true),
            ("http://*.example.com", "http://a.b.example.com", true),
            ("http://*.example.com", "http://.example.com", true),
            ("http://*.example.com", "http://example.com", false),
            ("http://*.example.com", "http://a.example.com/", false),
            ("http://*.example.com", "xhttp://a.example.com", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("http://a", "http://A", false),
            ("http://a", "http://a", true),
        ] {
            assert_eq!(fits(pattern, text), outcome, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_come_back_as_they_were_read() {
        let rules = read(&format!(
            "<CORSRule>{LEAST}</CORSRule><CORSRule><ID>a b</ID><AllowedMethod>PUT</AllowedMethod><AllowedMethod>HEAD</AllowedMethod>\
             <AllowedOrigin/><AllowedOrigin>http://*</AllowedOrigin><AllowedHeader>X-Amz-*</AllowedHeader>\
             <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule>"
        ))
        .unwrap();
        assert_eq!(Rules::read(&parse(&rules.write()).unwrap()).unwrap(), rules);
        assert_eq!((rules.0.len(), rules.0[1].max_age_seconds), (2, Some(3000)));
    }

    #[test]
    fn what_s3_does_not_take_is_refused() {
        let code = |rules: &str| read(rules).map_or_else(|error| error.code().as_str().to_owned(), |_| "ok".into());
        let rule = |more: &str| code(&format!("<CORSRule>{LEAST}{more}</CORSRule>"));
        assert_eq!(code(""), "MalformedXML");
        assert_eq!(code(&format!("<CORSRule>{LEAST}</CORSRule>").repeat(100)), "ok");
        assert_eq!(code(&format!("<CORSRule>{LEAST}</CORSRule>").repeat(101)), "MalformedXML");
        assert_eq!(code("<CORSRule/>"), "MalformedXML");
        assert_eq!(code("<CORSRule><AllowedMethod>GET</AllowedMethod></CORSRule>"), "MalformedXML");
        assert_eq!(code("<CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>"), "MalformedXML");
        for (more, outcome) in [
            ("<AllowedMethod>OPTIONS</AllowedMethod>", "InvalidRequest"),
            ("<AllowedMethod>get</AllowedMethod>", "InvalidRequest"),
            ("<AllowedMethod/>", "InvalidRequest"),
            ("<AllowedOrigin>*a*</AllowedOrigin>", "InvalidRequest"),
            ("<AllowedHeader>*a*</AllowedHeader>", "InvalidRequest"),
            ("<ExposeHeader>x-*</ExposeHeader>", "InvalidRequest"),
            ("<ExposeHeader>a&#10;b</ExposeHeader>", "MalformedXML"),
            ("<MaxAgeSeconds>-1</MaxAgeSeconds>", "MalformedXML"),
            ("<MaxAgeSeconds>1</MaxAgeSeconds><MaxAgeSeconds>1</MaxAgeSeconds>", "MalformedXML"),
            ("<AllowedHost>a</AllowedHost>", "MalformedXML"),
            ("<AllowedHeader>*</AllowedHeader><ExposeHeader/>", "ok"),
        ] {
            assert_eq!(rule(more), outcome, "{more}");
        }
        assert_eq!(rule(&format!("<ID>{}</ID>", "é".repeat(255))), "ok");
        assert_eq!(rule(&format!("<ID>{}</ID>", "é".repeat(256))), "MalformedXML");
    }
}
