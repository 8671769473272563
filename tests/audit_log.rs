//! The audit log under what disks and kills do to it: a full one, one that can't be written, SIGKILL in
//! the middle of a storm while its files are rotated.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use jiff::Timestamp;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Engine, SOON, Warden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// A small disk of its own. It is mounted where the engine is, so that it ends with that.
struct Disk<'a> {
    engine: &'a Engine,
    inside: PathBuf,
}

impl<'a> Disk<'a> {
    fn mount(engine: &'a Engine, options: &str) -> Self {
        let disk = Self {
            engine,
            inside: engine.dir().join("disk"),
        };
        let path = disk.inside.display();
        disk.run(&format!(
            "mkdir {path} && mount -t tmpfs -o {options} tmpfs {path}"
        ));
        disk
    }

    fn run(&self, script: &str) {
        let output = self.engine.inside(&["sh", "-c", script]);
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// As it is seen from outside.
    fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.engine.init_pid());
        let inside = self.inside.join(name);
        Path::new(&root).join(inside.strip_prefix("/").unwrap())
    }

    fn fill(&self) {
        let filler = self.inside.join("filler");
        // It ends where there is no room any more.
        self.run(&format!("! cat /dev/zero 2>&1 > {}", filler.display()));
    }

    fn empty(&self) {
        self.run(&format!("rm {}", self.inside.join("filler").display()));
    }
}

