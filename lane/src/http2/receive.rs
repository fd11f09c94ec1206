//! What is done with what comes over a connection.

use super::code::{Broken, Code};
use super::core::{Core, State};
use super::flow::widen;
use super::frames::{Frame, HEAD, Settings, flag, kind};
use super::stream::Shared;
use bytes::{Buf, Bytes, BytesMut};
use std::rc::Rc;

/// What of a body is copied out of what was read, so that this can be used again; more is taken with the memory in which it is.
const SMALL: usize = 2048;
/// Frames of one block of headers.
const MOST_FRAMES: usize = 512;

impl Core {
    /// Takes all whole frames out of what was read.
    ///
    /// # Errors
    /// They break the protocol: the connection is of no use any more.
    pub fn feed(&mut self, read: &mut BytesMut) -> Result<(), Code> {
        let mut at = 0;
        while let Some(frame) = Frame::read(&read[at..]) {
            if frame.length > self.sizes.frame as usize {
                return Err(Code::FRAME_SIZE_ERROR);
            }
            if !self.greeted && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
                return Err(Code::PROTOCOL_ERROR);
            }
            if self.partial.is_some() && frame.kind != kind::CONTINUATION {
                return Err(Code::PROTOCOL_ERROR);
            }
            let (start, end) = (at + HEAD, at + HEAD + frame.length);
            let Some(content) = read.get(start..end) else { break };
            at = end;
            if frame.kind != kind::DATA {
                self.frame(frame, content)?;
                continue;
            }
            let (from, to) = frame.inside(content)?;
            let piece = if to - from <= SMALL {
                Bytes::copy_from_slice(&content[from..to])
            } else {
                read.advance(start);
                at = 0;
                read.split_to(frame.length).freeze().slice(from..to)
            };
            self.data(frame, piece)?;
        }
        read.advance(at);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        match frame.kind {
            kind::HEADERS => self.headers(frame, content),
            kind::CONTINUATION => self.continuation(frame, content),
            kind::SETTINGS => self.settings(frame, content),
            kind::PING => self.pinged(frame, content),
            kind::GOAWAY => self.goaway(frame, content),
            kind::RST_STREAM => self.was_reset(frame, content),
            kind::WINDOW_UPDATE => self.window(frame, content),
            // Nobody was allowed to push anything.
            kind::PUSH_PROMISE => Err(Code::PROTOCOL_ERROR),
            kind::PRIORITY if frame.stream == 0 => Err(Code::PROTOCOL_ERROR),
            kind::PRIORITY if frame.length != 5 => Err(Code::FRAME_SIZE_ERROR),
            _ => Ok(()),
        }
    }

    fn data(&mut self, frame: Frame, piece: Bytes) -> Result<(), Code> {
        self.granted.came(frame.length)?;
        // Slow callers hold up their own streams only: the connection's window opens at once.
        if let Some(more) = self.granted.took(frame.length) {
            self.out.frame(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
        let Some(stream) = self.streams.get(&frame.stream).map(Rc::clone) else { return self.late(frame.stream) };
        let mut one = stream.borrow_mut();
        if one.ended {
            return Err(Code::STREAM_CLOSED);
        }
        let beside = frame.length - piece.len();
        let taken = one.granted.came(frame.length).and_then(|()| one.piece(piece, frame.has(flag::END_STREAM)));
        drop(one);
        if beside > 0 {
            self.took(&stream, beside);
        }
        self.settle(&stream, taken);
        Ok(())
    }

    /// Ends a stream that went wrong, or that is over.
    fn settle(&mut self, stream: &Shared, taken: Result<(), Code>) {
        let (id, over) = {
            let one = stream.borrow();
            (one.id, one.ended && one.sent)
        };
        match taken {
            Err(code) => self.reset(stream, code),
            Ok(()) if over => self.close(id),
            Ok(()) => {}
        }
    }

    fn headers(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        let (from, to) = frame.inside(content)?;
        if frame.stream % 2 == 0 || frame.stream >= self.next_id {
            return Err(Code::PROTOCOL_ERROR);
        }
        if frame.has(flag::END_HEADERS) {
            return self.block(frame.stream, frame.has(flag::END_STREAM), &content[from..to]);
        }
        self.partial = Some((frame.stream, frame.has(flag::END_STREAM), BytesMut::from(&content[from..to]), 1));
        Ok(())
    }

    fn continuation(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        let Some((stream, last, mut block, frames)) = self.partial.take() else { return Err(Code::PROTOCOL_ERROR) };
        if stream != frame.stream {
            return Err(Code::PROTOCOL_ERROR);
        }
        block.extend_from_slice(content);
        if block.len() > self.sizes.headers as usize || frames > MOST_FRAMES {
            return Err(Code::ENHANCE_YOUR_CALM);
        }
        if frame.has(flag::END_HEADERS) {
            return self.block(stream, last, &block);
        }
        self.partial = Some((stream, last, block, frames + 1));
        Ok(())
    }

    /// A whole block: it is read whatever becomes of its stream, for the next ones build on it.
    fn block(&mut self, id: u32, last: bool, bytes: &[u8]) -> Result<(), Code> {
        let block = self.blocks.read(bytes).map_err(|_| Code::COMPRESSION_ERROR)?;
        let Some(stream) = self.streams.get(&id).map(Rc::clone) else { return self.late(id) };
        if stream.borrow().ended {
            return Err(Code::STREAM_CLOSED);
        }
        let taken = stream.borrow_mut().headers(block, last);
        self.settle(&stream, taken);
        Ok(())
    }

    fn settings(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        if frame.stream != 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        if frame.has(flag::ACK) {
            return if content.is_empty() { Ok(()) } else { Err(Code::FRAME_SIZE_ERROR) };
        }
        let said = Settings::read(content)?;
        if said.push == Some(1) {
            return Err(Code::PROTOCOL_ERROR);
        }
        if let Some(table) = said.table {
            self.encoder.resize(table as usize);
        }
        if let Some(frame) = said.frame {
            self.most_frame = frame as usize;
        }
        if let Some(window) = said.window {
            let more = i64::from(window) - std::mem::replace(&mut self.usual_room, window.into());
            for stream in self.streams.values() {
                let mut one = stream.borrow_mut();
                widen(&mut one.room, more)?;
                one.wake_writer();
            }
        }
        match said.streams {
            Some(streams) => self.most = streams as usize,
            // Who does not say takes as many as come.
            None if !self.greeted => self.most = usize::MAX,
            None => {}
        }
        self.greeted = true;
        self.reply(kind::SETTINGS, &[]);
        self.wake_waiting();
        Ok(())
    }

    fn reply(&mut self, kind: u8, content: &[u8]) {
        self.out.frame(kind, flag::ACK, 0, content);
        self.replies += HEAD + content.len();
    }

    fn pinged(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        let Some(content) = content.first_chunk::<8>().filter(|_| frame.length == 8) else { return Err(Code::FRAME_SIZE_ERROR) };
        if frame.stream != 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        if !frame.has(flag::ACK) {
            self.reply(kind::PING, content);
        } else if u64::from_be_bytes(*content) == self.ping.asked {
            self.ping.answered = self.ping.asked;
            if let Some(waker) = self.ping.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    fn goaway(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        let Some((last, rest)) = content.split_first_chunk::<4>() else { return Err(Code::FRAME_SIZE_ERROR) };
        let Some(code) = rest.first_chunk::<4>() else { return Err(Code::FRAME_SIZE_ERROR) };
        if frame.stream != 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        let last = u32::from_be_bytes(*last) & !(1 << 31);
        let broken = Broken::GoAway { code: Code(u32::from_be_bytes(*code)), remote: true };
        let refused: Vec<Shared> = self.streams.iter().filter(|(id, _)| **id > last).map(|(_, stream)| Rc::clone(stream)).collect();
        for stream in refused {
            stream.borrow_mut().fail(broken.clone());
            let id = stream.borrow().id;
            // Who sends something for it all the same harms only that.
            self.remember(id);
            self.close(id);
        }
        self.leave(broken);
        Ok(())
    }

    fn was_reset(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        let Some(code) = content.first_chunk::<4>().filter(|_| frame.length == 4) else { return Err(Code::FRAME_SIZE_ERROR) };
        if self.is_idle(frame.stream) {
            return Err(Code::PROTOCOL_ERROR);
        }
        if let Some(stream) = self.streams.get(&frame.stream).map(Rc::clone) {
            stream.borrow_mut().fail(Broken::Reset { code: Code(u32::from_be_bytes(*code)), remote: true });
            self.close(frame.stream);
        }
        Ok(())
    }

    /// Whether a number is none of a stream that was opened.
    fn is_idle(&self, stream: u32) -> bool {
        stream % 2 == 0 || stream >= self.next_id
    }

    fn window(&mut self, frame: Frame, content: &[u8]) -> Result<(), Code> {
        let Some(more) = content.first_chunk::<4>().filter(|_| frame.length == 4) else { return Err(Code::FRAME_SIZE_ERROR) };
        let more = i64::from(u32::from_be_bytes(*more) & !(1 << 31));
        if frame.stream == 0 {
            if more == 0 {
                return Err(Code::PROTOCOL_ERROR);
            }
            widen(&mut self.room, more)?;
            self.feed_starved();
            return Ok(());
        }
        if self.is_idle(frame.stream) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let Some(stream) = self.streams.get(&frame.stream).map(Rc::clone) else { return Ok(()) };
        let widened = if more == 0 { Err(Code::PROTOCOL_ERROR) } else { widen(&mut stream.borrow_mut().room, more) };
        match widened {
            Ok(()) => stream.borrow_mut().wake_writer(),
            Err(code) => self.reset(&stream, code),
        }
        Ok(())
    }

    /// Whether the connection has nothing more to do.
    pub fn is_done(&self) -> bool {
        match self.state {
            State::Open => false,
            State::Leaving(_) => self.streams.is_empty() && self.promised == 0,
            State::Over(_) => true,
        }
    }
}
