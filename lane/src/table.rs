//! What one worker knows: resident models and their copies, aliases, and the rules of methods.

use crate::copy::Copy;
use crate::counters::{Key, Series, Way};
use crate::naming::{Name, naming};
use crate::rules::Rules;
use crate::sharing::{Asked, Sharing};
use foldhash::HashMap;
use http::{HeaderName, HeaderValue};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Series of one model that are told apart; callers may make up any number of method names.
const MOST_SERIES: usize = 32;

/// A model with ready copies, the same for all workers.
#[derive(Debug)]
pub struct Model {
    pub id: Arc<str>,
    /// Headers that name it to a runtime.
    pub naming: Vec<(HeaderName, HeaderValue)>,
    pub copies: Vec<Arc<Copy>>,
}

impl Model {
    pub fn new(id: &str, copies: Vec<Arc<Copy>>) -> Self {
        Self { id: id.into(), naming: naming(id), copies }
    }
}

/// One change; a batch of them is a version.
#[derive(Clone, Debug)]
pub enum Change {
    Model(Arc<Model>),
    NoModel(Arc<str>),
    /// None: the name is an alias, but its calls are Python's.
    Alias(Arc<str>, Option<Arc<str>>),
    /// The name is an alias, and its calls are shared.
    Shared(Arc<str>, Arc<Sharing>),
    NoAlias(Arc<str>),
    Rules(Arc<Rules>),
}

/// A model as one worker has it.
#[derive(Debug)]
pub struct Resident {
    pub model: Arc<Model>,
    series: Rc<RefCell<Vec<Rc<Series>>>>,
}

/// What a name leads to.
#[derive(Debug)]
pub struct Found {
    pub resident: Rc<Resident>,
    /// The alias that the call came by.
    pub alias: Option<Arc<str>>,
}

/// What is known of a call's way.
#[derive(Debug, Default)]
pub struct Lead {
    /// None: its way is Python's to find out.
    pub found: Option<Found>,
    /// The model that was chosen among those that share the alias's calls, whether it is resident or not.
    pub chosen: Option<Arc<str>>,
}

/// The table of one worker; a look-up takes constant time and waits for nobody.
#[derive(Debug, Default)]
pub struct Table {
    models: HashMap<Arc<str>, Rc<Resident>>,
    aliases: HashMap<Arc<str>, Option<Arc<str>>>,
    /// Of the aliases that lead to no one model. They stand apart, so that the others take no more time and room for them.
    shared: HashMap<Arc<str>, Arc<Sharing>>,
    pub rules: Arc<Rules>,
}

impl Table {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Model(model) => {
                // What was counted of a model goes on when its copies change.
                let series = self.models.get(&model.id).map_or_else(Rc::default, |known| Rc::clone(&known.series));
                self.models.insert(Arc::clone(&model.id), Rc::new(Resident { model, series }));
            }
            Change::NoModel(id) => {
                self.models.remove(&id);
            }
            Change::Alias(name, target) => {
                self.shared.remove(&name);
                self.aliases.insert(name, target);
            }
            Change::Shared(name, sharing) => {
                self.aliases.insert(Arc::clone(&name), None);
                self.shared.insert(name, sharing);
            }
            Change::NoAlias(name) => {
                self.shared.remove(&name);
                self.aliases.remove(&name);
            }
            Change::Rules(rules) => self.rules = rules,
        }
    }

    /// Where a name leads a call that is like that.
    pub fn find(&self, name: &Name, asked: &dyn Asked) -> Lead {
        match name {
            Name::Model(id) => Lead { found: self.model(id), chosen: None },
            Name::Alias(alias) => self.alias(alias, asked).unwrap_or_default(),
            // The name is told as that of an alias in figures, whatever it turned out to be: so does the Python door.
            Name::Either(either) => self.alias(either, asked).unwrap_or_else(|| {
                let found = self.model(either).map(|found| Found { alias: Some(Arc::clone(&found.resident.model.id)), ..found });
                Lead { found, chosen: None }
            }),
        }
    }

    /// A model that is resident.
    pub fn model(&self, id: &str) -> Option<Found> {
        self.models.get(id).map(|resident| Found { resident: Rc::clone(resident), alias: None })
    }

    /// Whether some calls by a name that is an alias's or a model's may go to a copy.
    pub fn knows(&self, name: &str) -> bool {
        let serves = |id: &str| self.models.get(id).is_some_and(|resident| !resident.model.copies.is_empty());
        match self.aliases.get(name) {
            None => serves(name),
            Some(Some(target)) => serves(target),
            Some(None) => self.shared.contains_key(name),
        }
    }

    /// None if there is no such alias here.
    fn alias(&self, name: &str, asked: &dyn Asked) -> Option<Lead> {
        let (name, target) = self.aliases.get_key_value(name)?;
        let (target, chosen) = match target {
            Some(target) => (Some(target), None),
            None => {
                let chosen = self.shared.get(name).and_then(|sharing| sharing.choose(asked).ok());
                (chosen, chosen.map(Arc::clone))
            }
        };
        let found = target.and_then(|target| self.model(target));
        Some(Lead { found: found.map(|found| Found { alias: Some(Arc::clone(name)), ..found }), chosen })
    }
}

