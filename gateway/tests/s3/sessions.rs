//! Temporary credentials: how users get them, and what they are good for.

use cairn_gateway::SecretsKey;
use cairn_schema::verbs::UserChange;

use crate::{
    access::{allow, policy, soon},
    forms::post_file_of_session,
    request::{Payload, Request},
    sign::{Signer, encode},
    wire::{Answer, Wire},
    world::World,
};

const ALICE: &str = "arn:aws:iam::000000000000:user/alice";

/// A request to the token service.
fn ask(action: &str, parameters: &[(&str, &str)]) -> Request {
    let mut body = format!("Action={action}&Version=2011-06-15");
    for (name, value) in parameters {
        body.push_str(&format!("&{name}={}", encode(value)));
    }
    Request::post("/").header("content-type", "application/x-www-form-urlencoded; charset=utf-8").body(body)
}

async fn asked(world: &World, signer: &Signer, action: &str, parameters: &[(&str, &str)]) -> Answer {
    let signer = Signer { service: "sts", ..signer.clone() };
    ask(action, parameters).send(world.address(), &signer).await
}

fn credentials(answer: &Answer) -> Signer {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let signer = Signer::now(&answer.xml("AccessKeyId"), &answer.xml("SecretAccessKey"));
    Signer { token: Some(answer.xml("SessionToken")), ..signer }
}

/// What alice gets, for an hour and perhaps limited.
async fn assume(world: &World, alice: &Signer, policy: Option<&str>) -> Signer {
    let mut parameters = vec![("RoleArn", ALICE), ("RoleSessionName", "job-1")];
    parameters.extend(policy.map(|policy| ("Policy", policy)));
    credentials(&asked(world, alice, "AssumeRole", &parameters).await)
}

/// A bucket with an object, and alice, who may read and write there.
async fn with_alice() -> (World, Signer) {
    let world = World::with_bucket("forms").await;
    world.ok(Request::put("/forms/k").body("x")).await;
    let alice = world.user("alice", Some(&allow("GetObject PutObject", &["forms/*"]))).await;
    (world, alice)
}

async fn answered(world: &World, signer: &Signer, request: Request, status: u16, code: &str) {
    let answer = request.send(world.address(), signer).await;
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{request}: {}", answer.text());
}

fn get() -> Request {
    Request::get("/forms/k")
}

fn put() -> Request {
    Request::put("/forms/k").body("y")
}

#[tokio::test]
async fn a_session_may_what_both_the_user_and_its_policy_allow() {
    let (world, alice) = with_alice().await;
    let whole = assume(&world, &alice, None).await;
    answered(&world, &whole, get(), 200, "").await;
    answered(&world, &whole, put(), 200, "").await;
    let limited = assume(&world, &alice, Some(&allow("GetObject DeleteObject", &["forms/*"]))).await;
    answered(&world, &limited, get(), 200, "").await;
    answered(&world, &limited, put(), 403, "AccessDenied").await;
    answered(&world, &limited, Request::delete("/forms/k"), 403, "AccessDenied").await;
    let denied = policy("Deny", "GetObject", &["*"]);
    let denied = assume(&world, &alice, Some(&denied)).await;
    answered(&world, &denied, get(), 403, "AccessDenied").await;
    // Whoever denies something to the user denies it to the sessions.
    let bucket = policy("Deny", "GetObject", &["forms/*"]);
    let bucket = bucket.replace("\"Action\"", &format!("\"Principal\":{{\"AWS\":\"{ALICE}\"}},\"Action\""));
    world.ok(Request::put("/forms").query("policy", "").body(bucket)).await;
    soon(&world, &whole, &get(), 403).await;
    answered(&world, &whole, put(), 200, "").await;
    world.stop().await;
}

