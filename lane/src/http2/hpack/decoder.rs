//! What is read of headers: the table that whoever answers fills, and blocks that use it.

use super::fields::{FIXED, Field, Name};
use super::{Fault, TABLE, huffman, integer};
use bytes::Bytes;
use std::collections::VecDeque;

/// The reading side of one connection.
pub struct Decoder {
    /// The newest first.
    table: VecDeque<Field>,
    size: usize,
    most: usize,
    changes: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, most: TABLE, changes: 0 }
    }
}

impl Decoder {
    /// How often the table changed: between two equal numbers, equal blocks are equal headers.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Reads a whole block; `take` gets each field of it in its order.
    ///
    /// # Errors
    /// It is none; the table is then of no use.
    pub fn decode(&mut self, mut block: &[u8], mut take: impl FnMut(&Field)) -> Result<(), Fault> {
        let mut begun = false;
        while let Some(first) = block.first() {
            match first {
                0x80.. => take(self.field(integer::read(&mut block, 7)?)?),
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    take(&field);
                    self.insert(field);
                }
                0x20.. => {
                    let most = integer::read(&mut block, 5)?;
                    if begun || most > TABLE {
                        return Err(Fault);
                    }
                    self.resize(most);
                    continue;
                }
                0x10.. => {
                    let mut field = self.literal(&mut block, 4)?;
                    // Nobody on its way may put it into a table.
                    field.value.iter_mut().for_each(|value| value.set_sensitive(true));
                    take(&field);
                }
                _ => take(&self.literal(&mut block, 4)?),
            }
            begun = true;
        }
        Ok(())
    }

    fn field(&self, index: usize) -> Result<&Field, Fault> {
        let place = index.checked_sub(1).ok_or(Fault)?;
        FIXED.get(place).or_else(|| self.table.get(place - FIXED.len())).ok_or(Fault)
    }

    fn literal(&self, block: &mut &[u8], bits: u32) -> Result<Field, Fault> {
        let name = match integer::read(block, bits)? {
            0 => Name::new(&text(block)?),
            index => self.field(index)?.name.clone(),
        };
        Ok(Field::new(name, text(block)?))
    }

    fn insert(&mut self, field: Field) {
        self.changes += 1;
        self.size += field.size;
        self.table.push_front(field);
        self.evict();
    }

    fn resize(&mut self, most: usize) {
        self.changes += 1;
        self.most = most;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.most {
            let Some(oldest) = self.table.pop_back() else { return };
            self.size -= oldest.size;
        }
    }
}

/// A string, of which a copy is made: it lives longer than what was read.
fn text(block: &mut &[u8]) -> Result<Bytes, Fault> {
    let coded = block.first().ok_or(Fault)? & 0x80 != 0;
    let size = integer::read(block, 7)?;
    let (text, rest) = block.split_at_checked(size).ok_or(Fault)?;
    *block = rest;
    if !coded {
        return Ok(Bytes::copy_from_slice(text));
    }
    let mut out = Vec::new();
    huffman::decoded(text, &mut out)?;
    Ok(Bytes::from(out))
}
