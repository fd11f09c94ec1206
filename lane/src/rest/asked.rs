//! What a REST call is like, for who goes by its headers: metadata of gRPC first, then any header of HTTP (`mesh/wire/peek.py`).

use super::head;
use crate::sharing::Asked;
use crate::worker::Worker;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::OnceCell;

/// A call, of whose HTTP headers only those that travel have been looked at.
pub struct Http<'a> {
    worker: &'a Worker,
    metadata: &'a HeaderMap,
    head: &'a dyn Fn() -> Bytes,
    /// All of them, once a rule has asked for one that does not travel.
    all: OnceCell<HeaderMap>,
}

impl<'a> Http<'a> {
    /// `head`: of the request.
    pub fn new(worker: &'a Worker, metadata: &'a HeaderMap, head: &'a dyn Fn() -> Bytes) -> Self {
        Self { worker, metadata, head, all: OnceCell::new() }
    }
}

impl Asked for Http<'_> {
    fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.metadata.get(name).or_else(|| self.all.get_or_init(|| head::headers(&(self.head)())).get(name))
    }

    fn draw(&self) -> f64 {
        self.worker.chance()
    }
}
