//! Object lock: what is locked stays until its time has come.

use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    multipart::Upload,
    request::{Request, md5_hex},
    versions::enable,
    wire::Answer,
    world::World,
};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";
const BYPASS: &str = "x-amz-bypass-governance-retention";
const DENIED: &str = "Access Denied because object protected by object lock.";

/// So many days from now, in whole seconds.
fn days_ahead(days: i64) -> String {
    let date = OffsetDateTime::now_utc() + Duration::days(days);
    date.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

/// A bucket that was made with object lock.
async fn world() -> World {
    let world = World::start().await;
    world.ok(Request::put("/locks").header("x-amz-bucket-object-lock-enabled", "true")).await;
    world
}

fn document(path: &str, parameter: &str, body: &str) -> Request {
    Request::put(path).query(parameter, "").body(body).content_md5()
}

fn retention(path: &str, version: &str, mode: &str, until: &str) -> Request {
    let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
    document(path, "retention", &body).query("versionId", version)
}

fn hold(path: &str, status: &str) -> Request {
    document(path, "legal-hold", &format!("<LegalHold><Status>{status}</Status></LegalHold>"))
}

fn configuration(bucket: &str, rule: &str) -> Request {
    let enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
    document(bucket, "object-lock", &format!("<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>"))
}

fn version_of(answer: &Answer) -> String {
    answer.header("x-amz-version-id").unwrap().to_owned()
}

fn delete(path: &str, version: &str) -> Request {
    Request::delete(path).query("versionId", version)
}

fn bypassing(request: Request) -> Request {
    request.header(BYPASS, "true")
}

async fn denied(world: &World, request: Request) {
    let answer = world.refused(request, 403, "AccessDenied").await;
    assert_eq!(answer.xml("Message"), DENIED);
}

#[tokio::test]
async fn a_bucket_is_given_object_lock_and_keeps_it() {
    let world = world().await;
    let read = |bucket: &str| Request::get(bucket).query("object-lock", "");
    assert_eq!(world.ok(Request::get("/locks").query("versioning", "")).await.xml("Status"), "Enabled");
    let told = world.ok(read("/locks")).await;
    assert!(told.text().ends_with("<ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"));
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    world.refused(document("/locks", "versioning", suspended), 409, "InvalidBucketState").await;

    world.ok(Request::put("/plain")).await;
    world.refused(read("/plain"), 404, "ObjectLockConfigurationNotFoundError").await;
    let again = Request::put("/plain").header("x-amz-bucket-object-lock-enabled", "true");
    world.refused(again, 409, "BucketAlreadyOwnedByYou").await;
    let rule = "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>2</Years></DefaultRetention></Rule>";
    world.refused(configuration("/plain", rule), 409, "InvalidBucketState").await;
    enable(&world, "plain", "Enabled").await;
    world.ok(configuration("/plain", rule)).await;
    let told = world.ok(read("/plain")).await;
    assert_eq!((told.xml("Mode"), told.xml("Years")), ("COMPLIANCE".into(), "2".into()));
    world.ok(configuration("/plain", "")).await;
    assert_eq!(world.ok(read("/plain")).await.xml("Mode"), "", "the default is gone, object lock stays");

    let rule = |inner: &str| format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>");
    let zero = configuration("/plain", &rule("<Mode>GOVERNANCE</Mode><Days>0</Days>"));
    let answer = world.refused(zero, 400, "InvalidArgument").await;
    assert_eq!(answer.xml("Message"), "Default retention period must be a positive integer value.");
    let both = configuration("/plain", &rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"));
    world.refused(both, 400, "MalformedXML").await;
    let unvouched = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    let unvouched = Request::put("/plain").query("object-lock", "").body(unvouched);
    world.refused(unvouched, 400, "InvalidRequest").await;
    world.stop().await;
}

#[tokio::test]
async fn compliance_is_only_ever_lengthened_and_ends_with_time() {
    let world = world().await;
    let until = days_ahead(2);
    let put = Request::put("/locks/k").body("kept").header(MODE, "COMPLIANCE").header(UNTIL, &until);
    let unvouched = world.refused(put.clone(), 400, "InvalidRequest").await;
    assert!(
        unvouched.xml("Message").starts_with("Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object")
    );
    let version = version_of(&world.ok(put.content_md5()).await);
    for request in [Request::get("/locks/k"), Request::head("/locks/k")] {
        let told = world.ok(request).await;
        assert_eq!(told.header(MODE), Some("COMPLIANCE"));
        assert!(told.header(UNTIL).unwrap().starts_with(&until[..19]), "{:?}", told.header(UNTIL));
        assert_eq!(told.header(HOLD), None);
    }
    let told = world.ok(Request::get("/locks/k").query("retention", "")).await;
    assert_eq!(
        (told.xml("Mode"), told.xml("RetainUntilDate")[..19].to_owned()),
        ("COMPLIANCE".into(), until[..19].into())
    );

    denied(&world, delete("/locks/k", &version)).await;
    denied(&world, bypassing(delete("/locks/k", &version))).await;
    denied(&world, bypassing(retention("/locks/k", &version, "COMPLIANCE", &days_ahead(1)))).await;
    denied(&world, bypassing(retention("/locks/k", &version, "GOVERNANCE", &days_ahead(9)))).await;
    denied(&world, bypassing(document("/locks/k", "retention", "<Retention/>"))).await;
    world.ok(retention("/locks/k", &version, "COMPLIANCE", &days_ahead(4))).await;
    let marker = world.ok(Request::delete("/locks/k")).await;
    assert_eq!(marker.header("x-amz-delete-marker"), Some("true"), "a marker hides it and removes nothing");
    world.ok(delete("/locks/k", &version_of(&marker))).await;

    world.pass_days(3);
    denied(&world, delete("/locks/k", &version)).await;
    world.refused(Request::delete("/locks"), 409, "BucketNotEmpty").await;
    assert_eq!(world.ok(Request::get("/locks/k")).await.text(), "kept");
    world.pass_days(2);
    world.ok(delete("/locks/k", &version)).await;
    world.refused(Request::get("/locks/k"), 404, "NoSuchKey").await;
    world.stop().await;
}

#[tokio::test]
async fn governance_is_bypassed_by_those_who_say_so_and_a_legal_hold_by_nobody() {
    let world = world().await;
    let put = async || version_of(&world.ok(Request::put("/locks/k").body("x")).await);
    let version = put().await;
    let unset =
        world.refused(Request::get("/locks/k").query("retention", ""), 404, "NoSuchObjectLockConfiguration").await;
    assert_eq!(unset.xml("Message"), "The specified object does not have a ObjectLock configuration");
    world.refused(Request::get("/locks/k").query("legal-hold", ""), 404, "NoSuchObjectLockConfiguration").await;

    world.ok(retention("/locks/k", &version, "GOVERNANCE", &days_ahead(5))).await;
    world.ok(retention("/locks/k", &version, "GOVERNANCE", &days_ahead(6))).await;
    denied(&world, retention("/locks/k", &version, "GOVERNANCE", &days_ahead(1))).await;
    denied(&world, retention("/locks/k", &version, "COMPLIANCE", &days_ahead(7))).await;
    denied(&world, delete("/locks/k", &version)).await;
    denied(&world, delete("/locks/k", &version).header(BYPASS, "false")).await;
    world.ok(bypassing(retention("/locks/k", &version, "GOVERNANCE", &days_ahead(1)))).await;

    world.ok(hold("/locks/k", "ON")).await;
    assert_eq!(world.ok(Request::get("/locks/k").query("legal-hold", "")).await.xml("Status"), "ON");
    denied(&world, bypassing(delete("/locks/k", &version))).await;
    world.pass_days(400);
    denied(&world, delete("/locks/k", &version)).await;
    world.ok(hold("/locks/k", "OFF")).await;
    let told = world.ok(Request::head("/locks/k")).await;
    assert_eq!((told.header(HOLD), told.header(MODE)), (Some("OFF"), Some("GOVERNANCE")));
    world.ok(delete("/locks/k", &version)).await;
    world.refused(hold("/locks/k", "ON"), 404, "NoSuchKey").await;
    world.refused(hold("/locks/k", "MAYBE"), 400, "MalformedXML").await;
    world.stop().await;
}

#[tokio::test]
async fn bypassing_governance_takes_a_permission_of_its_own() {
    let world = world().await;
    let version = version_of(&world.ok(Request::put("/locks/k").body("x")).await);
    world.ok(retention("/locks/k", &version, "GOVERNANCE", &days_ahead(5))).await;
    let policy = |more: &str| {
        let allowed = format!(r#""s3:DeleteObjectVersion","s3:PutObjectRetention"{more}"#);
        let statement = format!(r#"{{"Effect":"Allow","Action":[{allowed}],"Resource":"arn:aws:s3:::locks/*"}}"#);
        format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
    };
    let deleter = world.user("deleter", Some(&policy(""))).await;
    let shortened = bypassing(retention("/locks/k", &version, "GOVERNANCE", &days_ahead(1)));
    for refused in [bypassing(delete("/locks/k", &version)), shortened] {
        let answer = refused.send(world.address(), &deleter).await;
        assert_eq!((answer.status, answer.xml("Message").as_str()), (403, "Access Denied"), "{refused}");
    }
    let object = format!("<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object></Delete>");
    let batch = bypassing(Request::post("/locks").query("delete", "").body(object).content_md5());
    let answer = batch.send(world.address(), &deleter).await;
    assert_eq!(answer.xml_all("Code"), ["AccessDenied"], "{}", answer.text());
    let answer = delete("/locks/k", &version).send(world.address(), &deleter).await;
    assert_eq!((answer.status, answer.xml("Message").as_str()), (403, DENIED));

    let bypasser = world.user("bypasser", Some(&policy(r#","s3:BypassGovernanceRetention""#))).await;
    let answer = bypassing(delete("/locks/k", &version)).send(world.address(), &bypasser).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    world.stop().await;
}

#[tokio::test]
async fn a_batch_removes_what_is_not_locked() {
    let world = world().await;
    let mut versions = Vec::new();
    for key in ["free", "held", "governed"] {
        versions.push((key, version_of(&world.ok(Request::put(&format!("/locks/{key}")).body("x")).await)));
    }
    world.ok(hold("/locks/held", "ON")).await;
    world.ok(retention("/locks/governed", &versions[2].1, "GOVERNANCE", &days_ahead(1))).await;
    let objects: String = versions
        .iter()
        .map(|(key, version)| format!("<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>"))
        .collect();
    let batch = Request::post("/locks").query("delete", "").body(format!("<Delete>{objects}</Delete>")).content_md5();
    let answer = world.ok(batch.clone()).await;
    assert_eq!(answer.xml_all("Code"), ["AccessDenied", "AccessDenied"], "{}", answer.text());
    assert_eq!(answer.xml_all("Message"), [DENIED, DENIED]);
    assert_eq!(world.keys("locks").await, ["governed", "held"]);
    let answer = world.ok(bypassing(batch)).await;
    assert_eq!(answer.xml_all("Code"), ["AccessDenied"], "{}", answer.text());
    assert_eq!(world.keys("locks").await, ["held"]);
    world.stop().await;
}

#[tokio::test]
async fn whatever_makes_a_version_locks_it_as_it_or_its_bucket_says() {
    let world = world().await;
    let mode = async |path: &str| {
        let head = world.ok(Request::head(path)).await;
        (head.header(MODE).map(ToOwned::to_owned), head.header(HOLD).map(ToOwned::to_owned))
    };
    let until = days_ahead(3);
    let locked = |request: Request| request.header(MODE, "GOVERNANCE").header(UNTIL, &until).header(HOLD, "ON");
    let both = (Some("GOVERNANCE".to_owned()), Some("ON".to_owned()));
    world.ok(locked(Request::put("/locks/put").body("x")).content_md5()).await;
    assert_eq!(mode("/locks/put").await, both);
    let copy = |to: &str| Request::put(to).header("x-amz-copy-source", "/locks/put");
    world.ok(copy("/locks/copy")).await;
    assert_eq!(mode("/locks/copy").await, (None, None), "a copy has no lock of its source's");
    world.ok(locked(copy("/locks/locked-copy"))).await;
    assert_eq!(mode("/locks/locked-copy").await, both);
    let upload = Upload::create(&world, "/locks/parts", &[(MODE, "GOVERNANCE"), (UNTIL, &until), (HOLD, "ON")]).await;
    let unvouched = world.refused(upload.part(1, b"part"), 400, "InvalidRequest").await;
    assert!(unvouched.xml("Message").contains("Put Part requests"));
    world.ok(upload.part(1, b"part").content_md5()).await;
    upload.complete(&world, &[(1, &md5_hex(b"part"))]).await;
    assert_eq!(mode("/locks/parts").await, both);

    let rule = "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule>";
    world.ok(configuration("/locks", rule)).await;
    let by_default = (Some("COMPLIANCE".to_owned()), None);
    world.refused(Request::put("/locks/default").body("x"), 400, "InvalidRequest").await;
    world.ok(Request::put("/locks/default").body("x").content_md5()).await;
    assert_eq!(mode("/locks/default").await, by_default);
    world.ok(copy("/locks/default-copy")).await;
    assert_eq!(mode("/locks/default-copy").await, by_default);
    let upload = Upload::create(&world, "/locks/default-parts", &[]).await;
    world.ok(upload.part(1, b"part")).await;
    upload.complete(&world, &[(1, &md5_hex(b"part"))]).await;
    assert_eq!(mode("/locks/default-parts").await, by_default);
    world.ok(locked(Request::put("/locks/own").body("x")).content_md5()).await;
    assert_eq!(mode("/locks/own").await, both, "what is asked for goes before the default");
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_lock_is_said() {
    let world = world().await;
    let version = version_of(&world.ok(Request::put("/locks/k").body("x")).await);
    let past = "2020-01-01T00:00:00Z";
    for (headers, message) in [
        (
            &[(MODE, "COMPLIANCE")][..],
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        ),
        (&[(MODE, "COMPLIANCE"), (UNTIL, past)], "The retain until date must be in the future!"),
        (&[(MODE, "COMPLIANCE"), (UNTIL, "abc")], "The retain until date must be provided in ISO 8601 format"),
        (&[(MODE, "SOMETIMES"), (UNTIL, "2999-01-01T00:00:00Z")], "Unknown wormMode directive."),
        (&[(HOLD, "MAYBE")], "Legal Hold must be either of 'ON' or 'OFF'"),
    ] {
        let request = Request::put("/locks/k").body("y").content_md5();
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = world.refused(request, 400, "InvalidArgument").await;
        assert_eq!(answer.xml("Message"), message);
    }
    let answer = world.refused(retention("/locks/k", &version, "GOVERNANCE", past), 400, "InvalidArgument").await;
    assert_eq!(answer.xml("ArgumentName"), "RetainUntilDate");
    world.refused(retention("/locks/k", &version, "governance", &days_ahead(1)), 400, "MalformedXML").await;
    let half = document("/locks/k", "retention", "<Retention><Mode>GOVERNANCE</Mode></Retention>");
    world.refused(half, 400, "MalformedXML").await;
    let unvouched = Request::put("/locks/k").query("retention", "").body("<Retention/>");
    world.refused(unvouched, 400, "InvalidRequest").await;
    world.ok(Request::delete("/locks/k")).await;
    world.refused(hold("/locks/k", "ON"), 404, "NoSuchKey").await;
    world.refused(Request::get("/locks/none").query("retention", ""), 404, "NoSuchKey").await;
    assert_eq!(world.ok(Request::get("/locks/k").query("versionId", &version)).await.header(MODE), None);
    world.stop().await;
}
