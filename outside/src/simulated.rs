//! Another outside for this thread: a simulation's clock and chance, and blocking work done in place, so
//! that one thread does everything and the same seed gives the same run.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::SystemTime;

/// What a simulated process meets.
pub trait Outside: Send + Sync {
    /// The process's time of day.
    fn wall_clock(&self) -> SystemTime;
    /// The next draw.
    fn chance(&self) -> [u8; 16];
    /// How long blocking work takes, half before it and half behind; the process may end in it.
    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Outside>>> = const { RefCell::new(None) };
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// The outside of the process that runs on this thread now; none outside of a simulation.
#[must_use]
pub fn current() -> Option<Arc<dyn Outside>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs something as a process with this outside.
pub fn enter<T>(outside: Arc<dyn Outside>, work: impl FnOnce() -> T) -> T {
    struct Back(Option<Arc<dyn Outside>>);
    impl Drop for Back {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _back = Back(CURRENT.replace(Some(outside)));
    work()
}

/// Whether blocking work runs now, which cannot wait for anything that needs the runtime.
#[must_use]
pub fn is_within() -> bool {
    WITHIN.get()
}

pub(crate) fn within<T>(work: impl FnOnce() -> T) -> T {
    let before = WITHIN.replace(true);
    let done = work();
    WITHIN.set(before);
    done
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future to its end within the poll that asks. It must need nothing of the runtime: what it
/// waits for is another thread's (a database's worker), or nothing.
pub fn at_once<F: Future>(future: F) -> F::Output {
    // One poll does all of it: there is no next one in which a spent budget would be full again.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
