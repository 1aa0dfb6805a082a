//! How often the metadata's store is asked for one request of a client, in all of its transactions: each time is a way
//! there and back when it is a FoundationDB, whose client asks for a version, reads and commits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::kv::{inject::Injecting, mem};

use crate::{request::Request, world::World};

/// The node asks the store beside the requests, so that some count too many; in this time one does not.
const ALONE: Duration = Duration::from_secs(60);
/// So often each is tried, lest a bound be met by what the node asks.
const FEWEST: usize = 10;

/// What it is called, how often it asks, and the one of a number.
type Asking = (&'static str, usize, fn(usize) -> Request);

#[tokio::test(flavor = "multi_thread")]
async fn each_request_asks_the_metadata_no_oftener_than_it_must() {
    let counted = Arc::new(Injecting::script(Arc::new(mem::kv()), []));
    let world = World::start_over(counted.clone(), |_| ()).await;
    world.ok(Request::put("/bucket")).await;
    // Groups are formed, and what is cached is cached.
    world.ok(Request::put("/bucket/first").body(vec![1; 4096])).await;
    world.ok(Request::get("/bucket/first")).await;
    let count = || counted.reads().exchanges;
    // As they are: fewer are better, and then the bounds here go down.
    let requests: [Asking; 6] = [
        ("PUT", 5, |number| Request::put(&format!("/bucket/new{number}")).body(vec![2; 4096])),
        ("overwrite", 7, |_| Request::put("/bucket/first").body(vec![3; 4096])),
        ("GET", 2, |_| Request::get("/bucket/first")),
        ("HEAD", 2, |_| Request::head("/bucket/first")),
        ("LIST", 3, |_| Request::get("/bucket").query("list-type", "2")),
        ("DELETE", 2, |number| Request::delete(&format!("/bucket/none{number}"))),
    ];
    for (what, bound, request) in requests {
        let begun = Instant::now();
        let (mut number, mut least) = (0, usize::MAX);
        while number < FEWEST || (least > bound && begun.elapsed() < ALONE) {
            let before = count();
            world.ok(request(number)).await;
            least = least.min(count() - before);
            number += 1;
        }
        assert_eq!(least, bound, "{what}: the least of {number}");
    }
    world.stop().await;
}
