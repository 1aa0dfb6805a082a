//! Settings of buckets that are documents: what is put is read back, and what S3 does not take changes nothing.

use crate::{
    request::Request,
    wire::{Answer, Wire},
    world::World,
};

fn put(parameter: &str, document: &str) -> Request {
    Request::put("/set").query(parameter, "").body(document).content_md5()
}

fn read(parameter: &str) -> Request {
    Request::get("/set").query(parameter, "")
}

#[tokio::test]
async fn tags_of_buckets_are_put_read_and_deleted() {
    let world = World::with_bucket("set").await;
    let tagging = |tags: &str| put("tagging", &format!("<Tagging><TagSet>{tags}</TagSet></Tagging>"));
    let tag = |key: &str, value: &str| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
    let both = format!("{}{}", tag("team", "storage"), tag("cost centre", "7 + 8"));
    assert_eq!(world.ok(tagging(&both)).await.status, 204);
    let told = world.ok(read("tagging")).await.text();
    assert!(told.contains(&format!("<TagSet>{both}</TagSet></Tagging>")), "{told}");

    for (document, code) in [
        (tag("", "x"), "InvalidTag"),
        (tag("a", "x") + &tag("a", "y"), "InvalidTag"),
        (tag("aws:created", "x"), "InvalidTag"),
        (tag("a;b", "x"), "InvalidTag"),
        (tag("a", &"v".repeat(257)), "InvalidTag"),
        ("<Tag><Key>a</Key></Tag>".into(), "MalformedXML"),
        ("<Tga/>".into(), "MalformedXML"),
        ((0..51).map(|number| tag(&number.to_string(), "")).collect(), "BadRequest"),
    ] {
        world.refused(tagging(&document), 400, code).await;
    }
    let unvouched = Request::put("/set").query("tagging", "").body("<Tagging><TagSet/></Tagging>");
    world.refused(unvouched, 400, "InvalidRequest").await;
    assert_eq!(world.ok(read("tagging")).await.text(), told, "what was refused changed nothing");
    let elsewhere = Request::put("/none").query("tagging", "").body("<Tagging><TagSet/></Tagging>").content_md5();
    world.refused(elsewhere, 404, "NoSuchBucket").await;

    let fifty: String = (0..50).map(|number| tag(&number.to_string(), &"v".repeat(256))).collect();
    world.ok(tagging(&fifty)).await;
    assert_eq!(world.ok(read("tagging")).await.xml_all("Key").len(), 50);
    world.ok(tagging("")).await;
    world.refused(read("tagging"), 404, "NoSuchTagSet").await;
    world.ok(tagging(&both)).await;
    assert_eq!(world.ok(Request::delete("/set").query("tagging", "")).await.status, 204);
    world.refused(read("tagging"), 404, "NoSuchTagSet").await;
    world.stop().await;
}

const ORIGIN: &str = "https://app.example.com";
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// What a browser sends: nothing of it is signed.
async fn unsigned(world: &World, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: s3\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut wire = Wire::connect(world.address()).await;
    wire.send(format!("{head}\r\n")).await;
    wire.answer(method != "HEAD").await.unwrap()
}

async fn with_rules() -> World {
    let world = World::with_bucket("set").await;
    let rules = format!(
        "<CORSConfiguration><CORSRule><ID>app</ID><AllowedOrigin>{ORIGIN}</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
         <AllowedMethod>PUT</AllowedMethod><AllowedHeader>X-Amz-*</AllowedHeader><AllowedHeader>content-type</AllowedHeader>\
         <ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-amz-version-id</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds></CORSRule>\
         <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule></CORSConfiguration>"
    );
    world.ok(put("cors", &rules)).await;
    let told = world.ok(read("cors")).await;
    assert_eq!(
        (told.xml("ID"), told.xml_all("AllowedMethod")),
        ("app".into(), ["GET", "PUT", "HEAD"].map(Into::into).to_vec())
    );
    world
}

