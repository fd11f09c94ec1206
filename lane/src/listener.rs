//! Ports that several workers listen on, each with a queue of its own.

use crate::signal::Signal;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Before more is accepted where that failed: of too many open files, mostly, some are closed by then.
const PAUSE: Duration = Duration::from_millis(50);

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

/// Hands all connections to `begin` until `closing`, those too that wait to be accepted then: with their listener the kernel resets them.
pub async fn accept(listener: tokio::net::TcpListener, closing: &Signal, begin: impl Fn(TcpStream, SocketAddr)) {
    while let Some(next) = poll_fn(|cx| match closing.poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => listener.poll_accept(cx).map(Some),
    })
    .await
    {
        match next {
            Ok((stream, from)) => begin(stream, from),
            Err(_) => sleep(PAUSE).await,
        }
    }
    deafen(&listener);
    // The event loop may not have heard of them, so the kernel is asked.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, from)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            begin(stream, from);
        }
    }
}

/// Has the kernel pass over what asks for a connection (classic BPF: keep nothing of a packet). Whoever asks meanwhile asks again after a second
/// (the first timeout of TCP, RFC 6298), and finds who listens on the port then.
fn deafen(listener: &tokio::net::TcpListener) {
    let nothing = SockFilter::new(libc::BPF_RET as u16, 0, 0, 0);
    // Without it some are reset, as with any other program.
    let _ = SockRef::from(listener).attach_filter(&[nothing]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test]
    async fn who_waits_to_be_accepted_at_the_end_is_accepted() {
        let listener = listeners("127.0.0.1:0".parse().expect("an address"), 1).expect("a free port").remove(0);
        let address = listener.local_addr().expect("bound");
        let came: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).expect("the kernel takes it")).collect();
        let closing = Signal::default();
        closing.give();
        let accepted = RefCell::new(Vec::new());
        let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
        accept(listener, &closing, |stream, from| accepted.borrow_mut().push((stream, from))).await;
        let from: Vec<_> = accepted.borrow().iter().map(|(_, from)| *from).collect();
        assert_eq!(from, came.iter().map(|one| one.local_addr().expect("bound")).collect::<Vec<_>>());
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn workers_share_the_port_that_the_first_one_got() {
        let made = listeners("127.0.0.1:0".parse().expect("an address"), 3).expect("free ports");
        let ports: Vec<u16> = made.iter().map(|one| one.local_addr().expect("bound").port()).collect();
        assert!(ports[0] > 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }
}
