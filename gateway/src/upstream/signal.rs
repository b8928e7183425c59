//! What wakes a connection, and whom it wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

/// The waker of one connection, which outlives the tasks that use the connection.
///
/// It passes a wake-up on to the task that waits now, if one does. It remembers it too: a task that was woken for another
/// reason then sees that the connection has nothing to do.
pub(super) struct Signal {
    state: Arc<State>,
    waker: Waker,
}

struct State {
    raised: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Signal {
    pub(super) fn new() -> Self {
        let state = Arc::new(State { raised: AtomicBool::new(false), task: Mutex::new(None) });
        Self { waker: Waker::from(Arc::clone(&state)), state }
    }

    /// The context to poll the connection with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// From now on `task` is woken.
    pub(super) fn attach(&self, task: &Waker) {
        let mut attached = self.state.task.lock();
        if attached.as_ref().is_none_or(|attached| !attached.will_wake(task)) {
            *attached = Some(task.clone());
        }
    }

    /// From now on nobody is woken.
    pub(super) fn detach(&self) {
        *self.state.task.lock() = None;
    }

    /// The connection has something to do.
    pub(super) fn raise(&self) {
        self.state.raised.store(true, Ordering::SeqCst);
    }

    /// Whether the connection has had something to do since the last call. Asked after [`Signal::attach`], it misses no
    /// wake-up: one that comes later wakes the task.
    pub(super) fn take(&self) -> bool {
        self.state.raised.swap(false, Ordering::SeqCst)
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::SeqCst);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct CountedWakes(AtomicUsize);

    impl Wake for CountedWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_the_attached_task_is_woken() {
        let (first, second) = (Arc::<CountedWakes>::default(), Arc::<CountedWakes>::default());
        let woken = |wakes: &CountedWakes| wakes.0.load(Ordering::SeqCst);
        let signal = Signal::new();
        signal.context().waker().wake_by_ref();
        assert!(signal.take(), "remembered without a task");
        assert!(!signal.take(), "once");

        signal.attach(&Waker::from(Arc::clone(&first)));
        signal.context().waker().wake_by_ref();
        signal.attach(&Waker::from(Arc::clone(&second)));
        signal.context().waker().wake_by_ref();
        assert_eq!((woken(&first), woken(&second)), (1, 1));

        signal.detach();
        signal.context().waker().wake_by_ref();
        assert_eq!((woken(&first), woken(&second)), (1, 1));
        assert!(signal.take());
    }
}
