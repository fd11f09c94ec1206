//! What one worker counted of the calls of one model, by the name and the method that they came by.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// gRPC codes are 0 to 16; whatever else a runtime says is 2, UNKNOWN.
pub const CODES: usize = 17;

/// Figures of calls that ended with one code, since they were collected last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub microseconds: u64,
    /// Calls by time taken: one number more than there are bounds.
    pub times: Vec<u64>,
    /// Calls by bytes that came in, likewise.
    pub sizes_in: Vec<u64>,
    /// Calls that answered something, by bytes that went out.
    pub sizes_out: Vec<u64>,
}

/// Upper bounds of histograms, ascending; what equals one is within it.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// In microseconds.
    pub times: Arc<[u64]>,
    /// In bytes of a body: messages with their prefixes.
    pub sizes: Arc<[u64]>,
}

impl Counts {
    fn none(bounds: &Bounds) -> Self {
        let (times, sizes) = (vec![0; bounds.times.len() + 1], vec![0; bounds.sizes.len() + 1]);
        Self { times, sizes_in: sizes.clone(), sizes_out: sizes, ..Self::default() }
    }

    fn add(&mut self, part: &Self) {
        self.calls += part.calls;
        self.bytes_in += part.bytes_in;
        self.bytes_out += part.bytes_out;
        self.microseconds += part.microseconds;
        for (mine, its) in [(&mut self.times, &part.times), (&mut self.sizes_in, &part.sizes_in), (&mut self.sizes_out, &part.sizes_out)] {
            mine.iter_mut().zip(its).for_each(|(one, other)| *one += other);
        }
    }
}

/// One end of a call.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub code: usize,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub microseconds: u64,
}

/// Which way calls took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// From a client to this pod's copy.
    #[default]
    Here,
    /// From a client to another pod's copy.
    There,
    /// From another pod to this pod's copy.
    Hop,
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub way: Way,
    pub model: Arc<str>,
    /// Empty for calls that named the model.
    pub alias: Arc<str>,
    pub method: Arc<str>,
}

/// The figures of a key.
#[derive(Debug)]
pub struct Series {
    pub key: Key,
    /// By code; calls of one series end with few different ones.
    counts: RefCell<Vec<(usize, Counts)>>,
    listed: Cell<bool>,
}

/// All figures of a worker that are not collected yet.
#[derive(Debug)]
pub struct Counters {
    bounds: Bounds,
    fresh: RefCell<Vec<Rc<Series>>>,
}

impl Series {
    pub fn new(key: Key) -> Rc<Self> {
        Rc::new(Self { key, counts: RefCell::default(), listed: Cell::new(false) })
    }
}

impl Counters {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, fresh: RefCell::default() }
    }

    /// Counts a call that ended.
    pub fn count(&self, series: &Rc<Series>, ended: Ended) {
        let code = if ended.code < CODES { ended.code } else { 2 };
        let mut all = series.counts.borrow_mut();
        let place = all.iter().position(|(known, _)| *known == code).unwrap_or_else(|| {
            all.push((code, Counts::none(&self.bounds)));
            all.len() - 1
        });
        let counts = &mut all[place].1;
        counts.calls += 1;
        counts.bytes_in += ended.bytes_in;
        counts.bytes_out += ended.bytes_out;
        counts.microseconds += ended.microseconds;
        counts.times[within(&self.bounds.times, ended.microseconds)] += 1;
        counts.sizes_in[within(&self.bounds.sizes, ended.bytes_in)] += 1;
        if ended.bytes_out > 0 {
            counts.sizes_out[within(&self.bounds.sizes, ended.bytes_out)] += 1;
        }
        if !series.listed.replace(true) {
            self.fresh.borrow_mut().push(Rc::clone(series));
        }
    }

    /// What was counted since the last time.
    pub fn collect(&self) -> Vec<Collected> {
        let mut all = Vec::new();
        for series in self.fresh.take() {
            series.listed.set(false);
            all.extend(series.counts.take().into_iter().map(|(code, counts)| ((series.key.clone(), code), counts)));
        }
        all
    }
}

/// Whose calls, the code that they ended with, and their figures.
pub type Collected = ((Key, usize), Counts);

fn within(bounds: &[u64], value: u64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

/// Adds the figures of several workers.
pub fn merged(parts: impl IntoIterator<Item = Collected>) -> Vec<Collected> {
    let mut sums: foldhash::HashMap<(Key, usize), Counts> = foldhash::HashMap::default();
    for (key, part) in parts {
        match sums.entry(key) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(part);
            }
            std::collections::hash_map::Entry::Occupied(mut place) => place.get_mut().add(&part),
        }
    }
    sums.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(model: &str) -> Key {
        Key { way: Way::Here, model: model.into(), alias: "".into(), method: "a.B/C".into() }
    }

    fn bounds() -> Bounds {
        Bounds { times: [10, 20].into(), sizes: [4].into() }
    }

    #[test]
    fn each_call_is_collected_once_by_its_code() {
        let counters = Counters::new(bounds());
        let series = Series::new(key("m"));
        for (code, bytes_out, microseconds) in [(0, 4, 10), (0, 5, 11), (5, 0, 500), (99, 5, 20)] {
            counters.count(&series, Ended { code, bytes_in: 3, bytes_out, microseconds });
        }
        let mut found = counters.collect();
        found.sort_by_key(|((_, code), _)| *code);
        assert_eq!(
            found.iter().map(|((of, code), counts)| (of.clone(), *code, counts.calls)).collect::<Vec<_>>(),
            [(key("m"), 0, 2), (key("m"), 2, 1), (key("m"), 5, 1)]
        );
        let (answered, failed) = (&found[0].1, &found[2].1);
        assert_eq!((answered.bytes_in, answered.bytes_out, answered.microseconds), (6, 9, 21));
        assert_eq!((&answered.times[..], &answered.sizes_in[..], &answered.sizes_out[..]), (&[1, 1, 0][..], &[2, 0][..], &[1, 1][..]));
        assert_eq!((&failed.times[..], &failed.sizes_out[..]), (&[0, 0, 1][..], &[0, 0][..]));
        assert!(counters.collect().is_empty());
        counters.count(&series, Ended { code: 0, bytes_in: 0, bytes_out: 0, microseconds: 1 });
        assert_eq!(counters.collect()[0].1.times, [1, 0, 0]);
    }

    #[test]
    fn figures_of_workers_are_added() {
        let part = Counts { calls: 1, bytes_in: 1, bytes_out: 2, times: vec![1, 0], microseconds: 5, ..Counts::default() };
        let mut sums =
            merged([((key("a"), 0), part.clone()), ((key("b"), 0), part.clone()), ((key("a"), 0), part.clone()), ((key("a"), 5), part)]);
        sums.sort_by(|one, other| (&one.0.0.model, one.0.1).cmp(&(&other.0.0.model, other.0.1)));
        assert_eq!(
            sums.iter().map(|(_, counts)| (counts.calls, counts.times[0], counts.bytes_out)).collect::<Vec<_>>(),
            [(2, 2, 4), (1, 1, 2), (1, 1, 2)]
        );
    }
}
