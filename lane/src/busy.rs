//! How busy a pod is, as far as this one knows: one account for both planes (`mesh/core/routing/neighbourhood.py: Busy`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds for which a pod's word of its load counts (`mesh/core/routing/neighbourhood.py: WORD`).
const WORD: u64 = 3_000;

/// What a pod says of itself beside an answer: calls in progress, and in milliseconds since the epoch the last use of its least recently
/// used model and what its clock says; 0 if it does not tell those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub calls: u64,
    pub lru_time: u64,
    pub at: u64,
}

/// Calls of this pod on another or on itself, and what the other said of itself.
#[derive(Debug, Default)]
pub struct Busy {
    own: AtomicU64,
    /// Calls of others that ran there when it said so.
    others: AtomicU64,
    told: AtomicU64,
    lru_time: AtomicU64,
    behind: AtomicI64,
    turn: AtomicU64,
    turns: Arc<AtomicU64>,
}

impl Busy {
    /// `turns`: counts the calls of all pods.
    pub fn new(turns: Arc<AtomicU64>) -> Self {
        Self { turns, ..Self::default() }
    }

    /// A call of this pod begins.
    pub fn began(&self) {
        self.own.fetch_add(1, Relaxed);
    }

    /// A call of this pod is over.
    pub fn ended(&self) {
        let _ = self.own.fetch_update(Relaxed, Relaxed, |own| own.checked_sub(1));
    }

    /// It was chosen for a call, among others.
    pub fn chosen(&self) {
        self.turn.store(self.turns.fetch_add(1, Relaxed) + 1, Relaxed);
    }

    /// It said how busy it is; the call that brought the word still counts as under way here, and not in what it said.
    pub fn reported(&self, load: Load, now: u64) {
        let own = self.own.load(Relaxed).saturating_sub(1);
        self.others.store(load.calls.saturating_sub(own), Relaxed);
        self.lru_time.store(load.lru_time, Relaxed);
        if load.at > 0 {
            self.behind.store((now as i64).wrapping_sub(load.at as i64), Relaxed);
        }
        self.told.store(now, Relaxed);
    }

    /// Calls of this pod that run there.
    pub fn own(&self) -> u64 {
        self.own.load(Relaxed)
    }

    /// All calls that run there, as far as is known.
    pub fn calls(&self, now: u64) -> u64 {
        let fresh = now.saturating_sub(self.told.load(Relaxed)) < WORD;
        self.own() + if fresh { self.others.load(Relaxed) } else { 0 }
    }

    /// The smaller, the longer ago it was chosen.
    pub fn turn(&self) -> u64 {
        self.turn.load(Relaxed)
    }

    /// When its least recently used model was last used, by its clock; 0 if it did not tell.
    pub fn lru_time(&self) -> u64 {
        self.lru_time.load(Relaxed)
    }

    /// Milliseconds that its clock is behind this pod's.
    pub fn behind(&self) -> i64 {
        self.behind.load(Relaxed)
    }
}

/// Milliseconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_says_counts_beside_own_calls_for_a_while() {
        let busy = Busy::default();
        (0..3).for_each(|_| busy.began());
        // Of the seven that it says two are of this pod: the third brought the word.
        busy.reported(Load { calls: 7, lru_time: 5, at: 900 }, 1_000);
        assert_eq!((busy.calls(1_000), busy.calls(3_999), busy.calls(4_000)), (8, 8, 3));
        assert_eq!((busy.lru_time(), busy.behind()), (5, 100));
        (0..4).for_each(|_| busy.ended());
        assert_eq!(busy.calls(1_000), 5);
    }

    #[test]
    fn who_was_chosen_later_has_the_greater_turn() {
        let turns = Arc::default();
        let (one, other) = (Busy::new(Arc::clone(&turns)), Busy::new(turns));
        other.chosen();
        one.chosen();
        assert!(one.turn() > other.turn() && other.turn() > 0);
    }
}
