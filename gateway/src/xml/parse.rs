//! From bytes to a small tree in which the spelling of a document no longer shows: entities and CDATA are text,
//! prefixes are resolved, comments and processing instructions are gone. What cannot be understood for certain is
//! refused.

use quick_xml::{
    events::{BytesDecl, BytesRef, BytesStart, Event},
    name::{Namespace, ResolveResult},
    reader::NsReader,
};

/// S3's documents are five elements deep at most.
const DEPTH_MAX: usize = 16;
/// The largest document S3 allows, 10,000 parts with all their fields, has fewer.
const ELEMENTS_MAX: usize = 150_000;
/// More than any document needs, and few enough to be compared with each other.
const ATTRIBUTES_MAX: usize = 16;

/// What S3's own elements may be in, besides no namespace at all.
const S3_NAMESPACES: [&str; 4] = [
    "http://s3.amazonaws.com/doc/2006-03-01/",
    "http://s3.amazonaws.com/doc/2006-03-01",
    "http://doc.s3.amazonaws.com/2006-03-01/",
    "http://doc.s3.amazonaws.com/2006-03-01",
];
const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// An element of S3's with its children and the text directly in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Without prefix.
    pub(crate) name: String,
    /// The value of `xsi:type`, the one attribute that means something.
    pub(crate) instance_type: Option<String>,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
}

/// Why a document is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XmlError {
    #[error("it is empty")]
    Empty,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("its encoding must be UTF-8, not '{0}'")]
    Encoding(String),
    #[error("its XML version must be 1.0")]
    Version,
    #[error("it has a document type declaration, which is not allowed")]
    DocumentType,
    #[error("it is not well-formed at byte {at}: {why}")]
    IllFormed { at: u64, why: String },
    #[error("it has the character U+{:04X}, which XML does not allow", *.0 as u32)]
    Character(char),
    #[error("the reference '&{0};' is unknown")]
    Reference(String),
    #[error("the namespace of the element '{0}' is unknown")]
    Namespace(String),
    #[error("the attribute '{attribute}' of '{element}' is unknown")]
    Attribute { element: String, attribute: String },
    #[error("it is more than {DEPTH_MAX} elements deep")]
    Depth,
    #[error("it has more than {ELEMENTS_MAX} elements")]
    Elements,
    #[error("the element '{element}' is not allowed in '{parent}'")]
    UnknownElement { parent: String, element: String },
    #[error("it begins with '{found}', but '{expected}' is expected")]
    Root { expected: &'static str, found: String },
    #[error("the element '{element}' occurs more than once in '{parent}'")]
    Repeated { parent: String, element: String },
    #[error("the element '{element}' is missing in '{parent}'")]
    Missing { parent: String, element: &'static str },
    #[error("'{parent}' has {count} '{element}', and may have 1 to {max}")]
    Count { parent: String, element: &'static str, count: usize, max: usize },
    #[error("'{0}' has text beside its elements")]
    MixedContent(String),
    #[error("the value of '{0}' is invalid")]
    Value(String),
}

/// Reads a whole document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_matches(is_space).is_empty() {
        return Err(XmlError::Empty);
    }
    if let Some(illegal) = text.chars().find(|&char| !is_allowed(char)) {
        return Err(XmlError::Character(illegal));
    }
    let mut reader = NsReader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let mut tree = Tree::default();
    let mut at_start = true;
    loop {
        let event = reader.read_event().map_err(|error| ill_formed(reader.error_position(), error.to_string()))?;
        match &event {
            Event::Decl(declaration) if at_start => check_declaration(declaration, reader.error_position())?,
            Event::Decl(_) => {
                return Err(ill_formed(reader.buffer_position(), "an XML declaration that is not at the beginning"));
            }
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Start(start) => tree.open(element(&reader, start)?, reader.buffer_position())?,
            Event::Empty(start) => {
                tree.open(element(&reader, start)?, reader.buffer_position())?;
                tree.close();
            }
            Event::End(_) => tree.close(),
            Event::Text(text) => {
                let content = text.xml10_content();
                if content.contains("]]>") {
                    return Err(ill_formed(reader.buffer_position(), "']]>' in text"));
                }
                tree.add_text(&content, reader.buffer_position())?;
            }
            Event::CData(data) => tree.add_data(&data.xml10_content(), reader.buffer_position())?,
            Event::GeneralRef(reference) => {
                let char = resolve(reference)?;
                tree.add_data(char.encode_utf8(&mut [0; 4]), reader.buffer_position())?;
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return tree.finish(reader.buffer_position()),
        }
        at_start = false;
    }
}

fn ill_formed(at: u64, why: impl Into<String>) -> XmlError {
    XmlError::IllFormed { at, why: why.into() }
}

/// White space in the sense of XML.
pub(super) fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\n')
}

