//! Where calls can go: each address has a number, by which workers find their connections to it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

/// An address with its number.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub number: usize,
    pub address: Address,
    /// Whether who listens there may be asked for signs of life.
    pub watched: bool,
}

/// All places that were ever named; pods come and go, but a place takes a few bytes only.
#[derive(Debug, Default)]
pub struct Places(Mutex<Vec<Arc<Place>>>);

impl Address {
    /// Reads `host:port` or `unix:/path`.
    pub fn parse(text: &str) -> Self {
        text.strip_prefix("unix:").map_or_else(|| Self::Tcp(text.to_owned()), |path| Self::Unix(path.into()))
    }
}

impl Places {
    /// The one place of an address.
    pub fn place(&self, address: Address, watched: bool) -> Arc<Place> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|place| place.address == address && place.watched == watched) {
            return Arc::clone(found);
        }
        let made = Arc::new(Place { number: known.len(), address, watched });
        known.push(Arc::clone(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_addresses_are_one_place() {
        let places = Places::default();
        let one = places.place(Address::parse("a:1"), false);
        assert_eq!(places.place(Address::parse("a:1"), false), one);
        assert_eq!(places.place(Address::parse("unix:/a"), false).number, 1);
        assert_eq!(places.place(Address::parse("unix:/a"), false).address, Address::Unix("/a".into()));
    }
}
