//! What ought to be true, known from what the test did and from nothing that dockwarden says.

use crate::support::{Engine, Life};
use std::collections::BTreeMap;

/// A list in a few words: what it allows is decided here a second time, in the plainest way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    /// Its only rule is called `by-` and this, which is no key of a list.
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    images: &'static [&'static str],
    /// What the container's name begins with.
    prefix: &'static str,
    /// Whether the label `team=shop` is wanted.
    wants_label: bool,
    /// Whether the network of the host is granted.
    grants_network: bool,
    pub(crate) has_max: bool,
    pub(crate) enforces: bool,
    /// What is denied is frozen, not killed.
    pub(crate) pauses: bool,
}

const PLAIN: List = List {
    name: "",
    text: "",
    images: &["good:1"],
    prefix: "",
    wants_label: false,
    grants_network: true,
    has_max: false,
    enforces: true,
    pauses: false,
};

/// The guard holds nothing back: what a list says is to come true here.
pub(crate) const LISTS: &[List] = &[
    List {
        name: "image",
        text: r#"image = "good:1""#,
        ..PLAIN
    },
    List {
        name: "images",
        text: r#"image = ["good:1", "other:1"]"#,
        images: &["good:1", "other:1"],
        ..PLAIN
    },
    List {
        name: "name",
        text: r#"image = ["good:1", "other:1"]
container = "web-*""#,
        images: &["good:1", "other:1"],
        prefix: "web-",
        ..PLAIN
    },
    List {
        name: "label",
        text: r#"image = ["good:1", "other:1"]
labels = { team = "shop" }"#,
        images: &["good:1", "other:1"],
        wants_label: true,
        ..PLAIN
    },
    List {
        name: "grants",
        text: r#"image = "good:1"
grants = []"#,
        grants_network: false,
        ..PLAIN
    },
    List {
        name: "max",
        text: r#"image = "good:1"
max = 2"#,
        has_max: true,
        ..PLAIN
    },
    List {
        name: "audit",
        text: r#"image = "good:1""#,
        enforces: false,
        ..PLAIN
    },
    List {
        name: "pause",
        text: r#"image = "good:1"
container = "web-*""#,
        prefix: "web-",
        pauses: true,
        ..PLAIN
    },
];

impl List {
    pub(crate) fn toml(&self) -> String {
        let mode = if self.enforces { "enforce" } else { "audit" };
        let action = if self.pauses { "pause" } else { "kill" };
        format!(
            "version = 1\nmode = \"{mode}\"\naction = \"{action}\"\n\
             guard = {{ share = 1.0, min = 1000 }}\n\
             [[allow]]\nrule = \"by-{}\"\n{}\n",
            self.name, self.text
        )
    }

    fn allows(&self, one: &One) -> bool {
        let has_image = one
            .images
            .iter()
            .any(|image| self.images.contains(&&**image));
        has_image
            && one.name.starts_with(self.prefix)
            && (one.has_label || !self.wants_label)
            && (!one.uses_network || self.grants_network)
    }
}

/// A container that the test made.
pub(crate) struct One {
    pub(crate) id: String,
    pub(crate) name: String,
    /// What it was created from; those of its content when it was started by an image's id.
    pub(crate) images: Vec<String>,
    /// The content that it was started from by its id.
    pub(crate) content: Option<String>,
    /// Whether its image's names are known as dockwarden first saw them: only then it counts.
    pub(crate) are_images_sure: bool,
    /// dockwarden has had the time to see it since it was made, or since its own restart.
    pub(crate) is_seen: bool,
    pub(crate) has_label: bool,
    pub(crate) uses_network: bool,
    /// The life that nobody but the test may end, while there is one.
    pub(crate) life: Option<Life>,
    /// It was allowed at every moment so far.
    pub(crate) is_innocent: bool,
}

pub(crate) struct Model {
    pub(crate) all: Vec<One>,
    /// The lists one of which is in force: the last one, and those before it until that is sure.
    pub(crate) lists: Vec<List>,
    /// Contents by their names.
    pub(crate) tags: BTreeMap<String, String>,
}

impl Model {
    pub(crate) fn new(list: List) -> Self {
        Self {
            all: Vec::new(),
            lists: vec![list],
            tags: BTreeMap::new(),
        }
    }

    pub(crate) fn list(&self) -> List {
        self.lists[self.lists.len() - 1]
    }

    /// Whether nobody may touch it now, whichever list is in force.
    pub(crate) fn is_safe(&self, one: &One) -> bool {
        let mut lists = self.lists.iter();
        one.are_images_sure
            && lists.all(|list| !list.enforces || (list.allows(one) && !list.has_max))
    }

    /// Whether the last list allows it; none where `max` or names that are not known decide.
    pub(crate) fn is_allowed(&self, one: &One) -> Option<bool> {
        let list = self.list();
        let allows = list.allows(one);
        (one.are_images_sure && !(allows && list.has_max)).then_some(allows)
    }

    /// Whatever has changed: a life that may be ended from now on counts no longer.
    pub(crate) fn weigh(&mut self) {
        let safe: Vec<bool> = self.all.iter().map(|one| self.is_safe(one)).collect();
        for (one, is_safe) in self.all.iter_mut().zip(safe) {
            if !is_safe {
                one.life = None;
                one.is_innocent = false;
            }
        }
    }

    /// Names of images have moved: what was started by an id and not seen yet may be seen either way.
    pub(crate) fn names_moved(&mut self) {
        for one in &mut self.all {
            if one.content.is_some() && !one.is_seen {
                one.are_images_sure = false;
            }
        }
        self.weigh();
    }

    /// The names of a content.
    pub(crate) fn names_of(&self, content: &str) -> Vec<String> {
        let names = self.tags.iter().filter(|(_, of)| *of == content);
        names.map(|(name, _)| name.clone()).collect()
    }

    /// What lives now and is nobody's to end has a life that counts.
    pub(crate) fn adopt(&mut self, engine: &Engine, number: usize) {
        if self.is_safe(&self.all[number]) && self.all[number].life.is_none() {
            let life = engine.life(&self.all[number].id);
            if matches!(&*life.state, "running" | "paused") {
                self.all[number].life = Some(life);
            }
        }
    }
}
