//! Documents for clients. Writing cannot fail: whatever a key contains has a spelling, so that no answer is lost after
//! what it tells of has been done.

use std::fmt::Display;

use bytes::Bytes;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document that is being written.
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    /// A document of S3's namespace with this outermost element.
    pub(crate) fn document(root: &str, content: impl FnOnce(&mut Self)) -> Bytes {
        Self::whole(root, &[("xmlns", NAMESPACE)], content)
    }

    /// The same of another namespace.
    pub(crate) fn document_of(namespace: &str, root: &str, content: impl FnOnce(&mut Self)) -> Bytes {
        Self::whole(root, &[("xmlns", namespace)], content)
    }

    /// The same without a namespace, as errors are written.
    pub(crate) fn plain_document(root: &str, content: impl FnOnce(&mut Self)) -> Bytes {
        Self::whole(root, &[], content)
    }

    fn whole(root: &str, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) -> Bytes {
        let mut writer = Self { out: String::with_capacity(512) };
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        writer.element_with(root, attributes, content);
        writer.out.into()
    }

    /// An element with what `content` writes.
    pub(crate) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.element_with(name, &[], content);
    }

    pub(crate) fn element_with(&mut self, name: &str, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            self.escape(value);
            self.out.push('"');
        }
        self.out.push('>');
        content(self);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with a text.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.element(name, |writer| writer.escape(text));
    }

    /// The same of anything that can be shown: numbers, ids, `true` and `false`.
    pub(crate) fn shown(&mut self, name: &str, value: impl Display) {
        self.text(name, &value.to_string());
    }

    /// An element if there is a value.
    pub(crate) fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.shown(name, value);
        }
    }

    /// The text of the element that is open.
    pub(crate) fn escape(&mut self, text: &str) {
        for char in text.chars() {
            match char {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' | '\n' => self.out.push(char),
                // XML 1.0 has no spelling for most of these; S3 writes them so, and many parsers take it.
                '\0'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {
                    self.out.push_str(&format!("&#x{:x};", u32::from(char)));
                }
                char => self.out.push(char),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::xml::parse;

    #[test]
    fn a_document_has_a_declaration_and_a_namespace() {
        let document = Writer::document("ListPartsResult", |writer| {
            writer.text("Key", "a<&>\"b\u{8}c\r");
            writer.element("Owner", |writer| writer.shown("Size", 7));
            writer.optional("Next", None::<u16>);
            writer.optional("IsTruncated", Some(false));
        });
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Key>a&lt;&amp;&gt;&quot;b&#x8;c&#xd;</Key>\
            <Owner><Size>7</Size></Owner><IsTruncated>false</IsTruncated></ListPartsResult>";
        assert_eq!(document, expected);
        let empty = Writer::document("A", |writer| writer.element_with("B", &[("c", "\"<")], |_| ()));
        assert!(empty.ends_with(b"<B c=\"&quot;&lt;\"></B></A>"));
    }

    proptest! {
        /// Whatever is written is read again as it was; only NUL and the two noncharacters have no spelling that may be
        /// read.
        #[test]
        fn every_text_comes_back(text in "[^\u{0}\u{fffe}\u{ffff}]{0,40}") {
            let document = Writer::document("Key", |writer| writer.escape(&text));
            prop_assert_eq!(parse(&document).unwrap().text, text);
        }

        #[test]
        fn nothing_makes_a_document_that_does_not_end(text in proptest::collection::vec(any::<char>(), 0..40)) {
            let text: String = text.into_iter().collect();
            let document = Writer::document("Key", |writer| writer.escape(&text));
            prop_assert!(document.ends_with(b"</Key>"));
            prop_assert_eq!(document.iter().filter(|&&byte| byte == b'<').count(), 3);
        }
    }
}
