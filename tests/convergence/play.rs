//! A story on a real engine, beside the model of it.

use crate::model::{LISTS, List, Model, One};
use crate::story::{From, Step, Story};
use crate::support::{Engine, SOON, Warden, dockwarden, eventually};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Whether dockwarden knows after its own restart what an image was called before.
const REMEMBERS: bool = true;
/// How long an engine hangs.
const MOMENT: Duration = Duration::from_millis(700);

pub(crate) struct Play {
    engine: Engine,
    warden: Warden,
    log: PathBuf,
    model: Model,
    resyncs: bool,
    /// What has happened so far, printed where something is wrong.
    told: Told,
    serial: usize,
}

/// Printed when a check panics, whichever it was.
struct Told(Vec<String>);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the story\n{}\n----", self.0.join("\n"));
        }
    }
}

impl Play {
    pub(crate) fn begin(title: &str, story: &Story) -> Self {
        let list = LISTS[story.first_list];
        let how = if story.resyncs { "1s" } else { "10m" };
        let first = format!("{title}, list `{}`, --resync {how}", list.name);
        println!("{first}");
        let engine = Engine::start();
        let mut model = Model::new(list);
        for name in ["good:1", "other:1", "bad:1", "new:1", "fence:1"] {
            let content = engine.image(name);
            model.tags.insert(name.to_owned(), content);
        }
        let builder = Warden::on(&engine).allowlist(&list.toml());
        let log = builder.dir().join("audit.jsonl");
        let log_text = log.to_str().expect("a path in UTF-8").to_owned();
        let warden = builder
            .args(["--audit-log", &log_text, "--resync", how])
            .start();
        warden.wait_ready();
        Self {
            engine,
            warden,
            log,
            model,
            resyncs: story.resyncs,
            told: Told(vec![first]),
            serial: 0,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        self.told.0.push(format!("{step:?}"));
        match step {
            Step::Run { .. } => self.run(step),
            Step::Start(which) => self.act(*which, "start"),
            Step::Stop(which) => self.act(*which, "stop?t=1"),
            Step::Restart(which) => self.act(*which, "restart?t=1"),
            Step::Pause(which) => self.act(*which, "pause"),
            Step::Unpause(which) => self.act(*which, "unpause"),
            Step::Rename(which) => self.rename(*which),
            Step::Remove(which) => self.remove(*which),
            Step::Tag(name) => {
                self.engine.docker_ok(&["tag", "new:1", name]);
                let content = self.model.tags["new:1"].clone();
                self.model.tags.insert((*name).to_owned(), content);
                self.model.names_moved();
            }
            Step::Untag(name) => {
                // The last name of a content that is in use stays; the engine says so.
                let path = format!("/images/{name}?force=false&noprune=true");
                self.engine.api("DELETE", &path, None);
                if self
                    .engine
                    .api("GET", &format!("/images/{name}/json"), None)
                    .0
                    == 404
                {
                    self.model.tags.remove(*name);
                }
                self.model.names_moved();
            }
            Step::List { number, waits } => {
                self.write(LISTS[*number]);
                if *waits {
                    self.wait_for_list();
                }
            }
            Step::Engine {
                is_killed,
                keeps_containers,
                meanwhile,
            } => self.restart_engine(*is_killed, *keeps_containers, meanwhile.as_deref()),
            Step::Hang(meanwhile) => {
                self.engine.pause_dockerd();
                if let Some(Step::List { number, .. }) = meanwhile.as_deref() {
                    self.write(LISTS[*number]);
                }
                std::thread::sleep(MOMENT);
                self.engine.resume_dockerd();
            }
            Step::Warden {
                is_killed,
                meanwhile,
            } => self.restart_warden(*is_killed, meanwhile),
            Step::Blind {
                is_killed,
                meanwhile,
            } => {
                self.warden.signal("STOP");
                for step in meanwhile {
                    self.step(step);
                }
                self.restart_engine(*is_killed, true, None);
                self.warden.signal("CONT");
            }
            Step::Rest => self.rest(),
        }
    }

    fn run(&mut self, step: &Step) {
        let Step::Run {
            from,
            is_web,
            has_label,
            uses_network,
            policy,
            only_created,
        } = step
        else {
            return;
        };
        let (image, content) = match from {
            From::Good => ("good:1".to_owned(), None),
            From::Bad => ("bad:1".to_owned(), None),
            From::Other => ("other:1".to_owned(), None),
            From::GoodById => match self.model.tags.get("good:1") {
                Some(content) => (content.clone(), Some(content.clone())),
                None => return,
            },
        };
        if content.is_none() && !self.model.tags.contains_key(&image) {
            return;
        }
        self.serial += 1;
        let kind = if *is_web { "web" } else { "job" };
        let name = format!("{kind}-{}", self.serial);
        let mut options = vec!["--name", &name, "--restart", policy];
        options.extend(
            has_label
                .then_some(["--label", "team=shop"])
                .iter()
                .flatten(),
        );
        let network = if *uses_network { "host" } else { "none" };
        options.extend(["--network", network]);
        let id = self.engine.create(&options, &image, &["run"]);
        let images = match &content {
            Some(content) => self.model.names_of(content),
            None => vec![image],
        };
        self.told
            .0
            .push(format!("  {name} of {images:?}, {}", &id[..12]));
        self.model.all.push(One {
            id,
            name,
            images,
            content,
            are_images_sure: true,
            is_seen: false,
            has_label: *has_label,
            uses_network: *uses_network,
            life: None,
            is_innocent: true,
        });
        self.model.weigh();
        if !only_created {
            self.act(self.model.all.len() - 1, "start");
        }
    }

    /// A call on one of the containers; the engine may refuse it for its state.
    fn act(&mut self, which: usize, call: &str) {
        if self.model.all.is_empty() {
            return;
        }
        let number = which % self.model.all.len();
        if call.starts_with("stop") || call.starts_with("restart") {
            self.model.all[number].life = None;
        }
        if call.contains("pause") {
            // Another state of the same life.
            self.check_life(number);
            self.model.all[number].life = None;
        }
        let path = format!("/containers/{}/{call}", self.model.all[number].id);
        let (status, answer) = self.engine.api("POST", &path, None);
        let name = &self.model.all[number].name;
        self.told
            .0
            .push(format!("  {name}: {call} {status} {}", answer["message"]));
        self.model.adopt(&self.engine, number);
    }

    fn rename(&mut self, which: usize) {
        if self.model.all.is_empty() {
            return;
        }
        let number = which % self.model.all.len();
        self.serial += 1;
        let one = &mut self.model.all[number];
        let kind = if one.name.starts_with("web-") {
            "job"
        } else {
            "web"
        };
        let name = format!("{kind}-{}", self.serial);
        let path = format!("/containers/{}/rename?name={name}", one.id);
        let (status, _) = self.engine.api("POST", &path, None);
        self.told
            .0
            .push(format!("  {} is {name} now: {status}", one.name));
        // While the call is under way either name may be seen.
        let before = std::mem::replace(&mut one.name, name);
        self.model.weigh();
        let after = std::mem::replace(&mut self.model.all[number].name, before);
        self.model.weigh();
        self.model.all[number].name = after;
    }

    fn remove(&mut self, which: usize) {
        if self.model.all.is_empty() {
            return;
        }
        let one = self.model.all.remove(which % self.model.all.len());
        let path = format!("/containers/{}?force=true", one.id);
        let (status, _) = self.engine.api("DELETE", &path, None);
        self.told
            .0
            .push(format!("  {}: removed {status}", one.name));
    }

    fn write(&mut self, list: List) {
        self.told.0.push(format!("  list `{}`", list.name));
        self.model.lists.push(list);
        self.model.weigh();
        self.warden.write_list_by_rename(&list.toml());
    }

    /// Waits until the last list is in force.
    fn wait_for_list(&mut self) {
        let list = self.model.list();
        let warden = &self.warden;
        eventually("the list is in force", SOON, || {
            warden.get_json("/allowlist")["list"]
                .to_string()
                .contains(&format!("\"by-{}\"", list.name))
        });
        self.model.lists = vec![list];
    }

    fn restart_engine(&mut self, is_killed: bool, keeps: bool, meanwhile: Option<&Step>) {
        self.engine.set_live_restore(keeps);
        let frozen: Vec<String> = self
            .engine
            .list()
            .into_iter()
            .filter(|one| one["State"] == "paused")
            .filter_map(|one| Some(one["Id"].as_str()?.to_owned()))
            .collect();
        for one in &mut self.model.all {
            // An engine may wake what it finds frozen.
            if !keeps || frozen.contains(&one.id) {
                one.life = None;
            }
        }
        if is_killed {
            self.engine.sigkill_dockerd();
        } else {
            self.engine.stop_dockerd();
        }
        if let Some(Step::List { number, .. }) = meanwhile {
            self.write(LISTS[*number]);
        }
        self.engine.start_dockerd();
    }

    fn restart_warden(&mut self, is_killed: bool, meanwhile: &[Step]) {
        if is_killed {
            self.warden.sigkill();
        } else {
            self.warden.sigterm();
        }
        for one in &mut self.model.all {
            if !REMEMBERS || !one.is_seen {
                one.is_seen = false;
                if let Some(content) = &one.content {
                    let names = self.model.tags.iter().filter(|(_, of)| *of == content);
                    let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
                    one.are_images_sure &= names == one.images;
                    one.images = names;
                }
            }
        }
        self.model.weigh();
        for step in meanwhile {
            self.step(step);
        }
        self.warden.restart();
    }

    /// Quiet is when the list is in force, what is started now is ended, and, where full lists come
    /// often, two of them have passed.
    fn rest(&mut self) {
        self.warden.wait_ready();
        self.wait_for_list();
        self.model.weigh();
        if self.model.list().enforces {
            let fence = self.engine.run(&["--network", "none"], "fence:1", &[]);
            eventually("what is started now is ended", SOON, || {
                let state = self.engine.state(&fence);
                state.as_deref() != Some("running")
            });
            self.engine.docker_ok(&["rm", "--force", &fence]);
        }
        if self.resyncs {
            self.warden.wait_for_sweeps(2);
        }
        self.check_denied();
        for number in 0..self.model.all.len() {
            self.check_life(number);
            let one = &mut self.model.all[number];
            one.is_seen = true;
            self.model.adopt(&self.engine, number);
        }
        self.check_fresh();
    }

    /// What is denied doesn't run.
    fn check_denied(&self) {
        let list = self.model.list();
        if !list.enforces {
            return;
        }
        let what = |state: &str| state == "running" || (state == "paused" && !list.pauses);
        let denied = |one: &&One| self.model.is_allowed(one) == Some(false);
        for one in self.model.all.iter().filter(denied) {
            let still = || self.engine.state(&one.id).filter(|state| what(state));
            eventually(
                &format!("{} ({}) is ended", one.name, &one.id[..12]),
                Duration::from_secs(8),
                || still().is_none(),
            );
        }
    }

    /// What nobody may end goes on.
    fn check_life(&self, number: usize) {
        let one = &self.model.all[number];
        if let Some(life) = &one.life {
            let now = self.engine.life(&one.id);
            assert_eq!(now, *life, "{} is allowed, and was touched", one.name);
        }
    }

    /// A fresh look by the list in force agrees: there is nothing left to end.
    fn check_fresh(&self) {
        let list = self.model.list();
        if !list.enforces {
            return;
        }
        let path = self.warden.list_path();
        let host = self.engine.host();
        let path = path.to_str().expect("a path in UTF-8");
        let args = [
            "check",
            path,
            "--running",
            "--engine",
            &host,
            "--output",
            "json",
        ];
        let output = dockwarden(args);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for one in answer["would_end"].as_array().expect("what it would end") {
            let id = one["container_id"].as_str().expect("an id");
            // It has no memory of names, and one that is frozen is what the list wants.
            let is_known = self.model.all.iter().find(|known| known.id == id);
            let is_remembered = is_known.is_some_and(|known| known.content.is_some());
            let is_frozen = list.pauses && one["status"] == "paused";
            assert!(is_remembered || is_frozen, "a fresh look would end {one:#}");
        }
    }

    /// Nothing that was allowed all along is on record as anything else.
    pub(crate) fn end(&mut self) {
        let log = std::fs::read_to_string(&self.log).expect("the audit log");
        let records = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a record"));
        for record in records.filter(|record| record["event"] == "decision") {
            let outcome = record["outcome"].as_str().unwrap_or("none");
            let acted = !["none", "audit-only", "would-deny"].contains(&outcome);
            let mut all = self.model.all.iter();
            let one = all.find(|one| record["container_id"] == *one.id);
            if acted && let Some(one) = one {
                assert!(
                    !one.is_innocent,
                    "{} is allowed, on record: {record:#}",
                    one.name
                );
            }
        }
    }
}