#[tokio::test]
async fn a_session_of_a_limited_key_is_limited_like_the_key_and_ends_with_it() {
    let (world, _) = with_alice().await;
    let soon_over = cairn_schema::clock::now_ms() + 600_000;
    let limited = world.key_of("alice", Some(soon_over), Some(&allow("GetObject", &["forms/*"]))).await;
    let whole = assume(&world, &limited, None).await;
    answered(&world, &whole, get(), 200, "").await;
    answered(&world, &whole, put(), 403, "AccessDenied").await;
    let elsewhere = assume(&world, &limited, Some(&allow("PutObject", &["forms/*"]))).await;
    answered(&world, &elsewhere, get(), 403, "AccessDenied").await;
    answered(&world, &elsewhere, put(), 403, "AccessDenied").await;
    let asked = asked(&world, &limited, "AssumeRole", &[("RoleArn", ALICE), ("RoleSessionName", "job-1")]).await;
    let ends = time::OffsetDateTime::from_unix_timestamp(i64::try_from(soon_over / 1000).unwrap()).unwrap();
    let written = Signer::at("", "", ends).amz_date;
    assert_eq!(asked.xml("Expiration").replace(['-', ':'], ""), written, "no later than the key");
    world.stop().await;
}

#[tokio::test]
async fn who_somebody_is_the_token_service_tells() {
    let (world, alice) = with_alice().await;
    let id = world.meta.granted("alice").await.unwrap().0.id.to_string();
    let assumed = "arn:aws:sts::000000000000:assumed-role/alice/job-1";
    let answer = asked(
        &world,
        &alice,
        "AssumeRole",
        &[("RoleArn", ALICE), ("RoleSessionName", "job-1"), ("DurationSeconds", "900")],
    )
    .await;
    assert_eq!((answer.xml("Arn"), answer.xml("AssumedRoleId")), (assumed.to_owned(), format!("{id}:job-1")));
    let start =
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>";
    assert!(answer.text().contains(start), "{}", answer.text());
    let session = Signer { service: "sts", ..credentials(&answer) };
    let of_token = credentials(&asked(&world, &alice, "GetSessionToken", &[]).await);
    for (signer, arn, id) in [
        (&world.signer(), "arn:aws:iam::000000000000:root", "000000000000"),
        (&alice, ALICE, id.as_str()),
        (&session, assumed, &format!("{id}:job-1")),
        (&of_token, ALICE, id.as_str()),
    ] {
        let answer = asked(&world, signer, "GetCallerIdentity", &[]).await;
        assert_eq!((answer.xml("Arn").as_str(), answer.xml("UserId").as_str()), (arn, id), "{}", answer.text());
        assert_eq!(answer.xml("Account"), "000000000000");
    }
    // Those of GetSessionToken may what the user may.
    answered(&world, &of_token, put(), 200, "").await;
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_its_own_key_in_its_own_time_and_signed() {
    let (world, alice) = with_alice().await;
    let session = assume(&world, &alice, None).await;
    let other = assume(&world, &alice, None).await;
    let token = session.token.clone().unwrap();
    let with = |signer: &Signer, token: Option<&str>| Signer { token: token.map(Into::into), ..signer.clone() };
    answered(&world, &with(&session, None), get(), 403, "InvalidAccessKeyId").await;
    answered(&world, &with(&session, Some("")), get(), 403, "InvalidAccessKeyId").await;
    answered(&world, &with(&session, other.token.as_deref()), get(), 400, "InvalidToken").await;
    answered(&world, &with(&alice, Some(&token)), get(), 400, "InvalidToken").await;
    answered(&world, &with(&world.signer(), Some(&token)), get(), 400, "InvalidToken").await;
    answered(&world, &with(&session, Some(&token[1..])), get(), 400, "InvalidToken").await;
    answered(&world, &with(&session, Some(&token[..token.len() - 4])), get(), 400, "InvalidToken").await;
    answered(&world, &session, get().query("x-amz-security-token", &token), 400, "InvalidToken").await;
    let wrong = Signer { secret_key: "guessed".into(), ..session.clone() };
    answered(&world, &wrong, get(), 403, "SignatureDoesNotMatch").await;
    let unsigned = get().header("x-amz-security-token", &token).send_unsigned(world.address()).await;
    assert_eq!((unsigned.status, unsigned.code().as_str()), (400, "InvalidToken"));
    // Added to what was signed without it.
    let host = world.address().to_string();
    let plain = String::from_utf8(get().encode(&host, &with(&session, None))).unwrap();
    let added = plain.replacen("\r\n\r\n", &format!("\r\nx-amz-security-token: {token}\r\n\r\n"), 1);
    let mut wire = Wire::connect(world.address()).await;
    wire.send(added).await;
    let added = wire.answer(true).await.unwrap();
    assert_eq!((added.status, added.code().as_str()), (403, "AccessDenied"), "{}", added.text());
    answered(&world, &session, get(), 200, "").await;
    world.pass_days(1);
    answered(&world, &session, get(), 400, "ExpiredToken").await;
    let answer = asked(&world, &session, "GetCallerIdentity", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "ExpiredToken"));
    world.stop().await;
}

