//! How the calls of services are shared, as Python says it; `lane/mesh_lane.pyi` describes it.

use crate::sharing::{Destination, Match, Rule, Sharing, Test};
use http::HeaderName;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

type DestinationParts = (Vec<(String, u8)>, String);
type MatchParts = (Vec<(String, String, String)>, Option<f64>);
type RuleParts = (Vec<MatchParts>, DestinationParts);
/// What `publish` takes of an alias whose calls are shared: its rules, and where all others go.
pub type SharingParts = (Vec<RuleParts>, DestinationParts);

pub fn sharing(service: &str, (rules, rest): SharingParts) -> PyResult<Sharing> {
    let rule = |(matches, to): RuleParts| {
        let matches = matches.into_iter().map(one).collect::<PyResult<_>>()?;
        Ok::<_, PyErr>(Rule { matches, to: destination(to)? })
    };
    Ok(Sharing { service: service.to_owned(), rules: rules.into_iter().map(rule).collect::<PyResult<_>>()?, rest: destination(rest)? })
}

fn one((headers, percent): MatchParts) -> PyResult<Match> {
    let header = |(name, how, value): (String, String, String)| {
        let test = match &*how {
            "exact" => Test::Exact(value),
            "prefix" => Test::Prefix(value),
            "present" => Test::Present(value == "true"),
            _ => return Err(PyValueError::new_err(format!("headers are asked for by exact, prefix and present, not by {how:?}"))),
        };
        Ok((name_of(&name)?, test))
    };
    Ok(Match { headers: headers.into_iter().map(header).collect::<PyResult<_>>()?, percent })
}

fn destination((shares, sticky): DestinationParts) -> PyResult<Destination> {
    if shares.is_empty() {
        return Err(PyValueError::new_err("no model is there to share calls"));
    }
    let shares = shares.into_iter().map(|(model, weight)| (model.into(), weight)).collect();
    let sticky = if sticky.is_empty() { None } else { Some(name_of(&sticky)?) };
    Ok(Destination { shares, sticky })
}

fn name_of(header: &str) -> PyResult<HeaderName> {
    HeaderName::try_from(header).map_err(|_| PyValueError::new_err(format!("{header:?} is no name of a header")))
}
