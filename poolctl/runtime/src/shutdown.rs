//! Graceful shutdown: the first signal asks, the second insists.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Signals within this time of the first are the same request: `timeout` tells its child and then the whole group, a terminal's
/// Ctrl-C reaches the group beside a parent that hands it on.
const ONE_REQUEST: Duration = Duration::from_millis(300);

/// Tells every part of a process that it should stop.
///
/// Clones share one state. A part waits with [`Shutdown::requested`] and finishes what it has begun.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Exit status of a process that was told a second time to stop: 128 + SIGINT, as shells report it.
    pub const INSISTED_EXIT_CODE: i32 = 130;

    /// One that only [`Shutdown::request`] triggers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT trigger. A second signal, a moment later, ends the process at once.
    ///
    /// # Errors
    /// The signal handlers could not be installed.
    pub fn on_signals() -> io::Result<Self> {
        Self::on_signals_or(|| std::process::exit(Self::INSISTED_EXIT_CODE))
    }

    /// Like [`Self::on_signals`], but a second signal calls `insisted`, which must end the process: for one that cannot bear
    /// its exit handlers while it works.
    ///
    /// # Errors
    /// The signal handlers could not be installed.
    pub fn on_signals_or(insisted: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let trigger = shutdown.clone();
        tokio::spawn(async move {
            let mut asked = None;
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                let now = Instant::now();
                let first = *asked.get_or_insert(now);
                if first == now {
                    tracing::info!("stopping: finishing what has begun; a second signal stops at once");
                    trigger.request();
                } else if now - first >= ONE_REQUEST {
                    tracing::warn!("second signal: stopping at once");
                    insisted();
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks every part to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when stopping is asked for, at once if it was already.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }

    /// One that stops with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }
}
