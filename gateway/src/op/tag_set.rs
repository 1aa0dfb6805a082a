//! Sets of tags as documents have them.

use crate::xml::{Element, XmlError};

pub(super) fn read(root: &Element) -> Result<Vec<(String, String)>, XmlError> {
    let [set] = root.fields(["TagSet"])?;
    let ([], tags) = root.required(set, "TagSet")?.fields_and_list([], Some("Tag"))?;
    let read = |tag: &Element| {
        let [key, value] = tag.fields(["Key", "Value"])?;
        let key = tag.required(key, "Key")?.value()?.to_owned();
        Ok((key, tag.required(value, "Value")?.value()?.to_owned()))
    };
    tags.into_iter().map(read).collect()
}
