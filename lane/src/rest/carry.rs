//! One inference from its message to the runtime's answer.

use super::Odd;
use super::asked::Http;
use crate::busy::now;
use crate::choice::choose;
use crate::copy::{Copy, Entry, Inside};
use crate::counters::{Ended, Series, Way};
use crate::framing::{PREFIX, size_of};
use crate::headers::{to_caller, to_peer, to_runtime};
use crate::hops;
use crate::http2::{Broken, Code, Exchange, Head};
use crate::naming::Name;
use crate::peer::Peer;
use crate::pod::Admitted;
use crate::status;
use crate::table::Found;
use crate::tried;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const METHOD: &str = "inference.GRPCInferenceService/ModelInfer";
const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Where a call goes.
pub struct Route {
    found: Found,
    copy: Arc<Copy>,
    /// For the pod that has the copy, if that is another one.
    hop: Option<HeaderValue>,
    /// The model, if it was chosen among those that share the calls of an alias.
    chosen: Option<Arc<str>>,
    _admitted: Admitted,
    /// The name that the message is to have.
    pub model: Arc<str>,
}

/// What came of a call.
pub enum Said {
    Answer { headers: HeaderMap, message: Bytes },
    Status { code: usize, text: String, headers: HeaderMap },
}

/// Nobody was told anything: the call is Python's, which is told what was chosen for it, and what was tried, if the copy got it.
#[derive(Default)]
pub struct Untold(pub HeaderMap);

impl From<Odd> for Untold {
    fn from(_: Odd) -> Self {
        Self::default()
    }
}

impl Untold {
    pub fn of(route: &Route, attempt: Option<HeaderMap>) -> Self {
        Self(tried::beside(route.copy.tried.clone().zip(attempt), route.chosen.as_deref()))
    }

    /// The same; the connection did not come about, or broke.
    fn of_broken(self, route: &Route) -> Self {
        if let Some(peer) = route.copy.peer() {
            peer.failed();
        }
        self
    }
}

/// Whether calls of a model may go straight: without it, its body need not be gathered.
pub fn known(worker: &Worker, name: &str) -> bool {
    let table = worker.table.borrow();
    let plain = table.rules.of(METHOD).is_some_and(|rule| rule.inject.is_empty() || rule.inject[..] == [1]);
    plain && table.knows(name)
}

/// Where a call of a model goes; without a way that is Python's to see to.
pub fn route(worker: &Worker, name: &str, asked: &Http<'_>) -> Result<Route, Untold> {
    let (lead, inject) = {
        let table = worker.table.borrow();
        let rule = table.rules.of(METHOD).ok_or(Odd)?;
        (table.find(&Name::Either(name.to_owned()), asked), !rule.inject.is_empty())
    };
    let pythons = Untold(tried::beside(None, lead.chosen.as_deref()));
    let way = match lead.found {
        Some(found) => way(worker, name, found, inject),
        None => Err(Odd),
    };
    way.map(|route| Route { chosen: lead.chosen, ..route }).map_err(|Odd| pythons)
}

fn way(worker: &Worker, name: &str, found: Found, inject: bool) -> Result<Route, Odd> {
    // Who asks for balance does so in a header for the mesh, which the Python door reads.
    let copy = choose(&found.resident.model.copies, false, |below| worker.draw(below)).ok_or(Odd)?;
    let hop = copy.peer().map(|peer| {
        let called = found.alias.as_deref().unwrap_or("");
        hops::hit(&found.resident.model.id, &worker.pod.id, &peer.id, called, now()).ok_or(Odd)
    });
    let (hop, admitted) = (hop.transpose()?, worker.pod.admit().ok_or(Odd)?);
    // The pod that calls the runtime names the model to it.
    let model = if inject && copy.peer().is_none() { Arc::clone(&found.resident.model.id) } else { name.into() };
    Ok(Route { found, copy, hop, chosen: None, _admitted: admitted, model })
}

impl Route {
    /// Enters the copy, in its turn, and says how long that took, unless Python is to see to that.
    pub async fn enter(&self, worker: &Rc<Worker>, message: &Bytes) -> Result<(Inside, Duration), Untold> {
        match self.copy.enter() {
            Entry::Entered(inside) => Ok((inside, Duration::ZERO)),
            Entry::Closed => Err(Untold::of(self, None)),
            Entry::Full => {
                // Who leaves the line is counted as a call of the copy, too.
                let count = Count::begin(worker, self, Duration::ZERO, message);
                let (began, inside) = (Instant::now(), self.copy.wait().await);
                count.end(None);
                Ok((inside.ok_or_else(|| Untold::of(self, None))?, began.elapsed()))
            }
        }
    }
}

/// Counts a call when it is over, unless Python does.
pub struct Count {
    worker: Rc<Worker>,
    series: Option<Rc<Series>>,
    waited: Duration,
    began: Instant,
    bytes_in: u64,
    /// Code, and bytes answered; to begin with those of a call whose caller left.
    ended: (usize, u64),
}

impl Count {
    /// `waited`: for its turn, before now.
    pub fn begin(worker: &Rc<Worker>, route: &Route, waited: Duration, message: &Bytes) -> Self {
        let way = if route.hop.is_none() { Way::Here } else { Way::There };
        let series = route.found.resident.series(way, route.found.alias.as_ref(), METHOD);
        let (worker, bytes_in, ended) = (Rc::clone(worker), message.len() as u64, (status::CANCELLED, 0));
        Self { worker, series: Some(series), waited, began: Instant::now(), bytes_in, ended }
    }

