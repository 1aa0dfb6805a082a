//! The table of operations in `ops/docs/s3.md`, row by row.

use crate::{encryption, forms::post_file, request::Request};

const TABLE: &str = include_str!("../../../ops/docs/s3.md");

/// One row: operation, whether it is supported, what is asked, and the status and code that are answered.
struct Row {
    operation: &'static str,
    supported: &'static str,
    asked: &'static str,
    status: u16,
    code: &'static str,
}

fn rows() -> Vec<Row> {
    let rows = TABLE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(str::trim).collect();
        let [operation, supported, .., asked, answered] = cells[..] else { panic!("a row of other cells: {line}") };
        // Nothing can be asked of what has no address here.
        if operation == "Operation" || asked == "–" {
            return None;
        }
        let (status, code) = answered.split_once(' ').unwrap_or((answered, ""));
        let (asked, status) = (asked.trim_matches('`'), status.parse().unwrap_or_else(|_| panic!("status of {line}")));
        Some(Row { operation, supported, asked, status, code })
    });
    rows.collect()
}

/// The least document that each operation wants, if it has one.
fn document(operation: &str) -> &'static str {
    match operation {
        "CompleteMultipartUpload" => {
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>9dd4e461268c8034f5c8564e155c67a6</ETag></Part></CompleteMultipartUpload>"
        }
        "DeleteObjects" => "<Delete><Object><Key>gone</Key></Object></Delete>",
        "PutBucketCors" => {
            "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
        }
        "PutBucketEncryption" => {
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        }
        "PutBucketLifecycleConfiguration" => {
            "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix>old/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>"
        }
        "PutBucketLogging" => "<BucketLoggingStatus/>",
        "PutBucketNotificationConfiguration" => "<NotificationConfiguration/>",
        "PutBucketOwnershipControls" => {
            "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
        }
        "PutBucketPolicy" => {
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::bkt/kept"}}"#
        }
        "PutBucketRequestPayment" => {
            "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"
        }
        "PutBucketTagging" | "PutObjectTagging" => {
            "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
        }
        "PutBucketVersioning" => "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        "PutObjectLegalHold" => "<LegalHold><Status>OFF</Status></LegalHold>",
        "PutObjectLockConfiguration" => {
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
        }
        "PutObjectRetention" => {
            "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>"
        }
        "PutPublicAccessBlock" => {
            "<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>"
        }
        "PutObject" | "UploadPart" => "x",
        _ => "",
    }
}

fn request(operation: &str, asked: &str) -> Request {
    let (method, address) = asked.split_once(' ').unwrap();
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let mut request = Request::new(method, path);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        request = request.query(name, value);
    }
    request = match operation {
        "CopyObject" | "UploadPartCopy" => request.header("x-amz-copy-source", "/bkt/k"),
        "GetObjectAttributes" => request.header("x-amz-object-attributes", "ETag"),
        "PutBucketAcl" | "PutObjectAcl" => request.header("x-amz-acl", "private"),
        "RenameObject" => request.header("x-amz-rename-source", "/bkt/k"),
        _ => request,
    };
    let document = document(operation);
    if document.is_empty() { request } else { request.body(document).content_md5() }
}

#[tokio::test]
async fn the_table_of_operations_is_true() {
    let world = encryption::world().await;
    world.ok(Request::put("/bkt")).await;
    world.ok(Request::put("/bkt/k").body("x")).await;
    world.ok(Request::put("/forms")).await;
    let mut uploads = Vec::new();
    for _ in 0..3 {
        uploads.push(world.ok(Request::post("/bkt/mp").query("uploads", "")).await.xml("UploadId"));
    }
    let mut wrong = Vec::new();
    let mut rows = rows();
    // Parts come before what is made of them.
    rows.sort_by_key(|row| row.operation == "CompleteMultipartUpload");
    for Row { operation, supported, asked, status, code } in rows {
        let asked =
            asked.replace("GIVEN_UP", &uploads[0]).replace("LISTED", &uploads[1]).replace("UPLOAD", &uploads[2]);
        let answer = if operation == "PostObject" {
            post_file(&world).await
        } else {
            world.send(request(operation, &asked)).await
        };
        let said = if answer.status < 300 || asked.starts_with("HEAD") { String::new() } else { answer.code() };
        if (answer.status, said.as_str()) != (status, code) {
            wrong.push(format!("{operation}: {} {said}, not {status} {code}: {}", answer.status, answer.text()));
        }
        let refused = answer.status == 501;
        if refused != (supported == "no") {
            wrong.push(format!("{operation} is supported: {supported}, and answered {}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.stop().await;
}
