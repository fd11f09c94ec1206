//! One thread with an event loop, a table, connections and figures of its own; it shares nothing that a call would wait for.

use crate::connection::{self, Fate};
use crate::counters::{Collected, Counters};
use crate::entrance::{Client, Speaks};
use crate::handshake::Handshakes;
use crate::listener;
use crate::places::Place;
use crate::pod::Pod;
use crate::pool::Pools;
use crate::ports::Port;
use crate::rest::door;
use crate::settings::Settings;
use crate::signal::Signal;
use crate::table::{Change, Table};
use crate::tls::Tls;
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// Tasks that run before sockets are looked at again, if so many are ready.
const TASKS: u32 = 256;

/// What a worker is told.
pub enum Order {
    /// Changes that make up a version.
    Apply(u64, Arc<[Change]>),
    /// Takes connections at a port, too.
    Listen(Port, TcpListener),
    Collect(std::sync::mpsc::Sender<Vec<Collected>>),
    /// Takes no new connections or calls, and ends when the last one is over, or after this time.
    Stop(Duration),
}

pub struct Worker {
    pub settings: Settings,
    pub python: Arc<Place>,
    pub pod: Arc<Pod>,
    pub table: RefCell<Table>,
    pub counters: Counters,
    pub pools: Pools,
    pub handshakes: Handshakes,
    seed: Cell<u64>,
    /// Of its connections; those that are gone leave an empty place for a while.
    fates: RefCell<Vec<Weak<Fate>>>,
    /// Whether its connections, those too that only begin, are to take no new calls.
    left: Cell<bool>,
}

impl Worker {
    /// `number`: makes its draws differ from those of other workers.
    pub fn new(settings: Settings, python: Arc<Place>, pod: Arc<Pod>, number: u64) -> Rc<Self> {
        let counters = Counters::new(settings.bounds.clone());
        let seed = Cell::new(0x9e37_79b9_7f4a_7c15 ^ (number + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
        let (table, pools, fates, left) = (RefCell::default(), Pools::default(), RefCell::default(), Cell::default());
        let handshakes = Handshakes::default();
        Rc::new(Self { settings, python, pod, table, counters, pools, handshakes, seed, fates, left })
    }

    /// A number below the one given.
    pub fn draw(&self, below: usize) -> usize {
        // Xorshift (Marsaglia, 2003): enough to spread calls.
        let mut state = self.seed.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.seed.set(state);
        (state % below.max(1) as u64) as usize
    }

    /// A number from 0 to below 1.
    pub fn chance(&self) -> f64 {
        const PARTS: usize = 1 << 53;
        self.draw(PARTS) as f64 / PARTS as f64
    }

    /// What will be decided about a new connection.
    pub fn fate(&self) -> Rc<Fate> {
        let fate = Rc::new(Fate::default());
        let mut fates = self.fates.borrow_mut();
        if fates.len() == fates.capacity() {
            fates.retain(|fate| fate.strong_count() > 0);
        }
        fates.push(Rc::downgrade(&fate));
        if self.left.get() {
            fate.leave.give();
        }
        fate
    }

    fn leave(&self) {
        self.left.set(true);
        self.fates.borrow().iter().filter_map(Weak::upgrade).for_each(|fate| fate.leave.give());
    }
}

/// Runs a worker on this thread until it is told to stop; what it counted last is answered. `applied` is the version that its table has; `news` is called after each.
pub fn run(
    worker: &Rc<Worker>,
    orders: mpsc::UnboundedReceiver<Order>,
    applied: &AtomicU64,
    news: impl Fn(),
) -> std::io::Result<Vec<Collected>> {
    let runtime = Builder::new_current_thread().enable_all().event_interval(TASKS).build_local(LocalOptions::default())?;
    runtime.block_on(live(worker, orders, applied, news))
}

async fn live(
    worker: &Rc<Worker>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    applied: &AtomicU64,
    news: impl Fn(),
) -> std::io::Result<Vec<Collected>> {
    let connections = Rc::new(());
    let mut accepting = Vec::new();
    let grace = loop {
        match orders.recv().await {
            Some(Order::Apply(version, changes)) => {
                let mut table = worker.table.borrow_mut();
                changes.iter().for_each(|change| table.apply(change.clone()));
                applied.store(version, SeqCst);
                news();
            }
            Some(Order::Listen(port, listener)) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let closing = Rc::new(Signal::default());
                let (worker, port, held, end) = (Rc::clone(worker), Rc::new(port), Rc::clone(&connections), Rc::clone(&closing));
                let taking = async move {
                    let take = |stream, from| {
                        let (serving, held) = (begin(Rc::clone(&worker), stream, from, Rc::clone(&port)), Rc::clone(&held));
                        spawn_local(async move {
                            serving.await;
                            drop(held);
                        });
                    };
                    listener::accept(listener, &end, take).await;
                };
                accepting.push((closing, spawn_local(taking)));
            }
            Some(Order::Collect(to)) => drop(to.send(worker.counters.collect())),
            Some(Order::Stop(grace)) => break grace,
            None => break Duration::ZERO,
        }
    };
    for (closing, accepting) in accepting {
        closing.give();
        let _ = accepting.await;
    }
    worker.leave();
    let last = async {
        // Each connection holds one.
        while Rc::strong_count(&connections) > 1 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = timeout(grace, last).await;
    Ok(worker.counters.collect())
}

async fn begin(worker: Rc<Worker>, stream: TcpStream, address: SocketAddr, port: Rc<Port>) {
    if let Port::Rest(python) = &*port {
        return door::begin(worker, stream, address, python.clone()).await;
    }
    let settings = &worker.settings;
    let tls = if let Port::Peers(_) = *port { &settings.tls_of_peers } else { &settings.tls };
    let shown = tls.as_deref().map(Tls::grpc);
    // Whoever cannot begin, sees that.
    if let Ok(client) = Client::begin(&worker, stream, address, shown).await
        && client.speaks != Speaks::Other
    {
        connection::serve(worker, client, port).await;
    }
}
