//! Something that happens once, told to one task of the same thread.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// Costs next to nothing to ask, unlike what threads tell each other.
#[derive(Default)]
pub struct Signal {
    given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn give(&self) {
        self.given.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready for good once it was given.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.given.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