#[tokio::test]
async fn urls_and_forms_are_signed_by_sessions_with_their_tokens() {
    let (world, alice) = with_alice().await;
    let session = assume(&world, &alice, Some(&allow("GetObject PutObject", &["forms/k"]))).await;
    let token = session.token.clone().unwrap();
    let host = world.address().to_string();
    let fetched = async |path: &str, query: String| {
        let mut wire = Wire::connect(world.address()).await;
        wire.send(format!("GET {path}?{query} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        let answer = wire.answer(true).await.unwrap();
        (answer.status, answer.code())
    };
    let with_token = [("X-Amz-Security-Token", token.as_str())];
    let url = |path: &str| session.presign("GET", path, &host, 60, &with_token);
    assert_eq!(fetched("/forms/k", url("/forms/k")).await, (200, String::new()));
    assert_eq!(fetched("/forms/other", url("/forms/other")).await, (403, "AccessDenied".into()));
    let without = session.presign("GET", "/forms/k", &host, 60, &[]);
    assert_eq!(fetched("/forms/k", without.clone()).await, (403, "InvalidAccessKeyId".into()));
    let added = format!("{without}&X-Amz-Security-Token={token}");
    assert_eq!(fetched("/forms/k", added).await, (403, "SignatureDoesNotMatch".into()));
    // Version 2, where SDKs still use it.
    let expires = time::OffsetDateTime::now_utc().unix_timestamp() + 60;
    let headers = format!("x-amz-security-token:{token}\n");
    let url = session.presign_v2_with("GET", "/forms/k", expires, &headers);
    assert_eq!(fetched("/forms/k", format!("{url}&x-amz-security-token={token}")).await, (200, String::new()));
    let url = session.presign_v2("GET", "/forms/k", expires);
    assert_eq!(
        fetched("/forms/k", format!("{url}&x-amz-security-token={token}")).await,
        (403, "SignatureDoesNotMatch".into())
    );
    // A form's policy must speak of the token.
    let posted = post_file_of_session(&world, &session, &token, true).await;
    assert_eq!(posted.status, 204, "{}", posted.text());
    let posted = post_file_of_session(&world, &session, &token, false).await;
    assert_eq!((posted.status, posted.code().as_str()), (403, "AccessDenied"), "{}", posted.text());
    let posted = post_file_of_session(&world, &alice, &token, true).await;
    assert_eq!((posted.status, posted.code().as_str()), (400, "InvalidToken"), "{}", posted.text());
    world.pass_days(1);
    let posted = post_file_of_session(&world, &session, &token, true).await;
    assert_eq!((posted.status, posted.code().as_str()), (400, "ExpiredToken"), "{}", posted.text());
    world.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_its_user_and_with_the_key_that_asked_for_it() {
    let (world, alice) = with_alice().await;
    let session = assume(&world, &alice, None).await;
    answered(&world, &session, get(), 200, "").await;
    world.meta.change_user("alice", UserChange::Enable(false)).await.unwrap();
    soon(&world, &session, &get(), 403).await;
    world.meta.change_user("alice", UserChange::Enable(true)).await.unwrap();
    soon(&world, &session, &get(), 200).await;
    world.meta.delete_access_key(&alice.access_key).await.unwrap();
    soon(&world, &session, &get(), 403).await;
    answered(&world, &session, get(), 403, "InvalidAccessKeyId").await;
    // Another one of the same name is another.
    world.meta.delete_user("alice").await.unwrap();
    world.user("alice", Some(&allow("*", &["*"]))).await;
    answered(&world, &session, get(), 403, "InvalidAccessKeyId").await;
    world.stop().await;
}

/// Who asks for what, and the status and code of the answer.
type Case<'a> = (&'a Signer, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn what_the_token_service_does_not_give_it_refuses_in_its_own_words() {
    let (world, alice) = with_alice().await;
    world.user("bob", None).await;
    let session = assume(&world, &alice, None).await;
    let name = ("RoleSessionName", "job-1");
    let role = ("RoleArn", ALICE);
    let bob = ("RoleArn", "arn:aws:iam::000000000000:user/bob");
    let root = world.signer();
    let cases: &[Case<'_>] = &[
        (&alice, "AssumeRole", &[bob, name], 403, "AccessDenied"),
        (&root, "AssumeRole", &[role, name], 403, "AccessDenied"),
        (&root, "GetSessionToken", &[], 403, "AccessDenied"),
        (&session, "AssumeRole", &[role, name], 403, "AccessDenied"),
        (&session, "GetSessionToken", &[], 403, "AccessDenied"),
        (&alice, "AssumeRole", &[name], 400, "ValidationError"),
        (&alice, "AssumeRole", &[role], 400, "ValidationError"),
        (&alice, "AssumeRole", &[("RoleArn", "arn:aws:iam::1:role/x"), name], 400, "ValidationError"),
        (&alice, "AssumeRole", &[role, name, ("DurationSeconds", "899")], 400, "ValidationError"),
        (&alice, "AssumeRole", &[role, name, ("Policy", "{")], 400, "MalformedPolicyDocument"),
        (&alice, "AssumeRole", &[role, name, ("Policy", &" ".repeat(2049))], 400, "ValidationError"),
        (&alice, "AssumeRole", &[role, name, ("PolicyArns.member.1.arn", "arn:x")], 400, "ValidationError"),
        (&alice, "AssumeRole", &[role, name, name], 400, "ValidationError"),
        (&alice, "GetSessionToken", &[("TokenCode", "123456")], 400, "ValidationError"),
        (&alice, "GetFederationToken", &[("Name", "x")], 400, "InvalidAction"),
        (&Signer::now("nobody", "x"), "GetCallerIdentity", &[], 403, "InvalidClientTokenId"),
        (&Signer { secret_key: "x".into(), ..alice.clone() }, "GetCallerIdentity", &[], 403, "SignatureDoesNotMatch"),
        (&Signer { token: Some("x".into()), ..alice.clone() }, "GetCallerIdentity", &[], 403, "InvalidClientTokenId"),
    ];
    for (signer, action, parameters, status, code) in cases {
        let answer = asked(&world, signer, action, parameters).await;
        let what = format!("{} {action} {parameters:?}: {}", signer.access_key, answer.text());
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{what}");
        assert!(
            answer.text().contains("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"),
            "{what}"
        );
        assert_eq!(answer.xml("Type"), "Sender", "{what}");
    }
    let refused = async |request: Request, signer: Signer| {
        let answer = request.send(world.address(), &signer).await;
        (answer.status, answer.code())
    };
    let identity = || ask("GetCallerIdentity", &[]);
    let sts = Signer { service: "sts", ..alice.clone() };
    assert_eq!(refused(identity(), sts.clone()).await.0, 200);
    // What is signed for S3, or does not say what was signed.
    assert_eq!(refused(identity(), alice.clone()).await, (403, "SignatureDoesNotMatch".into()));
    let open = identity().payload(Payload::Unsigned);
    assert_eq!(refused(open, sts.clone()).await, (403, "SignatureDoesNotMatch".into()));
    let unsigned = identity().send_unsigned(world.address()).await;
    assert_eq!((unsigned.status, unsigned.code().as_str()), (403, "MissingAuthenticationToken"));
    world.stop().await;
}

#[tokio::test]
async fn without_the_clusters_key_there_are_no_sessions() {
    let (world, alice) = with_alice().await;
    let session = assume(&world, &alice, None).await;
    world.stop().await;
    let other = SecretsKey::parse(&SecretsKey::generate().unwrap()).unwrap();
    for secrets in [None, Some(other)] {
        let world = World::start_with(|options| options.secrets = secrets).await;
        answered(&world, &session, get(), 400, "InvalidToken").await;
        let without = Signer { token: None, ..session.clone() };
        assert_eq!(get().send(world.address(), &without).await.status, 403);
        world.stop().await;
    }
}
