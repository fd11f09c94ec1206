//! Ports that several workers listen on, each with a queue of its own.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// So many listeners on one address; port 0 takes a free one.
///
/// # Errors
/// The address cannot be had.
pub fn listeners(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut at = address;
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        at = listener.local_addr()?;
        made.push(listener);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_port_that_the_first_one_got() {
        let made = listeners("127.0.0.1:0".parse().expect("an address"), 3).expect("free ports");
        let ports: Vec<u16> = made.iter().map(|one| one.local_addr().expect("bound").port()).collect();
        assert!(ports[0] > 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }
}
