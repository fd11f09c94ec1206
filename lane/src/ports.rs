//! Who calls at a port, and where the Python door for them listens.

use crate::places::{Address, Place};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Port {
    /// gRPC of clients.
    Clients,
    /// gRPC of other pods.
    Peers(Arc<Place>),
    Rest(Address),
}
