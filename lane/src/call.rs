//! One call, from its headers to its end: to a ready copy if there is one, else to Python.

use crate::busy::now;
use crate::caller::{Caller, End, From};
use crate::choice::{balanced, choose};
use crate::copy::{Copy, Entry, Inside};
use crate::counters::{Ended, Series, Way};
use crate::deadline;
use crate::framing::{Addressing, Messages};
use crate::headers::{ENCODING, TIMEOUT, to_peer, to_runtime};
use crate::hops;
use crate::http2::Head;
use crate::naming::{Name, Named, named};
use crate::places::Place;
use crate::pod::Admitted;
use crate::ports::Port;
use crate::request::{Body, Stopped};
use crate::rules::Rule;
use crate::sharing::Metadata;
use crate::splice::{self, Fault};
use crate::status;
use crate::table::{Found, Resident};
use crate::tried::{self, to_python};
use crate::worker::Worker;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, request::Parts};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Less than this is not taken off a caller's time limit.
const NOTICEABLE: Duration = Duration::from_millis(1);

struct Call {
    worker: Rc<Worker>,
    port: Rc<Port>,
    /// What Python is told of who calls.
    from: Rc<Vec<(HeaderName, HeaderValue)>>,
    parts: Parts,
    body: Body,
    began: Instant,
    limit: Option<Duration>,
    /// Where it is counted; nowhere as long as it is Python's.
    series: Option<Rc<Series>>,
    /// The model that was chosen among those that share the calls of an alias.
    chosen: Option<Arc<str>>,
}

/// Where a call goes.
struct Route {
    resident: Rc<Resident>,
    alias: Option<Arc<str>>,
    rule: Arc<Rule>,
    copy: Arc<Copy>,
    way: Way,
    /// For the pod that has the copy, if that is another one.
    hop: Option<HeaderValue>,
    _inside: Inside,
    _admitted: Option<Admitted>,
}

/// Where a call is sent, with which headers, what becomes of its messages, and whose answer it gets.
type Sent = (Option<Arc<Place>>, HeaderMap, Option<Messages>, From);

/// Carries one call out. `from`: what Python is told of who calls.
pub async fn serve(
    worker: Rc<Worker>,
    port: Rc<Port>,
    from: Rc<Vec<(HeaderName, HeaderValue)>>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, stream) = request.into_parts();
    let limit = deadline::limit(&parts.headers);
    let body = Body::new(stream, worker.settings.max_kept);
    let mut call = Call { worker, port, from, parts, body, began: Instant::now(), limit, series: None, chosen: None };
    let mut caller = Caller::new(respond, call.worker.settings.max_message);
    let mut late = limit.map(|limit| Box::pin(sleep(limit)));
    let code = {
        let mut work = pin!(call.run(&mut caller));
        poll_fn(|cx| {
            if let Poll::Ready(code) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(code));
            }
            let over = late.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready());
            if over { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    };
    let code = code.unwrap_or_else(|| {
        caller.fail(status::DEADLINE_EXCEEDED, "Deadline Exceeded");
        status::DEADLINE_EXCEEDED
    });
    if let Some(series) = &call.series {
        let microseconds = call.began.elapsed().as_micros() as u64;
        call.worker.counters.count(series, Ended { code, bytes_in: call.body.size(), bytes_out: caller.size, microseconds });
    }
}

impl Call {
    /// The code that the caller was told, or would have been.
    async fn run(&mut self, caller: &mut Caller) -> usize {
        let outcome = self.go(caller).await;
        match outcome {
            Ok(End::Answered(code)) => code,
            Ok(End::Untold(code, text, _)) => {
                caller.fail(code, &text);
                code
            }
            Ok(End::Gone) | Err(Stopped::Caller | Stopped::Answerer) => status::CANCELLED,
            Err(Stopped::Refused(refusal)) => {
                let (code, text, error) = refusal.told();
                caller.refuse(code, &text, Some(error));
                code
            }
        }
    }

    async fn go(&mut self, caller: &mut Caller) -> Result<End, Stopped> {
        self.body.begin().await?;
        let mut route = self.route(caller).await?;
        let mut tried = None;
        // Twice at most: the copy, then Python.
        loop {
            let (place, headers, messages, from) = match &route {
                Some(route) => self.straight(route),
                None => self.handed_over(tried.take()),
            };
            caller.farewell = route.as_ref().filter(|route| route.way == Way::Hop).map(|_| Arc::clone(&self.worker.pod));
            let ended = async {
                match &route {
                    Some(route) => route.copy.ended().await,
                    None => pending().await,
                }
            };
            let end = tokio::select! {
                biased;
                end = self.exchange(place.as_deref(), headers, messages, from, caller) => end?,
                why = ended => {
                    caller.refuse(status::UNAVAILABLE, &why, Some("Outlived"));
                    End::Answered(status::UNAVAILABLE)
                }
            };
            if let Some(route) = &route {
                learn(route, caller);
            }
            match (route.take(), end) {
                (Some(route), End::Untold(_, _, attempt)) if self.body.whole => {
                    tried = route.copy.tried.clone().zip(attempt.map(|attempt| *attempt));
                }
                (_, end) => return Ok(end),
            }
            // Whoever answers in the end counts the call.
            self.series = None;
        }
    }

