//! Which allowlist is in force, and until when its verdicts hold.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Controller;
use crate::record::{ListChange, ListOutcome, Trigger, What};
use crate::status::{Candidate, Enforcement, RejectedList};

/// The longest sleep until an expiry: the wall clock may be set meanwhile.
const EXPIRY_CHECK: SignedDuration = SignedDuration::from_secs(5);

impl Controller {
    pub(super) fn candidate(&mut self, candidate: Candidate) {
        let metrics = self.context.metrics.clone();
        let count = |outcome: &str| {
            metrics
                .allowlist_reloads
                .with_label_values(&[outcome])
                .inc()
        };
        match candidate {
            Err(error) => {
                count("invalid");
                let in_force = self.context.enforcement.borrow().in_force.hash.to_string();
                self.context.journal.happened(What::Allowlist(ListChange {
                    previous_hash: Some(in_force),
                    error: Some(error.to_string()),
                    ..ListChange::new(ListOutcome::Invalid)
                }));
                metrics.allowlist_last_reload_successful.set(0);
                self.context.enforcement.send_modify(|enforcement| {
                    enforcement.rejected = Some(RejectedList {
                        message: error.to_string(),
                        at: Timestamp::now(),
                    });
                });
            }
            Ok(list) => {
                metrics.allowlist_last_reload_successful.set(1);
                let previous = self.context.enforcement.borrow().in_force.hash.clone();
                let is_new = previous != list.hash;
                count(if is_new { "applied" } else { "unchanged" });
                let (hash, rules) = (list.hash.clone(), list.list.rules.len());
                let audit_only = self.audit_only;
                self.context.enforcement.send_modify(|enforcement| {
                    enforcement.rejected = None;
                    if is_new {
                        // Never one list by another's mode.
                        enforcement.mode = list.mode(audit_only, Timestamp::now());
                        enforcement.in_force = list;
                    }
                });
                if is_new {
                    self.context.journal.happened(What::Allowlist(ListChange {
                        allowlist_hash: Some(hash.to_string()),
                        previous_hash: Some(previous.to_string()),
                        rules: Some(rules),
                        ..ListChange::new(ListOutcome::Applied)
                    }));
                    self.show_list();
                    self.judge_all_again(Trigger::Reload);
                }
            }
        }
        self.publish();
    }

    pub(super) fn expired(&mut self) {
        let now = Timestamp::now();
        let passed = {
            let enforcement = self.context.enforcement.borrow();
            let next = enforcement
                .in_force
                .expiries_after(self.expiries_judged(&enforcement));
            next.first().is_some_and(|expiry| *expiry <= now)
        };
        if passed {
            self.expiry_asked = Some(now);
            self.show_list();
            // The end of `audit-until` is no other list, and another mode.
            self.publish();
            self.judge_all_again(Trigger::Expiry);
        }
    }

    /// Up to when expiries have been judged, or their judging is under way.
    fn expiries_judged(&self, enforcement: &Enforcement) -> Timestamp {
        let judged = enforcement.last_sweep.max(self.expiry_asked);
        judged.unwrap_or(enforcement.in_force.loaded_at)
    }

    fn judge_all_again(&mut self, trigger: Trigger) {
        self.sweep_trigger = trigger;
        self.relist.request();
        for tracked in self
            .tracked
            .values()
            .filter(|tracked| tracked.history.is_none())
        {
            tracked.subject.mark(trigger, Instant::now(), None);
        }
    }

    /// Sleeps until a rule expires, or for ever.
    pub(super) fn next_expiry(&self) -> impl Future<Output = ()> + use<> {
        let enforcement = self.context.enforcement.borrow();
        let next = enforcement
            .in_force
            .expiries_after(self.expiries_judged(&enforcement));
        let wait = next.first().map(|expiry| {
            let left = expiry.duration_since(Timestamp::now());
            left.clamp(SignedDuration::ZERO, EXPIRY_CHECK)
                .unsigned_abs()
        });
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }
}
