//! Beginnings of TLS connections: bounded in time and number, and one step of one of them at a time between other work of a worker.

use crate::secured::Secured;
use crate::signal::Signal;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::timeout;

/// In which hands are shaken.
const LONGEST: Duration = Duration::from_secs(10);
/// Of one worker, under way at a time, as many as may wait to be accepted; for a further one the oldest is sent away, one of the slowest.
const MOST: usize = 1024;

/// Those of one worker.
pub struct Handshakes {
    /// Whoever computes has it, until other tasks had their turn.
    turn: Semaphore,
    under_way: RefCell<VecDeque<Rc<Signal>>>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), under_way: RefCell::default() }
    }
}

impl Handshakes {
    /// Shakes hands with a client.
    ///
    /// # Errors
    /// It speaks something else, shows a certificate that is not trusted or none that is asked for, or takes too long.
    pub async fn with_client(&self, tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Secured> {
        let made = ServerConnection::new(config).map_err(io::Error::other)?;
        let place = Place::take(&self.under_way);
        tokio::select! {
            biased;
            done = timeout(LONGEST, shake(tcp, made.into(), Some(&self.turn))) => done?,
            () = poll_fn(|cx| place.over.poll(cx)) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Shakes hands with a server; whoever calls limits the time.
///
/// # Errors
/// As of `Handshakes::with_client`.
pub async fn with_server(tcp: TcpStream, made: ClientConnection) -> io::Result<Secured> {
    // One's own connections are few, and each is made by one task: they need no turn.
    shake(tcp, made.into(), None).await
}

async fn shake(tcp: TcpStream, made: Connection, turn: Option<&Semaphore>) -> io::Result<Secured> {
    let mut secured = Secured::new(tcp, made);
    loop {
        poll_fn(|cx| secured.poll_sent(cx)).await?;
        if !secured.tls.is_handshaking() {
            return Ok(secured);
        }
        if poll_fn(|cx| secured.poll_ahead(cx)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(turn) = turn else {
            secured.digest()?;
            continue;
        };
        let turn = turn.acquire().await.map_err(io::Error::other)?;
        let step = secured.digest();
        yield_now().await;
        drop(turn);
        step?;
    }
}

/// A handshake among those that are under way.
struct Place<'a> {
    all: &'a RefCell<VecDeque<Rc<Signal>>>,
    over: Rc<Signal>,
}

impl<'a> Place<'a> {
    fn take(all: &'a RefCell<VecDeque<Rc<Signal>>>) -> Self {
        let over = Rc::new(Signal::default());
        let mut places = all.borrow_mut();
        if places.len() >= MOST
            && let Some(oldest) = places.pop_front()
        {
            oldest.give();
        }
        places.push_back(Rc::clone(&over));
        drop(places);
        Self { all, over }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.over));
    }
}
