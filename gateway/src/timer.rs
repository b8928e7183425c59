//! Deadlines of requests and of idle connections.
//!
//! Almost none is ever reached, and each request has two. A timer of the runtime costs a lock, a place in its wheel and a
//! look at the clock every time. So a deadline that is far off is only noted, and the notes of a thread are gone through
//! at every tick; when it comes near, a timer of the runtime takes over, which is exact.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::{Instant, MissedTickBehavior, Sleep};

/// How often the notes are gone through: rarely enough to cost nothing, often enough that most deadlines are far off.
const TICK: Duration = Duration::from_millis(50);

/// What is nearer than this is left to the runtime: the tick that finds it may be late.
const NEAR: Duration = Duration::from_millis(100);

/// The notes of one thread.
#[derive(Default)]
pub(crate) struct Timers(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    notes: Slab<Note>,
    /// The time of the last tick; none before the first, or where nobody ticks.
    ticked: Option<Instant>,
}

struct Note {
    deadline: Instant,
    /// Taken when the deadline has come near.
    waker: Option<Waker>,
}

/// Resolves at its deadline. Until it is polled for the first time it costs nothing.
pub(crate) struct Timer {
    timers: Arc<Timers>,
    deadline: Instant,
    state: State,
}

enum State {
    Unpolled,
    Noted(usize),
    Near(Pin<Box<Sleep>>),
}

impl Timers {
    /// A timer that is due at `deadline`.
    pub(crate) fn at(self: &Arc<Self>, deadline: Instant) -> Timer {
        Timer { timers: Arc::clone(self), deadline, state: State::Unpolled }
    }

    /// Goes through the notes for as long as the thread lives.
    pub(crate) async fn keep_ticking(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick(Instant::now());
        }
    }

    /// Wakes those whose deadline is near.
    fn tick(&self, now: Instant) {
        let near: Vec<Waker> = {
            let mut notes = self.0.lock();
            notes.ticked = Some(now);
            let due = notes.notes.iter_mut().filter(|(_, note)| note.deadline <= now + NEAR);
            due.filter_map(|(_, note)| note.waker.take()).collect()
        };
        near.into_iter().for_each(Waker::wake);
    }

    /// Notes a deadline that is far off.
    fn note(&self, deadline: Instant, waker: &Waker) -> Option<usize> {
        let mut notes = self.0.lock();
        let is_far = notes.ticked.is_some_and(|ticked| deadline > ticked + NEAR);
        is_far.then(|| notes.notes.insert(Note { deadline, waker: Some(waker.clone()) }))
    }

    /// Whether a noted deadline is still far off; if so, `waker` is woken when it is not any more.
    fn is_far(&self, note: usize, waker: &Waker) -> bool {
        let mut notes = self.0.lock();
        let noted = &mut notes.notes[note].waker;
        if let Some(known) = noted {
            known.clone_from(waker);
        }
        noted.is_some()
    }

    fn forget(&self, note: usize) {
        let note = self.0.lock().notes.remove(note);
        drop(note);
    }
}

impl Timer {
    fn forget_note(&mut self) {
        if let State::Noted(note) = self.state {
            self.timers.forget(note);
            self.state = State::Unpolled;
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Near(sleep) => return sleep.as_mut().poll(cx),
            State::Noted(note) => {
                let note = *note;
                if self.timers.is_far(note, cx.waker()) {
                    return Poll::Pending;
                }
                self.forget_note();
            }
            State::Unpolled => {
                if let Some(note) = self.timers.note(self.deadline, cx.waker()) {
                    self.state = State::Noted(note);
                    return Poll::Pending;
                }
            }
        }
        let mut sleep = Box::pin(tokio::time::sleep_until(self.deadline));
        let polled = sleep.as_mut().poll(cx);
        self.state = State::Near(sleep);
        polled
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget_note();
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

    impl Timers {
        fn noted(&self) -> usize {
            self.0.lock().notes.len()
        }
    }

    #[tokio::test]
    async fn a_far_deadline_is_noted_and_a_near_one_exact() {
        let timers = Arc::new(Timers::default());
        let start = Instant::now();
        timers.tick(start);
        let mut far = timers.at(start + 10 * NEAR);
        let mut near = timers.at(start + NEAR);
        assert!(futures::poll!(&mut far).is_pending());
        assert_eq!(timers.noted(), 1);
        assert!(futures::poll!(&mut near).is_pending());
        assert_eq!(timers.noted(), 1);
        assert!(futures::poll!(&mut far).is_pending(), "as often as it likes");
        assert_eq!(timers.noted(), 1);
        drop(far);
        assert_eq!(timers.noted(), 0);
        near.await;
        assert!(start.elapsed() >= NEAR);
    }

    #[tokio::test]
    async fn a_noted_deadline_is_kept_to_the_moment() {
        let timers = Arc::new(Timers::default());
        let start = Instant::now();
        timers.tick(start);
        let ticking = tokio::spawn(Arc::clone(&timers).keep_ticking());
        let mut timer = timers.at(start + 3 * NEAR);
        assert!(futures::poll!(&mut timer).is_pending());
        assert_eq!(timers.noted(), 1);
        // Another task goes on waiting.
        tokio::spawn(timer).await.unwrap();
        assert!(start.elapsed() >= 3 * NEAR);
        assert_eq!(timers.noted(), 0);
        ticking.abort();
    }

    #[tokio::test]
    async fn without_ticks_and_without_polls_nothing_is_noted() {
        let timers = Arc::new(Timers::default());
        drop(timers.at(Instant::now()));
        let mut timer = timers.at(Instant::now() + 10 * NEAR);
        assert!(futures::poll!(&mut timer).is_pending());
        assert_eq!(timers.noted(), 0);
    }
}
