//! Turns on a copy whose runtime takes so many calls at a time: callers of both planes stand in one line, in the order in which they came.
//!
//! Whether a place is free and whether somebody waits stand in the copy's one number. It is only beyond a free place that a lock is taken.

use crate::copy::{AWAITED, CLOSED, Copy, Inside, LANES, PYTHONS};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The limit of one copy, and who waits.
#[derive(Debug)]
pub struct Turns {
    /// Calls at a time, at least 1.
    limit: AtomicU32,
    /// Calls that may wait.
    queue: AtomicU32,
    row: Mutex<Row>,
    /// Callers of the lane among those that wait.
    waiting: AtomicU32,
    /// Of the lane's calls since they were asked for: those that had their turn at once; those that left, and their microseconds.
    at_once: AtomicU64,
    left: AtomicU64,
    spent: AtomicU64,
    /// Upper bounds of the histogram of waits, in microseconds.
    bounds: Arc<[u64]>,
}

#[derive(Debug, Default)]
struct Row {
    waiting: VecDeque<Waiter>,
    /// Tickets of Python whose turn has come, and that it has not asked for.
    granted: Vec<u64>,
    last: u64,
    waits: Vec<u64>,
    waited: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    since: Instant,
    /// Where a caller of the lane is told; None: Python's.
    told: Option<oneshot::Sender<Inside>>,
}

/// What the lane's calls took since it was asked last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Calls that left the copy, and microseconds on it, without those of waiting.
    pub calls: u64,
    pub microseconds: u64,
    /// Calls by the time they waited: one number more than there are bounds; and all that time.
    pub waits: Vec<u64>,
    pub waited: u64,
}

/// What Python's question for a turn came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Entered,
    /// It waits with this ticket.
    Waits(u64),
    TooMany,
}

/// A caller of the lane in line; it leaves the line when this is dropped.
struct Standing<'a> {
    copy: &'a Arc<Copy>,
    ticket: u64,
    place: oneshot::Receiver<Inside>,
}

impl Turns {
    pub fn new(limit: u32, queue: u32, bounds: Arc<[u64]>) -> Self {
        Self {
            limit: AtomicU32::new(limit.max(1)),
            queue: AtomicU32::new(queue),
            row: Mutex::default(),
            waiting: AtomicU32::new(0),
            at_once: AtomicU64::new(0),
            left: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            bounds,
        }
    }

    /// Callers of the lane that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// The limit, and with it whether a number of the copy tells that a place is free: asked for once in a step, for it may change.
    pub fn free(&self) -> impl Fn(u64) -> bool + use<> {
        let limit = u64::from(self.limit.load(SeqCst));
        move |state| (state & LANES) + (state & !(CLOSED | AWAITED)) / PYTHONS < limit
    }

    /// A call of the lane had its turn at once.
    pub fn entered(&self) {
        self.at_once.fetch_add(1, Relaxed);
    }

    /// A call of the lane took so long.
    pub fn left(&self, took: Duration) {
        self.left.fetch_add(1, Relaxed);
        self.spent.fetch_add(took.as_micros() as u64, Relaxed);
    }

    /// What the lane's calls took since this was asked last.
    pub fn take(&self) -> Times {
        let mut row = self.row();
        let mut waits = std::mem::take(&mut row.waits);
        waits.resize(self.bounds.len() + 1, 0);
        waits[0] += self.at_once.swap(0, Relaxed);
        let (calls, microseconds) = (self.left.swap(0, Relaxed), self.spent.swap(0, Relaxed));
        Times { calls, microseconds, waits, waited: std::mem::take(&mut row.waited) }
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_waited(&self, row: &mut Row, wait: Duration) {
        let microseconds = wait.as_micros() as u64;
        row.waits.resize(self.bounds.len() + 1, 0);
        row.waits[self.bounds.partition_point(|bound| *bound < microseconds)] += 1;
        row.waited += microseconds;
    }
}

impl Copy {
    /// Waits for a turn; None if too many wait already, or the copy goes.
    pub async fn wait(self: &Arc<Self>) -> Option<Inside> {
        let turns = self.turns.as_deref()?;
        let (told, place) = oneshot::channel();
        let mut standing = match self.line_up(turns, Some(told)) {
            Asked::Entered => {
                turns.entered();
                return Some(self.inside());
            }
            Asked::Waits(ticket) => Standing { copy: self, ticket, place },
            Asked::TooMany => return None,
        };
        self.busy.began();
        (&mut standing.place).await.ok()
    }

    /// The same for the Python plane, which may enter a copy that was closed: it knows whom it lets in there.
    pub fn ask(self: &Arc<Self>) -> Asked {
        match &self.turns {
            Some(turns) => self.line_up(turns, None),
            None => {
                self.state.fetch_add(PYTHONS, SeqCst);
                Asked::Entered
            }
        }
    }

