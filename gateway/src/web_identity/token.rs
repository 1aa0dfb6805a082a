//! JSON web tokens in their compact form (RFC 7519, 7515): what one says, and whether it says so of us and now.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{error::WebIdentityError, keys::Algorithm};

/// As much as STS takes.
pub(crate) const TOKEN_MAX_BYTES: usize = 20_000;
/// What clocks may differ by.
const LEEWAY_SECONDS: f64 = 60.0;
/// Of `sub` and of an audience, as STS has it.
const NAME_MAX_BYTES: usize = 255;
const MOST_AUDIENCES: usize = 64;

/// A token that nobody has verified.
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What is signed.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
    claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
}

/// What a token says of whoever holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims {
    pub(super) subject: String,
    /// The one of ours that it is meant for.
    pub(super) audience: String,
    all: Map<String, Value>,
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, WebIdentityError> {
        let invalid = |why: &str| WebIdentityError::Invalid(why.to_owned());
        if text.len() > TOKEN_MAX_BYTES {
            return Err(invalid("it is longer than any token"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| invalid("it is no JWT"))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| invalid("it is no JWT"))?;
        // A third dot is no character of base64.
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("it is no JWT"));
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| invalid("its header is none"))?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(invalid("its header asks for what is not understood (crit)"));
        }
        let algorithm = Algorithm::of(&header.alg);
        let algorithm = algorithm.ok_or_else(|| invalid("its alg is none of RS256, PS256, ES256 and EdDSA"))?;
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        Ok(Self { algorithm, key_id: header.kid, signed: signed.as_bytes(), signature, claims })
    }

    /// What it says, once its signature has been verified.
    pub(super) fn claims(&self, issuer: &str, audiences: &[String], now_ms: u64) -> Result<Claims, WebIdentityError> {
        let invalid = |why: String| WebIdentityError::Invalid(why);
        let all: Map<String, Value> =
            serde_json::from_slice(&self.claims).map_err(|_| invalid("its claims are no JSON object".to_owned()))?;
        if all.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(invalid("its issuer (iss) is not the provider's".to_owned()));
        }
        check_times(&all, now_ms)?;
        let subject = all.get("sub").and_then(Value::as_str).filter(|subject| is_name(subject));
        let subject = subject.ok_or_else(|| invalid("it names no subject (sub)".to_owned()))?.to_owned();
        let audience = audience(&all, audiences).ok_or_else(|| invalid("Incorrect token audience".to_owned()))?;
        Ok(Claims { subject, audience, all })
    }
}

/// `exp` and `iat` must be there, as STS has it.
fn check_times(all: &Map<String, Value>, now_ms: u64) -> Result<(), WebIdentityError> {
    let invalid = |why: &str| WebIdentityError::Invalid(why.to_owned());
    let time = |name: &str| all.get(name).map(|value| value.as_f64().filter(|time| time.is_finite()));
    let now = std::time::Duration::from_millis(now_ms).as_secs_f64();
    let ends = time("exp").flatten().ok_or_else(|| invalid("it does not say when it ends (exp)"))?;
    let issued = time("iat").flatten().ok_or_else(|| invalid("it does not say when it was issued (iat)"))?;
    if ends + LEEWAY_SECONDS <= now {
        return Err(WebIdentityError::Expired);
    }
    if issued > now + LEEWAY_SECONDS {
        return Err(invalid("it was issued in the future (iat)"));
    }
    match time("nbf") {
        None => Ok(()),
        Some(Some(begins)) if begins <= now + LEEWAY_SECONDS => Ok(()),
        Some(_) => Err(invalid("it is not valid yet (nbf)")),
    }
}

/// The first of its audiences that is ours. Whoever the token was issued to (`azp`) must be one of ours, too, if it
/// says whom: a token that another client got of the same provider is not for us.
fn audience(all: &Map<String, Value>, ours: &[String]) -> Option<String> {
    let is_ours = |name: &str| ours.iter().any(|other| other == name);
    match all.get("azp") {
        None => {}
        Some(Value::String(party)) if is_ours(party) => {}
        Some(_) => return None,
    }
    let found = match all.get("aud")? {
        Value::String(name) => Some(name.as_str()).filter(|name| is_ours(name)),
        Value::Array(names) if names.len() <= MOST_AUDIENCES => {
            names.iter().filter_map(Value::as_str).find(|name| is_ours(name))
        }
        _ => None,
    };
    found.map(ToOwned::to_owned)
}

