//! What both planes count in, as Python sees it; `lane/mesh_lane.pyi` describes it.

use crate::busy::{Busy, Load};
use crate::pod::Pod;
use pyo3::prelude::*;
use std::sync::Arc;

/// How busy a pod is, for both planes.
#[pyclass(name = "Busy", module = "mesh_lane", frozen)]
pub struct PyBusy(pub Arc<Busy>);

#[pymethods]
impl PyBusy {
    /// A call of the Python plane begins, on a pod that was chosen for it.
    fn began(&self) {
        self.0.began();
        self.0.chosen();
    }

    fn ended(&self) {
        self.0.ended();
    }

    fn calls(&self, now: u64) -> u64 {
        self.0.calls(now)
    }

    fn reported(&self, calls: u64, lru_time: u64, at: u64, now: u64) {
        self.0.reported(Load { calls, lru_time, at }, now);
    }

    #[getter]
    fn own(&self) -> u64 {
        self.0.own()
    }

    #[getter]
    fn turn(&self) -> u64 {
        self.0.turn()
    }

    #[getter]
    fn lru_time(&self) -> u64 {
        self.0.lru_time()
    }

    #[getter]
    fn behind(&self) -> i64 {
        self.0.behind()
    }
}

/// Calls of clients under way, on both planes.
#[pyclass(name = "Gate", module = "mesh_lane", frozen)]
pub struct PyGate(pub Arc<Pod>);

#[pymethods]
impl PyGate {
    fn set_most(&self, most: u64) {
        self.0.gate.set_most(most);
    }

    fn enter(&self) -> bool {
        self.0.gate.enter()
    }

    fn leave(&self) {
        self.0.gate.leave();
    }

    #[getter]
    fn calls(&self) -> u64 {
        self.0.gate.calls()
    }
}
