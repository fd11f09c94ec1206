//! A file descriptor that becomes readable when something happened that Python waits for.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An eventfd; whoever waits on it looks afterwards what is new.
#[derive(Debug)]
pub struct News(OwnedFd);

impl News {
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers, and the descriptor it gives is nobody else's.
        let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Makes it readable.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer is to eight readable bytes. A full counter is readable already, so that the result does not matter.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it unreadable until something is new.
    pub fn quiet(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the pointer is to eight writable bytes. Nothing to read means that it is quiet already.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
