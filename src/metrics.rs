//! All metrics, in one struct. Label values come from enums, never from names, ids or errors;
//! `rule` is the one exception, and rules are written by the operator.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::allowlist::Action;
use crate::record::Outcome;

/// Buckets for how long a forbidden container lived and how quickly it was ended, in seconds.
const SHORT: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// What every service tells.
const EVERYWHERE: &[&str] = &[
    "dockwarden_http_request_duration_seconds",
    "dockwarden_build_info",
];
/// What the api alone tells.
const CONTROLLER_STATE_AGE: &str = "dockwarden_controller_state_age_seconds";

/// Every metric of the process; cloning shares them.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The help texts below are the documentation.
pub struct Metrics {
    registry: Registry,
    pub enforcing: IntGauge,
    pub hindered: IntGauge,
    pub mode: IntGaugeVec,
    pub containers: IntGaugeVec,
    pub denied_running: IntGauge,
    pub rule_containers: IntGaugeVec,
    pub decisions: IntCounterVec,
    pub actions: IntCounterVec,
    pub lived: Histogram,
    pub reaction: Histogram,
    pub escaped: IntCounter,
    pub path_info: IntGaugeVec,
    pub path_fallbacks: IntCounterVec,
    pub engine_connected: IntGauge,
    pub engine_reconnects: IntCounter,
    pub events: IntCounterVec,
    pub unreadable: IntCounterVec,
    pub last_sweep: Gauge,
    pub sweep_duration: Histogram,
    pub allowlist_info: IntGaugeVec,
    pub allowlist_rules: IntGauge,
    pub allowlist_loaded: Gauge,
    pub allowlist_last_reload_successful: IntGauge,
    pub allowlist_held: IntGauge,
    pub allowlist_reloads: IntCounterVec,
    pub rules_expiring: IntGauge,
    pub audit_write_errors: IntCounter,
    pub notifications: IntCounterVec,
    pub http_request_duration: HistogramVec,
    pub controller_state_age: Gauge,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When a name or label is malformed: a defect of this file alone.
    pub fn new() -> Result<Self, prometheus::Error> {
        let make = Registrar {
            registry: Registry::new_custom(Some("dockwarden".to_owned()), None)?,
        };
        let metrics = Self {
            enforcing: make.gauge("enforcing", "1 while denied containers are ended")?,
            hindered: make.gauge(
                "hindered",
                "1 while something else than audit mode keeps denied containers from being ended",
            )?,
            mode: make.gauges("mode", "1 for the mode in force", &["mode"])?,
            containers: make.gauges(
                "containers",
                "Containers by state and verdict",
                &["status", "verdict"],
            )?,
            denied_running: make.gauge("denied_running", "Denied containers that run")?,
            rule_containers: make.gauges(
                "rule_containers",
                "Live containers that each rule allows",
                &["rule"],
            )?,
            decisions: make.counters(
                "decisions_total",
                "Decisions recorded",
                &["verdict", "reason", "trigger"],
            )?,
            actions: make.counters(
                "actions_total",
                "Outcomes of denials, by the action in force",
                &["action", "outcome"],
            )?,
            lived: make.histogram(
                "lived_seconds",
                "From start to death of ended containers, by the engine's clock",
                SHORT,
            )?,
            reaction: make.histogram(
                "reaction_seconds",
                "From an event's arrival to the end confirmed",
                SHORT,
            )?,
            escaped: make.counter(
                "escaped_total",
                "Denied containers that still ran ten seconds after their verdict",
            )?,
            path_info: make.gauges(
                "path_info",
                "1 for each path by which what is denied is ended",
                &["path"],
            )?,
            path_fallbacks: make.counters(
                "path_fallbacks_total",
                "Containers that this path should have ended and could not, left to the engine's kill",
                &["path"],
            )?,
            engine_connected: make.gauge("engine_connected", "1 while the engine answers")?,
            engine_reconnects: make.counter(
                "engine_reconnects_total",
                "Connections to the engine after the first one",
            )?,
            events: make.counters("events_total", "Container events read", &["action"])?,
            unreadable: make.counters(
                "unreadable_total",
                "What the engine said and could not be read",
                &["what"],
            )?,
            last_sweep: make.float_gauge(
                "last_sweep_timestamp_seconds",
                "When all containers were last listed and judged",
            )?,
            sweep_duration: make.histogram(
                "sweep_duration_seconds",
                "Listing and judging all containers",
                SHORT,
            )?,
            allowlist_info: make.gauges(
                "allowlist_info",
                "1 for the hash of the list in force",
                &["hash"],
            )?,
            allowlist_rules: make.gauge("allowlist_rules", "Rules of the list in force")?,
            allowlist_loaded: make.float_gauge(
                "allowlist_loaded_timestamp_seconds",
                "When the list in force was read",
            )?,
            allowlist_last_reload_successful: make.gauge(
                "allowlist_last_reload_successful",
                "0 while an invalid list is kept out",
            )?,
            allowlist_held: make.gauge(
                "allowlist_held",
                "1 while a list is held back that would end too much",
            )?,
            allowlist_reloads: make.counters(
                "allowlist_reloads_total",
                "Times the list was read again",
                &["outcome"],
            )?,
            rules_expiring: make.gauge("rules_expiring", "Rules that expire within seven days")?,
            audit_write_errors: make.counter(
                "audit_write_errors_total",
                "Audit records that could not be written at once, and syncs and rotations that failed",
            )?,
            notifications: make.counters(
                "notifications_total",
                "Notifications by what became of them",
                &["outcome"],
            )?,
            http_request_duration: make.histograms(
                "http_request_duration_seconds",
                "HTTP requests",
                &["method", "route", "code"],
            )?,
            controller_state_age: make.float_gauge(
                "controller_state_age_seconds",
                "How long ago the controller last wrote what it is doing",
            )?,
            registry: make.registry,
        };
        // There before anything is counted: what appears with a 1 has not increased, and alarms nobody.
        for what in ["event", "container", "field", "task"] {
            metrics.unreadable.with_label_values(&[what]);
        }
        for path in ["pid", "gate"] {
            metrics.path_fallbacks.with_label_values(&[path]);
        }
        for outcome in ["applied", "unchanged", "invalid", "held"] {
            metrics.allowlist_reloads.with_label_values(&[outcome]);
        }
        for action in Action::ALL {
            for outcome in Outcome::ALL {
                let words = [action.as_str(), outcome.as_str()];
                metrics.actions.with_label_values(&words);
            }
        }
        for outcome in ["sent", "refused", "failed", "summarised"] {
            metrics.notifications.with_label_values(&[outcome]);
        }
        let build = IntGaugeVec::new(
            Opts::new("build_info", "1 for the version that runs"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(build))?;
        Ok(metrics)
    }

    /// The metrics as Prometheus reads them, those of the process included. Where nothing is
    /// enforced, nothing is told of enforcement: a zero there would be an alarm.
    ///
    /// # Errors
    /// When a metric can't be encoded.
    pub fn encode(&self, enforces: bool) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        let mut families = self.registry.gather();
        families.retain(|family| {
            let is_of_api = family.name() == CONTROLLER_STATE_AGE;
            EVERYWHERE.contains(&family.name()) || enforces != is_of_api
        });
        encoder.encode(&families, &mut text)?;
        // A collector of its own: the registry's prefix would rename the process_* family.
        let process = prometheus::process_collector::ProcessCollector::for_self();
        encoder.encode(&prometheus::core::Collector::collect(&process), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The type of [`Metrics::encode`]'s text.
    pub fn content_type() -> &'static str {
        prometheus::TEXT_FORMAT
    }

    /// Observes a duration that may be unknown.
    pub fn observe(histogram: &Histogram, duration: Option<Duration>) {
        if let Some(duration) = duration {
            histogram.observe(duration.as_secs_f64());
        }
    }
}

struct Registrar {
    registry: Registry,
}

impl Registrar {
    fn add<T>(&self, metric: prometheus::Result<T>) -> prometheus::Result<T>
    where
        T: prometheus::core::Collector + Clone + 'static,
    {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
        ))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help), labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_their_prefix_and_the_process_family_its_own_names() {
        let metrics = Metrics::new().expect("well-formed metrics");
        metrics.escaped.inc();
        let text = metrics.encode(true).expect("text");
        for line in [
            "dockwarden_escaped_total 1",
            "dockwarden_build_info{version=",
            "\nprocess_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
