//! One HTTP/2 connection to whoever answers, with the calls that run on it.

use crate::http2::{Broken, Link, Promise, Sizes};
use crate::places::Address;
use crate::settings::Settings;
use crate::socket::Socket;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

const SIZES: Sizes = Sizes {
    stream_window: 256 * 1024,
    // No caller that is slow to take its answers may stop those of others.
    connection_window: (1 << 31) - 1,
    frame: 64 * 1024,
    // What a runtime or pod says in headers is limited where it listens, and by the caller that gets it.
    headers: 1 << 20,
};

/// A connection.
pub struct Line {
    link: Link,
    pub busy: Cell<usize>,
    /// Whether it was found to take no more calls.
    retired: Cell<bool>,
}

impl Line {
    /// Connects. `watched`: whoever answers allows to be asked for signs of life; model servers close connections for that.
    pub async fn dial(address: &Address, watched: bool, settings: &Settings) -> io::Result<Rc<Self>> {
        let Ok(socket) = timeout(settings.connect_limit, connected(address, watched, settings)).await else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        let (link, mut driver) = Link::new(socket?, SIZES);
        spawn_local(async move { poll_fn(|cx| driver.poll(cx)).await });
        let line = Rc::new(Self { link, busy: Cell::new(0), retired: Cell::new(false) });
        if watched {
            spawn_local(watch(Rc::downgrade(&line), settings.silence_of_pods));
        }
        Ok(line)
    }

    pub fn open(&self) -> bool {
        !self.retired.get() && self.link.is_open()
    }

    /// Takes no more calls; those that run go on.
    pub fn retire(&self) {
        self.retired.set(true);
    }

    /// Calls that whoever answers takes at a time.
    pub fn most(&self) -> usize {
        self.link.most()
    }

    /// What begins a call, once the connection takes one.
    ///
    /// # Errors
    /// It takes none any more.
    pub async fn promise(&self) -> Result<Promise, Broken> {
        self.link.promise().await
    }
}

async fn connected(address: &Address, watched: bool, settings: &Settings) -> io::Result<Socket> {
    match address {
        Address::Tcp(at) => {
            let stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            match &settings.peer_tls {
                // Pods are watched, and the model server beside this one never speaks TLS.
                Some(tls) if watched => Ok(Socket::Tls(Box::new(tls.with_pod(stream).await?))),
                _ => Ok(Socket::Tcp(stream)),
            }
        }
        Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
    }
}

/// Asks for signs of life; a connection that gives none is over.
async fn watch(line: Weak<Line>, silence: Duration) {
    loop {
        sleep(silence).await;
        let Some(line) = line.upgrade().filter(|line| line.open()) else { return };
        if !matches!(timeout(silence, line.link.is_alive()).await, Ok(true)) {
            return line.link.abandon();
        }
    }
}
