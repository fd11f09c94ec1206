//! Another pod: where it listens, how busy it is, and whether calls of it get through.

use crate::busy::{Busy, now};
use crate::places::Place;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// Milliseconds for which a pod that could not be called is left out; doubled with each further failure.
const FIRST_PAUSE: u64 = 250;
const LONGEST_PAUSE: u64 = 8_000;

/// A pod of the mesh, the same for all workers.
#[derive(Debug)]
pub struct Peer {
    pub id: Arc<str>,
    pub busy: Arc<Busy>,
    place: Mutex<Option<Arc<Place>>>,
    /// Python says that it is not to be called.
    aside: AtomicBool,
    failures: AtomicU32,
    /// Until when it is left out, in milliseconds since the epoch; 0 for not at all.
    paused: AtomicU64,
}

impl Peer {
    /// One that cannot be called before it is known where it listens.
    pub fn new(id: &str, busy: Arc<Busy>) -> Self {
        let (place, aside, failures, paused) = (Mutex::default(), AtomicBool::new(true), AtomicU32::new(0), AtomicU64::new(0));
        Self { id: id.into(), busy, place, aside, failures, paused }
    }

    /// Where it listens now, and whether it may be called.
    pub fn moved(&self, place: Option<Arc<Place>>, aside: bool) {
        let was_aside = self.aside.swap(aside || place.is_none(), SeqCst);
        let before = {
            let mut known = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, place.clone())
        };
        // Python asks a pod that it put aside until that answers.
        if was_aside || before != place {
            self.answered();
        }
    }

    pub fn place(&self) -> Option<Arc<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether calls go elsewhere.
    pub fn left_out(&self, now: u64) -> bool {
        self.aside.load(SeqCst) || self.paused.load(SeqCst) > now
    }

    /// A call is about to be made: as long as it is not known whether it gets through, no other is, if the last one did not.
    pub fn tried(&self, now: u64) {
        if self.paused.load(SeqCst) > 0 {
            self.paused.store(now + self.pause(), SeqCst);
        }
    }

    /// It could not be called, or broke the connection.
    pub fn failed(&self) {
        self.paused.store(now() + self.pause(), SeqCst);
        let _ = self.failures.fetch_update(SeqCst, SeqCst, |failures| failures.checked_add(1));
    }

    /// It answered.
    pub fn answered(&self) {
        if self.paused.load(SeqCst) > 0 {
            self.failures.store(0, SeqCst);
            self.paused.store(0, SeqCst);
        }
    }

    fn pause(&self) -> u64 {
        (FIRST_PAUSE << self.failures.load(SeqCst).min(16)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{Address, Places};

    #[test]
    fn who_cannot_be_called_is_left_out_for_longer_each_time_and_tried_by_one_call() {
        let peer = Peer::new("p", Arc::default());
        assert!(peer.left_out(now()));
        peer.moved(Some(Places::default().place(Address::parse("a:1"), true)), false);
        assert!(!peer.left_out(now()));
        peer.failed();
        assert!(peer.left_out(now()));
        let later = now() + 2 * FIRST_PAUSE;
        assert!(!peer.left_out(later));
        peer.tried(later);
        assert!(peer.left_out(later + FIRST_PAUSE), "the others wait for what becomes of the one that tries");
        peer.moved(peer.place(), false);
        assert!(peer.left_out(later + FIRST_PAUSE), "that its record was written says nothing");
        peer.answered();
        assert!(!peer.left_out(later));
        (0..100).for_each(|_| peer.failed());
        assert!(!peer.left_out(now() + LONGEST_PAUSE));
    }

    #[test]
    fn python_may_put_it_aside() {
        let peer = Peer::new("p", Arc::default());
        let place = Places::default().place(Address::parse("a:1"), true);
        peer.moved(Some(Arc::clone(&place)), true);
        assert!(peer.left_out(now()));
        peer.moved(Some(place), false);
        assert!(!peer.left_out(now()));
    }
}
