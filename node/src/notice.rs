//! A word while something is waited for, before whoever waits begins to wonder.

use std::{future::Future, pin::pin, time::Duration};

/// Most waits are over sooner, and need no word.
const FIRST: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(10);

/// Runs `work`. When it has taken two seconds, and every ten seconds after that, calls `tell`.
pub(crate) async fn while_waiting<T>(work: impl Future<Output = T>, tell: impl FnMut()) -> T {
    telling(FIRST, EVERY, work, tell).await
}

async fn telling<T>(first: Duration, every: Duration, work: impl Future<Output = T>, mut tell: impl FnMut()) -> T {
    let mut work = pin!(work);
    let mut pause = first;
    loop {
        match tokio::time::timeout(pause, &mut work).await {
            Ok(done) => return done,
            Err(_) => tell(),
        }
        pause = every;
    }
}

/// Says it where the results of a command do not go.
pub(crate) fn on_terminal(text: &str) {
    eprintln!("cairn: {text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn what_is_done_at_once_needs_no_word_and_what_takes_long_is_told_again() {
        let mut times = 0;
        assert_eq!(telling(FIRST, EVERY, async { 7 }, || times += 1).await, 7);
        assert_eq!(times, 0);
        // Work that is done when it has been told of three times.
        let (count, mut counted) = watch::channel(0);
        let work = async { counted.wait_for(|count| *count == 3).await.map(|count| *count).unwrap() };
        let moment = Duration::from_millis(5);
        assert_eq!(telling(moment, moment, work, || count.send_modify(|count| *count += 1)).await, 3);
    }
}
