//! What is done with the calls of each method.

use foldhash::{HashMap, HashSet};
use std::sync::Arc;

/// How calls of one method name their model, and how the runtime wants it named (`mesh/core/routing/dataplane.py: Rule`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Field numbers from the request message to the id; empty if only headers name it.
    pub extract: Arc<[u32]>,
    /// The id in the field names an alias.
    pub alias: bool,
    /// The field counts only if no header names a model or alias.
    pub prefer_headers: bool,
    /// Where the runtime wants the concrete id; empty if headers are enough.
    pub inject: Arc<[u32]>,
}

/// The rules of all methods; names have no leading slash.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub methods: HashMap<Arc<str>, Arc<Rule>>,
    /// Methods without a rule; None: they are Python's.
    pub others: Option<Arc<Rule>>,
    /// Services and methods that Python answers itself, whatever their calls name.
    pub python: HashSet<Arc<str>>,
}

impl Rules {
    /// The rule of a method; None if its calls are Python's.
    pub fn of(&self, method: &str) -> Option<&Arc<Rule>> {
        if let Some(rule) = self.methods.get(method) {
            return Some(rule);
        }
        let (service, _) = method.rsplit_once('/')?;
        if self.python.contains(method) || self.python.contains(service) {
            return None;
        }
        self.others.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_python_answers_have_no_rule() {
        let rules = Rules {
            methods: [(Arc::from("a.B/Infer"), Arc::new(Rule { extract: [1].into(), ..Rule::default() }))].into_iter().collect(),
            others: Some(Arc::default()),
            python: ["mmesh.ModelMesh", "a.B/ServerLive"].into_iter().map(Arc::from).collect(),
        };
        assert_eq!(rules.of("a.B/Infer").map(|rule| &*rule.extract), Some(&[1][..]));
        assert_eq!(rules.of("a.B/Other").map(|rule| &*rule.extract), Some(&[][..]));
        assert!(rules.of("a.B/ServerLive").is_none() && rules.of("mmesh.ModelMesh/registerModel").is_none());
        assert!(rules.of("nonsense").is_none());
        assert!(Rules { others: None, ..rules }.of("a.B/Other").is_none());
    }
}