#[tokio::test]
async fn browsers_are_told_before_they_ask_what_the_rules_of_a_bucket_allow() {
    let world = with_rules().await;
    world.ok(Request::put("/bare")).await;
    let method = |method| ("access-control-request-method", method);
    let names = |names| ("access-control-request-headers", names);
    let from = |origin| ("origin", origin);

    let asked = [from(ORIGIN), method("PUT"), names("X-Amz-Date,content-type, x-amz-meta-a")];
    let granted = unsigned(&world, "OPTIONS", "/set/no/such%20key", &asked).await;
    assert_eq!((granted.status, granted.body.len()), (200, 0));
    for (name, value) in [
        ("access-control-allow-origin", Some(ORIGIN)),
        ("access-control-allow-credentials", Some("true")),
        ("access-control-allow-methods", Some("GET, PUT")),
        ("access-control-allow-headers", Some("x-amz-date, content-type, x-amz-meta-a")),
        ("access-control-expose-headers", Some("ETag, x-amz-version-id")),
        ("access-control-max-age", Some("600")),
        ("vary", Some(VARY)),
    ] {
        assert_eq!(granted.header(name), value, "{name}");
    }
    let anyone = unsigned(&world, "OPTIONS", "/set/k", &[from("null"), method("HEAD")]).await;
    assert_eq!((anyone.status, anyone.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(anyone.header("access-control-allow-credentials"), None);
    assert_eq!(anyone.header("access-control-max-age"), None);

    let mut refusals = 0;
    for (path, headers, status, message, kind) in [
        ("/set/k", &[][..], 400, "Insufficient information. Origin request header needed.", ""),
        ("/none/k", &[from(ORIGIN), method("GET")], 403, "CORSResponse: Bucket not found", "BUCKET"),
        ("/No_Bucket", &[from(ORIGIN)], 403, "CORSResponse: Bucket not found", "BUCKET"),
        ("/", &[from(ORIGIN), method("GET")], 403, "CORSResponse: Bucket not found", "BUCKET"),
        ("/bare/k", &[from(ORIGIN)], 403, "CORSResponse: CORS is not enabled for this bucket.", "BUCKET"),
        ("/set/k", &[from(ORIGIN)], 400, "Invalid Access-Control-Request-Method: null", ""),
        ("/set/k", &[from(ORIGIN), method("PATCH")], 400, "Invalid Access-Control-Request-Method: PATCH", ""),
        ("/set/k", &[from(ORIGIN), method("DELETE")], 403, "CORSResponse: This CORS request is not allowed.", "OBJECT"),
        ("/set", &[from("https://b"), method("GET")], 403, "CORSResponse: This CORS request is not allowed.", "BUCKET"),
        ("/set/k", &[from(ORIGIN), method("PUT"), names("range")], 403, "CORSResponse: This CORS", "OBJECT"),
    ] {
        let answer = unsigned(&world, "OPTIONS", path, headers).await;
        assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text());
        assert!(answer.xml("Message").starts_with(message), "{path} {headers:?}: {}", answer.text());
        assert_eq!(answer.code(), if status == 400 { "BadRequest" } else { "AccessForbidden" });
        assert_eq!(answer.xml("ResourceType"), kind, "{path} {headers:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        refusals += 1;
    }
    assert_eq!(refusals, 10);
    let unallowed = unsigned(&world, "OPTIONS", "/set/k", &[from(ORIGIN), method("DELETE")]).await;
    assert_eq!(unallowed.xml("Method"), "DELETE");
    world.stop().await;
}

#[tokio::test]
async fn pages_may_read_answers_and_errors_as_the_rules_say() {
    let world = with_rules().await;
    world.ok(Request::put("/set/k").body("x")).await;
    let origin = |request: Request, origin: &str| request.header("origin", origin);
    let got = world.ok(origin(Request::get("/set/k"), ORIGIN)).await;
    assert_eq!(got.text(), "x");
    for (name, value) in [
        ("access-control-allow-origin", ORIGIN),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-expose-headers", "ETag, x-amz-version-id"),
        ("access-control-max-age", "600"),
        ("vary", VARY),
    ] {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(ToOwned::to_owned);
    let gone = world.refused(origin(Request::get("/set/none"), ORIGIN), 404, "NoSuchKey").await;
    assert_eq!(allowed(&gone).as_deref(), Some(ORIGIN), "a page may read errors too");
    let unsigned_get = unsigned(&world, "GET", "/set/k", &[("origin", ORIGIN)]).await;
    assert_eq!((unsigned_get.status, allowed(&unsigned_get).as_deref()), (403, Some(ORIGIN)));
    assert_eq!(allowed(&world.ok(origin(Request::head("/set/k"), "http://any")).await).as_deref(), Some("*"));

    for request in [
        Request::get("/set/k"),
        origin(Request::get("/set/k"), "https://other"),
        origin(Request::get("/set/k"), ORIGIN).header("access-control-request-method", "DELETE"),
        origin(Request::get("/set/k"), ORIGIN).header("access-control-request-headers", "range"),
        origin(Request::get("/"), ORIGIN),
    ] {
        let answer = world.ok(request.clone()).await;
        assert_eq!((allowed(&answer), answer.header("vary")), (None, None), "{request}");
    }
    let removed = world.ok(origin(Request::delete("/set/k"), ORIGIN)).await;
    assert_eq!(allowed(&removed), None, "done, but not for the page to know");

    let deleted = world.ok(Request::delete("/set").query("cors", "")).await;
    assert_eq!(deleted.status, 204);
    world.refused(read("cors"), 404, "NoSuchCORSConfiguration").await;
    let after = world.ok(origin(Request::get("/set"), ORIGIN)).await;
    assert_eq!(allowed(&after), None, "rules that were deleted here are forgotten at once");
    world.stop().await;
}

#[tokio::test]
async fn rules_that_s3_does_not_take_change_nothing() {
    let world = with_rules().await;
    let told = world.ok(read("cors")).await.text();
    let rules = |rules: &str| put("cors", &format!("<CORSConfiguration>{rules}</CORSConfiguration>"));
    let least = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
    let unsupported = rules(&format!("<CORSRule>{least}<AllowedMethod>PATCH</AllowedMethod></CORSRule>"));
    let answer = world.refused(unsupported, 400, "InvalidRequest").await;
    assert_eq!(answer.xml("Message"), "Found unsupported HTTP method in CORS config. Unsupported method is PATCH");
    let starry = format!("<CORSRule>{least}<AllowedOrigin>*.a.*</AllowedOrigin></CORSRule>");
    let answer = world.refused(rules(&starry), 400, "InvalidRequest").await;
    assert_eq!(answer.xml("Message"), "AllowedOrigin &quot;*.a.*&quot; can not have more than one wildcard.");
    world.refused(rules(""), 400, "MalformedXML").await;
    world.refused(rules(&format!("<CORSRule>{least}</CORSRule>").repeat(101)), 400, "MalformedXML").await;
    let long = format!("<CORSRule>{least}<ExposeHeader>{}</ExposeHeader></CORSRule>", "x".repeat(64 << 10));
    world.refused(rules(&long), 400, "MaxMessageLengthExceeded").await;
    let unvouched = Request::put("/set").query("cors", "").body("<CORSConfiguration/>");
    world.refused(unvouched, 400, "InvalidRequest").await;
    assert_eq!(world.ok(read("cors")).await.text(), told);
    world.stop().await;
}

#[tokio::test]
async fn lifecycles_are_read_back_as_they_were_put_and_told_with_objects() {
    let world = World::with_bucket("set").await;
    let filter = "<Filter><And><Prefix>logs/</Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan></And></Filter>";
    let rules = format!(
        "<Rule><ID>end logs</ID>{filter}<Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
         <Rule><ID>uploads</ID><Prefix></Prefix><Status>Disabled</Status><AbortIncompleteMultipartUpload>\
         <DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
    );
    let configuration =
        |rules: &str| put("lifecycle", &format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>"));
    let minimum = "x-amz-transition-default-minimum-object-size";
    let told = world.ok(configuration(&rules)).await;
    assert_eq!(told.header(minimum), Some("all_storage_classes_128K"));
    let read_back = world.ok(read("lifecycle")).await;
    assert!(read_back.text().contains(&rules), "{}", read_back.text());
    assert_eq!(read_back.header(minimum), Some("all_storage_classes_128K"));

    let made = world.ok(Request::put("/set/logs/a").body("xx")).await;
    let expiration = made.header("x-amz-expiration").unwrap().to_owned();
    assert!(
        expiration.starts_with("expiry-date=\"") && expiration.ends_with(" 00:00:00 GMT\", rule-id=\"end%20logs\""),
        "{expiration}"
    );
    for request in [Request::get("/set/logs/a"), Request::head("/set/logs/a")] {
        assert_eq!(world.ok(request).await.header("x-amz-expiration"), Some(expiration.as_str()));
    }
    for key in ["logs/small", "other"] {
        assert_eq!(world.ok(Request::put(&format!("/set/{key}")).body("x")).await.header("x-amz-expiration"), None);
    }

    let transition = rules.replace(
        "<Expiration><Days>3</Days></Expiration>",
        "<Transition><Days>3</Days><StorageClass>GLACIER</StorageClass></Transition>",
    );
    world.refused(configuration(&transition), 501, "NotImplemented").await;
    world.refused(configuration(&rules.replace("<Days>3", "<Days>0")), 400, "InvalidArgument").await;
    world.refused(configuration(&rules.replace("Enabled", "On")), 400, "MalformedXML").await;
    world.refused(configuration(&rules).header(minimum, "tiny"), 400, "InvalidArgument").await;
    let unvouched = Request::put("/set").query("lifecycle", "").body("<LifecycleConfiguration/>");
    world.refused(unvouched, 400, "InvalidRequest").await;
    assert_eq!(world.ok(read("lifecycle")).await.text(), read_back.text(), "what was refused changed nothing");
    assert_eq!(world.ok(configuration(&rules).header(minimum, "varies_by_storage_class")).await.status, 200);
    assert_eq!(world.ok(read("lifecycle")).await.header(minimum), Some("varies_by_storage_class"));

    assert_eq!(world.ok(Request::delete("/set").query("lifecycle", "")).await.status, 204);
    world.refused(read("lifecycle"), 404, "NoSuchLifecycleConfiguration").await;
    assert_eq!(world.ok(Request::head("/set/logs/a")).await.header("x-amz-expiration"), None);
    world.stop().await;
}
