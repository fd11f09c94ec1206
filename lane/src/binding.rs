//! The lane as Python sees it; `lane/mesh_lane.pyi` describes it.

use crate::binding_accounts::{PyBusy, PyGate};
use crate::binding_sharing::{SharingParts, sharing};
use crate::binding_tls::{PyPeerTls, PyTls};
use crate::busy::Busy;
use crate::copy::{Copy, Host};
use crate::counters::{self, Bounds, Way};
use crate::lane::Lane;
use crate::news::News;
use crate::peer::Peer;
use crate::places::{Address, Places};
use crate::ports::Port;
use crate::rest::door::Ports;
use crate::rules::{Rule, Rules};
use crate::settings::Settings;
use crate::table::{Change, Model};
use crate::turns::{Asked, Turns};
use http::HeaderValue;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Where calls of one model can go, and the account of them that both planes keep.
#[pyclass(name = "Copy", module = "mesh_lane", frozen)]
struct PyCopy {
    copy: Arc<Copy>,
}

impl PyCopy {
    fn of(copy: Copy) -> Self {
        Self { copy: Arc::new(copy) }
    }
}

#[pymethods]
impl PyCopy {
    /// What a call of the Python plane gets: 0 is a place, above is its ticket in the line, below 0 there are too many.
    fn ask(&self) -> i64 {
        match self.copy.ask() {
            Asked::Entered => 0,
            Asked::Waits(ticket) => ticket as i64,
            Asked::TooMany => -1,
        }
    }

    /// A call of the Python plane is over.
    fn give_back(&self) {
        self.copy.give_back();
    }

    /// A call of the Python plane leaves the line, or does not use the place that it was granted.
    fn give_up(&self, ticket: u64) {
        self.copy.give_up(ticket);
    }

    /// Tickets whose turn has come since this was asked last.
    fn granted(&self) -> Vec<u64> {
        self.copy.granted()
    }

    /// Calls of the Python plane that have places already.
    fn adopt(&self, calls: u32) {
        self.copy.adopt(calls);
    }

    /// What the lane's calls took since this was asked last, as `mesh_lane.pyi` says.
    fn times(&self) -> (u64, u64, Vec<u64>, u64) {
        let times = self.copy.turns.as_ref().map(|turns| turns.take()).unwrap_or_default();
        (times.calls, times.microseconds, times.waits, times.waited)
    }

    /// Lets no call of the lane begin any more.
    fn close(&self) {
        self.copy.close();
    }

    /// Ends the calls of the lane that are under way.
    fn end(&self, why: &str) {
        self.copy.end(why);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.copy.closed()
    }

    #[getter]
    fn calls(&self) -> u64 {
        self.copy.calls()
    }

    #[getter]
    fn last_used(&self) -> u64 {
        self.copy.last_used()
    }

    #[getter]
    fn waiting(&self) -> u32 {
        self.copy.turns.as_ref().map_or(0, |turns| turns.waiting())
    }

    fn set_limit(&self, limit: u32, queue: u32) {
        self.copy.set_limit(limit, queue);
    }

    fn set_load(&self, load: u32) {
        self.copy.set_load(load);
    }
}

/// Another pod.
#[pyclass(name = "Peer", module = "mesh_lane", frozen)]
struct PyPeer {
    peer: Arc<Peer>,
    places: Arc<Places>,
    news: Arc<News>,
}

#[pymethods]
impl PyPeer {
    #[getter]
    fn busy(&self) -> PyBusy {
        PyBusy(Arc::clone(&self.peer.busy))
    }

    /// Where it listens now (None: nobody knows), and whether calls of it do not get through.
    #[pyo3(signature = (address, *, aside=false))]
    fn moved(&self, address: Option<&str>, aside: bool) {
        self.peer.moved(address.map(|at| self.places.place(Address::parse(at), true)), aside);
    }

    /// A copy that it has.
    #[pyo3(signature = (*, tried=""))]
    fn copy(&self, tried: &str) -> PyResult<PyCopy> {
        let (host, busy) = (Host::Peer(Arc::clone(&self.peer)), Arc::clone(&self.peer.busy));
        Ok(PyCopy::of(Copy::new(host, busy, copy_name(tried)?, 1, None, Arc::clone(&self.news))))
    }
}

