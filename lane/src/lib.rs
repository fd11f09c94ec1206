//! The express lane: carries gRPC and REST calls of resident models straight to their copies, and hands all others to the Python doors.
//!
//! Python decides; what it decided is published as a table (`table.rs`), of which every worker (`worker.rs`) has a copy. A call
//! (`call.rs`) that finds a ready copy there goes to it over a pooled connection (`pool.rs`, `line.rs`).

mod authority;
#[cfg(feature = "binding")]
mod binding;
#[cfg(feature = "binding")]
mod binding_accounts;
#[cfg(feature = "binding")]
mod binding_sharing;
#[cfg(feature = "binding")]
mod binding_tls;
mod busy;
mod call;
mod caller;
mod choice;
mod connection;
mod copy;
mod counters;
mod deadline;
mod entrance;
mod framing;
mod handshake;
mod headers;
mod hops;
mod http2;
mod identity;
pub mod lane;
mod line;
mod listener;
mod naming;
mod news;
mod peer;
mod peer_tls;
mod places;
mod pod;
mod pool;
mod ports;
mod request;
mod rest;
mod rules;
mod secured;
mod settings;
mod sharing;
mod signal;
mod sizes;
mod socket;
mod splice;
mod status;
mod table;
mod tls;
mod tried;
mod trust;
mod turns;
mod worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
