//! Forms of browsers.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    request::{Request, bytes, crc32_base64, md5_hex},
    sign::Signer,
    versions::enable,
    wire::{Answer, Wire},
    world::{ACCESS_KEY, SECRET_KEY, World},
};

const BOUNDARY: &str = "----cairn-form";
const EXPIRES: &str = "2099-01-01T00:00:00.000Z";

/// A form, signed as browsers are given it: every field gets a condition unless it is told otherwise.
#[derive(Clone)]
struct Form {
    fields: Vec<(String, String)>,
    free: Vec<(String, String)>,
    after: Vec<(String, String)>,
    conditions: Vec<String>,
    expires: String,
    file: Vec<u8>,
    file_name: String,
    signer: Signer,
    version_2: bool,
}

fn form(key: &str) -> Form {
    Form {
        fields: vec![("key".into(), key.into())],
        free: Vec::new(),
        after: Vec::new(),
        conditions: vec!["{\"bucket\": \"forms\"}".into()],
        expires: EXPIRES.into(),
        file: b"the file".to_vec(),
        file_name: "a.txt".into(),
        signer: Signer::now(ACCESS_KEY, SECRET_KEY),
        version_2: false,
    }
}

impl Form {
    fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// One that the policy does not speak of.
    fn free(mut self, name: &str, value: &str) -> Self {
        self.free.push((name.into(), value.into()));
        self
    }

    fn after(mut self, name: &str, value: &str) -> Self {
        self.after.push((name.into(), value.into()));
        self
    }

    fn condition(mut self, json: &str) -> Self {
        self.conditions.push(json.into());
        self
    }

    fn file(mut self, file: impl Into<Vec<u8>>) -> Self {
        self.file = file.into();
        self
    }

    fn policy(&self) -> String {
        let mut conditions = self.conditions.clone();
        let signed = if self.version_2 { Vec::new() } else { self.signature_fields() };
        for (name, value) in self.fields.iter().chain(&signed) {
            let value = if name == "key" { value.split("${").next().unwrap() } else { value };
            conditions.push(format!("[\"starts-with\", \"${name}\", {}]", serde_json::to_string(value).unwrap()));
        }
        format!("{{\"expiration\": \"{}\", \"conditions\": [{}]}}", self.expires, conditions.join(", "))
    }

    fn signature_fields(&self) -> Vec<(String, String)> {
        vec![
            ("x-amz-algorithm".into(), "AWS4-HMAC-SHA256".into()),
            ("x-amz-credential".into(), format!("{}/{}", self.signer.access_key, self.signer.scope())),
            ("x-amz-date".into(), self.signer.amz_date.clone()),
        ]
    }

    fn signed_fields(&self, policy: &str) -> Vec<(String, String)> {
        let policy = STANDARD.encode(policy);
        let mut fields = self.fields.clone();
        fields.extend(self.free.clone());
        if self.version_2 {
            fields.push(("AWSAccessKeyId".into(), self.signer.access_key.clone()));
            fields.push(("signature".into(), self.signer.policy_signature_v2(&policy)));
        } else {
            fields.extend(self.signature_fields());
            fields.push(("X-Amz-Signature".into(), self.signer.policy_signature(&policy)));
        }
        fields.push(("Policy".into(), policy));
        fields
    }

    async fn post(&self, world: &World) -> Answer {
        self.post_with_policy(world, &self.policy()).await
    }

    async fn post_with_policy(&self, world: &World, policy: &str) -> Answer {
        let body = encode(&self.signed_fields(policy), Some((&self.file_name, &self.file)), &self.after);
        send(world, "/forms", &body).await
    }

    async fn refused(&self, world: &World, status: u16, code: &str) -> Answer {
        let answer = self.post(world).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
        answer
    }
}

/// Posts a file to the bucket `forms`.
pub(crate) async fn post_file(world: &World) -> Answer {
    form("k").post(world).await
}

/// The same with temporary credentials; the policy speaks of the token, or it does not.
pub(crate) async fn post_file_of_session(world: &World, signer: &Signer, token: &str, covered: bool) -> Answer {
    let form = Form { signer: signer.clone(), ..form("k") };
    let form = match covered {
        true => form.field("x-amz-security-token", token),
        false => form.free("x-amz-security-token", token),
    };
    form.post(world).await
}

