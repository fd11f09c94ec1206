//! Which of a model's ready copies serves a call (`mesh/core/routing/journey.py: _to_a_copy`, reference 3.6).

use crate::busy::now;
use crate::copy::Copy;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

const BALANCED: HeaderName = HeaderName::from_static("mm-balanced");

/// Whether the caller spreads its calls over the pods itself.
pub fn balanced(headers: &HeaderMap) -> bool {
    headers.get_all(BALANCED).iter().any(|value| value == "true")
}

/// The less busy of two copies drawn at random, unless the caller chose this pod; None if no copy can be called now.
pub fn choose(copies: &[Arc<Copy>], balanced: bool, draw: impl FnMut(usize) -> usize) -> Option<Arc<Copy>> {
    if let [only] = copies {
        return only.peer().is_none_or(|_| try_it(only, now())).then(|| Arc::clone(only));
    }
    let now = now();
    let here = copies.iter().find(|copy| copy.peer().is_none()).filter(|_| balanced);
    let free: Vec<&Arc<Copy>> = copies.iter().filter(|copy| copy.peer().is_none_or(|peer| !peer.left_out(now))).collect();
    let chosen = match here {
        Some(here) if !here.limited() => here,
        Some(here) => Some(lighter(&free, now, draw)?).filter(|chosen| chosen.busy.calls(now) < here.busy.calls(now)).unwrap_or(here),
        None => lighter(&free, now, draw)?,
    };
    if !try_it(chosen, now) {
        return None;
    }
    chosen.busy.chosen();
    Some(Arc::clone(chosen))
}

fn try_it(copy: &Copy, now: u64) -> bool {
    let Some(peer) = copy.peer() else { return true };
    let free = !peer.left_out(now);
    if free {
        peer.tried(now);
    }
    free
}

fn lighter<'a>(copies: &[&'a Arc<Copy>], now: u64, mut draw: impl FnMut(usize) -> usize) -> Option<&'a Arc<Copy>> {
    if copies.len() < 2 {
        return copies.first().copied();
    }
    let one = draw(copies.len());
    let other = (one + 1 + draw(copies.len() - 1)) % copies.len();
    Some(if copies[other].burden(now) < copies[one].burden(now) { copies[other] } else { copies[one] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::busy::Busy;
    use crate::copy::{Entry, Host, Inside};
    use crate::news::News;
    use crate::peer::Peer;
    use crate::places::{Address, Places};
    use crate::turns::Turns;
    use http::HeaderValue;
    use std::sync::atomic::AtomicU64;

    struct Mesh {
        turns: Arc<AtomicU64>,
        places: Places,
        news: Arc<News>,
    }

    impl Mesh {
        fn new() -> Self {
            Self { turns: Arc::default(), places: Places::default(), news: Arc::new(News::new().expect("an eventfd")) }
        }

        fn here(&self, limit: u32) -> Arc<Copy> {
            let host = Host::Runtime(self.places.place(Address::parse("a:1"), false));
            let turns = (limit > 0).then(|| Turns::new(limit, 0, Arc::default()));
            Arc::new(Copy::new(host, Arc::new(Busy::new(Arc::clone(&self.turns))), None, 1, turns, Arc::clone(&self.news)))
        }

        fn on(&self, pod: &str) -> (Arc<Peer>, Arc<Copy>) {
            let peer = Arc::new(Peer::new(pod, Arc::new(Busy::new(Arc::clone(&self.turns)))));
            peer.moved(Some(self.places.place(Address::parse(&format!("{pod}:1")), true)), false);
            let busy = Arc::clone(&peer.busy);
            (Arc::clone(&peer), Arc::new(Copy::new(Host::Peer(peer), busy, None, 1, None, Arc::clone(&self.news))))
        }
    }

    fn inside(copy: &Arc<Copy>) -> Inside {
        let Entry::Entered(inside) = copy.enter() else { panic!("no room") };
        inside
    }

    fn chosen(copies: &[Arc<Copy>], balanced: bool) -> Option<usize> {
        let chosen = choose(copies, balanced, |_| 0)?;
        copies.iter().position(|copy| Arc::ptr_eq(copy, &chosen))
    }

    #[test]
    fn of_two_the_one_on_the_less_busy_pod_is_taken_then_that_chosen_longer_ago() {
        let mesh = Mesh::new();
        let copies = [mesh.here(0), mesh.on("b").1];
        assert_eq!([chosen(&copies, false), chosen(&copies, false), chosen(&copies, false)], [Some(0), Some(1), Some(0)]);
        // What runs on the pod counts, whatever model it is of.
        copies[1].busy.began();
        assert_eq!([chosen(&copies, false), chosen(&copies, false)], [Some(0), Some(0)]);
        let _two = (inside(&copies[0]), inside(&copies[0]));
        assert_eq!(chosen(&copies, false), Some(1));
    }

    #[test]
    fn who_spreads_calls_over_pods_gets_the_copy_of_the_one_it_called() {
        let mesh = Mesh::new();
        let copies = [mesh.on("b").1, mesh.here(0)];
        let _busy = (inside(&copies[1]), inside(&copies[1]));
        assert_eq!([chosen(&copies, true), chosen(&copies, true)], [Some(1), Some(1)]);
        assert_eq!(chosen(&copies, false), Some(0));
    }

    #[test]
    fn where_calls_stand_in_line_it_gets_that_only_if_no_other_is_less_busy() {
        let mesh = Mesh::new();
        let copies = [mesh.on("b").1, mesh.here(1)];
        assert_eq!(chosen(&copies, true), Some(1));
        let _busy = inside(&copies[1]);
        assert_eq!(chosen(&copies, true), Some(0));
    }

    #[test]
    fn pods_that_cannot_be_called_are_left_out() {
        let mesh = Mesh::new();
        let ((first, one), (second, other)) = (mesh.on("b"), mesh.on("c"));
        let copies = [one, other];
        first.failed();
        assert_eq!([chosen(&copies, false), chosen(&copies, false)], [Some(1), Some(1)]);
        assert_eq!(chosen(&copies[..1], false), None);
        second.moved(None, false);
        assert_eq!(chosen(&copies, false), None);
    }

    #[test]
    fn only_the_word_true_is_meant() {
        let of = |text| balanced(&[(BALANCED, HeaderValue::from_static(text))].into_iter().collect());
        assert!(of("true") && !of("1") && !of("True"));
    }
}
