//! `/v1/safe-to-stop`: whether disks, nodes, racks or zones may be stopped now. It changes nothing.

use cairn_actors::runtime::{Named, StopAnswer};

use super::desk::{Desk, Refusal};

/// More than a cluster has racks; so many disks are better named by their nodes.
const MOST_NAMES: usize = 1000;

impl Desk<'_> {
    pub(super) async fn safe_to_stop(&self, query: Option<&str>) -> Result<StopAnswer, Refusal> {
        let (kind, names) = asked(query.unwrap_or_default())?;
        Ok(self.first()?.safe_to_stop(kind, names).await?)
    }
}

/// `node=n1&node=n2`: one kind, and at least one name of it.
fn asked(query: &str) -> Result<(Named, Vec<String>), Refusal> {
    let wrong = |why: &str| Refusal::wrong(format!("{why}: ask such as /v1/safe-to-stop?node=n1&node=n2"));
    let (mut asked, mut names) = (None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (kind, name) = pair.split_once('=').ok_or_else(|| wrong("a name is missing"))?;
        let kind = match kind {
            "disk" => Named::Disk,
            "node" => Named::Node,
            "rack" => Named::Rack,
            "zone" => Named::Zone,
            _ => return Err(wrong("want disk, node, rack or zone")),
        };
        if asked.is_some_and(|asked| asked != kind) {
            return Err(wrong("one kind at a time"));
        }
        asked = Some(kind);
        names.push(decoded(name).ok_or_else(|| wrong("a name is not encoded as in a URL"))?);
    }
    match asked {
        Some(_) if names.len() > MOST_NAMES => Err(wrong(&format!("at most {MOST_NAMES} names"))),
        Some(kind) => Ok((kind, names)),
        None => Err(wrong("nothing is named")),
    }
}

/// Names have few characters that are encoded: the slash of a rack, by some clients.
fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || (rest.next()? as char).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_and_names_of_it_are_read() {
        let read = |query: &str| asked(query).map_err(|refusal| refusal.why);
        assert_eq!(read("node=n1&node=n2"), Ok((Named::Node, vec!["n1".into(), "n2".into()])));
        assert_eq!(read("rack=z1%2fr1"), Ok((Named::Rack, vec!["z1/r1".into()])));
        assert_eq!(read("rack=z1/r1"), Ok((Named::Rack, vec!["z1/r1".into()])));
        let many = vec!["disk=a"; MOST_NAMES + 1].join("&");
        for (wrong, why) in [
            ("", "nothing is named"),
            ("node", "a name is missing"),
            ("node=", "not encoded"),
            ("node=%4", "not encoded"),
            ("node=%zz", "not encoded"),
            ("node=%ff", "not encoded"),
            ("cage=c1", "want disk, node, rack or zone"),
            ("node=n1&rack=z/r", "one kind at a time"),
            (many.as_str(), "at most 1000 names"),
        ] {
            assert!(read(wrong).as_ref().is_err_and(|said| said.contains(why)), "{wrong}: {:?}", read(wrong));
        }
    }
}