fn encode(fields: &[(String, String)], file: Option<(&str, &[u8])>, after: &[(String, String)]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut part = |head: String, value: &[u8]| {
        body.extend_from_slice(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    };
    for (name, value) in fields {
        part(format!("name=\"{name}\""), value.as_bytes());
    }
    if let Some((name, bytes)) = file {
        part(format!("name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/x-of-the-part"), bytes);
    }
    for (name, value) in after {
        part(format!("name=\"{name}\""), value.as_bytes());
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn send(world: &World, path: &str, body: &[u8]) -> Answer {
    let mut wire = Wire::connect(world.address()).await;
    wire.send(head(world, path, body.len())).await;
    wire.send(body).await;
    wire.answer(true).await.unwrap()
}

fn head(world: &World, path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {length}\r\n\r\n",
        world.address()
    )
}

#[tokio::test]
async fn dur_1_files_of_every_size_come_back_byte_for_byte() {
    let world = World::with_bucket("forms").await;
    for size in [0, 1, 1000, 128 << 10, (3 << 20) + 7] {
        let file = bytes(size, size as u64 + 1);
        let answer = form(&format!("size-{size}")).file(file.clone()).post(&world).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert_eq!(answer.header("etag"), Some(format!("\"{}\"", md5_hex(&file)).as_str()));
        assert!(world.ok(Request::get(&format!("/forms/size-{size}"))).await.body == file, "{size}");
    }
    world.stop().await;
}

#[tokio::test]
async fn fields_after_the_file_are_ignored() {
    let world = World::with_bucket("forms").await;
    let file = b"a\r\n--almost a boundary\r\n".to_vec();
    let answer = form("k").file(file.clone()).after("go", "Upload").after("key", "other").post(&world).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(world.ok(Request::get("/forms/k")).await.body == file);
    assert_eq!(world.keys("forms").await, ["k"]);
    world.stop().await;
}

#[tokio::test]
async fn every_field_takes_effect() {
    let world = World::with_bucket("forms").await;
    let told = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Encoding", "gzip"),
        ("Content-Language", "de"),
        ("Content-Disposition", "attachment; filename=\"x\""),
        ("Cache-Control", "max-age=3600"),
        ("Expires", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("X-Amz-Meta-Colour", "blue green"),
        ("x-amz-website-redirect-location", "/elsewhere"),
        ("x-amz-storage-class", "STANDARD_IA"),
    ];
    let tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    let mut full = form("up/${filename}")
        .field("tagging", tagging)
        .field("acl", "private")
        .free("x-ignore-me", "1")
        .free("submit", "go");
    for (name, value) in told {
        full = full.field(name, value);
    }
    let crc = crc32_base64(b"the file");
    let answer = full.field("x-amz-checksum-crc32", &crc).post(&world).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(answer.header("x-amz-checksum-crc32"), Some(crc.as_str()));
    let head = world.ok(Request::head("/forms/up/a.txt")).await;
    for (name, value) in told {
        assert_eq!(head.header(&name.to_lowercase()), Some(value), "{name}");
    }
    assert_eq!(head.header("x-amz-tagging-count"), Some("1"));
    // The type of the part is not the object's.
    assert_eq!(form("plain").post(&world).await.status, 204);
    assert_eq!(world.ok(Request::head("/forms/plain")).await.header("content-type"), Some("binary/octet-stream"));
    enable(&world, "forms", "Enabled").await;
    assert!(form("plain").post(&world).await.header("x-amz-version-id").is_some());
    let taken = form("plain").field("if-none-match", "*").refused(&world, 412, "PreconditionFailed").await;
    assert_eq!(taken.xml("Condition"), "If-None-Match");
    world.stop().await;
}

#[tokio::test]
async fn a_form_locks_what_it_stores() {
    let world = World::start().await;
    world.ok(Request::put("/forms").header("x-amz-bucket-object-lock-enabled", "true")).await;
    let locked = form("k")
        .field("x-amz-object-lock-mode", "GOVERNANCE")
        .field("x-amz-object-lock-retain-until-date", EXPIRES)
        .field("x-amz-object-lock-legal-hold", "ON");
    locked.refused(&world, 400, "InvalidRequest").await;
    let answer = locked.field("x-amz-checksum-crc32", &crc32_base64(b"the file")).post(&world).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let head = world.ok(Request::head("/forms/k")).await;
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
    assert!(head.header("x-amz-object-lock-retain-until-date").unwrap().starts_with(&EXPIRES[..19]));
    assert_eq!(head.header("x-amz-object-lock-legal-hold"), Some("ON"));
    world.stop().await;
}

#[tokio::test]
async fn what_a_field_asks_and_is_not_given_is_refused() {
    let world = World::with_bucket("forms").await;
    for (name, value, status, code) in [
        ("acl", "public-read", 400, "AccessControlListNotSupported"),
        ("acl", "bogus", 400, "InvalidArgument"),
        ("x-amz-server-side-encryption", "AES256", 501, "NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", 400, "InvalidRequest"),
        ("x-amz-object-lock-mode", "GOVERNANCE", 400, "InvalidArgument"),
        ("x-amz-object-lock-legal-hold", "ON", 400, "InvalidRequest"),
        ("x-amz-security-token", "token", 400, "InvalidToken"),
        ("x-amz-storage-class", "COLD", 400, "InvalidStorageClass"),
        ("x-amz-website-redirect-location", "elsewhere", 400, "InvalidRedirectLocation"),
        ("tagging", "a=1", 400, "InvalidArgument"),
        ("tagging", "<Tagging><TagSet><Tag><Key></Key><Value/></Tag></TagSet></Tagging>", 400, "InvalidTag"),
        ("content-type", "a\nb", 400, "InvalidArgument"),
        ("x-amz-meta-a b", "v", 400, "InvalidArgument"),
        ("x-amz-checksum-crc32", "AAAAAA==", 400, "BadDigest"),
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", 400, "BadDigest"),
    ] {
        let answer = form("k").field(name, value).post(&world).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {value}: {}", answer.text());
    }
    assert!(world.keys("forms").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_form_that_breaks_its_policy_is_denied() {
    let world = World::with_bucket("forms").await;
    let denied = async |form: Form, why: &str| {
        let answer = form.refused(&world, 403, "AccessDenied").await;
        let message = answer.xml("Message").replace("&quot;", "\"");
        assert_eq!(message, format!("Invalid according to Policy: {why}"));
    };
    let mut expired = form("k");
    expired.expires = "2001-01-01T00:00:00Z".into();
    denied(expired, "Policy expired.").await;
    denied(form("k").free("acl", "private"), "Extra input fields: acl").await;
    denied(
        form("k").condition("[\"eq\", \"$x-amz-meta-a\", \"1\"]"),
        "Policy Condition failed: [\"eq\",\"$x-amz-meta-a\",\"1\"]",
    )
    .await;
    denied(form("k").condition("{\"bucket\": \"other\"}"), "Policy Condition failed: [\"eq\",\"$bucket\",\"other\"]")
        .await;
    form("k").condition("[\"content-length-range\", 100, 200]").refused(&world, 400, "EntityTooSmall").await;
    let large = form("k").condition("[\"content-length-range\", 0, 1000]").file(bytes(2_000_000, 3));
    let answer = large.refused(&world, 400, "EntityTooLarge").await;
    assert_eq!(answer.xml("MaxSizeAllowed"), "1000");
    for policy in [
        "{\"conditions\": []}".to_owned(),
        format!("{{\"expiration\": \"{EXPIRES}\"}}"),
        "{\"expiration\": \"tomorrow\", \"conditions\": []}".to_owned(),
        format!("{{\"expiration\": \"{EXPIRES}\", \"conditions\": [{{}}]}}"),
        format!("{{\"expiration\": \"{EXPIRES}\", \"conditions\": [[\"content-length-range\", 0]]}}"),
        "no json".to_owned(),
    ] {
        let answer = form("k").post_with_policy(&world, &policy).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidPolicyDocument"), "{policy}");
    }
    assert!(world.keys("forms").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn only_a_known_key_can_sign() {
    let world = World::with_bucket("forms").await;
    let mut old = form("v2");
    old.version_2 = true;
    assert_eq!(old.post(&world).await.status, 204);
    // A form may be older than a signed request may: its policy says until when it is good.
    let mut lasting = form("lasting");
    lasting.signer = Signer::at(ACCESS_KEY, SECRET_KEY, time::OffsetDateTime::now_utc() - time::Duration::days(2));
    assert_eq!(lasting.post(&world).await.status, 204);
    for version_2 in [false, true] {
        let mut forged = form("k");
        forged.version_2 = version_2;
        forged.signer.secret_key = "not the secret".into();
        let answer = forged.refused(&world, 403, "SignatureDoesNotMatch").await;
        assert_eq!(answer.xml("AWSAccessKeyId"), ACCESS_KEY);
        let mut stranger = forged;
        stranger.signer.access_key = "NOBODY".into();
        let answer = stranger.refused(&world, 403, "InvalidAccessKeyId").await;
        assert_eq!(answer.xml("AWSAccessKeyId"), "NOBODY");
    }
    let fields = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let file = Some(("f", b"x".as_slice()));
    let anonymous = send(&world, "/forms", &encode(&fields(&[("key", "k")]), file, &[])).await;
    assert_eq!((anonymous.status, anonymous.code().as_str()), (403, "AccessDenied"));
    let unsigned = send(&world, "/forms", &encode(&fields(&[("key", "k"), ("policy", "e30=")]), file, &[])).await;
    assert_eq!((unsigned.status, unsigned.xml("ArgumentName")), (400, "x-amz-algorithm".into()));
    let no_file = send(&world, "/forms", &encode(&fields(&[("key", "k")]), None, &[])).await;
    assert_eq!(
        (no_file.status, no_file.xml("Message")),
        (400, "POST requires exactly one file upload per request.".into())
    );
    let to_an_object = send(&world, "/forms/k", b"").await;
    assert_eq!((to_an_object.status, to_an_object.code().as_str()), (405, "MethodNotAllowed"));
    let nowhere = send(&world, "/Bad_Name", b"").await;
    assert_eq!((nowhere.status, nowhere.xml("BucketName")), (400, "Bad_Name".into()));
    assert_eq!(world.keys("forms").await, ["lasting", "v2"]);
    world.stop().await;
}

#[tokio::test]
async fn answers_are_as_s3_writes_them() {
    let world = World::with_bucket("forms").await;
    let etag = format!("\"{}\"", md5_hex(b"the file"));
    let location = format!("http://{}/forms/a%20b", world.address());
    for (status, answered) in [("200", 200), ("204", 204), ("404", 204), ("nonsense", 204)] {
        let answer = form("a b").field("success_action_status", status).post(&world).await;
        assert_eq!((answer.status, answer.body.len()), (answered, 0), "{status}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()));
        assert_eq!(answer.header("location"), Some(location.as_str()));
    }
    let created = form("a b").field("success_action_status", "201").post(&world).await;
    assert_eq!((created.status, created.header("content-type")), (201, Some("application/xml")));
    let document = created.xml("PostResponse");
    let quoted = etag.replace('"', "&quot;");
    let wanted = format!("<Location>{location}</Location><Bucket>forms</Bucket><Key>a b</Key><ETag>{quoted}</ETag>");
    assert_eq!(document, wanted);
    let added = format!("bucket=forms&key=a%2F%08b&etag=%22{}%22", md5_hex(b"the file"));
    for (address, joint) in [("http://example.com/done", "?"), ("https://example.com/?a=1", "&")] {
        let answer = form("a/\u{8}b").field("success_action_redirect", address).post(&world).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert_eq!(answer.header("location"), Some(format!("{address}{joint}{added}").as_str()));
    }
    // What is no address is passed over.
    for address in ["javascript:alert(1)", "nowhere", "http://"] {
        assert_eq!(form("k").field("redirect", address).post(&world).await.status, 204, "{address}");
    }
    assert_eq!(world.keys("forms").await.len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn con_2_a_form_cut_short_stores_nothing_and_a_connection_goes_on_after_one() {
    let world = World::with_bucket("forms").await;
    let whole = form("k").file(bytes(300_000, 5)).after("go", "x");
    let body = encode(&whole.signed_fields(&whole.policy()), Some(("f", &whole.file)), &whole.after);
    for length in [body.len() - 1, body.len() - 200, body.len() - 100_000, 500] {
        let mut wire = Wire::connect(world.address()).await;
        wire.send(head(&world, "/forms", body.len())).await;
        wire.send(&body[..length]).await;
        wire.finish().await;
        if let Ok(answer) = wire.answer(true).await {
            assert_eq!((answer.status, answer.code().as_str()), (400, "IncompleteBody"), "{length}");
        }
        // As if it were the whole form.
        let answer = send(&world, "/forms", &body[..length]).await;
        if length < body.len() - 1 {
            assert_eq!(answer.status, 400, "{length}: {}", answer.text());
        }
        world.ok(Request::delete("/forms/k")).await;
    }
    assert!(world.keys("forms").await.is_empty());
    let mut wire = Wire::connect(world.address()).await;
    for _ in 0..2 {
        wire.send(head(&world, "/forms", body.len())).await;
        wire.send(&body).await;
        assert_eq!(wire.answer(true).await.unwrap().status, 204);
    }
    world.stop().await;
}
