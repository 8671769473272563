//! What happens in a scenario, drawn from a seed and told in a line each.

use crate::model::LISTS;
use crate::support::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Good,
    Bad,
    Other,
    /// `good:1`, by the id of its content.
    GoodById,
}

/// Containers are meant by their number among those that there are, whatever that is by then.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Run {
        from: From,
        is_web: bool,
        has_label: bool,
        uses_network: bool,
        policy: &'static str,
        /// Created, and left for a start.
        only_created: bool,
    },
    Start(usize),
    Stop(usize),
    Restart(usize),
    Rename(usize),
    Pause(usize),
    Unpause(usize),
    Remove(usize),
    /// The name gets other content.
    Tag(&'static str),
    Untag(&'static str),
    List {
        number: usize,
        /// Goes on only when it is in force.
        waits: bool,
    },
    Engine {
        is_killed: bool,
        keeps_containers: bool,
        /// Happens while it is away.
        meanwhile: Option<Box<Step>>,
    },
    /// It hangs for a moment.
    Hang(Option<Box<Step>>),
    Warden {
        is_killed: bool,
        meanwhile: Vec<Step>,
    },
    /// dockwarden is frozen while things happen and the engine restarts, which forgets its events.
    Blind {
        is_killed: bool,
        meanwhile: Vec<Step>,
    },
    /// All has come to rest and is looked at.
    Rest,
}

pub(crate) struct Story {
    pub(crate) first_list: usize,
    /// Whether full lists come often, or only when something calls for one.
    pub(crate) resyncs: bool,
    pub(crate) steps: Vec<Step>,
}

impl Story {
    /// No full list comes, and what is denied becomes so by a new name, or runs again by a call that
    /// starts nothing.
    pub(crate) fn of_single_events() -> Self {
        let list = |name: &str| {
            let number = LISTS.iter().position(|list| list.name == name);
            number.expect("a list of that name")
        };
        let run = |from| Step::Run {
            from,
            is_web: true,
            has_label: false,
            uses_network: false,
            policy: "no",
            only_created: false,
        };
        let steps = vec![
            run(From::Good),
            Step::Rest,
            Step::Rename(0),
            Step::Rest,
            Step::List {
                number: list("pause"),
                waits: true,
            },
            run(From::Bad),
            Step::Rest,
            Step::Unpause(1),
            Step::Rest,
        ];
        Self {
            first_list: list("name"),
            resyncs: false,
            steps,
        }
    }

    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let first_list = random.below(LISTS.len());
        let resyncs = random.chance(25);
        let mut steps: Vec<Step> = (0..3).map(|_| run(&mut random)).collect();
        for _ in 0..3 {
            for _ in 0..6 + random.below(5) {
                steps.push(step(&mut random));
            }
            steps.push(Step::Rest);
        }
        Self {
            first_list,
            resyncs,
            steps,
        }
    }
}

fn run(random: &mut Random) -> Step {
    Step::Run {
        from: random.weighted(&[
            (4, From::Good),
            (2, From::Bad),
            (2, From::Other),
            (2, From::GoodById),
        ]),
        is_web: random.chance(60),
        has_label: random.chance(50),
        uses_network: random.chance(20),
        policy: random.pick::<&str>(&["no", "no", "always", "on-failure"]),
        only_created: random.chance(10),
    }
}

/// What may happen at any time, and takes no more than a call.
fn small(random: &mut Random) -> Step {
    let which = random.below(64);
    let kind = random.weighted(&[
        (6, 0),
        (2, 1),
        (2, 2),
        (2, 3),
        (4, 4),
        (3, 5),
        (5, 6),
        (1, 7),
        (3, 8),
        (2, 9),
    ]);
    let name = *random.pick(&["good:1", "good:1", "other:1"]);
    match kind {
        0 => run(random),
        1 => Step::Start(which),
        2 => Step::Stop(which),
        3 => Step::Restart(which),
        4 => Step::Rename(which),
        5 => Step::Pause(which),
        6 => Step::Unpause(which),
        7 => Step::Remove(which),
        8 => Step::Tag(name),
        _ => Step::Untag(name),
    }
}

fn list(random: &mut Random) -> Step {
    Step::List {
        number: random.below(LISTS.len()),
        waits: random.chance(50),
    }
}

fn step(random: &mut Random) -> Step {
    match random.below(100) {
        0..70 => small(random),
        70..82 => list(random),
        82..87 => Step::Blind {
            is_killed: random.chance(50),
            meanwhile: (0..1 + random.below(4)).map(|_| small(random)).collect(),
        },
        87..92 => Step::Engine {
            is_killed: random.chance(50),
            keeps_containers: random.chance(70),
            meanwhile: random.chance(40).then(|| Box::new(list(random))),
        },
        92..94 => Step::Hang(random.chance(50).then(|| Box::new(list(random)))),
        _ => Step::Warden {
            is_killed: random.chance(50),
            meanwhile: (0..random.below(4)).map(|_| small(random)).collect(),
        },
    }
}
