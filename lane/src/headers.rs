//! What of a call's headers and trailers travels on (reference 3.2).

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Beside a status that a pod of the mesh gave, not a runtime.
pub const PEER_ERROR: HeaderName = HeaderName::from_static("mesh-error");
pub const POD: HeaderName = crate::hops::POD;
/// Tells the Python door what was tried before it got the call.
pub const TRIED: HeaderName = HeaderName::from_static("mm-lane-tried");

const AGENT: HeaderValue = HeaderValue::from_static(concat!("mesh-lane/", env!("CARGO_PKG_VERSION")));

/// What a runtime gets of a caller's headers, and `more`: the names of the model.
pub fn to_runtime(headers: &HeaderMap, more: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    passed(headers, more, |name| name.starts_with("mm-") || of_transport(name) || of_peers(name) || name == "tas-model-id")
}

/// What another pod gets of a caller's headers, and `more`.
pub fn to_peer(headers: &HeaderMap, more: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    passed(headers, more, |name| name.starts_with("mm-lane-") || of_transport(name) || of_peers(name))
}

/// The headers without those that go no further; the caller's own stay as they are, for who gets the call after this.
fn passed(headers: &HeaderMap, more: &[(HeaderName, HeaderValue)], goes: impl Fn(&str) -> bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len() + more.len() + 1);
    for (name, value) in headers {
        if name != header::USER_AGENT && !goes(name.as_str()) {
            out.append(name, value.clone());
        }
    }
    out.append(header::USER_AGENT, AGENT);
    out.extend(more.iter().cloned());
    out
}

/// Makes the headers of an answer those that the caller gets.
pub fn to_caller(headers: &mut HeaderMap) {
    let goes = |name: &str| {
        let of_grpc =
            name.starts_with("grpc-") && !matches!(name, "grpc-status" | "grpc-message" | "grpc-status-details-bin" | "grpc-encoding");
        of_grpc || name.starts_with("mm-") || of_peers(name) || matches!(name, "tas-model-id" | "user-agent" | "te")
    };
    // Few answers have more to strip than these places hold.
    while let Some(name) = headers.keys().find(|name| goes(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// What belongs to one connection, or to a body that is not the same any more once it names another model.
fn of_transport(name: &str) -> bool {
    (name.starts_with("grpc-") && name != TIMEOUT.as_str()) || name == "content-length"
}

/// What pods say to each other beside a call or its answer.
fn of_peers(name: &str) -> bool {
    name.starts_with("mesh-") && ["mesh-hop", "mesh-pod", "mesh-load", "mesh-error"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: [&str; 13] = [
        "content-length",
        "content-type",
        "te",
        "user-agent",
        "mm-model-id",
        "grpc-timeout",
        "grpc-accept-encoding",
        "tas-model-id",
        "mesh-hop-bin",
        "x-mine",
        "x-mine-bin",
        "mm",
        "traceparent",
    ];

    fn sent() -> HeaderMap {
        SENT.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect()
    }

    type Change = fn(&HeaderMap, &[(HeaderName, HeaderValue)]) -> HeaderMap;

    fn kept(change: Change) -> Vec<String> {
        let headers = change(&sent(), &[]);
        let mut names: Vec<String> = headers.keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_runtime_gets_what_is_the_callers_own() {
        assert_eq!(kept(to_runtime), ["content-type", "grpc-timeout", "mm", "te", "traceparent", "user-agent", "x-mine", "x-mine-bin"]);
    }

    #[test]
    fn a_pod_also_gets_what_is_for_the_mesh() {
        assert_eq!(
            kept(to_peer),
            [
                "content-type",
                "grpc-timeout",
                "mm",
                "mm-model-id",
                "tas-model-id",
                "te",
                "traceparent",
                "user-agent",
                "x-mine",
                "x-mine-bin"
            ]
        );
    }

    #[test]
    fn nobody_is_told_the_callers_agent() {
        let headers = to_runtime(&sent(), &[]);
        assert_eq!(headers.get_all(header::USER_AGENT).iter().collect::<Vec<_>>(), [AGENT]);
    }

    #[test]
    fn values_of_one_name_keep_their_order_and_what_is_added_takes_the_place_of_none() {
        let mut headers = sent();
        headers.append("x-mine", HeaderValue::from_static("2"));
        let more = [(HeaderName::from_static("mm-model-id"), HeaderValue::from_static("m"))];
        let passed = to_runtime(&headers, &more);
        assert_eq!(passed.get_all("x-mine").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(passed.get_all("mm-model-id").iter().collect::<Vec<_>>(), ["m"]);
        assert_eq!(headers.get_all("mm-model-id").iter().count(), 1);
    }

    #[test]
    fn a_caller_gets_the_status_with_its_details() {
        let mut headers: HeaderMap = ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding", "mesh-load", "x"]
            .iter()
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")))
            .collect();
        to_caller(&mut headers);
        assert_eq!(headers.len(), 4);
        assert!(!headers.contains_key("mesh-load") && !headers.contains_key("grpc-accept-encoding"));
    }
}
