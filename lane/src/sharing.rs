//! Which of its versions a service's call goes to (`mesh/core/traffic/choice.py`; `mesh/core/routing/sharing.py` says what is decided here).

use crate::worker::Worker;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use std::sync::Arc;

/// Weights of a destination add up to this; percentages are of as many.
const WHOLE: f64 = 100.0;
/// Bits of a digest that say where a caller stands: as many as a number of 64 bits keeps exactly.
const BITS: u32 = 53;

/// What a call is like.
pub trait Asked {
    /// The first value of a header.
    fn header(&self, name: &HeaderName) -> Option<&HeaderValue>;
    /// A number from 0 to below 1, a new one each time.
    fn draw(&self) -> f64;
}

/// A gRPC call, by its headers.
pub struct Metadata<'a>(pub &'a HeaderMap, pub &'a Worker);

impl Asked for Metadata<'_> {
    fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.get(name)
    }

    fn draw(&self) -> f64 {
        self.1.chance()
    }
}

/// How the calls of a service are shared among models.
#[derive(Debug)]
pub struct Sharing {
    /// Its name, which goes into the place of each of its callers.
    pub service: String,
    /// The first one that a call fits decides.
    pub rules: Vec<Rule>,
    /// Where calls go that fit none.
    pub rest: Destination,
}

/// Calls that are like one of the matches go there.
#[derive(Debug)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub to: Destination,
}

/// What a call has to be like: all of it.
#[derive(Debug)]
pub struct Match {
    pub headers: Vec<(HeaderName, Test)>,
    /// Of the calls that are like that otherwise.
    pub percent: Option<f64>,
}

/// What is asked of a header.
#[derive(Debug, PartialEq, Eq)]
pub enum Test {
    Exact(String),
    Prefix(String),
    Present(bool),
}

/// Models that share calls.
#[derive(Debug)]
pub struct Destination {
    /// Models and weights, the stable one last: when another's weight grows, nobody is taken from it. Never empty.
    pub shares: Vec<(Arc<str>, u8)>,
    /// Callers with the same value of this header go the same way; without it, or one of them, it is by chance.
    pub sticky: Option<HeaderName>,
}

/// A value that is no plain text: what it says is Python's to find out.
#[derive(Debug, PartialEq, Eq)]
pub struct Odd;

impl Sharing {
    /// The model for a call.
    pub fn choose(&self, asked: &dyn Asked) -> Result<&Arc<str>, Odd> {
        for rule in &self.rules {
            for one in &rule.matches {
                if one.fits(asked)? {
                    return self.shared(&rule.to, asked);
                }
            }
        }
        self.shared(&self.rest, asked)
    }

    fn shared<'a>(&self, to: &'a Destination, asked: &dyn Asked) -> Result<&'a Arc<str>, Odd> {
        let Some(((last, _), others)) = to.shares.split_last() else { return Err(Odd) };
        if others.is_empty() {
            return Ok(last);
        }
        let mut left = WHOLE
            * match to.sticky.as_ref().and_then(|name| asked.header(name)) {
                Some(value) => position(&self.service, text(value)?),
                None => asked.draw(),
            };
        for (model, weight) in others {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Ok(model);
            }
        }
        Ok(last)
    }
}

impl Match {
    fn fits(&self, asked: &dyn Asked) -> Result<bool, Odd> {
        for (name, test) in &self.headers {
            if !test.holds(asked.header(name))? {
                return Ok(false);
            }
        }
        // Asked last, so that a number is drawn only for calls that are like that otherwise.
        Ok(self.percent.is_none_or(|percent| asked.draw() * WHOLE < percent))
    }
}

impl Test {
    fn holds(&self, value: Option<&HeaderValue>) -> Result<bool, Odd> {
        Ok(match (self, value) {
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (_, None) => false,
            (Self::Exact(wanted), Some(value)) => text(value)? == wanted,
            (Self::Prefix(wanted), Some(value)) => text(value)?.starts_with(&**wanted),
        })
    }
}

fn text(value: &HeaderValue) -> Result<&str, Odd> {
    value.to_str().map_err(|_| Odd)
}

