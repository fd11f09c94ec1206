//! This pod: its name, the limit on calls that clients have under way, and what it tells other pods of itself.

use crate::busy::{Busy, Load, now};
use crate::hops;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The pod of a lane, the same for all workers and for Python.
#[derive(Debug)]
pub struct Pod {
    pub id: Arc<str>,
    name: HeaderValue,
    pub busy: Arc<Busy>,
    pub gate: Gate,
    /// Counts choices among the copies of several pods.
    pub turns: Arc<AtomicU64>,
    /// When the least recently used model was last used, in milliseconds since the epoch.
    pub oldest: AtomicU64,
}

/// Calls of clients under way, on both planes, of which there may be so many.
#[derive(Debug)]
pub struct Gate {
    calls: AtomicU64,
    most: AtomicU64,
}

/// A call that counts as long as this lives.
#[derive(Debug)]
pub struct Admitted(Arc<Pod>);

impl Pod {
    pub fn new(id: &str) -> Self {
        let turns = Arc::<AtomicU64>::default();
        let busy = Arc::new(Busy::new(Arc::clone(&turns)));
        let gate = Gate { calls: AtomicU64::new(0), most: AtomicU64::new(u64::MAX) };
        Self { id: id.into(), name: hops::name(id), busy, gate, turns, oldest: AtomicU64::new(0) }
    }

    /// What is said beside an answer to another pod. The call that it ends does not count.
    pub fn farewell(&self) -> [(HeaderName, HeaderValue); 2] {
        let calls = self.busy.own().saturating_sub(1);
        hops::farewell(&self.name, Load { calls, lru_time: self.oldest.load(SeqCst), at: now() })
    }

    /// Lets a client's call in; None if there are too many.
    pub fn admit(self: &Arc<Self>) -> Option<Admitted> {
        self.gate.enter().then(|| Admitted(Arc::clone(self)))
    }
}

impl Gate {
    pub fn set_most(&self, most: u64) {
        self.most.store(most, SeqCst);
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// Counts a call; false if there are too many.
    pub fn enter(&self) -> bool {
        if self.calls.fetch_add(1, SeqCst) >= self.most.load(SeqCst) {
            self.leave();
            return false;
        }
        true
    }

    pub fn leave(&self) {
        self.calls.fetch_sub(1, SeqCst);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_calls_are_let_in_than_there_may_be() {
        let pod = Arc::new(Pod::new("p"));
        pod.gate.set_most(2);
        let (first, _second) = (pod.admit(), pod.admit());
        assert!(first.is_some() && pod.admit().is_none() && !pod.gate.enter());
        drop(first);
        assert!(pod.gate.enter() && pod.admit().is_none());
        assert_eq!(pod.gate.calls(), 2);
    }

    #[test]
    fn other_pods_are_told_of_all_calls_but_the_one_that_ends() {
        let pod = Pod::new("p");
        (0..3).for_each(|_| pod.busy.began());
        pod.oldest.store(7, SeqCst);
        let said = pod.farewell().into_iter().collect();
        let load = hops::load(&said).expect("a load");
        assert_eq!((load.calls, load.lru_time, load.at > 0), (2, 7, true));
    }
}