    /// The call ended with this code, and so many bytes were answered; None: who answers in the end counts it.
    pub fn end(mut self, ended: Option<(usize, u64)>) {
        match ended {
            Some(ended) => self.ended = ended,
            None => self.series = None,
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let Some(series) = &self.series else { return };
        let ((code, bytes_out), microseconds) = (self.ended, (self.waited + self.began.elapsed()).as_micros() as u64);
        self.worker.counters.count(series, Ended { code, bytes_in: self.bytes_in, bytes_out, microseconds });
    }
}

/// Sends a message, with the five bytes before it, and takes the answer.
pub async fn carry(worker: &Worker, route: &Route, metadata: &HeaderMap, message: Bytes) -> Result<Said, Untold> {
    tokio::select! {
        biased;
        said = exchange(worker, route, metadata, message) => said,
        why = route.copy.ended() => Ok(Said::Status { code: status::UNAVAILABLE, text: why.to_string(), headers: HeaderMap::new() }),
    }
}

async fn exchange(worker: &Worker, route: &Route, metadata: &HeaderMap, message: Bytes) -> Result<Said, Untold> {
    let place = route.copy.at().ok_or_else(|| Untold::of(route, None))?;
    let slot = worker.pools.slot(&place, &worker.settings).await;
    let slot = slot.map_err(|error| {
        // Python puts a pod aside that cannot be called; a copy here may still get the call.
        let text = format!("no connection to {:?}: {error}", place.address);
        Untold::of(route, route.copy.peer().and_then(|_| tried::ended(status::UNAVAILABLE, text.as_bytes()))).of_broken(route)
    })?;
    let headers = headers(route, metadata);
    let head = Head { method: "POST", scheme: "http", authority: "mesh", path: PATH, headers: &headers };
    let (exchange, _busy) = slot.begin(&head).map_err(|_| Untold::of(route, None))?;
    let mut upload = pin!(exchange.put(message, true));
    let mut download = pin!(answered(&exchange, route, worker.settings.max_message));
    let mut sent = false;
    loop {
        tokio::select! {
            biased;
            // Why no more is taken stands in the answer.
            _ = &mut upload, if !sent => sent = true,
            said = &mut download => return said,
        }
    }
}

fn headers(route: &Route, metadata: &HeaderMap) -> HeaderMap {
    let mut headers = match &route.hop {
        None => to_runtime(metadata, &route.found.resident.model.naming),
        Some(hop) => to_peer(metadata, &[(hops::HOP, hop.clone())]),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers
}

async fn answered(exchange: &Exchange, route: &Route, most: usize) -> Result<Said, Untold> {
    let mut answer = BytesMut::new();
    let mut head = match exchange.head().await {
        Ok(response) => response.into_parts().0,
        Err(error) => return broken(route, &error, false),
    };
    while let Some(piece) = exchange.data().await {
        match piece {
            Ok(piece) => {
                exchange.took(piece.len());
                if answer.is_empty() {
                    answer.reserve(size_of(&piece).map_or(0, |size| (PREFIX + size).min(most)));
                }
                answer.extend_from_slice(&piece);
            }
            Err(error) => return broken(route, &error, !answer.is_empty()),
        }
        if answer.len() > PREFIX + most {
            // In the words of gRPC's C core, which judges so where Python calls.
            let text = format!("CLIENT: Received message larger than max ({} vs. {most})", size_of(&answer).unwrap_or(answer.len()));
            let attempt = route.copy.peer().is_none().then(|| tried::ended(status::RESOURCE_EXHAUSTED, text.as_bytes()));
            return Err(Untold::of(route, attempt.flatten()));
        }
    }
    let trailers = match exchange.trailers().await {
        Ok(Some(trailers)) => trailers,
        // An answer without a body has its status among the headers.
        Ok(None) => std::mem::take(&mut head.headers),
        Err(error) => return broken(route, &error, !answer.is_empty()),
    };
    let code = status::code(&trailers).unwrap_or(status::of_http(head.status));
    let pythons = match route.copy.peer() {
        None => status::is_pythons(code, &trailers),
        Some(peer) => {
            learn(peer, &trailers);
            status::is_pythons_of_peer(code, &trailers)
        }
    };
    if pythons && answer.is_empty() {
        return Err(Untold::of(route, tried::answered(code, Some(&head.headers), &trailers)));
    }
    let mut headers = head.headers;
    to_caller(&mut headers);
    if code != 0 {
        let text = String::from_utf8_lossy(&status::message(&trailers)).into_owned();
        return Ok(Said::Status { code, text, headers });
    }
    let one = size_of(&answer).is_some_and(|size| answer[0] == 0 && answer.len() == PREFIX + size);
    if !one {
        return Err(Untold::of(route, None));
    }
    Ok(Said::Answer { headers, message: answer.freeze().slice(PREFIX..) })
}

/// Takes in what the end of an answer says of who gave it.
fn learn(peer: &Peer, trailers: &HeaderMap) {
    if let Some(load) = hops::load(trailers) {
        peer.busy.reported(load, now());
        peer.answered();
    }
}

/// A call that nobody began to answer is Python's; another may have had its effect.
fn broken(route: &Route, error: &Broken, begun: bool) -> Result<Said, Untold> {
    let unserved = error.is_io() || error.is_go_away() || error.code() == Some(Code::REFUSED_STREAM);
    let text = format!("the connection to whoever answers broke: {error}");
    if unserved && !begun {
        let attempt = if error.is_refused() { None } else { tried::ended(status::of_broken(error), text.as_bytes()) };
        let untold = Untold::of(route, attempt);
        let broke = error.is_io() || error.is_go_away();
        return Err(if broke { untold.of_broken(route) } else { untold });
    }
    Ok(Said::Status { code: status::of_broken(error), text, headers: HeaderMap::new() })
}
