//! What a document's elements say, taken strictly: an element that is not expected is an error, never skipped.

use super::{Element, XmlError, parse::is_space};

/// Children that may be there once, and lists of others.
pub(crate) type Children<'a, const N: usize, const M: usize> = ([Option<&'a Element>; N], [Vec<&'a Element>; M]);

impl Element {
    /// The document's outermost element must be this one.
    pub(crate) fn root(&self, expected: &'static str) -> Result<&Self, XmlError> {
        if self.name == expected {
            return Ok(self);
        }
        Err(XmlError::Root { expected, found: self.name.chars().take(64).collect() })
    }

    /// Its children, each of which may occur once, in the order of `names`.
    pub(crate) fn fields<const N: usize>(&self, names: [&str; N]) -> Result<[Option<&Self>; N], XmlError> {
        self.fields_and_list(names, None).map(|(fields, _)| fields)
    }

    /// The same beside any number of children called `listed`.
    pub(crate) fn fields_and_list<const N: usize>(
        &self,
        names: [&str; N],
        listed: Option<&str>,
    ) -> Result<([Option<&Self>; N], Vec<&Self>), XmlError> {
        match listed {
            Some(listed) => self.fields_and_lists(names, [listed]).map(|(fields, [list])| (fields, list)),
            None => self.fields_and_lists(names, []).map(|(fields, [])| (fields, Vec::new())),
        }
    }

    /// The same beside any number of children of each name in `listed`.
    pub(crate) fn fields_and_lists<const N: usize, const M: usize>(
        &self,
        names: [&str; N],
        listed: [&str; M],
    ) -> Result<Children<'_, N, M>, XmlError> {
        if !self.text.chars().all(is_space) {
            return Err(XmlError::MixedContent(self.name.clone()));
        }
        let mut fields = [None; N];
        let mut lists = [const { Vec::new() }; M];
        for child in &self.children {
            if let Some(at) = listed.iter().position(|name| *name == child.name) {
                lists[at].push(child);
                continue;
            }
            let (parent, element) = (self.name.clone(), child.name.chars().take(64).collect());
            let Some(at) = names.iter().position(|name| *name == child.name) else {
                return Err(XmlError::UnknownElement { parent, element });
            };
            if fields[at].replace(child).is_some() {
                return Err(XmlError::Repeated { parent, element });
            }
        }
        Ok((fields, lists))
    }

    /// Its children called `listed`, of which there must be one and may be `max`, beside those of `names`.
    pub(crate) fn fields_and_some<const N: usize>(
        &self,
        names: [&str; N],
        listed: &'static str,
        max: usize,
    ) -> Result<([Option<&Self>; N], Vec<&Self>), XmlError> {
        let (fields, list) = self.fields_and_list(names, Some(listed))?;
        if list.is_empty() || list.len() > max {
            return Err(XmlError::Count { parent: self.name.clone(), element: listed, count: list.len(), max });
        }
        Ok((fields, list))
    }

    /// The text of an element without children, exactly as it is.
    pub(crate) fn value(&self) -> Result<&str, XmlError> {
        match self.children.first() {
            Some(child) => Err(XmlError::UnknownElement { parent: self.name.clone(), element: child.name.clone() }),
            None => Ok(&self.text),
        }
    }

    /// The same without white space around it: what is a word and not a user's text.
    pub(crate) fn word(&self) -> Result<&str, XmlError> {
        Ok(self.value()?.trim_matches(is_space))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self) -> Result<T, XmlError> {
        let word = self.word()?;
        // `parse` would take a plus sign.
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        word.parse().ok().filter(|_| digits).ok_or_else(|| XmlError::Value(self.name.clone()))
    }

    pub(crate) fn flag(&self) -> Result<bool, XmlError> {
        match self.word()? {
            word if word.eq_ignore_ascii_case("true") || word == "1" => Ok(true),
            word if word.eq_ignore_ascii_case("false") || word == "0" => Ok(false),
            _ => Err(XmlError::Value(self.name.clone())),
        }
    }

    /// A field that must be there.
    pub(crate) fn required<'a>(&self, field: Option<&'a Self>, element: &'static str) -> Result<&'a Self, XmlError> {
        field.ok_or_else(|| XmlError::Missing { parent: self.name.clone(), element })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::xml::parse;

    fn read(document: &str) -> Element {
        parse(document.as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_found_by_name_and_in_any_order() {
        let object = read("<Object>\n <VersionId>v</VersionId> <Key> k </Key></Object>");
        let [key, version, size] = object.fields(["Key", "VersionId", "Size"]).unwrap();
        assert_eq!((key.unwrap().value().unwrap(), version.unwrap().value().unwrap(), size), (" k ", "v", None));
        let missing = object.required(size, "Size").unwrap_err();
        assert_eq!(missing, XmlError::Missing { parent: "Object".into(), element: "Size" });
    }

    #[test]
    fn lists_stand_beside_fields() {
        let delete = read("<Delete><Object>1</Object><Quiet>true</Quiet><Object>2</Object></Delete>");
        let ([quiet], objects) = delete.fields_and_list(["Quiet"], Some("Object")).unwrap();
        assert!(quiet.unwrap().flag().unwrap());
        assert!(delete.fields_and_some(["Quiet"], "Object", 2).is_ok());
        let (parent, element) = ("Delete".to_owned(), "Object");
        let many = delete.fields_and_some(["Quiet"], "Object", 1).unwrap_err();
        assert_eq!(many, XmlError::Count { parent, element, count: 2, max: 1 });
        assert!(read("<Delete/>").fields_and_some([], "Object", 1).is_err());
        assert_eq!(objects.iter().map(|object| object.text.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_is_not_expected_is_refused() {
        let refused = |document: &str| read(document).fields(["Key"]).unwrap_err();
        let (parent, element) = ("a".to_owned(), "Kye".to_owned());
        assert_eq!(refused("<a><Kye>k</Kye></a>"), XmlError::UnknownElement { parent, element });
        let (parent, element) = ("a".to_owned(), "Key".to_owned());
        assert_eq!(refused("<a><Key>1</Key><Key>2</Key></a>"), XmlError::Repeated { parent, element });
        assert_eq!(refused("<a>x<Key>1</Key></a>"), XmlError::MixedContent("a".into()));
        assert!(read("<Key>a<b/>c</Key>").value().is_err());
        assert!(read("<a/>").root("b").is_err() && read("<a/>").root("a").is_ok());
    }

    #[test]
    fn numbers_and_flags_are_whole_words() {
        for (text, number) in [("12", Some(12_u16)), (" 7\n", Some(7)), ("0009", Some(9))] {
            assert_eq!(read(&format!("<n>{text}</n>")).number().ok(), number, "{text}");
        }
        for text in ["", "12abc", "+1", "-1", "1.0", "0x1", "65536", "1 2", "\u{663}"] {
            assert!(read(&format!("<n>{text}</n>")).number::<u16>().is_err(), "{text}");
        }
        for (text, flag) in
            [("true", Some(true)), ("False", Some(false)), (" 1 ", Some(true)), ("yes", None), ("", None)]
        {
            assert_eq!(read(&format!("<f>{text}</f>")).flag().ok(), flag, "{text}");
        }
    }
}