/// Where a caller stands from 0 to below 1, for good: the first bits of SHA-256 over the service's name, a zero byte and the value.
fn position(service: &str, value: &str) -> f64 {
    let digest = digest(&SHA256, &[service.as_bytes(), b"\0", value.as_bytes()].concat());
    let first = digest.as_ref().iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    (first >> (64 - BITS)) as f64 / (1u64 << BITS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Call {
        headers: HeaderMap,
        draws: f64,
        drawn: Cell<u32>,
    }

    impl Asked for Call {
        fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
            self.headers.get(name)
        }

        fn draw(&self) -> f64 {
            self.drawn.set(self.drawn.get() + 1);
            self.draws
        }
    }

    fn call(headers: &[(&'static str, &[u8])], draws: f64) -> Call {
        let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value")));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        Call { headers, draws, drawn: Cell::default() }
    }

    fn to(shares: &[(&str, u8)], sticky: Option<&'static str>) -> Destination {
        let shares = shares.iter().map(|(model, weight)| ((*model).into(), *weight)).collect();
        Destination { shares, sticky: sticky.map(HeaderName::from_static) }
    }

    fn only(model: &str) -> Destination {
        to(&[(model, 100)], None)
    }

    fn sharing(rules: Vec<Rule>, rest: Destination) -> Sharing {
        Sharing { service: "mnist".into(), rules, rest }
    }

    fn matching(headers: Vec<(&'static str, Test)>, percent: Option<f64>) -> Match {
        Match { headers: headers.into_iter().map(|(name, test)| (HeaderName::from_static(name), test)).collect(), percent }
    }

    fn rule(matches: Vec<Match>, model: &str) -> Rule {
        Rule { matches, to: only(model) }
    }

    fn exact(name: &'static str, value: &str) -> Match {
        matching(vec![(name, Test::Exact(value.into()))], None)
    }

    fn chosen(sharing: &Sharing, call: &Call) -> String {
        sharing.choose(call).expect("plain text").to_string()
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_one_of_its_matches_is_enough() {
        let prefix = matching(vec![("x-group", Test::Prefix("b".into()))], None);
        let rules = vec![rule(vec![exact("x-group", "beta"), exact("x-old", "1")], "new"), rule(vec![prefix], "old")];
        let sharing = sharing(rules, only("stable"));
        for (headers, model) in [
            (&[("x-group", b"beta".as_slice())], "new"),
            (&[("x-group", b"best")], "old"),
            (&[("x-group", b"Beta")], "stable"),
            (&[("x-old", b"1")], "new"),
            (&[("x-old", b"12")], "stable"),
        ] {
            assert_eq!(chosen(&sharing, &call(headers, 0.0)), model, "{headers:?}");
        }
        assert_eq!(chosen(&sharing, &call(&[("x-group", b"best"), ("x-group", b"beta")], 0.0)), "old", "the first value counts");
    }

    #[test]
    fn all_conditions_of_a_match_have_to_hold() {
        let both = matching(vec![("a", Test::Exact("1".into())), ("b", Test::Present(false))], None);
        let sharing = sharing(vec![rule(vec![both], "new")], only("stable"));
        assert_eq!(chosen(&sharing, &call(&[("a", b"1")], 0.0)), "new");
        assert_eq!(chosen(&sharing, &call(&[("a", b"1"), ("b", b"")], 0.0)), "stable");
        assert_eq!(chosen(&sharing, &call(&[], 0.0)), "stable");
    }

    #[test]
    fn a_header_that_is_there_is_present_whatever_it_says() {
        let sharing = sharing(vec![rule(vec![matching(vec![("a", Test::Present(true))], None)], "new")], only("stable"));
        for (headers, model) in [(vec![("a", b"".as_slice())], "new"), (vec![("a", b"\xff")], "new"), (vec![("b", b"1")], "stable")] {
            assert_eq!(chosen(&sharing, &call(&headers, 0.0)), model);
        }
    }

    #[test]
    fn what_is_no_plain_text_is_pythons_where_it_is_asked_for() {
        let sharing = sharing(vec![rule(vec![exact("a", "1")], "new")], to(&[("new", 50), ("stable", 50)], Some("u")));
        assert_eq!(sharing.choose(&call(&[("a", b"\xc3\xa9")], 0.0)), Err(Odd));
        assert_eq!(sharing.choose(&call(&[("u", b"\xff")], 0.0)), Err(Odd));
        assert_eq!(chosen(&sharing, &call(&[("a", b"1"), ("u", b"\xff")], 0.0)), "new");
    }

    #[test]
    fn a_percentage_takes_so_many_of_the_calls_that_fit_and_is_asked_last() {
        let some = matching(vec![("a", Test::Exact("1".into()))], Some(10.0));
        let sharing = sharing(vec![rule(vec![some], "new")], only("stable"));
        for (headers, draws, model, drawn) in
            [(vec![("a", b"1".as_slice())], 0.09, "new", 1), (vec![("a", b"1")], 0.1, "stable", 1), (vec![("a", b"2")], 0.0, "stable", 0)]
        {
            let call = call(&headers, draws);
            assert_eq!((chosen(&sharing, &call), call.drawn.get()), (model.to_owned(), drawn));
        }
    }

    #[test]
    fn weights_are_the_shares_of_what_is_drawn() {
        let sharing = sharing(vec![], to(&[("old", 20), ("new", 30), ("stable", 50)], None));
        let models: Vec<String> = (0..1000).map(|number| chosen(&sharing, &call(&[], f64::from(number) / 1000.0))).collect();
        let count = |model| models.iter().filter(|chosen| *chosen == model).count();
        assert_eq!([count("old"), count("new"), count("stable")], [200, 300, 500]);
        let canary = self::sharing(vec![], to(&[("new", 5), ("stable", 95)], None));
        let drawn = [0.0, 0.049, 0.05, 0.999].map(|draws| chosen(&canary, &call(&[], draws)));
        assert_eq!(drawn, ["new", "new", "stable", "stable"]);
    }

    #[test]
    fn where_one_model_takes_all_nothing_is_drawn() {
        let call = call(&[], 0.0);
        assert_eq!(chosen(&sharing(vec![], only("stable")), &call), "stable");
        assert_eq!(call.drawn.get(), 0);
    }

    #[test]
    fn where_a_caller_stands_is_the_same_everywhere() {
        // Python has these figures too (`tests/unit/core/test_traffic_choice.py`).
        assert_eq!(position("mnist", "alice"), 0.728_818_816_946_973);
        assert_eq!(position("mnist", ""), 0.153_852_600_806_833_27);
        assert_ne!(position("other", "alice"), position("mnist", "alice"));
    }

    #[test]
    fn callers_with_the_same_value_go_the_same_way_and_those_without_go_by_chance() {
        let sharing = sharing(vec![], to(&[("new", 72), ("stable", 28)], Some("x-user")));
        for (headers, draws, model, drawn) in
            [(vec![("x-user", b"alice".as_slice())], 0.0, "stable", 0), (vec![("x-user", b"")], 0.9, "new", 0), (vec![], 0.1, "new", 1)]
        {
            let call = call(&headers, draws);
            assert_eq!((chosen(&sharing, &call), call.drawn.get()), (model.to_owned(), drawn));
        }
    }

    #[test]
    fn nobody_is_taken_from_a_version_whose_weight_grows() {
        let way = |weight: u8, user: &str| {
            let sharing = sharing(vec![], to(&[("new", weight), ("stable", 100 - weight)], Some("u")));
            chosen(&sharing, &call(&[("u", user.as_bytes())], 0.0))
        };
        let mut moved = 0;
        for user in (0..200).map(|number| number.to_string()) {
            let mut before = "stable".to_owned();
            for weight in (0..=100).step_by(5) {
                let now = way(weight, &user);
                assert!(before == "stable" || now == "new", "{user} left the canary at {weight} %");
                before = now;
            }
            moved += usize::from(before == "new");
        }
        assert_eq!(moved, 200, "with all of the weight all callers are there");
    }
}