impl Resident {
    /// Where calls of a method by a name are counted.
    pub fn series(&self, way: Way, alias: Option<&Arc<str>>, method: &str) -> Rc<Series> {
        let mut all = self.series.borrow_mut();
        let alias_text = alias.map_or("", |alias| alias);
        if let Some(known) = all.iter().find(|one| one.key.way == way && &*one.key.method == method && &*one.key.alias == alias_text) {
            return Rc::clone(known);
        }
        let method = if all.len() < MOST_SERIES { method } else { "" };
        let key = Key { way, model: Arc::clone(&self.model.id), alias: alias_text.into(), method: method.into() };
        let made = Series::new(key);
        if all.len() < MOST_SERIES {
            all.push(Rc::clone(&made));
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharing::Destination;

    /// A call without headers, of which this is drawn.
    struct Drawn(f64);

    impl Asked for Drawn {
        fn header(&self, _: &HeaderName) -> Option<&HeaderValue> {
            None
        }

        fn draw(&self) -> f64 {
            self.0
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        for id in ["a", "b"] {
            table.apply(Change::Model(Arc::new(Model::new(id, vec![]))));
        }
        for (alias, target) in [("to-a", Some("a")), ("b", None), ("cold", Some("c"))] {
            table.apply(Change::Alias(alias.into(), target.map(Into::into)));
        }
        table
    }

    fn found(table: &Table, name: Name) -> Option<(String, Option<String>)> {
        table.find(&name, &Drawn(0.0)).found.map(|found| (found.resident.model.id.to_string(), found.alias.map(|alias| alias.to_string())))
    }

    #[test]
    fn a_name_is_what_it_is_a_name_of() {
        let table = table();
        assert_eq!(found(&table, Name::Model("a".into())), Some(("a".into(), None)));
        assert_eq!(found(&table, Name::Alias("to-a".into())), Some(("a".into(), Some("to-a".into()))));
        assert_eq!(found(&table, Name::Alias("a".into())), None);
        assert_eq!(found(&table, Name::Model("to-a".into())), None);
        assert_eq!(found(&table, Name::Either("to-a".into())), Some(("a".into(), Some("to-a".into()))));
        assert_eq!(found(&table, Name::Either("a".into())), Some(("a".into(), Some("a".into()))));
    }

    #[test]
    fn an_alias_in_transition_hides_the_model_of_its_name() {
        assert_eq!(found(&table(), Name::Either("b".into())), None);
        assert_eq!(found(&table(), Name::Either("cold".into())), None);
        assert_eq!(found(&table(), Name::Model("b".into())), Some(("b".into(), None)));
    }

    #[test]
    fn calls_of_an_alias_are_shared_and_who_gets_them_instead_is_told_for_whom_they_are() {
        let mut table = table();
        let shares = ["a", "b", "c"].map(|model| (model.into(), if model == "c" { 50 } else { 25 }));
        let rest = Destination { shares: shares.into(), sticky: None };
        let sharing = Arc::new(Sharing { service: "s".into(), rules: vec![], rest });
        table.apply(Change::Shared("s".into(), sharing));
        let by = |table: &Table, draw| table.find(&Name::Either("s".into()), &Drawn(draw));
        for (draw, model) in [(0.0, "a"), (0.3, "b")] {
            let Lead { found, chosen } = by(&table, draw);
            let found = found.expect("resident");
            assert_eq!((&*found.resident.model.id, found.alias.as_deref(), chosen.as_deref()), (model, Some("s"), Some(model)));
        }
        let away = by(&table, 0.6);
        assert!(away.found.is_none() && away.chosen.as_deref() == Some("c") && table.knows("s"));
        table.apply(Change::Alias("s".into(), Some("a".into())));
        assert!(by(&table, 0.3).found.is_some() && by(&table, 0.3).chosen.is_none());
        table.apply(Change::Alias("s".into(), None));
        assert!(by(&table, 0.3).found.is_none() && !table.knows("s"));
        table.apply(Change::NoAlias("s".into()));
        assert_eq!(found(&table, Name::Alias("s".into())), None);
    }

    #[test]
    fn what_was_counted_goes_on_when_copies_change() {
        let mut table = table();
        let series = |table: &Table| table.model("a").expect("resident").resident.series(Way::Here, None, "m");
        let before = series(&table);
        table.apply(Change::Model(Arc::new(Model::new("a", vec![]))));
        assert!(Rc::ptr_eq(&before, &series(&table)));
        table.apply(Change::NoModel("a".into()));
        assert_eq!(found(&table, Name::Model("a".into())), None);
    }

    #[test]
    fn made_up_methods_are_counted_together_beyond_some() {
        let table = table();
        let resident = table.model("a").expect("resident").resident;
        for number in 0..100 {
            resident.series(Way::Here, None, &format!("made.Up/{number}"));
        }
        assert_eq!(resident.series(Way::Here, None, "another").key.method.as_ref(), "");
        assert_eq!(resident.series.borrow().len(), MOST_SERIES);
    }
}
