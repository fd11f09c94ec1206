//! What the Python door for REST is told before the first request of a connection: who calls (PROXY protocol, version 2).
//!
//! A header in a request would not do, since connections with garbage become the door's from the first byte on, and what comes later on them
//! is the client's own.

use crate::identity::Identity;
use std::net::{IpAddr, SocketAddr};

/// Signature, version 2, and that it is passed on for another.
const BEGIN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21";
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;
/// Of what is known of TLS: how the client came, what was verified, and more under types of its own.
const TLS: u8 = 0x20;
const CAME_BY_TLS: u8 = 1;
const SHOWED_CERTIFICATE: u8 = 2;
/// The subject of the client's certificate; the protocol leaves types from here on to who uses it.
const SUBJECT: u8 = 0xe0;

/// The announcement of a client (`mesh/doors/rest/announced.py` reads it).
pub fn of(from: &Identity) -> Vec<u8> {
    let ports = [from.address.port().to_be_bytes(), from.called.port().to_be_bytes()].concat();
    let (kind, mut told) = match (ip(from.address), ip(from.called)) {
        (IpAddr::V4(address), IpAddr::V4(called)) => (TCP_4, [address.octets(), called.octets()].concat()),
        (address, called) => (TCP_6, [six(address), six(called)].concat()),
    };
    told.extend(ports);
    if let Some(shown) = &from.secured {
        let subject = shown.subject.as_deref();
        let mut tls = vec![CAME_BY_TLS | subject.map_or(0, |_| SHOWED_CERTIFICATE)];
        // Whoever shows none that is trusted does not come so far.
        tls.extend(u32::from(subject.is_none()).to_be_bytes());
        if let Some(subject) = subject {
            tls.extend(item(SUBJECT, subject.as_bytes()));
        }
        told.extend(item(TLS, &tls));
    }
    let mut out = BEGIN.to_vec();
    out.push(kind);
    out.extend((told.len() as u16).to_be_bytes());
    out.append(&mut told);
    out
}

fn ip(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn six(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], (value.len() as u16).to_be_bytes().as_slice(), value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Shown;

    #[test]
    fn an_announcement_has_the_form_of_the_protocol() {
        let (address, called) = ("127.0.0.1:258".parse().expect("an address"), "[::ffff:127.0.0.2]:2".parse().expect("an address"));
        let plain = of(&Identity { address, called, secured: None });
        assert_eq!(plain, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x02\x01\x02\0\x02");
        let secured = of(&Identity { address, called, secured: Some(Shown { subject: Some("CN=a".to_owned()) }) });
        assert_eq!(secured[16..], *b"\x7f\0\0\x01\x7f\0\0\x02\x01\x02\0\x02\x20\0\x0c\x03\0\0\0\0\xe0\0\x04CN=a");
        let six = of(&Identity { address: "[::1]:1".parse().expect("an address"), called, secured: Some(Shown::default()) });
        assert_eq!((six[13], six.len(), &six[52..]), (0x21, 60, b"\x20\0\x05\x01\0\0\0\x01".as_slice()));
    }
}
