//! How many calls are open: of one identity, and in all. A long poll or a stream counts until its last
//! byte.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::tally::Tally;

#[derive(Default)]
struct State {
    all: u32,
    of: Tally<String>,
}

/// The open calls of one port.
#[derive(Default)]
pub(super) struct Calls(Mutex<State>);

/// An open call; given back when dropped.
pub(super) struct Open {
    calls: Arc<Calls>,
    who: String,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of somebody, where they have fewer than `of_one` and there are fewer than `most`.
    pub(super) fn take(calls: &Arc<Self>, who: String, of_one: u32, most: u32) -> Option<Open> {
        let mut state = calls.lock();
        if state.all >= most || !state.of.add(&who, of_one) {
            return None;
        }
        state.all += 1;
        Some(Open { calls: calls.clone(), who })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        state.all = state.all.saturating_sub(1);
        state.of.take(&self.who);
    }
}

/// An answer's body that keeps its call open until it ends.
pub(super) struct Counted {
    inner: Body,
    _open: Open,
}

impl Counted {
    pub(super) fn new(inner: Body, open: Open) -> Self {
        Self { inner, _open: open }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Calls;

    #[test]
    fn calls_are_bounded_for_each_and_in_all_and_come_back() {
        let calls = Arc::new(Calls::default());
        let take = |who: &str| Calls::take(&calls, who.to_owned(), 2, 3);
        let (first, _second) = (take("eve").expect("one"), take("eve").expect("two"));
        assert!(take("eve").is_none(), "her two are open");
        let _third = take("adam").expect("his");
        assert!(take("abel").is_none(), "three in all");
        drop(first);
        assert!(take("abel").is_some());
    }
}
