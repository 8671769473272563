//! Where records go. Writing them never fails here: trouble is counted, told and shown.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Rotation;
use super::appender::Appender;
use crate::metrics::Metrics;

/// Why records are not written now; none while they are.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

/// The writing end.
pub(super) struct AuditLog {
    output: Output,
    metrics: Metrics,
    trouble: Trouble,
}

enum Output {
    None,
    Standard,
    File(Box<Appender>),
}

impl AuditLog {
    pub(super) fn none(metrics: Metrics) -> Self {
        Self::to(Output::None, metrics)
    }

    pub(super) fn standard_output(metrics: Metrics) -> Self {
        Self::to(Output::Standard, metrics)
    }

    /// Opens a file to append to, and locks it.
    pub(super) fn open(path: &Path, rotation: Rotation, metrics: Metrics) -> io::Result<Self> {
        let appender = Appender::open(path, rotation)?;
        Ok(Self::to(Output::File(Box::new(appender)), metrics))
    }

    fn to(output: Output, metrics: Metrics) -> Self {
        Self {
            output,
            metrics,
            trouble: Trouble::default(),
        }
    }

    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Hands a record's line to the kernel, and what waits before it.
    pub(super) fn append(&mut self, line: &[u8]) {
        let line = [line, b"\n"].concat();
        match &mut self.output {
            Output::None => {}
            Output::Standard => {
                let mut output = io::stdout().lock();
                let written = output.write_all(&line).and_then(|()| output.flush());
                if let Err(error) = written {
                    self.failed("a record could not be written", &error);
                }
            }
            Output::File(file) => {
                if let Err(error) = file.wait(line) {
                    self.failed("a record is lost", &error);
                }
                if !self.write() {
                    self.metrics.audit_write_errors.inc();
                }
            }
        }
    }

    /// What there is to do from time to time.
    pub(super) fn tend(&mut self) {
        self.write();
        if let Output::File(file) = &self.output
            && file.is_sync_due()
        {
            self.sync();
        }
    }

    /// Writes and syncs what can be.
    pub(super) fn finish(&mut self) {
        self.write();
        self.sync();
        if let Output::File(file) = &self.output
            && file.waiting() > 0
        {
            tracing::error!(records = file.waiting(), "records were never written");
        }
    }

    /// Whether nothing waits any more.
    fn write(&mut self) -> bool {
        let Output::File(file) = &mut self.output else {
            return true;
        };
        let written = file.write();
        if let Some(error) = file.not_rotated() {
            self.failed("the audit log could not be rotated", &error);
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&written, trouble.is_some()) {
            (Ok(()), true) => tracing::info!("the audit log is written again"),
            (Err(error), false) => {
                tracing::error!(%error, "the audit log can't be written; records wait in memory");
            }
            _ => {}
        }
        *trouble = written.as_ref().err().map(io::Error::to_string);
        written.is_ok()
    }

    fn sync(&mut self) {
        if let Output::File(file) = &mut self.output
            && let Err(error) = file.sync()
        {
            self.failed("the audit log could not be synced", &error);
        }
    }

    pub(super) fn failed(&self, what: &str, error: &io::Error) {
        self.metrics.audit_write_errors.inc();
        tracing::error!(%error, "{what}");
    }
}
