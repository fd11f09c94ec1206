//! Windows (RFC 9113, 5.2): what whoever answers was allowed to send, and what the other side allows.

use super::code::Code;
use super::frames::LARGEST_WINDOW;

/// Bytes that may come, and that were taken since the other side was last told.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    left: i64,
    taken: i64,
    /// The whole window.
    whole: i64,
}

impl Granted {
    pub fn new(whole: u32) -> Self {
        Self { left: whole.into(), taken: 0, whole: whole.into() }
    }

    /// Counts what came.
    ///
    /// # Errors
    /// It is more than was allowed.
    pub fn came(&mut self, bytes: usize) -> Result<(), Code> {
        self.left -= bytes as i64;
        if self.left < 0 { Err(Code::FLOW_CONTROL_ERROR) } else { Ok(()) }
    }

    /// Counts what was taken. What the other side is to be allowed now: nothing before half of the window was taken.
    pub fn took(&mut self, bytes: usize) -> Option<u32> {
        self.taken += bytes as i64;
        if self.taken < self.whole / 2 {
            return None;
        }
        self.left += self.taken;
        Some(std::mem::take(&mut self.taken) as u32)
    }
}

/// Widens a window that the other side gave.
///
/// # Errors
/// There are none so large.
pub fn widen(room: &mut i64, by: i64) -> Result<(), Code> {
    *room += by;
    if *room > LARGEST_WINDOW { Err(Code::FLOW_CONTROL_ERROR) } else { Ok(()) }
}