type RuleParts = (Vec<u32>, bool, bool, Vec<u32>);
type Sums = (u64, u64, u64, u64);
type Collected = (String, String, String, usize, Sums, Vec<u64>, Vec<u64>, Vec<u64>, &'static str);

#[pyclass(name = "Lane", module = "mesh_lane", frozen)]
struct PyLane(Lane);

#[pymethods]
impl PyLane {
    #[new]
    #[pyo3(signature = (listen, python, *, workers=1, max_message=16_777_216, max_headers=16_384, max_streams=1000, max_kept=4_194_304,
        silence=20.0, silence_of_pods=5.0, connect_limit=6.0, max_age=0.0, max_age_grace=0.0, times=vec![], sizes=vec![], rest=None,
        tls=None, tls_of_peers=None, peer_tls=None, me="", key=""))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords to those who call it")]
    fn new(
        listen: Option<&str>,
        python: &str,
        workers: usize,
        max_message: usize,
        max_headers: u32,
        max_streams: u32,
        max_kept: usize,
        silence: f64,
        silence_of_pods: f64,
        connect_limit: f64,
        max_age: f64,
        max_age_grace: f64,
        times: Vec<u64>,
        sizes: Vec<u64>,
        rest: Option<(String, String)>,
        tls: Option<Py<PyTls>>,
        tls_of_peers: Option<Py<PyTls>>,
        peer_tls: Option<Py<PyPeerTls>>,
        me: &str,
        key: &str,
    ) -> PyResult<Self> {
        let at = listen.map(|listen| address("listen", listen)).transpose()?;
        let rest =
            rest.map(|(listen, python)| Ok::<_, PyErr>(Ports { listen: address("rest", &listen)?, python: Address::parse(&python) }));
        let settings = Settings {
            listen: at,
            me: me.to_owned(),
            key: key.to_owned(),
            workers,
            python: Address::parse(python),
            max_message,
            max_headers,
            max_streams,
            max_kept,
            silence: seconds("silence", silence)?,
            silence_of_pods: seconds("silence_of_pods", silence_of_pods)?,
            connect_limit: seconds("connect_limit", connect_limit)?,
            max_age: seconds("max_age", max_age)?,
            max_age_grace: seconds("max_age_grace", max_age_grace)?,
            bounds: Bounds { times: times.into(), sizes: sizes.into() },
            rest: rest.transpose()?,
            tls: tls.map(|tls| Arc::clone(&tls.get().0)),
            tls_of_peers: tls_of_peers.map(|tls| Arc::clone(&tls.get().0)),
            peer_tls: peer_tls.map(|tls| Arc::clone(&tls.get().0)),
        };
        let said = listen.unwrap_or("");
        Lane::start(&settings).map(Self).map_err(|error| PyOSError::new_err(format!("the lane cannot listen on {said}: {error}")))
    }

    /// The address and port that clients call.
    #[getter]
    fn address(&self) -> String {
        self.0.address.map_or_else(String::new, |address| address.to_string())
    }

    /// Takes connections of `who` at an address, too, and answers the bound one.
    fn listen(&self, who: &str, at: &str, python: &str) -> PyResult<String> {
        let python = Address::parse(python);
        let port = match who {
            "clients" => Port::Clients,
            "peers" => Port::Peers(self.0.places.place(python, false)),
            "rest" => Port::Rest(python),
            _ => return Err(PyValueError::new_err(format!("there are ports of clients, peers and rest, not of {who:?}"))),
        };
        let bound = self.0.listen(address("at", at)?, &port);
        bound.map(|bound| bound.to_string()).map_err(|error| PyOSError::new_err(format!("the lane cannot listen on {at}: {error}")))
    }

    /// How busy this pod is.
    #[getter]
    fn busy(&self) -> PyBusy {
        PyBusy(Arc::clone(&self.0.pod.busy))
    }

    #[getter]
    fn gate(&self) -> PyGate {
        PyGate(Arc::clone(&self.0.pod))
    }

    /// What other pods are told of the least recently used model.
    fn set_oldest(&self, at: u64) {
        self.0.pod.oldest.store(at, SeqCst);
    }

    /// Another pod; it cannot be called before it is told where it listens.
    fn peer(&self, id: &str) -> PyPeer {
        let busy = Arc::new(Busy::new(Arc::clone(&self.0.pod.turns)));
        PyPeer { peer: Arc::new(Peer::new(id, busy)), places: Arc::clone(&self.0.places), news: Arc::clone(&self.0.news) }
    }

    /// The same for REST; None if that is not the lane's.
    #[getter]
    fn rest_address(&self) -> Option<String> {
        self.0.rest_address.map(|address| address.to_string())
    }

    /// Becomes readable when a version was taken over, a closed copy is empty, or a turn of Python's has come.
    fn fileno(&self) -> i32 {
        self.0.news.number()
    }

    /// Makes `fileno` unreadable until something is new.
    fn quiet(&self) {
        self.0.news.quiet();
    }

    #[pyo3(signature = (address, *, tried="", weight=1, limit=0, queue=0, busy=None))]
    fn copy(&self, address: &str, tried: &str, weight: u32, limit: u32, queue: u32, busy: Option<&PyBusy>) -> PyResult<PyCopy> {
        let host = Host::Runtime(self.0.places.place(Address::parse(address), false));
        let busy = busy.map_or_else(Arc::default, |busy| Arc::clone(&busy.0));
        let turns = (limit > 0).then(|| Turns::new(limit, queue, Arc::clone(&self.0.times)));
        Ok(PyCopy::of(Copy::new(host, busy, copy_name(tried)?, weight, turns, Arc::clone(&self.0.news))))
    }

    /// Changes models, aliases or rules, all in one version.
    #[pyo3(signature = (*, models=vec![], no_models=vec![], aliases=vec![], no_aliases=vec![], shared=vec![], rules=None))]
    fn publish(
        &self,
        models: Vec<(String, Vec<Py<PyCopy>>)>,
        no_models: Vec<String>,
        aliases: Vec<(String, Option<String>)>,
        no_aliases: Vec<String>,
        shared: Vec<(String, SharingParts)>,
        rules: Option<PyRules>,
    ) -> PyResult<u64> {
        let mut changes = Vec::new();
        for (id, copies) in models {
            let copies = copies.iter().map(|copy| Arc::clone(&copy.get().copy)).collect();
            changes.push(Change::Model(Arc::new(Model::new(&id, copies))));
        }
        changes.extend(no_models.into_iter().map(|id| Change::NoModel(id.into())));
        changes.extend(aliases.into_iter().map(|(name, target)| Change::Alias(name.into(), target.map(Into::into))));
        for (name, parts) in shared {
            let sharing = Arc::new(sharing(&name, parts)?);
            changes.push(Change::Shared(name.into(), sharing));
        }
        changes.extend(no_aliases.into_iter().map(|name| Change::NoAlias(name.into())));
        changes.extend(rules.map(|rules| Change::Rules(Arc::new(rules.into()))));
        Ok(self.0.publish(changes))
    }

    /// The version that every worker has.
    #[getter]
    fn acknowledged(&self) -> u64 {
        self.0.acknowledged()
    }

    /// What was counted since the last time, as `mesh_lane.pyi` says.
    fn collect(&self, py: Python<'_>) -> Vec<Collected> {
        py.detach(|| self.0.collect().into_iter().map(collected).collect())
    }

    /// Takes no new calls, and returns when the last one is over or `grace` seconds are; answers what was counted last.
    fn stop(&self, py: Python<'_>, grace: f64) -> PyResult<Vec<Collected>> {
        let grace = seconds("grace", grace)?;
        Ok(py.detach(|| self.0.stop(grace).into_iter().map(collected).collect()))
    }
}

