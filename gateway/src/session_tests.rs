#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

fn key(byte: u8) -> SecretsKey {
    SecretsKey::parse(&hex::encode([byte; 32])).unwrap()
}

fn session() -> Session {
    Session {
        access_key: "ASIAABCDEFGHIJKLMNOP".into(),
        of: Whose::User { parent: "AKIAABCDEFGHIJKLMNOP".into(), user: [7; 16] },
        name: "job-1".into(),
        issued_ms: 1_700_000_000_000,
        expires_ms: 1_700_000_900_000,
        policy: Some(POLICY.into()),
    }
}

fn of_web_identity() -> Session {
    let web = WebSession {
        role: "staff".into(),
        issuer: "https://idp.example".into(),
        subject: "alice@example".into(),
        audience: "cairn".into(),
        policies: vec!["read".into(), "list".into()],
        groups: vec!["team".into()],
    };
    Session { of: Whose::WebIdentity(web), ..session() }
}

fn opened(token: &str, by: &SecretsKey) -> Result<Session, TokenError> {
    Session::open(token, by).map(|opened| opened.session)
}

proptest! {
    #[test]
    fn whatever_a_session_is_its_token_tells(
        (access_key, parent, name) in ("[!-~]{0,128}", "[!-~]{0,128}", "[a-z=,.@-]{0,64}"),
        (issued_ms, expires_ms, user) in any::<(u64, u64, [u8; 16])>(),
        limited in any::<bool>(),
        web in prop::option::of((
            ("[!-~]{1,64}", "[!-~]{1,255}", ".{1,60}", "[!-~]{1,255}"),
            prop::collection::vec("[a-z=,.@-]{1,64}", 0..10),
            prop::collection::vec("[a-z=,.@-]{1,64}", 0..10),
        )),
    ) {
        let policy = limited.then(|| POLICY.to_owned());
        let of = match web {
            None => Whose::User { parent, user },
            Some(((role, issuer, subject, audience), policies, groups)) => {
                Whose::WebIdentity(WebSession { role, issuer, subject, audience, policies, groups })
            }
        };
        let session = Session { access_key, of, name, issued_ms, expires_ms, policy };
        let token = session.seal(&key(1)).unwrap();
        prop_assert!(token.len() <= TOKEN_MAX_BYTES);
        let opened = Session::open(&token, &key(1)).unwrap();
        prop_assert_eq!(opened.policy.is_some(), limited);
        prop_assert_eq!(opened.session, session);
    }

    #[test]
    fn a_token_with_any_bit_another_or_cut_or_longer_does_not_open(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = URL_SAFE_NO_PAD.decode(session().seal(&key(1)).unwrap()).unwrap();
        let at = at.index(bytes.len());
        prop_assert!(opened(&URL_SAFE_NO_PAD.encode(&bytes[..at]), &key(1)).is_err());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(opened(&URL_SAFE_NO_PAD.encode(&bytes), &key(1)).is_err());
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(opened(&URL_SAFE_NO_PAD.encode(&bytes), &key(1)), Ok(session()));
        bytes.push(0);
        prop_assert!(opened(&URL_SAFE_NO_PAD.encode(&bytes), &key(1)).is_err());
    }

    #[test]
    fn no_text_is_a_token_by_chance(text in ".{0,200}") {
        prop_assert!(opened(&text, &key(1)).is_err());
    }
}

#[test]
fn a_token_opens_by_its_clusters_key_alone_and_in_its_own_spelling() {
    let token = session().seal(&key(1)).unwrap();
    assert_eq!(opened(&token, &key(2)), Err(TokenError::NotOpened));
    assert_eq!(opened(&format!("{token}="), &key(1)), Err(TokenError::Malformed));
    assert_eq!(opened("", &key(1)), Err(TokenError::Malformed));
    assert_eq!(opened(&URL_SAFE_NO_PAD.encode([3; 100]), &key(1)), Err(TokenError::UnknownFormat(3)));
    // One kind of session is not taken for the other.
    let mut other = URL_SAFE_NO_PAD.decode(&token).unwrap();
    other[0] = OF_WEB_IDENTITY;
    assert_eq!(opened(&URL_SAFE_NO_PAD.encode(other), &key(1)), Err(TokenError::NotOpened));
    assert_ne!(token, session().seal(&key(1)).unwrap(), "salts differ");
}

