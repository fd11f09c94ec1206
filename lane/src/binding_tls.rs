//! What ports and pods are shown, as Python sees it; `lane/mesh_lane.pyi` describes it.

use crate::peer_tls::PeerTls;
use crate::tls::{Clients, Pem, Tls};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

/// What ports show to those who connect, and ask of them.
#[pyclass(name = "Tls", module = "mesh_lane", frozen)]
pub struct PyTls(pub Arc<Tls>);

#[pymethods]
impl PyTls {
    #[new]
    #[pyo3(signature = (key, chain, *, clients="NONE", trust=None))]
    fn new(key: &[u8], chain: &[u8], clients: &str, trust: Option<&[u8]>) -> PyResult<Self> {
        let made = Tls::new(&Pem { key, chain, trust: trust.unwrap_or_default() }, asked(clients)?).map_err(PyValueError::new_err)?;
        Ok(Self(Arc::new(made)))
    }

    /// Shows something else to those who connect from now on; what cannot be used changes nothing.
    #[pyo3(signature = (key, chain, *, clients="NONE", trust=None))]
    fn replace(&self, key: &[u8], chain: &[u8], clients: &str, trust: Option<&[u8]>) -> PyResult<()> {
        self.0.replace(&Pem { key, chain, trust: trust.unwrap_or_default() }, asked(clients)?).map_err(PyValueError::new_err)
    }
}

/// What other pods are shown, and whom is believed to be one.
#[pyclass(name = "PeerTls", module = "mesh_lane", frozen)]
pub struct PyPeerTls(pub Arc<PeerTls>);

#[pymethods]
impl PyPeerTls {
    #[new]
    fn new(key: &[u8], chain: &[u8], trust: &[u8], name: &str) -> PyResult<Self> {
        let made = PeerTls::new(&Pem { key, chain, trust }, name).map_err(PyValueError::new_err)?;
        Ok(Self(Arc::new(made)))
    }

    /// Shows something else on connections that are made from now on; what cannot be used changes nothing.
    fn replace(&self, key: &[u8], chain: &[u8], trust: &[u8], name: &str) -> PyResult<()> {
        self.0.replace(&Pem { key, chain, trust }, name).map_err(PyValueError::new_err)
    }
}

fn asked(clients: &str) -> PyResult<Clients> {
    match clients {
        "NONE" => Ok(Clients::None),
        "OPTIONAL" => Ok(Clients::Optional),
        "REQUIRE" => Ok(Clients::Require),
        other => Err(PyValueError::new_err(format!("clients is NONE, OPTIONAL or REQUIRE, not {other:?}"))),
    }
}
