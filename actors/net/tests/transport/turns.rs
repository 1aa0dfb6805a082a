//! What calls say of their priority.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{Bounded, Priority, Turn};
use cairn_net::{
    tls::Identity,
    transport::quic::{Endpoint, Handler, Incoming, Outgoing, QuicOptions},
    wire::{RemoteError, Request},
};
use cairn_schema::ids::{DiskId, NodeId};
use parking_lot::Mutex;

use crate::support::*;

/// Notes what it is asked, and refuses it.
#[derive(Default)]
struct Asked(Mutex<Vec<(&'static str, Priority)>>);

#[async_trait]
impl Handler for Asked {
    async fn turn(&self, request: &Request, priority: Priority) -> Result<Turn, RemoteError> {
        self.0.lock().push((request.kind(), priority));
        Ok(Turn::client())
    }

    async fn handle(&self, _: &NodeId, _: Incoming) -> Result<Outgoing, RemoteError> {
        Err(RemoteError::Busy)
    }
}

/// Nodes of before there were turns cannot read a header that names a priority: they would seem to answer nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_calls_that_wait_for_a_turn_name_a_priority() {
    let ca = ca();
    let identity = Identity::issue(&ca, &node("b"), &[]).unwrap();
    let server = Endpoint::bind(loopback(), &identity, QuicOptions::default()).await.unwrap();
    let asked = Arc::new(Asked::default());
    server.serve(asked.clone());
    let a = Node::start(&ca, "a", 1).await;
    let disk = DiskId([2; 16]);
    a.known.set(vec![(disk, node("b"))], vec![(node("b"), server.local_addr())]);
    let background = Bounded::new(Arc::new(a.router.clone())).with_priority(Priority::Background);
    let deadline = soon();
    background.put(disk, fragment(1, Bytes::new()), deadline).await.unwrap_err();
    background.get(disk, name(1), 0..1, deadline).await.unwrap_err();
    background.verify(disk, name(1), deadline).await.unwrap_err();
    background.delete(disk, vec![name(1)], deadline).await.unwrap_err();
    background.list(disk, None, None, 1, deadline).await.unwrap_err();
    background.disk_status(disk, deadline).await.unwrap_err();
    let named = |kind| (kind, Priority::Background);
    let unnamed = |kind| (kind, Priority::Client);
    let wanted =
        [named("put"), named("get"), named("verify"), unnamed("delete"), unnamed("list"), unnamed("disk_status")];
    assert_eq!(*asked.0.lock(), wanted);
}
