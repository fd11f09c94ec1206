//! What is written of headers: calls of one kind become the same few bytes, which are kept as long as the table does not change.
//!
//! Texts are written as they are: to code them would cost more time than it saves on links this short.

use super::fields::STATIC;
use super::kinds::{Head, Kind, MOST_FIELDS, is_secret};
use super::{BESIDE, TABLE, integer};
use http::HeaderValue;
use std::collections::VecDeque;

/// Kinds of calls that are remembered; the one that was met first is forgotten.
const KINDS: usize = 8;
/// Bytes of a block that is kept.
const MOST_BYTES: usize = 2048;
/// Bytes of a field that gets into the table, where it must not push out all others.
const LARGEST: usize = TABLE / 4;
/// Blocks after which the fields of a kind may get into the table again, from which others pushed them.
const PATIENCE: u64 = 1000;

const INDEXED: u8 = 0x80;
const INSERTED: u8 = 0x40;
const RESIZED: u8 = 0x20;
const NEVER: u8 = 0x10;
const PLAIN: u8 = 0x00;

/// The writing side of one connection.
pub struct Encoder {
    table: Table,
    /// The smallest size since the last block, which the other side has to be told.
    resized: Option<usize>,
    blocks: u64,
    kinds: Vec<Kind>,
    /// Which is forgotten next.
    oldest: usize,
}

/// What the other side's table holds.
struct Table {
    /// The newest first.
    entries: VecDeque<(Box<str>, Box<[u8]>)>,
    size: usize,
    most: usize,
    changes: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        let table = Table { entries: VecDeque::new(), size: 0, most: TABLE, changes: 0 };
        Self { table, resized: None, blocks: 0, kinds: Vec::new(), oldest: 0 }
    }
}

impl Encoder {
    /// The other side's table may have so many bytes.
    pub fn resize(&mut self, most: usize) {
        let most = most.min(TABLE);
        if most != self.table.most {
            self.resized = Some(self.resized.map_or(most, |least| least.min(most)));
            self.table.resize(most);
        }
    }

    /// Writes the block of a request.
    pub fn encode(&mut self, head: &Head<'_>, out: &mut Vec<u8>) {
        self.blocks += 1;
        if let Some(least) = self.resized.take() {
            for size in [Some(least).filter(|least| *least < self.table.most), Some(self.table.most)].into_iter().flatten() {
                integer::put(out, size, 5, RESIZED);
            }
        }
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.is(head)) {
            return self.table.known(kind, head, self.blocks, out);
        }
        let mut kind = Kind::of(head);
        if head.headers.len() > MOST_FIELDS {
            kind.fields.iter_mut().for_each(|field| field.steady = false);
        }
        self.table.prepare(&mut kind);
        write(&kind, head, out);
        if head.headers.len() > MOST_FIELDS || kind.block.len() > MOST_BYTES {
            return;
        }
        if self.kinds.len() < KINDS {
            self.kinds.push(kind);
        } else {
            self.kinds[self.oldest] = kind;
            self.oldest = (self.oldest + 1) % KINDS;
        }
    }
}

/// A kind's block, and after it what differs.
fn write(kind: &Kind, head: &Head<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.block);
    differing(kind, head, out);
}

fn differing(kind: &Kind, head: &Head<'_>, out: &mut Vec<u8>) {
    for (field, (_, value)) in kind.fields.iter().zip(head.headers).filter(|(field, _)| !field.steady) {
        literal(field.place, field.name.as_str(), value, out);
    }
}

fn literal(place: usize, name: &str, value: &HeaderValue, out: &mut Vec<u8>) {
    let pattern = if is_secret(name, value) { NEVER } else { PLAIN };
    integer::put(out, place, 4, pattern);
    if place == 0 {
        put_text(name.as_bytes(), out);
    }
    put_text(value.as_bytes(), out);
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    integer::put(out, text.len(), 7, 0);
    out.extend_from_slice(text);
}

impl Table {
    /// A call of a kind that came before: mostly nothing of its block has to be made anew.
    fn known(&mut self, kind: &mut Kind, head: &Head<'_>, blocks: u64, out: &mut Vec<u8>) {
        let differs = kind.compare(head);
        let stale = kind.changes != self.changes;
        let inserted = match kind.inserted {
            None => true,
            Some(at) => stale && blocks - at > PATIENCE,
        };
        if inserted {
            kind.inserted = Some(blocks);
            // This one block says what gets into the table; those after it only where it is.
            kind.steady(|place, name, value| self.put(place, name, value, true, out));
            self.prepare(kind);
            return differing(kind, head, out);
        }
        if differs || stale {
            self.prepare(kind);
        }
        write(kind, head, out);
    }

    /// Makes a kind's block, of what is in the table now.
    fn prepare(&mut self, kind: &mut Kind) {
        let mut block = std::mem::take(&mut kind.block);
        block.clear();
        kind.steady(|place, name, value| self.put(place, name, value, false, &mut block));
        kind.block = block;
        kind.changes = self.changes;
    }

    /// Writes a field; `insert`: it gets into the table, if it is not there.
    fn put(&mut self, place: usize, name: &str, value: &[u8], insert: bool, out: &mut Vec<u8>) {
        if let Some(index) = self.index(place, name, value) {
            return integer::put(out, index, 7, INDEXED);
        }
        let size = name.len() + value.len() + BESIDE;
        let insert = insert && size <= LARGEST && size <= self.most;
        let (bits, pattern) = if insert { (6, INSERTED) } else { (4, PLAIN) };
        integer::put(out, place, bits, pattern);
        if place == 0 {
            put_text(name.as_bytes(), out);
        }
        put_text(value, out);
        if insert {
            self.entries.push_front((name.into(), value.into()));
            self.size += size;
            self.changes += 1;
            self.evict();
        }
    }

    /// Where a field is. `place`: of the first of its name in the static table; 0 if none is there.
    fn index(&self, place: usize, name: &str, value: &[u8]) -> Option<usize> {
        let fixed = place.checked_sub(1).map_or(&[][..], |place| &STATIC[place..]);
        let mut same = fixed.iter().take_while(|field| field.0 == name);
        if let Some(further) = same.position(|field| field.1.as_bytes() == value) {
            return Some(place + further);
        }
        let found = self.entries.iter().position(|entry| *entry.1 == *value && *entry.0 == *name)?;
        Some(STATIC.len() + 1 + found)
    }

    fn resize(&mut self, most: usize) {
        self.most = most;
        self.changes += 1;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.most {
            let Some((name, value)) = self.entries.pop_back() else { return };
            self.size -= name.len() + value.len() + BESIDE;
        }
    }
}
