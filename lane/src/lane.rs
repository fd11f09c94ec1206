//! All workers together: started, told what is resident, asked what they counted, stopped.

use crate::counters::{Collected, merged};
use crate::listener::listeners;
use crate::news::News;
use crate::places::Places;
use crate::pod::Pod;
use crate::ports::Port;
use crate::settings::Settings;
use crate::table::Change;
use crate::worker::{self, Order, Worker};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running lane.
pub struct Lane {
    pub address: Option<SocketAddr>,
    pub rest_address: Option<SocketAddr>,
    pub pod: Arc<Pod>,
    pub news: Arc<News>,
    pub places: Arc<Places>,
    /// Bounds of histograms of times.
    pub times: Arc<[u64]>,
    workers: Vec<Hired>,
    version: Mutex<u64>,
}

/// What a worker counted last, or why it could not work.
type Last = io::Result<Vec<Collected>>;

struct Hired {
    orders: tokio::sync::mpsc::UnboundedSender<Order>,
    applied: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<Last>>>,
}

/// Keeps the kernel from backing memory by huge pages: a message of a megabyte that comes and goes leaves holes in them that stay resident,
/// and the kernel fills them again behind the allocator's back, so that what is resident is up to half more than what is used, and changes by
/// itself. Where it cannot be had, all else is the same.
fn small_pages() {
    // SAFETY: the call takes numbers alone.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

impl Lane {
    /// Listens, and takes calls at once: all are Python's until something is published.
    ///
    /// # Errors
    /// The address cannot be had, or there are no threads or descriptors left.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        small_pages();
        let (news, places, pod) = (Arc::new(News::new()?), Arc::<Places>::default(), Arc::new(Pod::new(&settings.me)));
        let python = places.place(settings.python.clone(), false);
        let mut workers = Vec::with_capacity(settings.workers);
        for number in 0..settings.workers.max(1) {
            let (orders, taken) = tokio::sync::mpsc::unbounded_channel();
            let applied = Arc::new(AtomicU64::new(0));
            let thread = std::thread::Builder::new().name(format!("lane-{number}")).spawn({
                let (settings, python, applied, news) = (settings.clone(), Arc::clone(&python), Arc::clone(&applied), Arc::clone(&news));
                let pod = Arc::clone(&pod);
                move || {
                    let worker = Worker::new(settings, python, pod, number as u64);
                    worker::run(&worker, taken, &applied, || news.ring())
                }
            })?;
            workers.push(Hired { orders, applied, thread: Mutex::new(Some(thread)) });
        }
        let times = Arc::clone(&settings.bounds.times);
        let mut lane = Self { address: None, rest_address: None, pod, news, places, times, workers, version: Mutex::new(0) };
        lane.address = settings.listen.map(|at| lane.listen(at, &Port::Clients)).transpose()?;
        let rest = settings.rest.as_ref();
        lane.rest_address = rest.map(|ports| lane.listen(ports.listen, &Port::Rest(ports.python.clone()))).transpose()?;
        Ok(lane)
    }

    /// Takes connections at an address, and answers the bound one.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(&self, at: SocketAddr, port: &Port) -> io::Result<SocketAddr> {
        let made = listeners(at, self.workers.len())?;
        let address = made[0].local_addr()?;
        for (worker, listener) in self.workers.iter().zip(made) {
            let _ = worker.orders.send(Order::Listen(port.clone(), listener));
        }
        Ok(address)
    }

    /// Tells all workers of changes, and answers the version that these make up.
    pub fn publish(&self, changes: Vec<Change>) -> u64 {
        // Locked until all are told, so that every worker gets the versions in their order.
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        *version += 1;
        let changes: Arc<[Change]> = changes.into();
        for worker in &self.workers {
            let _ = worker.orders.send(Order::Apply(*version, Arc::clone(&changes)));
        }
        *version
    }

    /// The version that every worker has; calls that begin from now on know it.
    pub fn acknowledged(&self) -> u64 {
        self.workers.iter().map(|worker| worker.applied.load(SeqCst)).min().unwrap_or(0)
    }

    /// What all workers counted since the last time.
    pub fn collect(&self) -> Vec<Collected> {
        let (to, from) = mpsc::channel();
        for worker in &self.workers {
            let _ = worker.orders.send(Order::Collect(to.clone()));
        }
        drop(to);
        merged(from.into_iter().flatten())
    }

    /// Takes no new calls, and returns when the last one is over, or after `grace`; what was counted last is answered.
    pub fn stop(&self, grace: Duration) -> Vec<Collected> {
        for worker in &self.workers {
            let _ = worker.orders.send(Order::Stop(grace));
        }
        let threads = self.workers.iter().filter_map(|worker| worker.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
        merged(threads.filter_map(|thread| thread.join().ok()?.ok()).flatten())
    }
}
