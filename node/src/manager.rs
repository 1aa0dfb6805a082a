//! What the service manager is told, if one asks for it (`Type=notify` of systemd): that the process serves, that it
//! lives, that it stops. Without one, nothing is.

use std::time::Duration;

use sd_notify::NotifyState;

/// The process serves. Until then those that depend on it wait.
pub(crate) fn serves(what: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(what)]);
}

/// The process stops in order, which may take a while.
pub(crate) fn stops() {
    tell(&[NotifyState::Stopping]);
}

/// Says as often as the manager wants to hear it that the runtime still runs tasks: one in which every thread hangs is
/// ended and started anew. What fails without hanging ends the process by itself.
pub(crate) fn keep_telling_that_it_lives() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval((limit / 3).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    });
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, ?what, "the service manager cannot be told");
    }
}