    /// A call of the Python plane is over.
    pub fn give_back(self: &Arc<Self>) {
        if self.state.fetch_sub(PYTHONS, SeqCst) & AWAITED != 0 {
            self.advance();
        }
    }

    /// A caller of the Python plane no longer waits, or does not take its turn.
    pub fn give_up(self: &Arc<Self>, ticket: u64) {
        let Some(turns) = &self.turns else { return };
        if !self.step_out(turns, ticket) {
            turns.row().granted.retain(|granted| *granted != ticket);
            self.give_back();
        }
    }

    /// Tickets of the Python plane whose turn has come since this was asked last.
    pub fn granted(&self) -> Vec<u64> {
        self.turns.as_ref().map_or_else(Vec::new, |turns| std::mem::take(&mut turns.row().granted))
    }

    /// Calls of the Python plane that ran before there was this account.
    pub fn adopt(&self, calls: u32) {
        self.state.fetch_add(PYTHONS * u64::from(calls), SeqCst);
    }

    /// Changes a limit that there is.
    pub fn set_limit(self: &Arc<Self>, limit: u32, queue: u32) {
        if let Some(turns) = &self.turns {
            turns.limit.store(limit.max(1), SeqCst);
            turns.queue.store(queue, SeqCst);
            self.advance();
        }
    }

    /// Takes a place if one is free and nobody waits for it, else one in the line.
    fn line_up(&self, turns: &Turns, told: Option<oneshot::Sender<Inside>>) -> Asked {
        let mut row = turns.row();
        let (place, shut) = if told.is_some() { (1, CLOSED) } else { (PYTHONS, 0) };
        let room = row.waiting.len() < turns.queue.load(SeqCst) as usize;
        let free = turns.free();
        let enters = |state: u64| state & AWAITED == 0 && free(state);
        let step = |state: u64| match () {
            () if state & shut != 0 => None,
            () if enters(state) => Some(state + place),
            () => room.then_some(state | AWAITED),
        };
        match self.state.fetch_update(SeqCst, SeqCst, step) {
            Err(_) => return Asked::TooMany,
            Ok(before) if enters(before) => return Asked::Entered,
            Ok(_) => {}
        }
        row.last += 1;
        let ticket = row.last;
        turns.waiting.fetch_add(u32::from(told.is_some()), SeqCst);
        row.waiting.push_back(Waiter { ticket, since: Instant::now(), told });
        Asked::Waits(ticket)
    }

    /// Leaves the line; false if it was not there any more.
    fn step_out(self: &Arc<Self>, turns: &Turns, ticket: u64) -> bool {
        let found = {
            let mut row = turns.row();
            let place = row.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok();
            place.and_then(|place| row.waiting.remove(place))
        };
        let Some(waiter) = found else { return false };
        turns.waiting.fetch_sub(u32::from(waiter.told.is_some()), SeqCst);
        // Who is the last to leave says that nobody waits any more.
        self.advance();
        true
    }

    /// Sends the lane's callers out of the line of a copy that was closed.
    pub fn send_away(self: &Arc<Self>) {
        let Some(turns) = &self.turns else { return };
        let mut row = turns.row();
        // What would tell them is dropped, which tells them.
        row.waiting.retain(|waiter| waiter.told.is_none());
        turns.waiting.store(0, SeqCst);
        drop(row);
        self.advance();
    }

    /// Gives what is free to those that wait longest. Python is rung for where it has tickets among them.
    pub fn advance(self: &Arc<Self>) {
        let Some(turns) = &self.turns else { return };
        let (mut entering, mut pythons) = (Vec::new(), false);
        let mut row = turns.row();
        let free = turns.free();
        while let Some(first) = row.waiting.front() {
            let (place, shut) = if first.told.is_some() { (1, CLOSED) } else { (PYTHONS, 0) };
            let step = |state: u64| (state & shut == 0 && free(state)).then_some(state + place);
            if self.state.fetch_update(SeqCst, SeqCst, step).is_err() {
                break;
            }
            let Some(Waiter { ticket, since, told }) = row.waiting.pop_front() else { break };
            if let Some(told) = told {
                turns.waiting.fetch_sub(1, SeqCst);
                turns.has_waited(&mut row, since.elapsed());
                entering.push((told, self.inside()));
            } else {
                row.granted.push(ticket);
                pythons = true;
            }
        }
        if row.waiting.is_empty() {
            self.state.fetch_and(!AWAITED, SeqCst);
        }
        drop(row);
        if pythons {
            self.news.ring();
        }
        for (told, inside) in entering {
            // Who left meanwhile leaves the copy, too, and the next one is told.
            drop(told.send(inside));
        }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.copy.busy.ended();
        if let Some(turns) = &self.copy.turns {
            self.copy.step_out(turns, self.ticket);
        }
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