#[test]
fn bnd_1_the_largest_session_has_a_token_and_a_longer_text_is_not_looked_at() {
    let names = || vec!["n".repeat(64); 10];
    let long = || "l".repeat(255);
    let web = WebSession {
        role: "r".repeat(64),
        issuer: long(),
        subject: long(),
        audience: long(),
        policies: names(),
        groups: names(),
    };
    let largest = Session {
        of: Whose::WebIdentity(web),
        name: "n".repeat(64),
        policy: Some(format!("{POLICY}{}", " ".repeat(POLICY_MAX_BYTES - POLICY.len()))),
        ..session()
    };
    let token = largest.seal(&key(1)).unwrap();
    assert_eq!(opened(&token, &key(1)), Ok(largest));
    assert_eq!(opened(&"A".repeat(TOKEN_MAX_BYTES + 1), &key(1)), Err(TokenError::TooLong));
}

#[test]
fn a_policy_that_cannot_be_read_makes_a_token_none() {
    let later = Session { policy: Some(r#"{"Version":"2040-01-01"}"#.into()), ..session() };
    assert!(matches!(opened(&later.seal(&key(1)).unwrap(), &key(1)), Err(TokenError::Policy(_))));
}

#[test]
fn secrets_are_of_one_access_key_and_one_cluster() {
    let secret = |access_key: &str, by: u8| secret_of(access_key, &key(by)).expose().to_owned();
    assert_eq!(secret("ASIAA", 1), secret("ASIAA", 1));
    assert_ne!(secret("ASIAA", 1), secret("ASIAB", 1));
    assert_ne!(secret("ASIAA", 1), secret("ASIAA", 2));
    assert_eq!(secret("ASIAA", 1).len(), 40);
    assert!(is_temporary(&new_access_key().unwrap()));
    assert!(!is_temporary("AKIAABCDEFGHIJKLMNOP") && !is_temporary("ASIA"));
}

/// Made by another implementation: tokens of earlier programs open, and so do signatures by their secrets.
#[test]
fn tokens_of_format_1_open() {
    assert_eq!(opened(GOLDEN, &key(1)), Ok(session()));
    assert_eq!(session().seal_with(&key(1), [9; SALT_BYTES]), GOLDEN);
    assert_eq!(secret_of(&session().access_key, &key(1)).expose(), GOLDEN_SECRET);
}

#[test]
fn tokens_of_format_2_open() {
    assert_eq!(of_web_identity().seal_with(&key(1), [9; SALT_BYTES]), GOLDEN_2);
    assert_eq!(opened(GOLDEN_2, &key(1)), Ok(of_web_identity()));
    let Whose::WebIdentity(web) = of_web_identity().of else { unreachable!() };
    assert_eq!(web.unique_id(), GOLDEN_ID);
}

const GOLDEN_2: &str = "AgkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJH67BqkIR9oIJyi6HBLn6TWYZY-0SyohU4TFRBDgOko-TKMxm9c44r89ZgSDJSpgTTEdUf-oeM9aylaIIOaXmcQgCERRxyRTj_XJTbsuNNHRBhT7vMEqlrCs6J403Kq7uAhibBB6QMgKzV0NtlldSPRNh0FiwfKAqig1dPNImZHV_IPbn6XRTdGS6V2JA2YYCXi4TpQrOuiht03aEGwVMW3RFT_PO8Ogsvpfpgp7yQrsoIZEYDkowVKnbZGbtB3tp1jofHOnZAhCArScd8xEy6j8Vh2rSRKm0DZgSgjmTT6p637Zy0w";
const GOLDEN_ID: &str = "b6d0357fc8490becddc8f8dfc03e05ca";
const GOLDEN: &str = "AQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJH67BqkIR9oIJyi6HBLn6TWEKJblcjM4RpXITRXhB3MLYcMB789956P9ppQDoAsIxc39pQp9hHKuXrsUsAIbIRSEhVlFZ7zbM1Xx5RqrlLndGqAqMMVj1lE5NPos6ab3UQFGJY0nPcFvxCFZ1mEcxeEA4hAX4I-MqnHR1avY0Z315OqD_8W5EOk6rEysB7MdMFQAR61-b6zd11XCEPQhIHC0THuzW5egrnoDxhJikWrUgUYk2HBYC01X1wr47SC5jsqfwO4Q";
const GOLDEN_SECRET: &str = "FVBgnK0_jbBHFofVZt7CnFv1KldSzPWaBtozwI8R";
