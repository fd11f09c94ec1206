//! What pods say to each other beside calls and answers (`mesh/wire/hops.py`).

use crate::busy::Load;
use crate::naming::BINARY;
use crate::rest::proto::{Fields, put_number, put_text};
use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Of a call: a `mesh.peer.v1.Hop`.
pub const HOP: HeaderName = HeaderName::from_static("mesh-hop-bin");
/// Of an answer: who gave it.
pub const POD: HeaderName = HeaderName::from_static("mesh-pod-bin");
/// Of an answer: how busy that pod is.
pub const LOAD: HeaderName = HeaderName::from_static("mesh-load");
/// Bytes of a hop; longer ones are Python's to refuse.
const LARGEST: usize = 32_768;
/// Serve from your copy, or say that it is not here.
const HIT: u64 = 1;

const KIND: u32 = 1;
const MODEL: u32 = 2;
const SENDER: u32 = 3;
const DEST: u32 = 4;
const ALIAS: u32 = 5;
const LAST_USED: u32 = 6;
const TRIED: u32 = 8;
/// Of those that were tried: the pod.
const TRIED_POD: u32 = 1;

/// The header of a call that another pod is to serve from its copy; None if the ids are longer than calls between pods can carry.
pub fn hit(model: &str, sender: &str, dest: &str, alias: &str, last_used: u64) -> Option<HeaderValue> {
    let mut hop = Vec::with_capacity(24 + model.len() + sender.len() + dest.len() + alias.len());
    put_number(&mut hop, KIND, HIT);
    for (field, text) in [(MODEL, model), (SENDER, sender), (DEST, dest), (ALIAS, alias)] {
        put_text(&mut hop, field, text);
    }
    put_number(&mut hop, LAST_USED, last_used);
    if hop.len() > LARGEST { None } else { HeaderValue::try_from(BINARY.encode(hop)).ok() }
}

/// What a call that another pod passed on is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub model: String,
    /// Empty if the caller named none.
    pub alias: String,
}

/// What a call wants of a copy of this pod; None if it wants anything else, which is Python's.
pub fn wanted(headers: &HeaderMap, me: &str) -> Option<Wanted> {
    let mut all = headers.get_all(HOP).iter();
    let (value, None) = (all.next()?, all.next()) else { return None };
    let hop = BINARY.decode(value.as_bytes()).ok()?;
    let (mut fields, mut wanted) = (Fields::of(&hop), Wanted { model: String::new(), alias: String::new() });
    let (mut kind, mut dest, mut sender) = (0, "", "");
    while let Some((field, value)) = fields.next().ok()? {
        match field {
            KIND => kind = value.varint().ok()?,
            MODEL => wanted.model = value.text().ok()?.to_owned(),
            SENDER => sender = value.text().ok()?,
            DEST => dest = value.text().ok()?,
            ALIAS => wanted.alias = value.text().ok()?.to_owned(),
            TRIED if holder(value.bytes().ok()?)? == me => return None,
            _ => {}
        }
    }
    (kind == HIT && dest == me && !wanted.model.is_empty() && !sender.is_empty()).then_some(wanted)
}

/// The pod of one that was tried.
fn holder(data: &[u8]) -> Option<&str> {
    let (mut fields, mut pod) = (Fields::of(data), "");
    while let Some((field, value)) = fields.next().ok()? {
        if field == TRIED_POD {
            pod = value.text().ok()?;
        }
    }
    Some(pod)
}

/// What stands beside each answer of this pod.
pub fn farewell(me: &HeaderValue, load: Load) -> [(HeaderName, HeaderValue); 2] {
    let said = HeaderValue::try_from(format!("{} {} {}", load.calls, load.lru_time, load.at));
    [(POD, me.clone()), (LOAD, said.unwrap_or(HeaderValue::from_static("0 0 0")))]
}

/// A pod's name as it stands there.
pub fn name(pod: &str) -> HeaderValue {
    HeaderValue::try_from(BINARY.encode(pod)).unwrap_or(HeaderValue::from_static(""))
}

/// How busy whoever answered is; None if it does not say so in a way that is understood, which spoils no answer.
pub fn load(trailers: &HeaderMap) -> Option<Load> {
    let mut numbers = trailers.get(LOAD)?.to_str().ok()?.split_ascii_whitespace().take(3).map(|number| number.parse().ok());
    let calls = numbers.next()??;
    let mut next = || numbers.next().unwrap_or(Some(0));
    Some(Load { calls, lru_time: next()?, at: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(model: &str, dest: &str, alias: &str) -> HeaderMap {
        [(HOP, hit(model, "one", dest, alias, 1_700_000_000_000).expect("short ids"))].into_iter().collect()
    }

    fn tried(pod: &str) -> HeaderMap {
        let mut hop = BINARY.decode(hit("m", "one", "two", "", 1).expect("short ids").as_bytes()).expect("base64");
        let mut holder = Vec::new();
        put_text(&mut holder, TRIED_POD, pod);
        put_text(&mut hop, TRIED, std::str::from_utf8(&holder).expect("ASCII"));
        [(HOP, HeaderValue::try_from(BINARY.encode(hop)).expect("base64"))].into_iter().collect()
    }

    #[test]
    fn what_one_pod_sends_the_other_understands() {
        let found = wanted(&sent("größe", "two", "a"), "two");
        assert_eq!(found, Some(Wanted { model: "größe".to_owned(), alias: "a".to_owned() }));
        assert_eq!(wanted(&sent("m", "two", ""), "two").map(|found| found.alias), Some(String::new()));
    }

    #[test]
    fn what_is_for_another_pod_or_was_tried_here_or_makes_no_sense_is_pythons() {
        assert_eq!(wanted(&sent("m", "two", ""), "three"), None);
        assert_eq!(wanted(&sent("", "two", ""), "two"), None);
        assert_eq!(wanted(&HeaderMap::new(), "two"), None);
        assert_eq!(wanted(&[(HOP, HeaderValue::from_static("x"))].into_iter().collect(), "two"), None);
        assert_eq!(wanted(&tried("two"), "two"), None);
        assert!(wanted(&tried("three"), "two").is_some());
        let mut twice = sent("m", "two", "");
        twice.append(HOP, twice[HOP].clone());
        assert_eq!(wanted(&twice, "two"), None);
        assert!(hit(&"m".repeat(40_000), "one", "two", "", 1).is_none());
    }

    #[test]
    fn a_load_is_read_as_far_as_it_is_told() {
        let of = |text| load(&[(LOAD, HeaderValue::from_static(text))].into_iter().collect());
        assert_eq!(of("3 5 7"), Some(Load { calls: 3, lru_time: 5, at: 7 }));
        assert_eq!(of("3"), Some(Load { calls: 3, ..Load::default() }));
        assert_eq!(of("3 5 7 and more"), Some(Load { calls: 3, lru_time: 5, at: 7 }));
        assert!(of("").is_none() && of("x").is_none() && of("3 x").is_none());
        let said: HeaderMap = farewell(&name("two"), Load { calls: 3, lru_time: 5, at: 7 }).into_iter().collect();
        assert_eq!(load(&said), Some(Load { calls: 3, lru_time: 5, at: 7 }));
        assert_eq!(said.get(POD).map(HeaderValue::as_bytes), Some(&b"dHdv"[..]));
    }
}