    /// Where the call goes; None to Python.
    async fn route(&mut self, caller: &mut Caller) -> Result<Option<Route>, Stopped> {
        let Some((found, rule)) = self.find().await? else { return Ok(None) };
        let Found { resident, alias } = found;
        let Some((copy, way)) = self.copy(&resident) else { return Ok(None) };
        let hop = match copy.peer() {
            None => None,
            Some(peer) => {
                let called = alias.as_deref().unwrap_or("");
                let Some(hop) = hops::hit(&resident.model.id, &self.worker.pod.id, &peer.id, called, now()) else { return Ok(None) };
                Some(hop)
            }
        };
        let admitted = match way {
            Way::Hop => None,
            Way::Here | Way::There => {
                let Some(admitted) = self.worker.pod.admit() else { return Ok(None) };
                Some(admitted)
            }
        };
        let inside = match copy.enter() {
            Entry::Entered(inside) => Some(inside),
            Entry::Closed => None,
            Entry::Full => {
                // Who leaves the line or is late in it is counted as a call of the copy, too.
                self.series = Some(resident.series(way, alias.as_ref(), self.method()));
                caller.unless_gone(copy.wait()).await.ok_or(Stopped::Caller)?
            }
        };
        self.series = None;
        Ok(inside.map(|inside| Route { resident, alias, rule, copy, way, hop, _inside: inside, _admitted: admitted }))
    }

    /// The copy that serves, and the way there; None if none can be called.
    fn copy(&self, resident: &Resident) -> Option<(Arc<Copy>, Way)> {
        let copies = &resident.model.copies;
        if let Port::Peers(_) = *self.port {
            return copies.iter().find(|copy| copy.peer().is_none()).map(|copy| (Arc::clone(copy), Way::Hop));
        }
        let copy = choose(copies, balanced(&self.parts.headers), |below| self.worker.draw(below))?;
        let way = if copy.peer().is_none() { Way::Here } else { Way::There };
        Some((copy, way))
    }

    /// What the call is for, if that is known here.
    async fn find(&mut self) -> Result<Option<(Found, Arc<Rule>)>, Stopped> {
        let path = self.parts.uri.path();
        let Some(rule) = self.worker.table.borrow().rules.of(path.strip_prefix('/').unwrap_or(path)).cloned() else { return Ok(None) };
        if self.parts.headers.get(ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Ok(None);
        }
        if let Port::Peers(_) = *self.port {
            return Ok(self.passed_on().filter(|_| self.fits(&rule)).map(|found| (found, rule)));
        }
        let by_headers = match named(&self.parts.headers) {
            Named::Odd => return Ok(None),
            Named::One(name) => Some(name),
            Named::Nothing => None,
        };
        let name = if rule.extract.is_empty() || (rule.prefer_headers && by_headers.is_some()) {
            by_headers
        } else {
            match self.field(&rule.extract).await? {
                Field::Odd => None,
                Field::Absent => by_headers,
                Field::Is(name) if rule.prefer_headers || rule.alias => Some(Name::Either(name)),
                Field::Is(name) => Some(Name::Model(name)),
            }
        };
        if !self.fits(&rule) {
            return Ok(None);
        }
        let Some(name) = name else { return Ok(None) };
        let lead = self.worker.table.borrow().find(&name, &Metadata(&self.parts.headers, &self.worker));
        self.chosen = lead.chosen;
        Ok(lead.found.map(|found| (found, rule)))
    }

    /// What a call is for that another pod passed on, if that is a copy here.
    fn passed_on(&self) -> Option<Found> {
        let wanted = hops::wanted(&self.parts.headers, &self.worker.pod.id)?;
        let found = self.worker.table.borrow().model(&wanted.model)?;
        Some(Found { alias: (!wanted.alias.is_empty()).then(|| wanted.alias.into()), ..found })
    }

    /// Whether the first message is one that can be passed on, as far as it is there.
    fn fits(&self, rule: &Rule) -> bool {
        match self.body.first() {
            Some((_, size)) => size <= self.worker.settings.max_message,
            None => rule.inject.is_empty(),
        }
    }

    /// The name in a field of the first message, read from as little of it as tells it.
    async fn field(&mut self, path: &[u32]) -> Result<Field, Stopped> {
        loop {
            if let Some((there, size)) = self.body.first() {
                match splice::find(&there, size, path) {
                    Ok(None) => return Ok(Field::Absent),
                    Ok(Some(span)) if span.start == span.end => return Ok(Field::Odd),
                    Ok(Some(span)) => {
                        let name = std::str::from_utf8(&there[span.start..span.end]);
                        return Ok(name.map_or(Field::Odd, |name| Field::Is(name.to_owned())));
                    }
                    Err(Fault::Broken { .. }) => return Ok(Field::Odd),
                    Err(Fault::Short) => {}
                }
            }
            if !self.body.more().await? {
                return Ok(Field::Odd);
            }
        }
    }

