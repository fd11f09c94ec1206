//! What one worker knows: resident models and their copies, aliases, and the rules of methods.

use crate::copy::Copy;
use crate::counters::{Key, Series, Way};
use crate::naming::{Name, naming};
use crate::rules::Rules;
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

/// The table of one worker; a look-up takes constant time and waits for nobody.
#[derive(Debug, Default)]
pub struct Table {
    models: HashMap<Arc<str>, Rc<Resident>>,
    aliases: HashMap<Arc<str>, Option<Arc<str>>>,
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
                self.aliases.insert(name, target);
            }
            Change::NoAlias(name) => {
                self.aliases.remove(&name);
            }
            Change::Rules(rules) => self.rules = rules,
        }
    }

    /// What a name leads to; None if that is Python's to find out.
    pub fn find(&self, name: &Name) -> Option<Found> {
        match name {
            Name::Model(id) => self.model(id),
            Name::Alias(alias) => self.alias(alias)?,
            // The name is told as that of an alias in figures, whatever it turned out to be: so does the Python door.
            Name::Either(either) => self
                .alias(either)
                .unwrap_or_else(|| self.model(either).map(|found| Found { alias: Some(Arc::clone(&found.resident.model.id)), ..found })),
        }
    }

    fn model(&self, id: &str) -> Option<Found> {
        self.models.get(id).map(|resident| Found { resident: Rc::clone(resident), alias: None })
    }

    /// None if there is no such alias here.
    fn alias(&self, name: &str) -> Option<Option<Found>> {
        let (name, target) = self.aliases.get_key_value(name)?;
        let found = target.as_ref().and_then(|target| self.model(target));
        Some(found.map(|found| Found { alias: Some(Arc::clone(name)), ..found }))
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
        table.find(&name).map(|found| (found.resident.model.id.to_string(), found.alias.map(|alias| alias.to_string())))
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
    fn what_was_counted_goes_on_when_copies_change() {
        let mut table = table();
        let series = |table: &Table| table.find(&Name::Model("a".into())).expect("resident").resident.series(Way::Here, None, "m");
        let before = series(&table);
        table.apply(Change::Model(Arc::new(Model::new("a", vec![]))));
        assert!(Rc::ptr_eq(&before, &series(&table)));
        table.apply(Change::NoModel("a".into()));
        assert_eq!(found(&table, Name::Model("a".into())), None);
    }

    #[test]
    fn made_up_methods_are_counted_together_beyond_some() {
        let table = table();
        let resident = table.find(&Name::Model("a".into())).expect("resident").resident;
        for number in 0..100 {
            resident.series(Way::Here, None, &format!("made.Up/{number}"));
        }
        assert_eq!(resident.series(Way::Here, None, "another").key.method.as_ref(), "");
        assert_eq!(resident.series.borrow().len(), MOST_SERIES);
    }
}
