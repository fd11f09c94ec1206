//! One worker's connections, by place.

use crate::http2::{Broken, Exchange, Head, Promise};
use crate::line::Line;
use crate::places::Place;
use crate::settings::Settings;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use tokio::sync::Notify;

/// Connections that one worker opens to one place, where each takes only so many calls.
const MOST_LINES: usize = 16;

/// All connections of a worker.
#[derive(Default)]
pub struct Pools(RefCell<Vec<Option<Rc<Pool>>>>);

#[derive(Default)]
struct Pool {
    lines: RefCell<Vec<Rc<Line>>>,
    dialing: Cell<bool>,
    dialed: Notify,
    /// How often a connection did not come about, and why the last one did not.
    failed: RefCell<(u64, String)>,
}

/// A connection that takes a call now, and counts it.
pub struct Slot {
    promise: Promise,
    busy: Busy,
}

/// Counts a call on its connection as long as this lives.
pub struct Busy(Rc<Line>);

impl Slot {
    /// Sends the head of a request.
    ///
    /// # Errors
    /// It cannot be sent; nothing was.
    pub fn begin(self, head: &Head<'_>) -> Result<(Exchange, Busy), Broken> {
        Ok((self.promise.begin(head)?, self.busy))
    }
}

impl Pools {
    /// A connection to a place that takes a call.
    ///
    /// # Errors
    /// None could be made.
    pub async fn slot(&self, place: &Place, settings: &Settings) -> io::Result<Slot> {
        let pool = self.pool(place.number);
        loop {
            let line = pool.line(place, settings).await?;
            let busy = Busy::on(Rc::clone(&line));
            match line.promise().await {
                Ok(promise) => return Ok(Slot { promise, busy }),
                // It ended since its last call; nothing was sent on it.
                Err(_) => line.retire(),
            }
        }
    }

    fn pool(&self, number: usize) -> Rc<Pool> {
        let mut pools = self.0.borrow_mut();
        if pools.len() <= number {
            pools.resize_with(number + 1, || None);
        }
        Rc::clone(pools[number].get_or_insert_default())
    }
}

impl Pool {
    async fn line(&self, place: &Place, settings: &Settings) -> io::Result<Rc<Line>> {
        loop {
            if let Some(line) = self.free() {
                return Ok(line);
            }
            let failures = self.failed.borrow().0;
            if self.dialing.get() {
                self.dialed.notified().await;
                let failed = self.failed.borrow();
                if failed.0 != failures {
                    return Err(io::Error::other(failed.1.clone()));
                }
                continue;
            }
            let _dialing = Dialing::begin(self);
            // Rare, and its state is large: behind a pointer it makes that of every call no larger.
            match Box::pin(Line::dial(&place.address, place.watched, settings)).await {
                Ok(line) => self.lines.borrow_mut().push(line),
                Err(error) => {
                    let mut failed = self.failed.borrow_mut();
                    *failed = (failed.0 + 1, error.to_string());
                    return Err(error);
                }
            }
        }
    }

    /// The least busy open connection, if it takes another call or there may be no more of them.
    fn free(&self) -> Option<Rc<Line>> {
        let mut lines = self.lines.borrow_mut();
        if lines.iter().any(|line| !line.open()) {
            lines.retain(|line| line.open());
        }
        let least = lines.iter().min_by_key(|line| line.busy.get())?;
        (least.busy.get() < least.most() || lines.len() >= MOST_LINES).then(|| Rc::clone(least))
    }
}

/// One connection at a time is made; the others wait for it.
struct Dialing<'a>(&'a Pool);

impl<'a> Dialing<'a> {
    fn begin(pool: &'a Pool) -> Self {
        pool.dialing.set(true);
        Self(pool)
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(false);
        self.0.dialed.notify_waiters();
    }
}

impl Busy {
    fn on(line: Rc<Line>) -> Self {
        line.busy.set(line.busy.get() + 1);
        Self(line)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}
