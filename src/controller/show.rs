//! What the controller shows of itself: the published state of enforcement, and gauges.

use jiff::Timestamp;

use super::Controller;
use crate::allowlist::Mode;
use crate::record::{Path, What};

impl Controller {
    /// Publishes what follows from the loop's own state.
    pub(super) fn publish(&mut self) {
        let hindrance = if !self.connected {
            Some("the engine is out of reach".to_owned())
        } else if self.opening.until().is_some() {
            Some("the list that is asked for is being weighed".to_owned())
        } else {
            self.own.hindrance()
        };
        let paths = self.paths();
        self.context.enforcement.send_modify(|enforcement| {
            enforcement.mode = enforcement
                .in_force
                .mode(enforcement.audit_only, Timestamp::now());
            enforcement.enforcing = hindrance.is_none() && enforcement.mode == Mode::Enforce;
            enforcement.hindrance = hindrance;
            enforcement.paths = paths;
        });
        let enforcement = self.context.enforcement.borrow();
        let (mode, previous) = (enforcement.mode, self.told_mode);
        if previous != Some(mode) {
            self.told_mode = Some(mode);
            let what = What::Mode { mode, previous };
            self.context.journal.happened(what);
        }
        let metrics = &self.context.metrics;
        metrics.enforcing.set(enforcement.enforcing.into());
        metrics.hindered.set(enforcement.hindrance.is_some().into());
        metrics.engine_connected.set(self.connected.into());
        // Time alone changes that: each sweep publishes it anew.
        let expiring = enforcement.in_force.expiring(Timestamp::now()).count();
        metrics.rules_expiring.set(gauge(expiring));
        for path in Path::ALL {
            let is_there = enforcement.paths.contains(&path);
            let info = metrics.path_info.with_label_values(&[path.as_str()]);
            info.set(is_there.into());
        }
        for mode in Mode::ALL {
            let is_in_force = enforcement.mode == mode;
            metrics
                .mode
                .with_label_values(&[mode.as_str()])
                .set(is_in_force.into());
        }
    }

    /// The paths by which what is denied is ended, as things stand.
    fn paths(&self) -> Vec<Path> {
        let shares_pids = self.context.is_sharing_pids();
        let is_told_of_tasks = *self.watching.borrow() > 0;
        let is_there = |path: &Path| match path {
            Path::Api => true,
            Path::Pid => shares_pids,
            Path::Gate => shares_pids && is_told_of_tasks,
        };
        Path::ALL.into_iter().filter(is_there).collect()
    }

    /// Shows the list in force in the metrics.
    pub(super) fn show_list(&self) {
        let enforcement = self.context.enforcement.borrow();
        let in_force = &enforcement.in_force;
        let metrics = &self.context.metrics;
        metrics.allowlist_info.reset();
        metrics
            .allowlist_info
            .with_label_values(&[&*in_force.hash])
            .set(1);
        metrics
            .allowlist_rules
            .set(gauge(in_force.list.rules.len()));
        metrics
            .allowlist_loaded
            .set(in_force.loaded_at.as_duration().as_secs_f64());
        if enforcement.rejected.is_none() {
            metrics.allowlist_last_reload_successful.set(1);
        }
    }
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
