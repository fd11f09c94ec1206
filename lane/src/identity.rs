//! Who calls: an address, and whom a certificate names. The Python doors are told of calls that are handed over to them.

use crate::status::escaped as escape;
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;

/// One end of a client's connection, as the other sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub address: SocketAddr,
    /// Where it called.
    pub called: SocketAddr,
    /// None: it spoke plaintext.
    pub secured: Option<Shown>,
}

/// What a client showed over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Of its certificate, as RFC 4514 writes it; None without a certificate.
    pub subject: Option<String>,
}

impl Shown {
    pub fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let told = certificates.and_then(<[_]>::first).and_then(|first| subject(first));
        Self { subject: told.map(|subject| subject.chars().take(LONGEST).collect()) }
    }
}

/// Letters of a subject that are told; few certificates have more than a hundred.
const LONGEST: usize = 256;
/// What a call says that is handed over, in gRPC's words and percent-encoded as a status is.
const PEER: HeaderName = HeaderName::from_static("mm-lane-peer");
const SUBJECT: HeaderName = HeaderName::from_static("mm-lane-subject");

impl Identity {
    /// As headers of a call that is handed over (`mesh/wire/callers.py` reads them).
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let family = if self.address.is_ipv4() { "ipv4" } else { "ipv6" };
        let subject = self.secured.as_ref().and_then(|shown| shown.subject.as_ref());
        let told = [(PEER, Some(format!("{family}:{}", self.address))), (SUBJECT, subject.map(|subject| escape(subject.as_bytes())))];
        told.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value?).ok()?))).collect()
    }
}

/// Short names of what names are made of (RFC 4514, 3), by the end of their identifiers below 2.5.4.
const PARTS: [(u8, &str); 6] = [(3, "CN"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The version of a certificate that is not of the first.
const VERSION: u8 = 0xa0;

/// The subject of a certificate (RFC 5280, 4.1).
fn subject(certificate: &[u8]) -> Option<String> {
    let mut whole = Der(Der(certificate).next(SEQUENCE)?);
    let mut told = Der(whole.next(SEQUENCE)?);
    if told.0.first() == Some(&VERSION) {
        told.any()?;
    }
    // Number, algorithm, issuer and dates come before it.
    for _ in 0..4 {
        told.any()?;
    }
    let (mut names, mut parts) = (Der(told.next(SEQUENCE)?), Vec::new());
    while !names.0.is_empty() {
        let (mut several, mut part) = (Der(names.next(SET)?), Vec::new());
        while !several.0.is_empty() {
            let mut one = Der(several.next(SEQUENCE)?);
            let ((_, kind), (_, value)) = (one.any()?, one.any()?);
            part.push(format!("{}={}", name(kind), escaped(&String::from_utf8_lossy(value))));
        }
        parts.push(part.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn name(kind: &[u8]) -> String {
    let known = kind.strip_prefix(&[0x55, 4]).and_then(|end| PARTS.iter().find(|(part, _)| end == [*part]));
    known.map_or_else(|| dotted(kind), |(_, name)| (*name).to_owned())
}

/// An object's identifier (X.690, 8.19).
fn dotted(kind: &[u8]) -> String {
    let mut numbers =
        kind.split_inclusive(|byte| byte & 0x80 == 0).map(|bytes| bytes.iter().fold(0u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f)));
    let first = numbers.next().unwrap_or(0);
    let root = (first / 40).min(2);
    std::iter::once(format!("{root}.{}", first - root * 40)).chain(numbers.map(|number| number.to_string())).collect::<Vec<_>>().join(".")
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// What is left of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next item, which has this tag.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, mut rest) = rest.split_first()?;
        let mut size = usize::from(short);
        if short & 0x80 != 0 {
            let (bytes, after) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (size, rest) = (bytes.iter().try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?, after);
        }
        let (content, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A subject as DER: lists of lists of identifiers and values.
    fn named(parts: &[&[(&[u8], &str)]]) -> Vec<u8> {
        let item = |tag: u8, content: &[u8]| {
            let mut out = vec![tag, 0x82];
            out.extend_from_slice(&u16::try_from(content.len()).expect("short").to_be_bytes());
            out.extend_from_slice(content);
            out
        };
        let one = |(kind, value): &(&[u8], &str)| item(SEQUENCE, &[item(6, kind), item(12, value.as_bytes())].concat());
        let sets = parts.iter().flat_map(|part| item(SET, &part.iter().flat_map(one).collect::<Vec<_>>()));
        let name = item(SEQUENCE, &sets.collect::<Vec<_>>());
        let before =
            [item(VERSION, &[2, 1, 2]), item(2, &[1]), item(SEQUENCE, &[]), item(SEQUENCE, b"issuer"), item(SEQUENCE, &[])].concat();
        item(SEQUENCE, &item(SEQUENCE, &[before, name].concat()))
    }

    #[test]
    fn a_subject_is_written_with_its_most_particular_part_first() {
        let made = named(&[&[(&[0x55, 4, 6], "DE")], &[(&[0x55, 4, 11], "a, b"), (&[0x55, 4, 3], "é")], &[(&[0x2a, 0x86, 0x48, 1], "x")]]);
        assert_eq!(subject(&made).as_deref(), Some(r"1.2.840.1=x,OU=a\, b+CN=é,C=DE"));
        assert_eq!(subject(&named(&[])).as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn garbage_names_nobody(bytes: Vec<u8>, at in 0usize..80, byte: u8) {
            let _ = subject(&bytes);
            let mut made = named(&[&[(&[0x55, 4, 3], "client")]]);
            if let Some(place) = made.get_mut(at) {
                *place = byte;
            }
            let _ = subject(&made);
        }
    }
}
