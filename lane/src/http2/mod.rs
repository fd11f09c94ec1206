//! HTTP/2 (RFC 9113) as this crate's client speaks it to runtimes and pods, for one thread: nothing is locked or counted atomically.
//!
//! A `Link` is a connection, and its `Driver` the task that reads and writes for it. Who gets its `Promise` may begin an `Exchange`, which
//! is a request and its answer. `Core` is what all of them share: what comes is fed to it (`receive.rs`), and what is to be sent waits in
//! its `Out`. Only the driver knows what kind of stream is below.

mod blocks;
mod code;
mod core;
mod driver;
mod flow;
mod frames;
mod hpack;
mod link;
mod out;
mod receive;
mod stream;

pub use code::{Broken, Code};
pub use core::Sizes;
pub use hpack::Head;
pub use link::{Exchange, Link, Promise};

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