/// XML 1.0's production `Char`.
fn is_allowed(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The text is UTF-8 already, so an encoding that ASCII text has in common with it is true too.
fn check_declaration(declaration: &BytesDecl<'_>, at: u64) -> Result<(), XmlError> {
    let version = declaration.version().map_err(|error| ill_formed(at, error.to_string()))?;
    if version != "1.0" {
        return Err(XmlError::Version);
    }
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if ["utf-8", "us-ascii"].iter().any(|known| name.eq_ignore_ascii_case(known)) => Ok(()),
        Some(Ok(name)) => Err(XmlError::Encoding(name.into_owned())),
        Some(Err(error)) => Err(ill_formed(at, error.to_string())),
    }
}

/// Control characters may be referred to, as XML 1.1 allows and as S3 itself writes the keys that have them; only NUL
/// may not.
fn resolve(reference: &BytesRef<'_>) -> Result<char, XmlError> {
    let name: &str = reference;
    let named = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    };
    let numbered = || {
        let number = name.strip_prefix('#')?;
        let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
        // from_str_radix would take a sign.
        let digits = Some(digits).filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))?;
        char::from_u32(u32::from_str_radix(digits, radix).ok()?)
    };
    named
        .or_else(numbered)
        .filter(|&char| is_allowed(char) || (char != '\0' && char < ' '))
        .ok_or_else(|| XmlError::Reference(name.chars().take(64).collect()))
}

/// A start tag: its namespace must be S3's or none, its attributes such as change nothing.
fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let resolver = reader.resolver();
    let (namespace, local) = resolver.resolve_element(start.name());
    let name = local.as_ref().to_owned();
    let known = match namespace {
        ResolveResult::Unbound => true,
        ResolveResult::Bound(Namespace(namespace)) => S3_NAMESPACES.contains(&namespace),
        ResolveResult::Unknown(_) => false,
    };
    if !known {
        return Err(XmlError::Namespace(start.name().as_ref().to_owned()));
    }
    let mut element = Element { name, ..Element::default() };
    for (index, attribute) in start.attributes().enumerate() {
        let attribute = attribute.map_err(|error| ill_formed(reader.buffer_position(), error.to_string()))?;
        let unknown = || XmlError::Attribute {
            element: element.name.clone(),
            attribute: attribute.key.as_ref().chars().take(64).collect(),
        };
        if index >= ATTRIBUTES_MAX {
            return Err(unknown());
        }
        if attribute.key.as_namespace_binding().is_some() || attribute.key.as_ref().starts_with("xml:") {
            continue;
        }
        match resolver.resolve_attribute(attribute.key) {
            (ResolveResult::Bound(Namespace(SCHEMA_INSTANCE)), local) => match local.as_ref() {
                "schemaLocation" | "noNamespaceSchemaLocation" => {}
                "type" => {
                    let value = attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0);
                    element.instance_type = Some(value.map_err(|_| unknown())?.into_owned());
                }
                _ => return Err(unknown()),
            },
            _ => return Err(unknown()),
        }
    }
    Ok(element)
}

/// The document as far as it was read.
#[derive(Default)]
struct Tree {
    /// The elements that are still open, from the root.
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn open(&mut self, element: Element, at: u64) -> Result<(), XmlError> {
        if self.root.is_some() {
            return Err(ill_formed(at, "a second element beside the document's"));
        }
        self.elements += 1;
        if self.open.len() == DEPTH_MAX {
            return Err(XmlError::Depth);
        }
        if self.elements > ELEMENTS_MAX {
            return Err(XmlError::Elements);
        }
        self.open.push(element);
        Ok(())
    }

