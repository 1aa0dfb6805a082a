//! Fragments over QUIC on loopback, for whoever changes the transport's settings:
//! `cargo bench --ignore-rust-version -p cairn-net --bench transport`.
#![allow(clippy::unwrap_used)]

#[path = "../tests/transport/support.rs"]
#[allow(dead_code)]
mod support;

use std::time::{Duration, Instant};

use cairn_fragment::Fragments;
use cairn_net::transport::quic::QuicOptions;
use futures::{StreamExt, stream};

use support::*;

async fn rate(what: &str, count: u32, at_once: usize, size: usize, work: impl AsyncFn(u32)) {
    let started = Instant::now();
    stream::iter(0..count).for_each_concurrent(at_once, |i| work(i)).await;
    let took = started.elapsed();
    let mib = count as f64 * size as f64 / (1 << 20) as f64;
    let each = took * at_once as u32 / count;
    println!("{what}: {:.0} MiB/s, {each:?} each at {at_once} at once", mib / took.as_secs_f64());
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let ca = ca();
    for max_datagram_bytes in [1452, 4000] {
        let options = QuicOptions { max_datagram_bytes, ..QuicOptions::default() };
        let a = Node::start_at(&ca, "a", 1, loopback(), options.clone()).await;
        let b = Node::start_at(&ca, "b", 2, loopback(), options).await;
        a.knows(&[&b]);
        let disk = b.disk.id;
        for (size, at_once, count) in [(1 << 20, 1, 64), (1 << 20, 8, 512), (4096, 1, 2000), (4096, 32, 8000)] {
            let fragment = fragment(1, bytes(1, size));
            // Lets the path's datagram size be discovered first.
            a.router.put(disk, fragment.clone(), soon()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let label = |what: &str| format!("datagrams of {max_datagram_bytes}, {what} of {size} bytes");
            rate(&label("put"), count, at_once, size, async |_| {
                a.router.put(disk, fragment.clone(), soon()).await.unwrap();
            })
            .await;
            rate(&label("get"), count, at_once, size, async |_| {
                a.router.get(disk, fragment.name, 0..size as u32, soon()).await.unwrap();
            })
            .await;
        }
    }
}
