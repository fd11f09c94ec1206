//! KServe v2 over HTTP/1.1 and HTTP/2: JSON made the messages of `inference.GRPCInferenceService/ModelInfer`, and their answers made JSON.
//!
//! What is taken here means the same as at the Python door (`mesh/doors/rest`). Whatever else a request holds is `Odd`, and the Python
//! door's to answer or to refuse: nothing here has a text for what is wrong with a request.

mod announce;
mod answer;
mod asked;
mod behind;
#[cfg(feature = "binding")]
pub mod binding;
mod carry;
mod chunks;
mod data;
mod datatype;
pub mod door;
mod head;
mod json;
mod number;
mod parameters;
mod plain;
pub mod proto;
mod request;
mod stream;
mod streams;
mod text;
mod told;

/// Something that is Python's to deal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

/// What is understood here.
pub type Known<T> = Result<T, Odd>;
