//! Those whom a provider of identities knows: what their tokens are worth, and what tokens and providers cannot do.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cairn_gateway::{WebIdentities, WebIdentityOptions};
use cairn_schema::verbs::UserGroupChange;
use serde_json::{Value, json};

use crate::{
    access::{allow, policy, soon},
    idp::{CLIENT_ID, Idp, IdpKey, unsigned},
    request::Request,
    sign::{Signer, encode},
    wire::{Answer, DEADLINE, Wire},
    world::World,
};

const ROLE: &str = "arn:aws:iam::000000000000:role/staff";

async fn world_with(roles: Vec<WebIdentityOptions>) -> World {
    let roles = WebIdentities::new(roles).unwrap();
    let world = World::start_with(|options| options.roles = Some(roles)).await;
    world.ok(Request::put("/bkt")).await;
    world.ok(Request::put("/bkt/k").body("x")).await;
    world.meta.create_user_group("readers").await.unwrap();
    attach(&world, "readers", &allow("GetObject", &["bkt/*"])).await;
    world
}

async fn attach(world: &World, group: &str, text: &str) {
    let policy = cairn_gateway::AccessDesk::attachable("own", Some(text.to_owned())).unwrap();
    world.meta.change_user_group(group, UserGroupChange::Attach(policy)).await.unwrap();
}

/// Unsigned, as SDKs ask.
async fn ask(world: &World, parameters: &[(&str, &str)]) -> Answer {
    let mut body = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15".to_owned();
    for (name, value) in parameters {
        body.push_str(&format!("&{name}={}", encode(value)));
    }
    let request = Request::post("/").header("content-type", "application/x-www-form-urlencoded").body(body);
    request.send_unsigned(world.address()).await
}

async fn assume(world: &World, token: &str) -> Answer {
    ask(world, &[("RoleArn", ROLE), ("RoleSessionName", "job-1"), ("WebIdentityToken", token)]).await
}

fn credentials(answer: &Answer) -> Signer {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let signer = Signer::now(&answer.xml("AccessKeyId"), &answer.xml("SecretAccessKey"));
    Signer { token: Some(answer.xml("SessionToken")), ..signer }
}

async fn refused(world: &World, token: &str, status: u16, code: &str, what: &str) {
    let answer = assume(world, token).await;
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    assert!(answer.text().contains("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"), "{what}");
}

async fn answered(world: &World, signer: &Signer, request: Request, status: u16, code: &str) {
    let answer = request.send(world.address(), signer).await;
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{request}: {}", answer.text());
}

fn get() -> Request {
    Request::get("/bkt/k")
}

fn put(key: &str) -> Request {
    Request::put(&format!("/bkt/{key}")).body("y")
}

