//! What tests look at afterwards: whose life went on, what is on record, what was counted.

use super::eventually::poll;
use super::{Engine, Warden};
use serde_json::Value;
use std::time::Duration;

/// Generous: only what never happens takes so long.
pub const SOON: Duration = Duration::from_secs(30);

/// One uninterrupted life of a container. Equal: nothing has ended or frozen it in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub id: String,
    pub state: String,
    pub pid: i64,
    pub started_at: String,
    pub restarts: i64,
}

impl Engine {
    #[track_caller]
    pub fn inspect(&self, id: &str) -> Value {
        match self.api("GET", &format!("/containers/{id}/json"), None) {
            (200, answer) => answer,
            other => panic!("inspect {id}: {other:?}"),
        }
    }

    /// Its life now, whatever state that is in.
    #[track_caller]
    pub fn life(&self, id: &str) -> Life {
        let answer = self.inspect(id);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Life {
            id: text(&answer["Id"]),
            state: text(&answer["State"]["Status"]),
            pid: answer["State"]["Pid"].as_i64().expect("a pid"),
            started_at: text(&answer["State"]["StartedAt"]),
            restarts: answer["RestartCount"].as_i64().expect("a number"),
        }
    }

    /// Runs what is allowed; its life begins.
    #[track_caller]
    pub fn run_life(&self, options: &[&str], image: &str) -> Life {
        let life = self.life(&self.run(options, image, &[]));
        assert_eq!((&*life.state, life.restarts), ("running", 0));
        life
    }

    #[track_caller]
    pub fn assert_same(&self, lives: &[Life]) {
        for life in lives {
            assert_eq!(self.life(&life.id), *life, "an allowed container's life");
        }
    }
}

impl Warden {
    /// The records that it tells of, oldest first: the last thousand.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        let answer = self.get_json("/decisions?limit=1000");
        let mut records = answer["data"].as_array().expect("records").clone();
        records.reverse();
        records
    }

    /// The records of one container.
    #[track_caller]
    pub fn records_of(&self, id: &str) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| record["container_id"] == id);
        records
    }

    /// Waits for a container's first record with this verdict.
    #[track_caller]
    pub fn wait_for_verdict(&self, id: &str, verdict: &str) -> Value {
        poll(SOON, || {
            let records = self.records_of(id);
            records
                .into_iter()
                .find(|record| record["verdict"] == verdict)
        })
        .unwrap_or_else(|| panic!("{id} is not on record as {verdict}: {:#?}", self.records()))
    }

    /// The sum of the series of a metric whose line begins with `series`: a name, or a name with
    /// labels as far as they matter.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").body;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(series)?;
            let is_whole = series.contains('{') || rest.starts_with(['{', ' ']);
            is_whole.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }

    /// The most memory that it ever held, in MiB.
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it lives");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.expect("a number of kB") / 1024
    }

    /// Waits until everything was listed and judged `count` times more. Two, to be sure that one of
    /// them began after this call; with `--resync 1s` it does not take long.
    #[track_caller]
    pub fn wait_for_sweeps(&self, count: u32) {
        let sweeps = || self.metric("dockwarden_sweep_duration_seconds_count");
        let wanted = sweeps() + f64::from(count);
        poll(SOON, || sweeps() >= wanted)
            .unwrap_or_else(|| panic!("{} sweeps and not {wanted}", sweeps()));
    }
}
