//! Timers of requests, used again and again.
//!
//! Almost no timer ever fires. A new one takes a lock, a place in the runtime's wheel and, on a thread without other work,
//! a wake-up of its own; one that is in the wheel already is pushed back by a single atomic operation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

/// Unused timers that a thread keeps: as many as requests it usually has at a time. Each may keep the memory of the
/// connection that it last woke until it is used again or due.
const MAX_UNUSED: usize = 256;

/// The unused timers of one thread, which stay in its runtime's wheel.
#[derive(Default)]
pub(crate) struct Timers {
    unused: Mutex<Vec<Pin<Box<Sleep>>>>,
}

/// Resolves at its deadline. Until it is polled for the first time it costs nothing.
pub(crate) struct Timer {
    timers: Arc<Timers>,
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// A timer that is due at `deadline`.
    pub(crate) fn at(self: &Arc<Self>, deadline: Instant) -> Timer {
        Timer { timers: Arc::clone(self), deadline, sleep: None }
    }

    fn take(&self, deadline: Instant) -> Pin<Box<Sleep>> {
        let unused = self.unused.lock().pop();
        match unused {
            Some(mut sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            None => Box::pin(tokio::time::sleep_until(deadline)),
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { timers, deadline, sleep } = &mut *self;
        sleep.get_or_insert_with(|| timers.take(*deadline)).as_mut().poll(cx)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(sleep) = self.sleep.take() {
            let mut unused = self.timers.unused.lock();
            if unused.len() < MAX_UNUSED {
                unused.push(sleep);
            }
        }
    }
}

/// A thread's timers for hyper, which wants a new one for each request that a connection waits for.
pub(crate) struct SharedTimers(pub(crate) Arc<Timers>);

impl hyper::rt::Timer for SharedTimers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(self.0.at(Instant::now() + duration))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(self.0.at(Instant::from_std(deadline)))
    }
}

impl hyper::rt::Sleep for Timer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_used_timer_serves_later_and_earlier_deadlines() {
        let timers = Arc::new(Timers::default());
        let start = Instant::now();
        let after = |millis| timers.at(start + Duration::from_millis(millis));
        let mut first = after(60_000);
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        assert_eq!(timers.unused.lock().len(), 1);

        let mut second = after(20);
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(timers.unused.lock().len(), 0, "the first one's is used");
        second.await;
        assert!(start.elapsed() >= Duration::from_millis(20));

        let third = after(40);
        third.await;
        assert!(start.elapsed() >= Duration::from_millis(40));
        assert_eq!(timers.unused.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_timer_that_is_never_polled_takes_none() {
        let timers = Arc::new(Timers::default());
        drop(timers.at(Instant::now()));
        assert!(timers.unused.lock().is_empty());
    }
}