/// It stands in answers, policies and logs.
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Claims {
    /// The texts of a claim: of one, or of a list; none if it is not there. The name is that of a claim as it stands or
    /// else, with dots, the way to one in others.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        let deep = || {
            let mut names = name.split('.');
            let first = self.all.get(names.next()?)?;
            names.try_fold(first, |value, name| value.get(name))
        };
        match self.all.get(name).or_else(deep) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn token(header: Value, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encode(&header.to_string()), encode(claims), encode("signature"))
    }

    fn read(claims: Value) -> Result<Claims, WebIdentityError> {
        let text = token(json!({"alg": "RS256"}), &claims.to_string());
        let ours = ["cairn".to_owned(), "other".to_owned()];
        Token::read(&text).unwrap().claims("https://idp", &ours, NOW_MS)
    }

    fn claims(more: Value) -> Value {
        let now = NOW_MS / 1000;
        let mut all = json!({"iss": "https://idp", "sub": "alice", "aud": "cairn", "iat": now, "exp": now + 300});
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    }

    #[test]
    fn a_token_is_for_us_now_and_by_the_provider() {
        let now = NOW_MS / 1000;
        assert_eq!(read(claims(json!({}))).unwrap().subject, "alice");
        for right in [
            json!({"aud": ["x", "cairn"]}),
            json!({"aud": ["x", "cairn"], "azp": "other"}),
            json!({"nbf": now + 59, "iat": now + 59}),
            json!({"exp": now - 59}),
            json!({"exp": now as f64 + 0.5}),
        ] {
            assert_eq!(read(claims(right.clone())).unwrap().audience, "cairn", "{right}");
        }
        assert_eq!(read(claims(json!({"exp": now - 61}))).unwrap_err(), WebIdentityError::Expired);
        for wrong in [
            json!({"iss": "https://idp/"}),
            json!({"iss": ["https://idp"]}),
            json!({"aud": "x"}),
            json!({"aud": []}),
            json!({"aud": {"cairn": 1}}),
            json!({"aud": null}),
            json!({"azp": "x"}),
            json!({"azp": 1}),
            json!({"exp": null}),
            json!({"exp": "1800000000"}),
            json!({"iat": now + 61}),
            json!({"iat": null}),
            json!({"nbf": now + 61}),
            json!({"nbf": "now"}),
            json!({"sub": ""}),
            json!({"sub": "x".repeat(256)}),
            json!({"sub": "a\nb"}),
            json!({"sub": null}),
            json!({"sub": 7}),
        ] {
            assert!(matches!(read(claims(wrong.clone())), Err(WebIdentityError::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn headers_choose_no_weaker_signature() {
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": "HS256"}),
            json!({"alg": "rs256"}),
            json!({"alg": ""}),
            json!({}),
            json!({"alg": "RS256", "crit": ["exp"]}),
            json!({"alg": "RS256", "b64": false}),
            json!([]),
        ] {
            assert!(Token::read(&token(header.clone(), "{}")).is_err(), "{header}");
        }
        for text in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30.e30="] {
            assert!(Token::read(text).is_err(), "{text}");
        }
        assert!(Token::read(&"x".repeat(TOKEN_MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn claims_are_found_by_name_and_by_way() {
        let found = read(claims(json!({"groups": ["a", 1, "b"], "role": "c", "realm": {"roles": ["d"]}, "x.y": "e"})));
        let found = found.unwrap();
        assert_eq!(found.texts("groups"), ["a", "b"]);
        assert_eq!(
            (found.texts("role"), found.texts("realm.roles"), found.texts("x.y")),
            (vec!["c"], vec!["d"], vec!["e"])
        );
        assert!(found.texts("realm").is_empty() && found.texts("none.x").is_empty() && found.texts("exp").is_empty());
    }

    proptest! {
        #[test]
        fn bnd_1_whatever_comes_is_read_or_refused(text in ".{0,200}", header in ".{0,60}", claims in ".{0,60}") {
            let _ = Token::read(&text).map(|token| token.claims("https://idp", &[], NOW_MS));
            let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let text = format!("{}.{}.", encode(&header), encode(&claims));
            let _ = Token::read(&text).map(|token| token.claims("https://idp", &[], NOW_MS));
        }
    }
}
