//! A store in memory that tells one kind of lie: each must be found out by the clients, the readers and the judges, and
//! an honest store must not be accused.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use super::*;
use crate::{
    judge::{Held, answers, histories},
    s3::Account,
    script::Mix,
    traffic,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    Honest,
    /// A PUT is acknowledged and not done.
    LosesWrites,
    /// A GET answers what was there before.
    ServesStale,
    FlipsBits,
    /// The beginning of one version and the end of another.
    Mixes,
    /// A DELETE is acknowledged and not done.
    Resurrects,
    /// If-None-Match is not looked at.
    TwoWinners,
    /// A version cannot be read any more once its key was written again.
    LosesVersions,
    /// A key is never listed.
    HidesFromLists,
}

/// The id, and what was put; None: a delete marker.
type Stored = (u64, Option<(String, Bytes)>);

struct Store {
    lie: Lie,
    keys: Mutex<(u64, BTreeMap<String, Vec<Stored>>)>,
}

fn answer(status: StatusCode, headers: &[(&str, String)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(body.into())).unwrap()
}

impl Store {
    fn handle(&self, method: &Method, uri: &http::Uri, head: &http::HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
        let (path, query) = (uri.path().trim_start_matches('/').to_owned(), uri.query().unwrap_or_default());
        let mut keys = self.keys.lock().unwrap();
        keys.0 += 1;
        let (turn, all) = (keys.0, &mut keys.1);
        let Some((bucket, _)) = path.split_once('/') else {
            return match *method {
                Method::GET if query.contains("list-type") => self.list(all, &path),
                Method::GET => versions(all, &path),
                _ => answer(StatusCode::OK, &[], ""),
            };
        };
        let text = |name: &str| head.get(name).map(|value| value.to_str().unwrap().to_owned());
        let missing = || answer(StatusCode::NOT_FOUND, &[], "<Code>NoSuchKey</Code>");
        let stored = all.entry(path.clone()).or_default();
        let now = stored.last().and_then(|(_, object)| object.clone());
        let id = ("x-amz-version-id", turn.to_string());
        match *method {
            Method::PUT => {
                let refused = || answer(StatusCode::PRECONDITION_FAILED, &[], "<Code>PreconditionFailed</Code>");
                if text("if-none-match").is_some() && now.is_some() && self.lie != Lie::TwoWinners {
                    return refused();
                }
                if let Some(tag) = text("if-match") {
                    match &now {
                        None => return missing(),
                        Some((label, _)) if tag != format!("\"{label}\"") => return refused(),
                        Some(_) => {}
                    }
                }
                let label = text("x-amz-meta-nonce").unwrap();
                let tag = ("etag", format!("\"{label}\""));
                if self.lie != Lie::LosesWrites || turn % 7 != 0 {
                    if bucket == PLAIN {
                        stored.drain(..stored.len().saturating_sub(1));
                    }
                    stored.push((turn, Some((label, body))));
                }
                answer(StatusCode::OK, &[id, tag], "")
            }
            Method::DELETE => {
                if self.lie != Lie::Resurrects || turn % 3 != 0 {
                    stored.push((turn, None));
                }
                answer(StatusCode::NO_CONTENT, &[id], "")
            }
            _ => {
                let wanted = query.strip_prefix("versionId=").map(|id| id.parse::<u64>().unwrap());
                let is_lost = |id: u64| self.lie == Lie::LosesVersions && stored.last().is_some_and(|last| last.0 > id);
                let found = match wanted {
                    Some(id) if is_lost(id) => None,
                    Some(id) => stored.iter().find(|version| version.0 == id).and_then(|version| version.1.clone()),
                    None => now.clone(),
                };
                let before = stored.iter().rev().nth(1).and_then(|(_, object)| object.clone());
                let found = match (self.lie, before) {
                    (Lie::ServesStale, Some(before)) if turn % 5 == 0 => Some(before),
                    _ => found,
                };
                let Some((label, mut body)) = found else { return missing() };
                if self.lie == Lie::FlipsBits && turn % 9 == 0 && !body.is_empty() {
                    let mut wrong = body.to_vec();
                    wrong[body.len() / 2] ^= 4;
                    body = wrong.into();
                }
                if self.lie == Lie::Mixes
                    && let Some((_, Some((_, other)))) = stored.iter().rev().nth(1)
                    && other.len() == body.len()
                {
                    body = [&body[..body.len() / 2], &other[body.len() / 2..]].concat().into();
                }
                answer(StatusCode::OK, &[("x-amz-meta-nonce", label.clone()), ("etag", format!("\"{label}\""))], body)
            }
        }
    }

