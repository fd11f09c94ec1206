//! What the lane is told at its start.

use crate::counters::Bounds;
use crate::peer_tls::PeerTls;
use crate::places::Address;
use crate::rest::door::Ports;
use crate::tls::Tls;
use std::sync::Arc;
use std::time::Duration;

/// Limits of all connections and calls.
#[derive(Clone)]
pub struct Settings {
    /// Where clients call; port 0 takes a free one. None: they do not, for now.
    pub listen: Option<std::net::SocketAddr>,
    /// The name of this pod.
    pub me: String,
    pub workers: usize,
    /// Where the Python door listens.
    pub python: Address,
    /// Bytes of one request message.
    pub max_message: usize,
    /// Bytes of a request's headers.
    pub max_headers: u32,
    /// Calls at a time on one connection.
    pub max_streams: u32,
    /// Bytes of a request that are kept, so that it can be handed to Python when its copy fails.
    pub max_kept: usize,
    /// A connection that is silent for so long is asked for a sign of life, and closed if none comes within as long again.
    pub silence: Duration,
    /// The same of connections to other pods.
    pub silence_of_pods: Duration,
    /// In which a connection comes about or has failed.
    pub connect_limit: Duration,
    /// After which a client is asked to connect anew; zero for never.
    pub max_age: Duration,
    /// Which running calls then have.
    pub max_age_grace: Duration,
    pub bounds: Bounds,
    /// Tells the Python door for REST that it is the lane which says what was tried; empty: it is not told.
    pub key: String,
    /// None: REST is not the lane's.
    pub rest: Option<Ports>,
    /// Of both ports of clients; None: plaintext.
    pub tls: Option<Arc<Tls>>,
    /// Of the port of other pods; None: plaintext.
    pub tls_of_peers: Option<Arc<Tls>>,
    /// Towards other pods; None: plaintext.
    pub peer_tls: Option<Arc<PeerTls>>,
}