    /// The reader has compared the names.
    fn close(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn add_text(&mut self, text: &str, at: u64) -> Result<(), XmlError> {
        if self.open.is_empty() && text.chars().all(is_space) {
            return Ok(());
        }
        self.add_data(text, at)
    }

    fn add_data(&mut self, text: &str, at: u64) -> Result<(), XmlError> {
        let open = self.open.last_mut().ok_or_else(|| ill_formed(at, "text outside of the document's element"))?;
        open.text.push_str(text);
        Ok(())
    }

    fn finish(self, at: u64) -> Result<Element, XmlError> {
        match self.open.last() {
            Some(open) => Err(ill_formed(at, format!("'{}' is not closed", open.name))),
            None => self.root.ok_or_else(|| ill_formed(at, "there is no element")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const S3: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

    fn text_of(inner: &str) -> String {
        parse(format!("<Key>{inner}</Key>").as_bytes()).unwrap().text
    }

    fn refused(document: &str) -> XmlError {
        parse(document.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_spelling_of_a_text_is_the_same_text() {
        for (spelling, text) in [
            ("x&lt;&amp;&gt;y", "x<&>y"),
            ("x<![CDATA[<&>]]>y", "x<&>y"),
            ("<![CDATA[x]]><![CDATA[<&>y]]>", "x<&>y"),
            ("x<!-- a comment -->&#60;<?pi?>&#x26;&gt;y", "x<&>y"),
            ("&#127881;.txt", "\u{1f389}.txt"),
            ("&#x1F389;&#x10FFFF;&#x10000;", "\u{1f389}\u{10ffff}\u{10000}"),
            ("&quot;&apos;", "\"'"),
            (" a\tb ", " a\tb "),
            ("a&#8;b&#x1f;", "a\u{8}b\u{1f}"),
            // The ends of lines are one character each, unless they are referred to.
            ("a\r\nb\rc", "a\nb\nc"),
            ("a&#13;&#10;b", "a\r\nb"),
            ("<![CDATA[a\r\nb&amp;]]>", "a\nb&amp;"),
            ("", ""),
        ] {
            assert_eq!(text_of(spelling), text, "{spelling}");
        }
    }

    #[test]
    fn prefixes_and_declarations_mean_nothing() {
        let plain = parse(b"<Delete><Object><Key>k</Key></Object></Delete>").unwrap();
        for spelling in [
            format!("<Delete xmlns='{S3}'><Object><Key>k</Key></Object></Delete>"),
            format!("<s:Delete xmlns:s=\"{S3}\"><s:Object><s:Key>k</s:Key></s:Object></s:Delete>"),
            format!("<s:Delete xmlns:s=\"{S3}\"><Object><t:Key xmlns:t=\"{S3}\">k</t:Key></Object></s:Delete>"),
            format!("<Delete xmlns=\"{S3}\"><Object xmlns=\"\"><Key >k</Key\n></Object></Delete>"),
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\" standalone='yes'?>\n<!-- c -->\
             <Delete xml:lang='en'><Object><Key>k</Key></Object></Delete> <?end?>\n"
                .to_owned(),
        ] {
            assert_eq!(parse(spelling.as_bytes()).unwrap(), plain, "{spelling}");
        }
        assert_eq!(parse(b"<a><b/></a>").unwrap(), parse(b"<a><b></b></a>").unwrap());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for document in [
            "<a>",
            "<a></b>",
            "<a><b></a></b>",
            "<a/><b/>",
            "<a/>text",
            "text<a/>",
            "<a/>&#65;",
            "<a>&amp</a>",
            "<a>& b</a>",
            "<a>]]></a>",
            "<a><!-- -- --></a>",
            "<a><![CDATA[</a>",
            "<a x=1/>",
            "<a xmlns='' xmlns=''/>",
            "</a>",
            "<!-- only -->",
            " <?xml version='1.0'?><a/>",
            "<a><?xml version='1.0'?></a>",
        ] {
            assert!(matches!(refused(document), XmlError::IllFormed { .. }), "{document}: {:?}", refused(document));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(refused(""), XmlError::Empty);
        assert_eq!(refused(" \n"), XmlError::Empty);
        assert_eq!(parse(b"<a>\xff</a>"), Err(XmlError::NotUtf8));
        assert_eq!(parse(b"\xff\xfe<\0a\0/\0>\0"), Err(XmlError::NotUtf8));
        assert_eq!(refused("<?xml version='1.0' encoding='ISO-8859-1'?><a/>"), XmlError::Encoding("ISO-8859-1".into()));
        assert_eq!(refused("<?xml version='1.1'?><a/>"), XmlError::Version);
        assert_eq!(refused("<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>"), XmlError::DocumentType);
        assert_eq!(refused("<a>\u{8}</a>"), XmlError::Character('\u{8}'));
        assert_eq!(refused("<a>\u{ffff}</a>"), XmlError::Character('\u{ffff}'));
        for reference in ["e", "#0", "#xD800", "#x110000", "#", "#x", "#+65", "#xFFFE", "nbsp"] {
            assert_eq!(refused(&format!("<a>&{reference};</a>")), XmlError::Reference(reference.into()));
        }
        assert_eq!(refused("<a xmlns='urn:other'/>"), XmlError::Namespace("a".into()));
        assert_eq!(refused("<p:a/>"), XmlError::Namespace("p:a".into()));
        for attribute in ["id='1'", "xmlns:x='http://www.w3.org/2001/XMLSchema-instance' x:nil='true'"] {
            assert!(matches!(refused(&format!("<a {attribute}/>")), XmlError::Attribute { .. }), "{attribute}");
        }
    }

    #[test]
    fn the_type_of_an_instance_is_kept() {
        let grantee = "<Grantee xmlns:x='http://www.w3.org/2001/XMLSchema-instance' x:type='CanonicalUser'/>";
        assert_eq!(parse(grantee.as_bytes()).unwrap().instance_type.as_deref(), Some("CanonicalUser"));
    }

    #[test]
    fn bnd_1_depth_elements_and_attributes_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(refused(&nested(DEPTH_MAX + 1)), XmlError::Depth);
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(parse(wide(ELEMENTS_MAX - 1).as_bytes()).is_ok());
        assert_eq!(refused(&wide(ELEMENTS_MAX)), XmlError::Elements);
        let attributes: String = (0..=ATTRIBUTES_MAX).map(|number| format!(" xmlns:n{number}='u'")).collect();
        assert!(matches!(refused(&format!("<a{attributes}/>")), XmlError::Attribute { .. }));
    }
}