/// What `publish` takes as `rules`: by method, for other methods, and what is Python's.
#[derive(FromPyObject)]
struct PyRules(Vec<(String, RuleParts)>, Option<RuleParts>, Vec<String>);

impl From<PyRules> for Rules {
    fn from(PyRules(methods, others, python): PyRules) -> Self {
        Self {
            methods: methods.into_iter().map(|(name, parts)| (name.into(), Arc::new(rule(parts)))).collect(),
            others: others.map(|parts| Arc::new(rule(parts))),
            python: python.into_iter().map(Into::into).collect(),
        }
    }
}

fn rule((extract, alias, prefer_headers, inject): RuleParts) -> Rule {
    Rule { extract: extract.into(), alias, prefer_headers, inject: inject.into() }
}

fn collected(((key, code), counts): counters::Collected) -> Collected {
    let sums = (counts.calls, counts.bytes_in, counts.bytes_out, counts.microseconds);
    let (model, alias, method) = (key.model.to_string(), key.alias.to_string(), key.method.to_string());
    let way = match key.way {
        Way::Here => "here",
        Way::There => "there",
        Way::Hop => "hop",
    };
    (model, alias, method, code, sums, counts.times, counts.sizes_in, counts.sizes_out, way)
}

fn address(name: &str, text: &str) -> PyResult<SocketAddr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("{name} is an address and a port, not {text:?}")))
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| PyValueError::new_err(format!("{name} is a number of seconds, not {value}: {error}")))
}

/// What Python is told of a copy that was tried; empty: nothing.
fn copy_name(text: &str) -> PyResult<Option<HeaderValue>> {
    let value = || HeaderValue::from_str(text).map_err(|_| PyValueError::new_err(format!("{text:?} is no value of a header")));
    (!text.is_empty()).then(value).transpose()
}

#[pymodule]
fn mesh_lane(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<PyCopy>()?;
    module.add_class::<PyBusy>()?;
    module.add_class::<PyPeer>()?;
    module.add_class::<PyGate>()?;
    module.add_class::<PyLane>()?;
    module.add_class::<PyTls>()?;
    module.add_class::<PyPeerTls>()?;
    crate::rest::binding::add(module)
}
