#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{
    keys::{Algorithm, KeySet},
    *,
};

fn options() -> WebIdentityOptions {
    WebIdentityOptions {
        name: "staff".into(),
        issuer: "http://127.0.0.1:8080/realm".into(),
        ca_pem: None,
        client_ids: vec!["cairn".into()],
        policies: vec!["read".into()],
        groups: Vec::new(),
        policy_claim: None,
        group_claim: None,
        longest: Duration::from_secs(3600),
        keys_age: Duration::from_secs(900),
    }
}

#[test]
fn options_are_checked() {
    let made = |options| WebIdentities::new(vec![options]).map(drop).map_err(|error| error.to_string());
    made(options()).unwrap();
    type Change = fn(&mut WebIdentityOptions);
    let wrong: [(Change, &str); 11] = [
        (|o| o.name = "a/b".into(), "no name of a role"),
        (|o| o.issuer = "http://idp.example".into(), "only for this machine"),
        (|o| o.issuer = "https://idp.example".into(), "needs the CA"),
        (|o| o.issuer = "http://127.0.0.1/?a=b".into(), "without a query"),
        (|o| o.ca_pem = Some("x".into()), "no use"),
        (|o| o.client_ids.clear(), "client_ids"),
        (|o| o.policies = vec!["a b".into()], "no name of a policy"),
        (|o| o.policies.clear(), "nobody would be allowed"),
        (|o| o.group_claim = Some(String::new()), "claim's name"),
        (|o| o.longest = Duration::from_secs(60), "longest_session"),
        (|o| o.keys_age = Duration::from_secs(90_000), "keys_age"),
    ];
    for (change, why) in wrong {
        let mut options = options();
        change(&mut options);
        assert!(made(options).is_err_and(|error| error.contains(why)), "{why}");
    }
    let twice = WebIdentities::new(vec![options(), options()]);
    assert_eq!(twice.unwrap_err(), RoleError::SameName("staff".into()));
    assert!(matches!(WebIdentities::new(vec![options(); 17]), Err(RoleError::TooMany(17))));
}

#[test]
fn bnd_1_nobody_takes_all_turns() {
    let roles = WebIdentities::new(vec![options()]).unwrap();
    let peer = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
    let mut held: Vec<_> = std::iter::from_fn(|| roles.enter(peer(1))).collect();
    assert_eq!(held.len(), MOST_EXCHANGES_OF_ONE);
    held.extend(
        (2..=255)
            .flat_map(|last| (0..MOST_EXCHANGES_OF_ONE).map_while(move |_| Some(last)))
            .map_while(|last| roles.enter(peer(last))),
    );
    assert_eq!(held.len(), MOST_EXCHANGES);
    drop(held);
    let exchanges = roles.0.exchanges.lock();
    assert_eq!((exchanges.all, exchanges.by_peer.len()), (0, 0));
}

#[test]
fn keys_are_for_what_they_say() {
    let read = |text: &str| KeySet::read(text.as_bytes());
    let point = format!(r#""kty":"EC","crv":"P-256","x":"{0}","y":"{0}""#, "A".repeat(43));
    let of = |more: &str| read(&format!(r#"{{"keys":[{{{point}{more}}}]}}"#));
    let has = |keys: &KeySet, id| keys.may_have(id, Algorithm::Es256);
    let keys = of(r#","kid":"a","use":"sig","alg":"ES256","key_ops":["verify"]"#).unwrap();
    assert!(has(&keys, Some("a")) && has(&keys, None) && !has(&keys, Some("b")));
    assert!(!keys.may_have(Some("a"), Algorithm::Rs256) && !keys.may_have(None, Algorithm::EdDsa));
    assert!(!has(&of(r#","kid":"a","alg":"ES384""#).unwrap(), Some("a")));
    for other in [r#","use":"enc""#, r#","key_ops":["sign"]"#, r#","key_ops":[]"#] {
        of(other).unwrap_err();
    }
    let small = format!(r#"{{"keys":[{{"kty":"RSA","n":"{}","e":"AQAB"}}]}}"#, "w".repeat(171));
    read(&small).unwrap_err();
    // Without a kid, one of two keys could be meant.
    let two = read(&format!(r#"{{"keys":[{{{point},"kid":"a"}},{{{point},"kid":"b"}}]}}"#)).unwrap();
    assert!(!has(&two, None) && has(&two, Some("a")) && has(&two, Some("b")));
}

proptest! {
    #[test]
    fn whatever_a_key_set_is_it_is_read_or_refused(text in ".{0,300}", n in "[A-Za-z0-9_=-]{0,50}", kty in "RSA|EC|OKP|oct") {
        let _ = KeySet::read(text.as_bytes());
        let key = format!(r#"{{"keys":[{{"kty":"{kty}","crv":"P-256","n":"{n}","e":"{n}","x":"{n}","y":"{n}"}}]}}"#);
        if let Ok(keys) = KeySet::read(key.as_bytes()) {
            for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa] {
                prop_assert!(keys.verify(None, algorithm, b"message", text.as_bytes()).is_err());
            }
        }
    }
}