    fn list(&self, all: &BTreeMap<String, Vec<Stored>>, bucket: &str) -> Response<Full<Bytes>> {
        let of = all.iter().filter(|(_, stored)| stored.last().is_some_and(|(_, object)| object.is_some()));
        let names = of.filter_map(|(path, _)| path.strip_prefix(bucket)?.strip_prefix('/'));
        let shown = names.filter(|name| self.lie != Lie::HidesFromLists || *name != "hot/001");
        let text: String = shown.map(|name| format!("<Contents><Key>{name}</Key></Contents>")).collect();
        answer(StatusCode::OK, &[], text + "<IsTruncated>false</IsTruncated>")
    }
}

fn versions(all: &BTreeMap<String, Vec<Stored>>, bucket: &str) -> Response<Full<Bytes>> {
    let mut text = String::new();
    for (name, stored) in
        all.iter().filter_map(|(path, stored)| Some((path.strip_prefix(bucket)?.strip_prefix('/')?, stored)))
    {
        for (id, object) in stored {
            let kind = if object.is_some() { "Version" } else { "DeleteMarker" };
            text += &format!("<{kind}><Key>{name}</Key><VersionId>{id}</VersionId><Size>1</Size></{kind}>");
        }
    }
    answer(StatusCode::OK, &[], text)
}

async fn serve(lie: Lie) -> String {
    let store = Arc::new(Store { lie, keys: Mutex::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let store = store.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let store = store.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    Ok::<_, Infallible>(store.handle(&head.method, &head.uri, &head.headers, body))
                }
            });
            tokio::spawn(async move {
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    format!("http://{address}")
}

/// The names of what did not hold.
async fn accused(lie: Lie) -> Vec<String> {
    let account = Account { endpoint: serve(lie).await, access_key: "a".into(), secret_key: "b".into() };
    let endpoints = Endpoints::new(vec![S3::new(account)]);
    let book = Book::new();
    let mix = Mix { multipart: 0, copy: 0, ..Mix::default() };
    let sizes = [0, 300, 9000].map(crate::script::units::Size).into();
    let workload = Workload { clients: 4, hot_keys: 3, requests_per_second: 2000, sizes, mix };
    let load = traffic::start(&endpoints, &book, &workload, 3);
    let ends = Instant::now() + Duration::from_secs(60);
    while book.pages().samples.len() < 1200 {
        assert!(Instant::now() < ends, "too few requests were answered");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    load.stop().await.unwrap();
    let readers = Readers { endpoints: endpoints.clone(), book: book.clone(), workload: Arc::new(workload) };
    let (holds, mut unread) = readers.every_key().await;
    unread.extend(readers.versions(1).await);
    let mut verdicts =
        vec![listing(&endpoints, &holds).await.unwrap(), super::versions(&endpoints, &book).await.unwrap().0];
    let pages = book.pages();
    verdicts.extend(histories(&pages.histories, &pages.broken, &unread));
    verdicts.extend(answers(&pages.broken, &pages.samples, &[]));
    let bad = verdicts.into_iter().filter(|verdict| verdict.held != Held::Yes);
    bad.map(|verdict| format!("{}: {:?}", verdict.name, verdict.evidence)).collect()
}

fn found(lie: Lie, name: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let accused = runtime.block_on(accused(lie));
    assert!(accused.iter().any(|verdict| verdict.starts_with(name)), "{lie:?} was not found by {name}: {accused:#?}");
}

#[test]
fn an_honest_store_is_accused_of_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let accused = runtime.block_on(accused(Lie::Honest));
    assert!(accused.is_empty(), "{accused:#?}");
}

#[test]
fn dur_1_acknowledged_writes_that_were_not_done_are_found() {
    found(Lie::LosesWrites, "linearizability");
    found(Lie::LosesWrites, "versions");
    found(Lie::LosesVersions, "durability");
}

#[test]
fn con_1_stale_reads_resurrected_keys_and_two_winners_are_found() {
    found(Lie::ServesStale, "linearizability");
    found(Lie::Resurrects, "linearizability");
    found(Lie::TwoWinners, "linearizability");
    found(Lie::HidesFromLists, "listing");
}

#[test]
fn int_1_con_2_wrong_bytes_and_mixtures_are_found() {
    found(Lie::FlipsBits, "integrity");
    found(Lie::Mixes, "integrity");
}
