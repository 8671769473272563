//! What was measured, as text and as a picture.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::bystanders::Starts;
use crate::decisions::{self, SIZES};
use crate::enforcers::Kind;
use crate::requests::Served;
use crate::statistics::{milliseconds, percentile};
use crate::usage::Usage;
use crate::victims::{Burst, Life};
use crate::{AT_ONCE, BURST_STARTS};

/// What the figures can't say.
const BOUNDS: &str = "
## What bounds the rest

- `api` and a burst: the engine's own kill, which takes milliseconds for one and dozens of them for many at once. What
  the bare floor leaves out (the verdict, the record, and an inspection for it) comes on top.
- Memory, with thousands of containers: what is known of each, some 6 KiB. Who enforces has it and, apart from that, the
  list that is shown.
- A start, with thousands of containers: all that is known of them is written down once a second while it changes.
";

/// Of one enforcer.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) idle: Vec<Life>,
    pub(crate) several: Vec<Life>,
    pub(crate) bursts: Vec<Burst>,
}

pub(crate) struct Report {
    starts: usize,
    figures: Vec<Figures>,
    pub(crate) requests: Vec<Served>,
    pub(crate) usage: Usage,
    pub(crate) bystanders: Vec<Starts>,
}

impl Report {
    pub(crate) fn begin(starts: usize) -> Self {
        Self {
            starts,
            figures: Kind::ALL.iter().map(|_| Figures::default()).collect(),
            requests: Vec::new(),
            usage: Usage::default(),
            bystanders: Vec::new(),
        }
    }

    pub(crate) fn of(&mut self, kind: Kind) -> &mut Figures {
        &mut self.figures[kind as usize]
    }

    fn rows(&self) -> impl Iterator<Item = (Kind, &Figures)> {
        Kind::ALL.into_iter().zip(&self.figures)
    }

    pub(crate) fn print(&self) {
        println!("{}", self.text());
    }

    pub(crate) fn write(&self, root: &Path) {
        let text = format!(
            "# Performance\n\nWritten by `make bench`; each figure below is from one run of it.\n\n\
             ![How long forbidden containers live](performance.svg)\n\n{}",
            self.text()
        );
        std::fs::write(root.join("docs/performance.md"), text).expect("written");
        std::fs::write(root.join("docs/performance.svg"), self.picture()).expect("written");
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n", machine());
        self.lives(&mut text, "One start at a time", |figures| &figures.idle);
        let heading = format!("{AT_ONCE} starts at once");
        self.lives(&mut text, &heading, |figures| &figures.several);
        self.bursts(&mut text);
        self.served(&mut text);
        self.taken(&mut text);
        self.waited(&mut text);
        decided(&mut text);
        text.push_str(BOUNDS);
        text
    }

    fn lives(&self, text: &mut String, heading: &str, lives: impl Fn(&Figures) -> &Vec<Life>) {
        let starts = self.starts;
        let floor = percentiles(lives(&self.figures[Kind::Floor as usize]));
        let _ = write!(
            text,
            "## {heading}\n\n{starts} forbidden containers each, created and started as `docker run` does it. \
             Time lived, in milliseconds, from a victim's first instruction to its last, as it wrote them \
             down itself; who never ran lived 0.\n\n\
             | ended by | never ran | p50 | p99 | max | p50 of the floor's | p99 of the floor's |\n\
             |---|---:|---:|---:|---:|---:|---:|\n"
        );
        for (kind, figures) in self.rows() {
            let lives = lives(figures);
            let never = lives.iter().filter(|life| **life == Life::NeverRan).count();
            let never = 100.0 * never as f64 / lives.len().max(1) as f64;
            let [p50, p99, max] = percentiles(lives);
            let _ = writeln!(
                text,
                "| {} | {never:.1} % | {p50:.1} | {p99:.1} | {max:.1} | {:.2} | {:.2} |",
                kind.name(),
                p50 / floor[0],
                p99 / floor[1]
            );
        }
        text.push('\n');
    }

    fn bursts(&self, text: &mut String) {
        let median = |figures: &Figures| {
            let took: Vec<_> = figures.bursts.iter().map(|burst| burst.took).collect();
            milliseconds(percentile(&took, 50.0))
        };
        let floor = median(&self.figures[Kind::Floor as usize]);
        let _ = write!(
            text,
            "## A burst\n\n{BURST_STARTS} forbidden containers started while who ends them stood still (SIGSTOP): \
             the time from going on until none ran, or no more ended, in milliseconds, the median of {} bursts; \
             and how many of all lived on.\n\n\
             | ended by | all dead after | of the floor's | lived on |\n|---|---:|---:|---:|\n",
            self.figures[0].bursts.len()
        );
        for (kind, figures) in self.rows() {
            let median = median(figures);
            let ratio = median / floor;
            let escaped: usize = figures.bursts.iter().map(|burst| burst.escaped).sum();
            let name = kind.name();
            let _ = writeln!(text, "| {name} | {median:.0} | {ratio:.2} | {escaped} |");
        }
        text.push('\n');
    }

