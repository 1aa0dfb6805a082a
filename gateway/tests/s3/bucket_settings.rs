//! Settings of buckets that are documents: what is put is read back, and what S3 does not take changes nothing.

use crate::{request::Request, world::World};

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