/// Asks until the answer has this code, which it must have soon: a provider is not asked all the time.
async fn until(world: &World, token: &str, code: &str) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let answer = assume(world, token).await;
        if answer.code() == code {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "not {code:?} in time: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_token_is_worth_what_its_role_and_its_groups_are() {
    let key = IdpKey::es256("one");
    let idp = Idp::start(&[&key]).await;
    let own = policy("Allow", "PutObject", &["bkt/${jwt:sub}/*"]);
    let role =
        WebIdentityOptions { policies: vec!["own-folder".into()], policy_claim: Some("may".into()), ..idp.role() };
    let world = world_with(vec![role]).await;
    world.meta.put_access_policy("own-folder", &own).await.unwrap();
    world.meta.put_access_policy("lists", &allow("ListBucket", &["bkt"])).await.unwrap();

    let mut claims = idp.claims(&["readers", "of others", "unknown"]);
    claims["may"] = json!("lists");
    let answer = assume(&world, &key.token("ES256", &claims)).await;
    let alice = credentials(&answer);
    assert_eq!(answer.xml("SubjectFromWebIdentityToken"), "alice@example");
    assert_eq!((answer.xml("Audience").as_str(), answer.xml("Provider")), (CLIENT_ID, idp.issuer.clone()));
    assert_eq!(answer.xml("Arn"), "arn:aws:sts::000000000000:assumed-role/staff/job-1");
    answered(&world, &alice, get(), 200, "").await;
    answered(&world, &alice, Request::get("/bkt"), 200, "").await;
    answered(&world, &alice, put("alice@example/k"), 200, "").await;
    answered(&world, &alice, put("bob/k"), 403, "AccessDenied").await;
    answered(&world, &alice, Request::delete("/bkt/k"), 403, "AccessDenied").await;

    let sts = Signer { service: "sts", ..alice.clone() };
    let identity = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    let identity = identity.body("Action=GetCallerIdentity&Version=2011-06-15").send(world.address(), &sts).await;
    assert_eq!(identity.xml("Arn"), answer.xml("Arn"), "{}", identity.text());
    assert_eq!(identity.xml("UserId"), answer.xml("AssumedRoleId"));

    // Less, if whoever asks wants less.
    let less = allow("GetObject DeleteObject", &["bkt/*"]);
    let parameters = [
        ("RoleArn", ROLE),
        ("RoleSessionName", "job-1"),
        ("WebIdentityToken", &key.token("ES256", &claims)),
        ("Policy", &less),
    ];
    let less = credentials(&ask(&world, &parameters).await);
    answered(&world, &less, get(), 200, "").await;
    answered(&world, &less, put("alice@example/k"), 403, "AccessDenied").await;
    answered(&world, &less, Request::delete("/bkt/k"), 403, "AccessDenied").await;

    // A token of somebody else is somebody else's.
    claims["sub"] = json!("bob");
    let bob = credentials(&assume(&world, &key.token("ES256", &claims)).await);
    answered(&world, &bob, put("bob/k"), 200, "").await;
    answered(&world, &bob, put("alice@example/k"), 403, "AccessDenied").await;

    // A bucket's policy names all who have the role, whatever their sessions are called.
    let deny = policy("Deny", "GetObject", &["bkt/*"]);
    let deny = deny.replace("\"Action\"", &format!("\"Principal\":{{\"AWS\":\"{ROLE}\"}},\"Action\""));
    world.ok(Request::put("/bkt").query("policy", "").body(deny)).await;
    soon(&world, &alice, &get(), 403).await;
    answered(&world, &bob, get(), 403, "AccessDenied").await;
    assert_eq!(idp.fetched(), 1, "keys are fetched once");
    world.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_what_gave_it_its_rights_and_at_its_time() {
    let key = IdpKey::es256("one");
    let idp = Idp::start(&[&key]).await;
    let world = world_with(vec![idp.role()]).await;
    let claims = idp.claims(&["readers"]);
    let alice = credentials(&assume(&world, &key.token("ES256", &claims)).await);
    answered(&world, &alice, get(), 200, "").await;
    attach(&world, "readers", &policy("Deny", "GetObject", &["bkt/*"])).await;
    soon(&world, &alice, &get(), 403).await;
    attach(&world, "readers", &allow("GetObject", &["bkt/*"])).await;
    soon(&world, &alice, &get(), 200).await;
    world.meta.delete_user_group("readers").await.unwrap();
    soon(&world, &alice, &get(), 403).await;
    refused(&world, &key.token("ES256", &claims), 403, "AccessDenied", "nothing is left").await;
    world.meta.create_user_group("readers").await.unwrap();
    attach(&world, "readers", &allow("GetObject", &["bkt/*"])).await;
    soon(&world, &alice, &get(), 200).await;
    world.pass_days(1);
    answered(&world, &alice, get(), 400, "ExpiredToken").await;
    refused(&world, &key.token("ES256", &claims), 400, "ExpiredTokenException", "a day later").await;
    world.stop().await;
}

#[tokio::test]
async fn every_kind_of_key_is_taken_for_what_it_is() {
    let (es, rsa, ed) = (IdpKey::es256("es"), IdpKey::rsa("rsa"), IdpKey::ed25519("ed"));
    let idp = Idp::start(&[&es, &rsa, &ed]).await;
    let world = world_with(vec![idp.role()]).await;
    let claims = idp.claims(&["readers"]);
    for (key, algorithm) in [(&es, "ES256"), (&rsa, "RS256"), (&rsa, "PS256"), (&ed, "EdDSA")] {
        let answer = assume(&world, &key.token(algorithm, &claims)).await;
        assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
        // Without a kid it is the only key of its kind.
        let answer = assume(&world, &key.token_of(&json!({ "alg": algorithm }), &claims)).await;
        assert_eq!(answer.status, 200, "{algorithm} without kid: {}", answer.text());
        for other in ["ES256", "RS256", "PS256", "EdDSA", "HS256", "none"].into_iter().filter(|a| *a != algorithm) {
            let token = key.token_of(&json!({"alg": other, "kid": key.id}), &claims);
            // Of the two of RSA the signature is made as it says.
            if !(matches!(other, "RS256" | "PS256") && key.id == "rsa") {
                refused(&world, &token, 400, "InvalidIdentityToken", &format!("{algorithm} as {other}")).await;
            }
        }
    }
    // The public key as a secret.
    let signed = unsigned(&json!({"alg": "HS256", "kid": "rsa"}), &claims);
    let mac = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &rsa.modulus()), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()));
    refused(&world, &token, 400, "InvalidIdentityToken", "HS256").await;
    let token = format!("{}.", unsigned(&json!({"alg": "none"}), &claims));
    refused(&world, &token, 400, "InvalidIdentityToken", "none").await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_said_of_us_and_now_by_the_provider_is_refused() {
    let (key, other) = (IdpKey::es256("one"), IdpKey::es256("one"));
    let idp = Idp::start(&[&key]).await;
    let world = world_with(vec![idp.role()]).await;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let with = |name: &str, value: Value| {
        let mut claims = idp.claims(&["readers"]);
        claims[name] = value;
        key.token("ES256", &claims)
    };
    let right = key.token("ES256", &idp.claims(&["readers"]));
    let (head, signature) = right.rsplit_once('.').unwrap();
    let claims_of_root = unsigned(&json!({"alg": "ES256", "kid": "one"}), &json!({"sub": "root"}));
    for (token, code, what) in [
        (with("exp", json!(now - 120)), "ExpiredTokenException", "expired"),
        (with("aud", json!("another")), "InvalidIdentityToken", "for somebody else"),
        (with("azp", json!("another")), "InvalidIdentityToken", "got by somebody else"),
        (with("iss", json!("http://127.0.0.1:1/")), "InvalidIdentityToken", "another issuer"),
        (with("nbf", json!(now + 3600)), "InvalidIdentityToken", "not yet"),
        (with("iat", json!(now + 3600)), "InvalidIdentityToken", "from the future"),
        (with("sub", json!("")), "InvalidIdentityToken", "of nobody"),
        (other.token("ES256", &idp.claims(&["readers"])), "InvalidIdentityToken", "another key of the same kid"),
        (format!("{claims_of_root}.{signature}"), "InvalidIdentityToken", "other claims"),
        (format!("{head}."), "InvalidIdentityToken", "no signature"),
        (format!("{right}x"), "InvalidIdentityToken", "more"),
        (right.to_uppercase(), "InvalidIdentityToken", "no JWT"),
        ("x".repeat(20_001), "InvalidIdentityToken", "too long"),
    ] {
        refused(&world, &token, 400, code, what).await;
    }
    let many: Vec<String> = (0..200).map(|number| format!("group-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let token = key.token("ES256", &idp.claims(&many));
    refused(&world, &token, 403, "IDPRejectedClaim", "more names than are looked for").await;
    let token = key.token("ES256", &idp.claims(&["unknown"]));
    refused(&world, &token, 403, "AccessDenied", "nothing that is here").await;

    let (role, name, token) = (("RoleArn", ROLE), ("RoleSessionName", "job-1"), ("WebIdentityToken", right.as_str()));
    let none = ("RoleArn", "arn:aws:iam::000000000000:role/none");
    type Parameters<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Parameters<'_>, u16, &str)] = &[
        (&[none, name, token], 403, "AccessDenied"),
        (&[("RoleArn", "staff"), name, token], 400, "ValidationError"),
        (&[role, token], 400, "ValidationError"),
        (&[role, name], 400, "ValidationError"),
        (&[name, token], 400, "ValidationError"),
        (&[role, name, token, ("DurationSeconds", "43201")], 400, "ValidationError"),
        (&[role, name, token, ("ProviderId", "x")], 400, "ValidationError"),
        (&[role, name, token, ("Policy", "{")], 400, "MalformedPolicyDocument"),
        (&[role, name, token, token], 400, "ValidationError"),
    ];
    for (parameters, status, code) in cases {
        let answer = ask(&world, parameters).await;
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{parameters:?}: {}", answer.text());
    }
    // Nothing else is answered to whoever does not sign.
    let other = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    let other = other.body("Action=GetCallerIdentity&Version=2011-06-15").send_unsigned(world.address()).await;
    assert_eq!((other.status, other.code().as_str()), (403, "MissingAuthenticationToken"));
    world.stop().await;
}

#[tokio::test]
async fn bnd_1_requests_that_nobody_signed_are_short_and_few() {
    let key = IdpKey::es256("one");
    let idp = Idp::start(&[&key]).await;
    let world = world_with(vec![idp.role()]).await;
    let long = Request::post("/").header("content-type", "application/x-www-form-urlencoded").body("x".repeat(1 << 20));
    let answer = long.send_unsigned(world.address()).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "ValidationError"));
    // Those that are begun and do not end leave room for whoever comes from elsewhere.
    let mut waiting = Vec::new();
    for _ in 0..70 {
        let mut wire = Wire::connect_from("127.0.0.2", world.address()).await;
        let head =
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n";
        wire.send(format!("{head}\r\nAction")).await;
        waiting.push(wire);
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let mut turned_away = 0;
        for wire in &mut waiting {
            turned_away += usize::from(wire.has_answer(Duration::ZERO).await);
        }
        if turned_away == 6 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline && turned_away < 6, "{turned_away} were turned away");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    credentials(&assume(&world, &key.token("ES256", &idp.claims(&["readers"]))).await);
    world.stop().await;
}

