//! The transcoder as Python sees it; `lane/mesh_lane.pyi` describes it.

use super::request::{Named, Reply, Wanted};
use super::{answer, request};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;

/// What is wanted of outputs by name, raw or not and as base64 or not; the same of all outputs.
type PyReply = (HashMap<String, (Option<bool>, bool)>, bool, bool);

#[pyfunction]
#[pyo3(signature = (body, json=None, *, model="", version=""))]
fn transcode_request<'py>(
    py: Python<'py>,
    body: &[u8],
    json: Option<usize>,
    model: &str,
    version: &str,
) -> Option<(Bound<'py, PyBytes>, PyReply)> {
    let mut out = Vec::new();
    let reply = request::read(body, json.unwrap_or(body.len()), Named { model, version }, &mut out).ok()?;
    let outputs = reply.outputs.into_iter().map(|(name, wanted)| (name, (wanted.binary, wanted.base64))).collect();
    Some((PyBytes::new(py, &out), (outputs, reply.binary, reply.base64)))
}

#[pyfunction]
fn transcode_answer<'py>(py: Python<'py>, message: &[u8], reply: PyReply) -> Option<(Bound<'py, PyBytes>, Option<usize>)> {
    let (outputs, binary, base64) = reply;
    let outputs = outputs.into_iter().map(|(name, (binary, base64))| (name, Wanted { binary, base64 })).collect();
    let body = answer::write(message, &Reply { outputs, binary, base64 }).ok()?;
    Some((PyBytes::new(py, &body.bytes), body.json))
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(transcode_request, module)?)?;
    module.add_function(wrap_pyfunction!(transcode_answer, module)?)
}