fn lines(log: &Path) -> Vec<Option<Value>> {
    let text = std::fs::read(log).unwrap();
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// Every line of the file, and none is torn.
#[track_caller]
fn whole(log: &Path) -> Vec<Value> {
    let lines = lines(log);
    let count = lines.len();
    let whole: Vec<Value> = lines.into_iter().flatten().collect();
    assert_eq!(whole.len(), count, "some lines are torn: {whole:#?}");
    whole
}

fn end_some(engine: &Engine, count: usize) -> Vec<String> {
    let run = |_| {
        let id = engine.run(&[], "bad:1", &[]);
        engine.wait_until_dead(&id, SOON);
        id
    };
    (0..count).map(run).collect()
}

#[test]
fn a_full_disk_costs_no_end_and_no_record() {
    const COUNT: usize = 12; // some of them begin in the room that the last page of the log has
    let engine = engine();
    let disk = Disk::mount(&engine, "size=256k");
    let log = disk.path("audit.jsonl");
    let mut warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--audit-log", log.to_str().unwrap()])
        .start();
    warden.wait_ready();
    let control = engine.run_life(&[], "good:1");
    let mut ended = end_some(&engine, 2);
    warden.wait_for_verdict(&ended[1], "denied");
    assert_eq!(warden.metric("dockwarden_audit_write_errors_total"), 0.0);
    assert_eq!(
        warden.get_json("/readyz")["audit_log_error"],
        Value::Null,
        "nothing is wrong"
    );

    disk.fill();
    ended.extend(end_some(&engine, COUNT));
    let is_on_record = |warden: &Warden, id: &String| {
        let records = warden.records_of(id);
        assert!(records.len() < 2, "{records:#?}");
        records.iter().any(|record| record["outcome"] == "done")
    };
    for id in &ended {
        eventually("it is on record in memory", SOON, || {
            is_on_record(&warden, id)
        });
    }
    let errors = warden.metric("dockwarden_audit_write_errors_total");
    assert!(errors >= 5.0, "{errors}");
    let ready = warden.get_json("/readyz");
    assert_eq!(ready["ready"], true, "{ready:#}");
    let error = ready["audit_log_error"].as_str().expect("it says so");
    assert!(error.contains("No space left"), "{error}");
    let written = lines(&log).iter().flatten().count();
    assert!(written < warden.records().len(), "{written}");

    // Nothing happens but that there is room again.
    disk.empty();
    eventually("all is written", SOON, || {
        let text = std::fs::read_to_string(&log).unwrap();
        ended.iter().all(|id| text.contains(id.as_str()))
    });
    for (number, record) in (1..).zip(whole(&log)) {
        assert_eq!(record["seq"], number, "in order, without a gap");
    }
    eventually("it says so no more", SOON, || {
        warden.get_json("/readyz")["audit_log_error"] == Value::Null
    });
    warden.wait_for_log(|line| line.contains("is written again"), SOON);

    // Whoever starts on a full disk enforces as well, and knows the records so far.
    disk.fill();
    warden.sigkill();
    let before = engine.run(&[], "bad:1", &[]);
    warden.restart();
    engine.wait_until_dead(&before, SOON);
    for id in ended.iter().chain([&before]) {
        eventually("it is on record", SOON, || is_on_record(&warden, id));
    }
    disk.empty();
    eventually("the last one is written", SOON, || {
        std::fs::read_to_string(&log).unwrap().contains(&before)
    });
    let numbers: Vec<u64> = lines(&log)
        .iter()
        .flatten()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    engine.assert_same(&[control]);
}

#[test]
fn a_log_that_can_not_be_written_at_all_is_said_at_the_start() {
    let engine = engine();
    let disk = Disk::mount(&engine, "ro");
    let log = disk.path("audit.jsonl");
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--audit-log", log.to_str().unwrap()])
        .args(["--state-dir", engine.dir().to_str().unwrap()])
        .spawn();
    assert_eq!(warden.wait_exit(SOON).code(), Some(2));
    let said = warden.logs().join("\n");
    let wanted = format!("audit log {}: Read-only file system", log.display());
    assert!(said.contains(&wanted), "{said}");
}

/// Every line of a log, the oldest file first.
fn lines_of_all(log: &Path) -> Vec<Option<Value>> {
    let old = (1..100)
        .rev()
        .map(|number| format!("{}.{number}", log.display()));
    let files = old.map(PathBuf::from).chain([log.to_owned()]);
    let files = files.filter(|file| file.exists());
    files.flat_map(|file| lines(&file)).collect()
}

#[test]
fn kills_in_a_storm_cost_no_record_while_files_are_rotated() {
    const KILLS: u64 = 6;
    let engine = engine();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl");
    let mut warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--audit-log", log.to_str().unwrap()])
        .args(["--audit-max-size", "2KiB", "--audit-keep", "99"])
        .start();
    warden.wait_ready();
    let control = engine.run_life(&[], "good:1");
    let mut kills = Vec::new();
    let is_over = AtomicBool::new(false);
    let ids = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let id = engine.run(&[], "bad:1", &[]);
                    ids.lock().unwrap().push(id);
                }
            });
        }
        for kill in 0..KILLS {
            let count = ids.lock().unwrap().len();
            eventually("some more start", SOON, || {
                ids.lock().unwrap().len() >= count + 8
            });
            // Not each time at the same moment of an end.
            std::thread::sleep(Duration::from_millis(7 * kill));
            kills.push(Timestamp::now());
            warden.sigkill();
            warden.restart();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let ids = ids.into_inner().unwrap();
    for id in &ids {
        engine.wait_until_dead(id, SOON);
    }
    // One more life reads to the end what the last one left.
    let last = end_some(&engine, 1);
    warden.wait_for_verdict(&last[0], "denied");
    let is_over = |record: &Value| {
        let over = ["done", "gone", "ended-itself"];
        over.iter().any(|outcome| record["outcome"] == *outcome)
    };
    eventually("each end is on record", SOON, || {
        let lines = lines_of_all(&log);
        let mut missing = ids.clone();
        for record in lines.iter().flatten().filter(|record| is_over(record)) {
            missing.retain(|id| record["container_id"] != id.as_str());
        }
        missing.is_empty()
    });
    assert!(warden.sigterm().0.success());
    engine.assert_same(&[control]);

    let lines = lines_of_all(&log);
    let numbers = (1..100).map(|number| format!("{}.{number}", log.display()));
    let files = numbers.filter(|file| Path::new(file).exists()).count();
    let mut torn = 0;
    let mut newest = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(record) = line else {
            torn += 1;
            let next = lines.get(at + 1).and_then(Option::as_ref).unwrap();
            assert_eq!(
                next["change"], "started",
                "torn by no kill, before {next:#}"
            );
            continue;
        };
        let seq = record["seq"].as_u64().unwrap();
        assert!(seq > newest, "{seq} after {newest}");
        newest = seq;
    }
    let records: Vec<&Value> = lines.iter().flatten().collect();
    // Also the end of one who was killed before he saw it, and none of them twice.
    let ends = |id: &String| -> Vec<&Value> {
        let of_it = records
            .iter()
            .filter(|record| record["container_id"] == id.as_str());
        let over = of_it.filter(|record| is_over(record));
        over.map(|record| &record["outcome"]).collect()
    };
    let wrong: Vec<String> = ids
        .iter()
        .filter(|id| ends(id).len() != 1)
        .map(|id| format!("{id}: {:?}, {}", ends(id), engine.inspect(id)["State"]))
        .collect();
    let by_the_next = ids.iter().filter(|id| ends(id) == ["gone"]).count();
    println!(
        "{} ended, {} records, {files} old files, {torn} torn, {by_the_next} put on record by the next process",
        ids.len(),
        records.len(),
    );
    assert!(files > 10, "{files} rotations are too few to tell");
    assert!(wrong.is_empty(), "{wrong:#?} by kills at {kills:?}");
}
