//! Who may come in.

use crate::{
    request::Request,
    sign::Signer,
    wire::{Answer, Wire},
    world::{ACCESS_KEY, SECRET_KEY, World},
};

async fn plain(world: &World, method: &str, path_and_query: &str, headers: &str, body: &str) -> Answer {
    let host = world.address();
    let mut wire = Wire::connect(host).await;
    let length = if method == "PUT" { format!("content-length: {}\r\n", body.len()) } else { String::new() };
    wire.send(format!("{method} {path_and_query} HTTP/1.1\r\nhost: {host}\r\n{headers}{length}\r\n{body}")).await;
    wire.answer(method != "HEAD").await.unwrap()
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
}

#[tokio::test]
async fn wrong_keys_signatures_and_times_are_refused() {
    let world = World::with_bucket("sig").await;
    let list = || Request::get("/sig");
    let address = world.address();
    refused(&list().send(address, &Signer::now(ACCESS_KEY, "wrong")).await, 403, "SignatureDoesNotMatch");
    refused(&list().send(address, &Signer::now("nobody", SECRET_KEY)).await, 403, "InvalidAccessKeyId");
    let old = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
    refused(&list().send(address, &Signer::at(ACCESS_KEY, SECRET_KEY, old)).await, 403, "RequestTimeTooSkewed");
    refused(&plain(&world, "GET", "/sig", "", "").await, 403, "AccessDenied");
    refused(&plain(&world, "GET", "/sig", "authorization: AWS a:b\r\n", "").await, 400, "InvalidRequest");
    refused(&plain(&world, "PUT", "/sig/k", "", "x").await, 403, "AccessDenied");
    assert!(world.keys("sig").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn presigned_urls_of_both_versions_work_until_they_expire() {
    let world = World::with_bucket("pre").await;
    let (signer, host) = (world.signer(), world.address().to_string());
    let put = signer.presign("PUT", "/pre/k", &host, 60, &[]);
    assert_eq!(plain(&world, "PUT", &format!("/pre/k?{put}"), "", "hello").await.status, 200);
    let get = signer.presign("GET", "/pre/k", &host, 60, &[("response-content-type", "text/x")]);
    let got = plain(&world, "GET", &format!("/pre/k?{get}"), "", "").await;
    assert_eq!((got.text().as_str(), got.header("content-type")), ("hello", Some("text/x")));
    let now = time::OffsetDateTime::now_utc();
    let v2 = signer.presign_v2("GET", "/pre/k", now.unix_timestamp() + 60);
    assert_eq!(plain(&world, "GET", &format!("/pre/k?{v2}"), "", "").await.text(), "hello");

    let old = Signer::at(ACCESS_KEY, SECRET_KEY, now - time::Duration::minutes(5));
    let expired = old.presign("GET", "/pre/k", &host, 60, &[]);
    refused(&plain(&world, "GET", &format!("/pre/k?{expired}"), "", "").await, 403, "AccessDenied");
    let expired = signer.presign_v2("GET", "/pre/k", now.unix_timestamp() - 60);
    refused(&plain(&world, "GET", &format!("/pre/k?{expired}"), "", "").await, 403, "AccessDenied");
    // Signed for another key, method or meaning.
    refused(&plain(&world, "GET", &format!("/pre/other?{get}"), "", "").await, 403, "SignatureDoesNotMatch");
    refused(&plain(&world, "DELETE", &format!("/pre/k?{get}"), "", "").await, 403, "SignatureDoesNotMatch");
    refused(&plain(&world, "GET", &format!("/pre/other?{v2}"), "", "").await, 403, "SignatureDoesNotMatch");
    refused(&plain(&world, "GET", &format!("/pre/k?{v2}&acl"), "", "").await, 403, "AccessDenied");
    let copy = "x-amz-copy-source: /pre/secret\r\n";
    refused(&plain(&world, "PUT", &format!("/pre/k?{put}"), copy, "").await, 403, "AccessDenied");
    world.stop().await;
}

#[tokio::test]
async fn curl_signs_bodyless_requests_without_a_payload_hash() {
    let world = World::with_bucket("curl").await;
    let signer = world.signer();
    let headers =
        [("host".to_owned(), world.address().to_string()), ("x-amz-date".to_owned(), signer.amz_date.clone())];
    let signature = signer.signature("GET", "/curl", &[], &headers, crate::sign::EMPTY_SHA256);
    let head =
        format!("x-amz-date: {}\r\nauthorization: {}\r\n", signer.amz_date, signer.authorization(&headers, &signature));
    assert_eq!(plain(&world, "GET", "/curl", &head, "").await.status, 200);
    world.stop().await;
}

/// The time of a signature may stand in `Date`, in the form of HTTP.
#[tokio::test]
async fn a_signed_date_header_serves_instead_of_x_amz_date() {
    let world = World::with_bucket("dated").await;
    let now = time::OffsetDateTime::now_utc();
    let date = httpdate(now);
    let send = async |signed_at: time::OffsetDateTime, date: &str| {
        let (signer, signed_date) = (Signer::at(ACCESS_KEY, SECRET_KEY, signed_at), httpdate(signed_at));
        let headers = [
            ("date".to_owned(), signed_date),
            ("host".to_owned(), world.address().to_string()),
            ("x-amz-content-sha256".to_owned(), "UNSIGNED-PAYLOAD".to_owned()),
        ];
        let signature = signer.signature("PUT", "/dated/k", &[], &headers, "UNSIGNED-PAYLOAD");
        let authorization = signer.authorization(&headers, &signature);
        let head =
            format!("date: {date}\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\nauthorization: {authorization}\r\n");
        plain(&world, "PUT", "/dated/k", &head, "x").await
    };
    assert_eq!(send(now, &date).await.status, 200);
    refused(&send(now, &date.replace("GMT", "UTC")).await, 403, "SignatureDoesNotMatch");
    let old = now - time::Duration::hours(1);
    refused(&send(old, &httpdate(old)).await, 403, "RequestTimeTooSkewed");
    assert_eq!(world.keys("dated").await, ["k"]);
    world.stop().await;
}

fn httpdate(when: time::OffsetDateTime) -> String {
    let (weekday, month) = (when.weekday().to_string(), when.month().to_string());
    let (weekday, month, day, year) = (&weekday[..3], &month[..3], when.day(), when.year());
    let (hour, minute, second) = (when.hour(), when.minute(), when.second());
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
