//! One copy of a model: where it is, and the one account of its calls that both planes keep.

use crate::busy::{Busy, now};
use crate::news::News;
use crate::peer::Peer;
use crate::places::Place;
use http::HeaderValue;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Who answers for a copy.
#[derive(Debug)]
pub enum Host {
    /// The model server beside this router, which listens there.
    Runtime(Arc<Place>),
    Peer(Arc<Peer>),
}

const CLOSED: u64 = 1 << 63;

/// One copy. Entering and leaving are single atomic steps, so that after `close` no call begins and a count of zero is final.
#[derive(Debug)]
pub struct Copy {
    pub host: Host,
    /// How busy its pod is.
    pub busy: Arc<Busy>,
    /// Names this copy to the Python door when a call that failed here is replayed to it.
    pub tried: Option<HeaderValue>,
    weight: u32,
    /// Calls at a time; 0 means any number.
    limit: AtomicU32,
    /// Calls that may wait for their turn.
    queue: u32,
    calls: AtomicU64,
    waiting: AtomicU32,
    /// Calls that others are known to make.
    load: AtomicU32,
    last_used: AtomicU64,
    freed: Notify,
    /// Why calls under way were ended, once they were.
    farewell: OnceLock<Arc<str>>,
    ended: Notify,
    news: Arc<News>,
}

/// What came of entering.
#[derive(Debug)]
pub enum Entry {
    Entered(Inside),
    Full,
    Closed,
}

/// A call that counts on its copy as long as this lives.
#[derive(Debug)]
pub struct Inside(Arc<Copy>);

impl Copy {
    pub fn new(host: Host, busy: Arc<Busy>, tried: Option<HeaderValue>, weight: u32, limit: u32, queue: u32, news: Arc<News>) -> Self {
        Self {
            host,
            busy,
            tried,
            weight: weight.max(1),
            limit: AtomicU32::new(limit),
            queue,
            calls: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            load: AtomicU32::new(0),
            last_used: AtomicU64::new(0),
            freed: Notify::new(),
            farewell: OnceLock::new(),
            ended: Notify::new(),
            news,
        }
    }

    /// Enters if there is room and nobody waits longer.
    pub fn enter(self: &Arc<Self>) -> Entry {
        if self.limit.load(SeqCst) > 0 && self.waiting.load(SeqCst) > 0 {
            return if self.closed() { Entry::Closed } else { Entry::Full };
        }
        self.try_enter()
    }

    /// Waits for a turn; None if too many wait already, or the copy goes.
    pub async fn wait(self: &Arc<Self>) -> Option<Inside> {
        let _turn = Turn::take(self)?;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_enter() {
                Entry::Entered(inside) => return Some(inside),
                Entry::Closed => return None,
                Entry::Full => freed.await,
            }
        }
    }

    fn try_enter(self: &Arc<Self>) -> Entry {
        let limit = self.limit.load(SeqCst);
        if limit == 0 {
            if self.calls.fetch_add(1, SeqCst) & CLOSED != 0 {
                self.leave();
                return Entry::Closed;
            }
        } else {
            let step = |calls: u64| (calls & CLOSED == 0 && calls < u64::from(limit)).then_some(calls + 1);
            if let Err(calls) = self.calls.fetch_update(SeqCst, SeqCst, step) {
                return if calls & CLOSED != 0 { Entry::Closed } else { Entry::Full };
            }
        }
        self.last_used.store(now(), Relaxed);
        self.busy.began();
        Entry::Entered(Inside(Arc::clone(self)))
    }

    fn leave(&self) {
        let before = self.calls.fetch_sub(1, SeqCst);
        if before == CLOSED | 1 {
            self.news.ring();
        }
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Lets no call begin any more; those that wait are told.
    pub fn close(&self) {
        self.calls.fetch_or(CLOSED, SeqCst);
        self.freed.notify_waiters();
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
        self.calls.load(SeqCst) & CLOSED != 0
    }

    /// Calls under way.
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst) & !CLOSED
    }

    /// When a call last began, in milliseconds since the epoch; 0 for never.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, SeqCst);
        self.freed.notify_waiters();
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
        self.limit.load(SeqCst) > 0
    }

    /// How busy its pod is, by its weight; then when that was chosen last.
    pub fn burden(&self, now: u64) -> (u64, u64) {
        let calls = self.busy.calls(now) + u64::from(self.load.load(SeqCst));
        ((calls << 16) / u64::from(self.weight), self.busy.turn())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.busy.ended();
        self.0.leave();
    }
}

/// A turn among those that wait.
struct Turn<'a>(&'a Copy);

impl<'a> Turn<'a> {
    fn take(copy: &'a Copy) -> Option<Self> {
        let step = |waiting: u32| (waiting < copy.queue).then_some(waiting + 1);
        copy.waiting.fetch_update(SeqCst, SeqCst, step).ok().map(|_| Self(copy))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Whoever gives up after a place became free passes it on.
        if self.0.waiting.fetch_sub(1, SeqCst) > 1 {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{Address, Places};

    fn copy(limit: u32, queue: u32) -> Arc<Copy> {
        Arc::new(Copy::new(
            Host::Runtime(Places::default().place(Address::parse("127.0.0.1:1"), false)),
            Arc::default(),
            None,
            1,
            limit,
            queue,
            Arc::new(News::new().expect("an eventfd")),
        ))
    }

    fn inside(copy: &Arc<Copy>) -> Inside {
        let Entry::Entered(inside) = copy.enter() else { panic!("no room") };
        inside
    }

    #[test]
    fn after_it_closed_no_call_begins_and_running_ones_end() {
        let copy = copy(0, 0);
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
    async fn beyond_the_limit_calls_wait_and_beyond_the_queue_they_do_not() {
        let copy = copy(1, 1);
        let running = inside(&copy);
        assert!(matches!(copy.enter(), Entry::Full));
        let waiter = tokio::spawn({
            let copy = Arc::clone(&copy);
            async move { copy.wait().await.is_some() }
        });
        while copy.waiting.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(copy.wait().await.is_none());
        drop(running);
        assert!(waiter.await.expect("it ran"));
        assert_eq!((copy.calls(), copy.waiting.load(SeqCst)), (0, 0));
    }

    #[tokio::test]
    async fn calls_that_outlive_their_copy_are_told_why_they_end() {
        let copy = copy(0, 0);
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

    #[tokio::test]
    async fn those_that_wait_for_a_copy_that_goes_are_told() {
        let copy = copy(1, 5);
        let _running = inside(&copy);
        let waiter = tokio::spawn({
            let copy = Arc::clone(&copy);
            async move { copy.wait().await.is_none() }
        });
        while copy.waiting.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        copy.close();
        assert!(waiter.await.expect("it ran"));
    }
}
