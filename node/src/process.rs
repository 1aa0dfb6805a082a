//! What the process needs from its system: file handles, a log, a hook for panics, and signals to stop by.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use cairn_schema::text::Shown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::LogFormat;

/// Exit code after a second signal, as shells report a process ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
/// One request to stop may arrive as several signals: GNU `timeout` sends its own to the process and then to its whole
/// group, a terminal sends SIGINT to all that run in it and a shell may add SIGHUP.
const SAME_REQUEST: Duration = Duration::from_secs(1);
/// Every part of a shutdown has its own, shorter bound; this one is for what nobody foresaw.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(90);

/// Lifts the soft limit of open files to the hard one: segments, sockets and connections all count. Returns the limit.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Starts logging to standard error. `CAIRN_LOG` overrides `filter`; a filter that cannot be read is an error.
pub(crate) fn start_log(format: LogFormat, filter: Option<&str>) -> Result<(), String> {
    let asked = std::env::var("CAIRN_LOG").ok().filter(|text| !text.is_empty());
    let text = asked.as_deref().or(filter).unwrap_or("info");
    let mut filter = EnvFilter::try_new(text).map_err(|error| format!("filter {}: {error}", Shown(text)))?;
    for directive in QUIET {
        // An explicit word about the same module wins over ours.
        let module = directive.split('=').next().unwrap_or(directive);
        if !text.contains(module) {
            filter = filter
                .add_directive(directive.parse().map_err(|error| format!("filter {}: {error}", Shown(directive)))?);
        }
    }
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Human => registry.with(layer.with_target(true)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| error.to_string())?;
    log_panics();
    Ok(())
}

/// Libraries that say too much: every refused S3 request at ERROR, every gossip round at INFO.
const QUIET: &[&str] = &[
    cairn_gateway::TRACING_DIRECTIVE,
    "chitchat=warn",
    "quinn=warn",
    "quinn_proto=warn",
    "fjall=warn",
    "lsm_tree=warn",
];

/// A panic in a task or an actor is caught by its supervisor; the log must still have it.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(
            location = info.location().map(tracing::field::display),
            thread = std::thread::current().name(),
            %backtrace,
            "panic: {}",
            text.unwrap_or("(no text)")
        );
    }));
}

/// Becomes true when the process should stop. Everything that runs until then holds one of these.
pub(crate) type Stop = watch::Receiver<bool>;

/// Listens for SIGINT, SIGTERM and SIGHUP (a closed terminal). The first asks for an orderly stop, one that follows
/// after [`SAME_REQUEST`] ends the process at once.
pub(crate) fn stop_on_signals() -> io::Result<Stop> {
    let mut signals = Signals::listen()?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping; another signal in a second or later ends the process at once");
        sender.send_replace(true);
        match tokio::time::timeout(SHUTDOWN_LIMIT, signals.next_after(SAME_REQUEST)).await {
            Ok(name) => tracing::warn!(signal = name, "another signal: ending now"),
            Err(_) => tracing::error!(limit = ?SHUTDOWN_LIMIT, "the shutdown hangs: ending now"),
        }
        // SAFETY: ends the process. Not `exit`, which would first take apart the statics of libraries whose threads
        // still run: FoundationDB's client crashes then, and a crash is not what was asked for.
        unsafe { libc::_exit(EXIT_INTERRUPTED) };
    });
    Ok(receiver)
}

/// The signals that ask a process to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }

    /// The first that comes when `pause` is over; those that come sooner are passed over.
    async fn next_after(&mut self, pause: Duration) -> &'static str {
        let over = Instant::now() + pause;
        loop {
            let name = self.next().await;
            if Instant::now() >= over {
                return name;
            }
            tracing::debug!(signal = name, "the same request to stop once more");
        }
    }
}

/// Waits until a stop is asked for.
pub(crate) async fn stopped(stop: &mut Stop) {
    // An error means that the sender is gone, which only happens when the process ends.
    let _ = stop.wait_for(|stop| *stop).await;
}
