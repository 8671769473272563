//! Which container a word means, as Docker looks one up: the one with that full id, else the one of that name,
//! else the one whose id begins so. `db` and `cafe` are names and beginnings of ids alike.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;

use super::ContainerId;

/// How many are named that may be meant.
const NAMED: usize = 10;
/// So many digits of an id Docker's own tables show: people copy them, and nobody is called so.
const SHORT: usize = 12;

/// Who is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The one with this id.
    Id(ContainerId),
    /// Whoever is called so; one after the other several can be.
    Name(String),
}

impl Who {
    /// Whether this is the one.
    pub fn is(&self, (id, name): (&ContainerId, Option<&str>)) -> bool {
        match self {
            Self::Id(meant) => meant == id,
            Self::Name(meant) => name == Some(meant),
        }
    }
}

/// A word that begins the ids of several, and is nobody's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Ambiguous {
    word: String,
    ids: BTreeSet<ContainerId>,
}

impl fmt::Display for Ambiguous {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids.iter().take(NAMED).map(ContainerId::as_str);
        let ids = ids.collect::<Vec<_>>().join(", ");
        let word = &self.word;
        write!(
            formatter,
            "`{word}` begins the ids of several containers: {ids}"
        )?;
        match self.ids.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// A search for who is meant.
#[derive(Debug)]
pub struct LookUp<'a> {
    word: &'a str,
    /// Whether the word is a full id, which a name can be too.
    is_full: bool,
    exact: Option<Who>,
    begin_so: BTreeSet<ContainerId>,
    /// Whether a beginning still counts.
    takes_beginnings: bool,
}

impl<'a> LookUp<'a> {
    /// Of a word, among these first of all: one that is seen later is meant by the beginning of its id only where
    /// none of these is.
    pub fn among<'b>(
        word: &'a str,
        first: impl IntoIterator<Item = (&'b ContainerId, Option<&'b str>)>,
    ) -> Self {
        let mut look_up = Self {
            word,
            is_full: ContainerId::parse(word).is_some(),
            exact: None,
            begin_so: BTreeSet::new(),
            takes_beginnings: true,
        };
        let mut first = first.into_iter();
        let _ = first.try_for_each(|(id, name)| look_up.see(id, name));
        look_up.takes_beginnings = look_up.begin_so.is_empty();
        look_up
    }

    /// Takes in one more; breaks off where none that comes can be meant any more.
    pub fn see(&mut self, id: &ContainerId, name: Option<&str>) -> ControlFlow<()> {
        if id.as_str() == self.word {
            self.exact = Some(Who::Id(id.clone()));
        } else if name == Some(self.word) {
            self.exact = Some(Who::Name(self.word.to_owned()));
        } else if self.takes_beginnings && id.begins_with(self.word) {
            self.begin_so.insert(id.clone());
        }
        match self.is_certain() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Whether none that comes can be meant any more.
    pub fn is_certain(&self) -> bool {
        match self.exact {
            Some(Who::Id(_)) => true,
            Some(Who::Name(_)) => !self.is_full,
            // A whole log is not read for that.
            None => !self.takes_beginnings && self.begin_so.len() == 1 && self.word.len() >= SHORT,
        }
    }

    /// Who it is, of all that were seen.
    ///
    /// # Errors
    /// When it can be several.
    pub fn found(self) -> Result<Option<Who>, Ambiguous> {
        if self.exact.is_some() || self.begin_so.len() < 2 {
            let begins_so = self.begin_so.into_iter().next().map(Who::Id);
            return Ok(self.exact.or(begins_so));
        }
        Err(Ambiguous {
            word: self.word.to_owned(),
            ids: self.begin_so,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(beginning: &str) -> ContainerId {
        ContainerId::parse(&format!("{beginning:0<64}")).expect("full id")
    }

    #[test]
    fn a_full_id_goes_before_a_name_and_a_name_before_a_beginning() {
        let full = id("cafe1").as_str().to_owned();
        let all = [
            (id("db12"), Some("web")),
            (id("aa"), Some("db")),
            (id("bb"), Some(&*full)),
            (id("cafe1"), None),
            (id("cafe2"), Some("db")),
            (id("cd"), Some("cd")),
        ];
        let by_id = |beginning: &str| Ok(Some(Who::Id(id(beginning))));
        let by_name = |name: &str| Ok(Some(Who::Name(name.to_owned())));
        let pairs = || all.iter().map(|(id, name)| (id, *name));
        let backwards = || all.iter().rev().map(|(id, name)| (id, *name));
        for (word, expected) in [
            (&*full, by_id("cafe1")),
            (id("db12").as_str(), by_id("db12")),
            ("db", by_name("db")),
            ("web", by_name("web")),
            ("cd", by_name("cd")),
            ("db1", by_id("db12")),
            ("b", by_id("bb")),
            ("nobody", Ok(None)),
            ("DB1", Ok(None)),
            ("", Ok(None)),
        ] {
            let forwards = LookUp::among(word, pairs());
            assert_eq!(forwards.found(), expected, "{word}");
            let backwards = LookUp::among(word, backwards());
            assert_eq!(backwards.found(), expected, "{word}");
        }
        let several = LookUp::among("cafe", pairs()).found();
        let several = several.expect_err("several").to_string();
        assert!(several.contains(id("cafe1").as_str()), "{several}");
        assert!(several.contains(id("cafe2").as_str()), "{several}");
        // Where the one with that id is not there, the name is all that it can be.
        let others = pairs().filter(|(id, _)| id.as_str() != full);
        assert_eq!(LookUp::among(&full, others).found(), by_name(&full));
    }

    #[test]
    fn who_is_seen_later_is_meant_by_a_beginning_only_where_nobody_was() {
        let first = [(id("db12"), Some("web")), (id("aa"), Some("shop"))];
        let later = [
            (id("db34"), Some("aa")),
            (id("cd1"), None),
            (id("cd2"), None),
        ];
        let pairs = || first.iter().map(|(id, name)| (id, *name));
        let found = |word: &str| {
            let mut look_up = LookUp::among(word, pairs());
            let _ = later
                .iter()
                .try_for_each(|(id, name)| look_up.see(id, *name));
            look_up.found()
        };
        assert_eq!(found("db"), Ok(Some(Who::Id(id("db12")))));
        assert_eq!(found("db3"), Ok(Some(Who::Id(id("db34")))));
        assert_eq!(found("aa"), Ok(Some(Who::Name("aa".to_owned()))));
        assert!(found("cd").is_err());
        let is_certain = |word: &str| LookUp::among(word, pairs()).is_certain();
        assert!(is_certain("db1200000000") && !is_certain("db120000000"));
        assert!(is_certain("web") && !is_certain("db3400000000"));
    }

    #[test]
    fn of_very_many_some_are_named() {
        let ids: Vec<_> = (0..25).map(|number| id(&format!("a{number:02}"))).collect();
        let several = LookUp::among("a", ids.iter().map(|id| (id, None)));
        let said = several.found().expect_err("several").to_string();
        assert!(said.ends_with(" and 15 more"), "{said}");
        assert_eq!(said.matches(", ").count(), NAMED - 1, "{said}");
    }

    #[test]
    fn who_is_meant_by_name_may_have_been_several() {
        let who = Who::Name("db".to_owned());
        assert!(who.is((&id("aa"), Some("db"))) && who.is((&id("bb"), Some("db"))));
        assert!(!who.is((&id("db"), Some("web"))) && !who.is((&id("db"), None)));
        let who = Who::Id(id("aa"));
        assert!(who.is((&id("aa"), None)) && !who.is((&id("bb"), Some(id("aa").as_str()))));
    }
}