#[tokio::test]
async fn keys_that_are_new_are_found_and_those_that_are_gone_are_believed_no_longer_than_is_said() {
    let (first, second) = (IdpKey::es256("first"), IdpKey::es256("second"));
    let idp = Idp::start(&[&first]).await;
    let role = WebIdentityOptions { keys_age: Duration::from_secs(3600), ..idp.role() };
    let short = WebIdentityOptions { name: "short".into(), keys_age: Duration::from_secs(4), ..idp.role() };
    let world = world_with(vec![role, short]).await;
    let claims = idp.claims(&["readers"]);
    let (of_first, of_second) = (first.token("ES256", &claims), second.token("ES256", &claims));
    credentials(&assume(&world, &of_first).await);
    // Whoever names keys that there are not has them looked for, but not each time.
    let before = idp.fetched();
    let begun = std::time::Instant::now();
    for number in 0..40 {
        let token = first.token_of(&json!({"alg": "ES256", "kid": number.to_string()}), &claims);
        refused(&world, &token, 400, "InvalidIdentityToken", "no such key").await;
    }
    let most = begun.elapsed().as_secs() / 2 + 1;
    assert!((idp.fetched() - before) as u64 <= most, "{} fetches in {:?}", idp.fetched() - before, begun.elapsed());
    idp.change(|state| state.keys = vec![second.shown()]);
    until(&world, &of_second, "").await;
    refused(&world, &of_first, 400, "InvalidIdentityToken", "a key that is gone").await;

    // While it is away its keys are believed, and then no more.
    let of_short = |token: &str| {
        let parameters = [("RoleArn", "arn:aws:iam::000000000000:role/short"), ("RoleSessionName", "job-1")];
        [parameters[0], parameters[1], ("WebIdentityToken", token)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let parameters = of_short(&of_second);
    let parameters: Vec<(&str, &str)> =
        parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    credentials(&ask(&world, &parameters).await);
    idp.change(|state| state.hangs = true);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let begun = std::time::Instant::now();
    loop {
        let answer = ask(&world, &parameters).await;
        if answer.status != 200 {
            assert_eq!((answer.status, answer.code().as_str()), (400, "IDPCommunicationError"), "{}", answer.text());
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still believed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "they were believed for a while");
    // The other role believes for longer.
    credentials(&assume(&world, &of_second).await);
    idp.change(|state| state.hangs = false);
    world.stop().await;
}

#[tokio::test]
async fn a_provider_that_lies_or_is_away_lets_nobody_in_and_costs_little() {
    let key = IdpKey::es256("one");
    let idp = Idp::start(&[&key]).await;
    let elsewhere = Idp::start(&[&key]).await;
    let world = world_with(vec![idp.role()]).await;
    let token = key.token("ES256", &idp.claims(&["readers"]));
    let issuer = idp.issuer.clone();
    type Lie = Box<dyn Fn(&mut crate::idp::State)>;
    let there = format!("{}/keys", elsewhere.issuer);
    let lies: Vec<(&str, Lie)> = vec![
        (
            "a redirect",
            Box::new({
                let there = there.clone();
                move |state| state.answers = Some((302, there.clone()))
            }),
        ),
        ("an error", Box::new(|state| state.answers = Some((500, String::new())))),
        ("a huge document", Box::new(|state| state.key_set = Some(vec![b' '; 8 << 20]))),
        ("no JSON", Box::new(|state| state.key_set = Some(b"keys".to_vec()))),
        ("deep JSON", Box::new(|state| state.key_set = Some(vec![b'['; 200_000]))),
        ("no key", Box::new(|state| state.key_set = Some(b"{\"keys\":[]}".to_vec()))),
        (
            "keys of other kinds",
            Box::new(|state| {
                let keys = json!({"keys": [{"kty": "oct", "kid": "one", "k": "AAAA"}, {"kty": "EC", "crv": "P-384", "x": "", "y": ""}]});
                state.key_set = Some(keys.to_string().into_bytes());
            }),
        ),
        (
            "too many keys",
            Box::new(|state| {
                let keys = vec![state.keys[0].clone(); 65];
                state.key_set = Some(json!({ "keys": keys }).to_string().into_bytes());
            }),
        ),
        (
            "another's document",
            Box::new({
                let there = there.clone();
                move |state| {
                    state.discovery = Some(json!({"issuer": "http://127.0.0.1:1/other", "jwks_uri": there}));
                }
            }),
        ),
        (
            "keys in the clear, elsewhere",
            Box::new(move |state| {
                state.discovery = Some(json!({"issuer": issuer, "jwks_uri": "http://192.0.2.1/keys"}));
            }),
        ),
    ];
    for (what, lie) in lies {
        idp.change(|state| {
            *state = crate::idp::State { keys: std::mem::take(&mut state.keys), ..crate::idp::State::default() };
            lie(state);
        });
        let asked = || idp.state.lock().asked.len();
        let before = asked();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        // It is asked again a moment after the last time.
        while asked() == before {
            refused(&world, &token, 400, "IDPCommunicationError", what).await;
            assert!(tokio::time::Instant::now() < deadline, "{what}: it is not asked");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        refused(&world, &token, 400, "IDPCommunicationError", what).await;
    }
    assert_eq!(elsewhere.state.lock().asked.len(), 0, "nobody is sent elsewhere");
    idp.change(|state| *state = crate::idp::State { keys: std::mem::take(&mut state.keys), ..Default::default() });
    until(&world, &token, "").await;
    world.stop().await;
}

#[tokio::test]
async fn a_provider_is_believed_by_its_certificate() {
    let key = IdpKey::es256("one");
    let (idp, stranger) = (Idp::start_tls(&[&key]).await, Idp::start_tls(&[&key]).await);
    let other = WebIdentityOptions { name: "other".into(), ca_pem: stranger.certificate.clone(), ..idp.role() };
    let world = world_with(vec![idp.role(), other]).await;
    let token = key.token("ES256", &idp.claims(&["readers"]));
    credentials(&assume(&world, &token).await);
    let parameters = [
        ("RoleArn", "arn:aws:iam::000000000000:role/other"),
        ("RoleSessionName", "job-1"),
        ("WebIdentityToken", token.as_str()),
    ];
    let answer = ask(&world, &parameters).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "IDPCommunicationError"), "{}", answer.text());
    world.stop().await;
}