    fn served(&self, text: &mut String) {
        text.push_str(
            "## `GET /containers`\n\nRequests a second over two connections (wrk), beside the engine's own list \
             and a handler that has the same bytes in memory; the median of three.\n\n\
             | containers | engine | in memory | dockwarden | of the engine's | of the handler's |\n\
             |---:|---:|---:|---:|---:|---:|\n",
        );
        for one in &self.requests {
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.0} | {:.0} | {:.0} | {:.2} |",
                one.containers,
                one.engine,
                one.memory,
                one.dockwarden,
                one.dockwarden / one.engine,
                one.dockwarden / one.memory
            );
        }
        text.push('\n');
    }

    fn taken(&self, text: &mut String) {
        text.push_str(
            "## What it takes\n\n`run`, controller and API in one process.\n\n\
             | | resident, MiB | of one processor | for one start more, ms of it |\n\
             |---|---:|---:|---:|\n",
        );
        let usage = &self.usage;
        let mut row = |what: &str, resident: f64, processor: f64, start: Option<f64>| {
            let start = start.map_or_else(String::new, |start| format!("{start:.2}"));
            let _ = writeln!(
                text,
                "| {what} | {resident:.1} | {processor:.2} % | {start} |"
            );
        };
        row(
            "idle, on `gate`",
            usage.idle_resident,
            usage.idle_processor,
            None,
        );
        for one in &self.requests {
            let what = format!("idle, {} containers", one.containers);
            row(&what, one.resident, one.quiet, Some(one.start));
        }
        let what = format!("{:.1} starts a second, on `gate`", usage.starts_a_second);
        row(&what, usage.busy_resident, usage.busy_processor, None);
    }

    fn waited(&self, text: &mut String) {
        text.push_str(
            "\n## What allowed containers wait\n\nTo be created and started, in milliseconds.\n\n\
             | followed by | p50 | p99 | starts |\n|---|---:|---:|---:|\n",
        );
        for Starts { follower, lengths } in &self.bystanders {
            let name = follower.map_or("nobody", Kind::name);
            let [p50, p99] = [50.0, 99.0].map(|at| milliseconds(percentile(lengths, at)));
            let _ = writeln!(text, "| {name} | {p50:.1} | {p99:.1} | {} |", lengths.len());
        }
    }

    /// A bar from the median to the 99th hundredth for each, by a scale of powers of ten.
    fn picture(&self) -> String {
        const LEFT: f64 = 150.0;
        const DECADE: f64 = 150.0;
        const ROW: f64 = 34.0;
        // From a tenth of a millisecond to a second.
        let x =
            |milliseconds: f64| LEFT + DECADE * (milliseconds.clamp(0.1, 1_000.0).log10() + 1.0);
        let height = 60.0 + ROW * self.figures.len() as f64;
        let mut picture = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"800\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"10\" y=\"20\" font-weight=\"bold\">Time lived, one start at a time: median to p99, ms</text>\n"
        );
        for (place, label) in ["never ran", "1", "10", "100", "1000"].iter().enumerate() {
            let x = LEFT + DECADE * place as f64;
            let _ = writeln!(
                picture,
                "<line x1=\"{x}\" y1=\"30\" x2=\"{x}\" y2=\"{}\" stroke=\"#ccc\"/>\
                 <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{label}</text>",
                height - 25.0,
                height - 8.0
            );
        }
        for (row, (kind, figures)) in self.rows().enumerate() {
            let [p50, p99, _] = percentiles(&figures.idle);
            let y = 40.0 + ROW * row as f64;
            let (from, to) = (x(p50), x(p99));
            let width = (to - from).max(4.0);
            let (text, name) = (y + 14.0, kind.name());
            let fill = match kind {
                Kind::Shell | Kind::Python | Kind::Floor => "#8a94a6",
                Kind::Api | Kind::Pid | Kind::Gate => "#1c7c54",
            };
            let figures = match p99 > 0.0 {
                true => format!("{p50:.1} to {p99:.1}"),
                false => "never ran".to_owned(),
            };
            let _ = writeln!(
                picture,
                "<text x=\"10\" y=\"{text}\">{name}</text>\
                 <rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\" rx=\"3\" fill=\"{fill}\"/>\
                 <text x=\"{:.1}\" y=\"{text}\" fill=\"#555\">{figures}</text>",
                from + width + 8.0
            );
        }
        picture.push_str("</svg>\n");
        picture
    }
}

/// Nothing where it was not measured.
fn decided(text: &mut String) {
    let Some(all) = decisions::all() else {
        return;
    };
    let [few, many, most] = SIZES;
    let _ = write!(
        text,
        "\n## A decision\n\nVerdict and sentence, in nanoseconds (criterion, medians), against so many rules; `near` \
         is a container for which every key but the image speaks.\n\n\
         | rules | container | {few} | {many} | {most} |\n|---|---|---:|---:|---:|\n"
    );
    for one in all {
        let [few, many, most] = one.medians;
        let _ = writeln!(
            text,
            "| {} | {} | {few:.0} | {many:.0} | {most:.0} |",
            one.rules, one.case
        );
    }
    let _ = write!(text, "\nA list of {most} rules is read within ");
    let read = decisions::parsing().into_iter();
    let read: Vec<_> = read
        .map(|(kind, took)| format!("{took:.0} ms ({kind})"))
        .collect();
    let _ = writeln!(text, "{}.", read.join(", "));
}

fn percentiles(lives: &[Life]) -> [f64; 3] {
    let lengths: Vec<_> = lives.iter().map(|life| life.length()).collect();
    [50.0, 99.0, 100.0].map(|hundredths| milliseconds(percentile(&lengths, hundredths)))
}

/// The machine and the day.
fn machine() -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let engine = said("dockerd", &["--version"]);
    let engine = engine.split(',').next().unwrap_or_default();
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d");
    format!(
        "A virtual machine with {processors} processors, Linux {}, {engine}, on {day}; the release build.",
        said("uname", &["-r"])
    )
}
