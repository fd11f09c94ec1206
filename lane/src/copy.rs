//! One copy of a model: where it is, and the one account of its calls that both planes keep.

use crate::busy::{Busy, now};
use crate::news::News;
use crate::peer::Peer;
use crate::places::Place;
use crate::turns::Turns;
use http::HeaderValue;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Notify;

/// Who answers for a copy.
#[derive(Debug)]
pub enum Host {
    /// The model server beside this router, which listens there.
    Runtime(Arc<Place>),
    Peer(Arc<Peer>),
}

/// What stands in a copy's one number: that no call of the lane begins any more, that somebody waits for a turn, calls of the Python
/// plane that have one, and below them the calls of the lane.
pub const CLOSED: u64 = 1 << 63;
pub const AWAITED: u64 = 1 << 62;
pub const PYTHONS: u64 = 1 << 31;
pub const LANES: u64 = PYTHONS - 1;

/// One copy. Entering and leaving are single atomic steps, so that after `close` no call begins and a count of zero is final.
#[derive(Debug)]
pub struct Copy {
    pub host: Host,
    /// How busy its pod is.
    pub busy: Arc<Busy>,
    /// Names this copy to the Python door when a call that failed here is replayed to it.
    pub tried: Option<HeaderValue>,
    weight: u32,
    /// Where its runtime takes so many calls at a time; None: any number.
    pub turns: Option<Box<Turns>>,
    pub state: AtomicU64,
    /// Calls that others are known to make.
    load: AtomicU32,
    last_used: AtomicU64,
    /// Why calls under way were ended, once they were.
    farewell: OnceLock<Arc<str>>,
    ended: Notify,
    pub news: Arc<News>,
}

/// What came of entering.
#[derive(Debug)]
pub enum Entry {
    Entered(Inside),
    Full,
    Closed,
}

/// A call of the lane that counts on its copy as long as this lives.
#[derive(Debug)]
pub struct Inside {
    copy: Arc<Copy>,
    /// Since when, where calls have turns.
    since: Option<Instant>,
}

impl Copy {
    pub fn new(host: Host, busy: Arc<Busy>, tried: Option<HeaderValue>, weight: u32, turns: Option<Turns>, news: Arc<News>) -> Self {
        Self {
            host,
            busy,
            tried,
            weight: weight.max(1),
            turns: turns.map(Box::new),
            state: AtomicU64::new(0),
            load: AtomicU32::new(0),
            last_used: AtomicU64::new(0),
            farewell: OnceLock::new(),
            ended: Notify::new(),
            news,
        }
    }

    /// Enters if there is room and nobody waits longer.
    pub fn enter(self: &Arc<Self>) -> Entry {
        let Some(turns) = &self.turns else {
            if self.state.fetch_add(1, SeqCst) & CLOSED != 0 {
                self.leave();
                return Entry::Closed;
            }
            return Entry::Entered(self.inside());
        };
        let free = turns.free();
        let step = |state: u64| (state & (CLOSED | AWAITED) == 0 && free(state)).then_some(state + 1);
        match self.state.fetch_update(SeqCst, SeqCst, step) {
            Ok(_) => {
                turns.entered();
                Entry::Entered(self.inside())
            }
            Err(state) if state & CLOSED != 0 => Entry::Closed,
            Err(_) => Entry::Full,
        }
    }

    /// A call that has its place.
    pub fn inside(self: &Arc<Self>) -> Inside {
        self.last_used.store(now(), Relaxed);
        self.busy.began();
        Inside { copy: Arc::clone(self), since: self.turns.as_ref().map(|_| Instant::now()) }
    }

    fn leave(self: &Arc<Self>) {
        let before = self.state.fetch_sub(1, SeqCst);
        if before & (CLOSED | LANES) == CLOSED | 1 {
            self.news.ring();
        }
        if before & AWAITED != 0 {
            self.advance();
        }
    }

    /// Lets no call of the lane begin any more; those that wait are told.
    pub fn close(self: &Arc<Self>) {
        self.state.fetch_or(CLOSED, SeqCst);
        self.send_away();
        self.news.ring();
    }

    /// Ends the calls that are under way; to be closed before.
    pub fn end(&self, why: &str) {
        let _ = self.farewell.set(why.into());
        self.ended.notify_waiters();
    }

    /// Returns when calls are ended, with the reason.
    pub async fn ended(&self) -> Arc<str> {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        // Hears of an end from here on, so none falls between the question and the waiting.
        ended.as_mut().enable();
        if self.farewell.get().is_none() {
            ended.await;
        }
        self.farewell.get().cloned().unwrap_or_else(|| "".into())
    }

    pub fn closed(&self) -> bool {
        self.state.load(SeqCst) & CLOSED != 0
    }

    /// Calls of the lane under way.
    pub fn calls(&self) -> u64 {
        self.state.load(SeqCst) & LANES
    }

    /// When a call last began, in milliseconds since the epoch; 0 for never.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    pub fn set_load(&self, load: u32) {
        self.load.store(load, SeqCst);
    }

    /// Where it is; None if that is not known at the moment.
    pub fn at(&self) -> Option<Arc<Place>> {
        match &self.host {
            Host::Runtime(place) => Some(Arc::clone(place)),
            Host::Peer(peer) => peer.place(),
        }
    }

    /// The pod that has it, if that is another one.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        if let Host::Peer(peer) = &self.host { Some(peer) } else { None }
    }

    /// Whether calls on it stand in line.
    pub fn limited(&self) -> bool {
        self.turns.is_some()
    }

    /// How busy its pod is, by its weight; then when that was chosen last.
    pub fn burden(&self, now: u64) -> (u64, u64) {
        let calls = self.busy.calls(now) + u64::from(self.load.load(SeqCst));
        ((calls << 16) / u64::from(self.weight), self.busy.turn())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let (Some(turns), Some(since)) = (&self.copy.turns, self.since) {
            turns.left(since.elapsed());
        }
        self.copy.busy.ended();
        self.copy.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{Address, Places};

    fn copy() -> Arc<Copy> {
        let host = Host::Runtime(Places::default().place(Address::parse("127.0.0.1:1"), false));
        Arc::new(Copy::new(host, Arc::default(), None, 1, None, Arc::new(News::new().expect("an eventfd"))))
    }

    fn inside(copy: &Arc<Copy>) -> Inside {
        let Entry::Entered(inside) = copy.enter() else { panic!("no room") };
        inside
    }

    #[test]
    fn after_it_closed_no_call_begins_and_running_ones_end() {
        let copy = copy();
        let running = inside(&copy);
        assert!(copy.last_used() > 0);
        copy.close();
        assert!(matches!(copy.enter(), Entry::Closed));
        assert_eq!(copy.calls(), 1);
        drop(running);
        assert_eq!(copy.calls(), 0);
        assert!(copy.closed());
    }

    #[tokio::test]
    async fn calls_that_outlive_their_copy_are_told_why_they_end() {
        let copy = copy();
        let _running = inside(&copy);
        let told = tokio::spawn({
            let copy = Arc::clone(&copy);
            async move { copy.ended().await }
        });
        tokio::task::yield_now().await;
        copy.close();
        copy.end("it leaves");
        assert_eq!(&*told.await.expect("it ran"), "it leaves");
        assert_eq!(&*copy.ended().await, "it leaves");
    }
}
