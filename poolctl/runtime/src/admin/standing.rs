//! What a connection is doing, and since when.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Told by a connection's parts, asked by whoever judges it.
pub(super) struct Standing {
    doing: watch::Sender<(Doing, Instant)>,
    displaced: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing came yet: it was opened ahead of its use.
    Nothing,
    /// A request has begun to come.
    Receiving,
    /// A request is here, the answer is not.
    Answering,
    /// The last request has its answer, which may still be on its way.
    Answered,
}

// === impl Standing ===

impl Default for Standing {
    fn default() -> Self {
        Self { doing: watch::Sender::new((Doing::Nothing, Instant::now())), displaced: CancellationToken::new() }
    }
}

impl Standing {
    /// It does this from now on, unless it did before.
    pub(super) fn is(&self, next: Doing) {
        self.doing.send_if_modified(|(doing, since)| {
            let changes = *doing != next;
            if changes {
                (*doing, *since) = (next, Instant::now());
            }
            changes
        });
    }

    /// Bytes came. While a request is answered they are the next one's, which is not waited for yet.
    pub(super) fn received(&self) {
        if self.doing() != Doing::Answering {
            self.is(Doing::Receiving);
        }
    }

    pub(super) fn doing(&self) -> Doing {
        self.doing.borrow().0
    }

    /// Since when its client is waited for; none while its client waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let (doing, since) = *self.doing.borrow();
        (doing != Doing::Answering).then_some(since)
    }

    /// Resolves when a request has been coming for `arrival`.
    pub(super) async fn overdue(&self, arrival: Duration) {
        let mut changes = self.doing.subscribe();
        loop {
            let (doing, since) = *changes.borrow_and_update();
            let late = async {
                match doing {
                    Doing::Receiving => tokio::time::sleep_until(since + arrival).await,
                    Doing::Nothing | Doing::Answering | Doing::Answered => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // its sender is `self`
                _ = changes.changed() => {}
                () = late => return,
            }
        }
    }

    /// Has it make room.
    pub(super) fn displace(&self) {
        self.displaced.cancel();
    }

    /// Resolves when it has to make room.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}