    fn method(&self) -> &str {
        self.parts.uri.path().trim_start_matches('/')
    }

    /// What is sent to a copy.
    fn straight(&mut self, route: &Route) -> Sent {
        self.series = Some(route.resident.series(route.way, route.alias.as_ref(), self.method()));
        let (headers, from, inject) = match &route.hop {
            None => {
                let headers = to_runtime(&self.parts.headers, &route.resident.model.naming);
                (headers, From::Runtime, Arc::clone(&route.rule.inject))
            }
            // The pod that calls the runtime names the model to it.
            Some(hop) => (to_peer(&self.parts.headers, &[(hops::HOP, hop.clone())]), From::Peer, Arc::default()),
        };
        let model = Arc::clone(&route.resident.model.id);
        let messages = Messages::new(Addressing {
            inject,
            extract: Arc::clone(&route.rule.extract),
            called: route.alias.clone().unwrap_or_else(|| Arc::clone(&model)),
            model,
            limit: self.worker.settings.max_message,
        });
        (route.copy.at(), headers, Some(messages), from)
    }

    /// What is sent to Python: the call as it came.
    fn handed_over(&self, tried: Option<(HeaderValue, HeaderMap)>) -> Sent {
        let mut headers = self.parts.headers.clone();
        to_python(&mut headers, tried, self.chosen.as_deref());
        headers.extend(self.from.iter().cloned());
        let place = if let Port::Peers(python) = &*self.port { python } else { &self.worker.python };
        (Some(Arc::clone(place)), headers, None, From::Python)
    }

    /// Sends the call on, and passes the answer back.
    async fn exchange(
        &mut self,
        place: Option<&Place>,
        headers: HeaderMap,
        messages: Option<Messages>,
        from: From,
        caller: &mut Caller,
    ) -> Result<End, Stopped> {
        let Some(place) = place else { return Ok(End::Untold(status::UNAVAILABLE, "the pod is gone".to_owned(), None)) };
        let worker = Rc::clone(&self.worker);
        let headers = self.timed(headers);
        let slot = caller.unless_gone(worker.pools.slot(place, &worker.settings)).await.ok_or(Stopped::Caller)?;
        let slot = match slot {
            Ok(slot) => slot,
            Err(error) => {
                let text = format!("no connection to {:?}: {error}", place.address);
                // Python puts a pod aside that cannot be called; a copy here may still get the call.
                let attempt = if from == From::Peer { tried::ended(status::UNAVAILABLE, text.as_bytes()) } else { None };
                caller.broke = true;
                return Ok(End::Untold(status::UNAVAILABLE, text, attempt.map(Box::new)));
            }
        };
        let (exchange, _busy) = match slot.begin(&self.head(&headers)) {
            Ok(begun) => begun,
            Err(error) => return Ok(End::Untold(status::UNAVAILABLE, error.to_string(), None)),
        };
        let mut upload = pin!(self.body.send(messages, &exchange));
        let mut download = pin!(caller.relay(&exchange, from));
        let mut sent = false;
        loop {
            tokio::select! {
                biased;
                done = &mut upload, if !sent => match done {
                    // Why no more is taken stands in the answer.
                    Ok(()) | Err(Stopped::Answerer) => sent = true,
                    Err(stopped) => return Err(stopped),
                },
                end = &mut download => return Ok(end),
            }
        }
    }

    /// The headers with what is left of the caller's time limit.
    fn timed(&self, mut headers: HeaderMap) -> HeaderMap {
        if let Some((limit, passed)) = self.limit.map(|limit| (limit, self.began.elapsed()))
            && passed >= NOTICEABLE
        {
            headers.insert(TIMEOUT, deadline::header(limit.saturating_sub(passed)));
        }
        headers
    }

    fn head<'a>(&'a self, headers: &'a HeaderMap) -> Head<'a> {
        let (uri, method) = (&self.parts.uri, &self.parts.method);
        // A caller may leave the authority out, but a request that is sent has one.
        let authority = uri.authority().map_or("mesh", |authority| authority.as_str());
        let (scheme, path) = match uri.path_and_query() {
            _ if *method == Method::CONNECT => ("", ""),
            path => (uri.scheme_str().unwrap_or("http"), path.map_or("/", |path| path.as_str())),
        };
        Head { method: method.as_str(), scheme, authority, path, headers }
    }
}

/// What a field of the first message tells.
enum Field {
    Is(String),
    Absent,
    /// Nothing that can be used here.
    Odd,
}

/// What an exchange tells of the pod that has the copy.
fn learn(route: &Route, caller: &mut Caller) {
    let Some(peer) = route.copy.peer() else { return };
    if std::mem::take(&mut caller.broke) {
        peer.failed();
    }
    if let Some(load) = caller.load.take() {
        peer.busy.reported(load, now());
        peer.answered();
    }
}
