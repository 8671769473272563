//! A client that starts containers in a loop while something else happens to the engine.

use super::Engine;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What is started again and again.
#[derive(Clone, Copy)]
pub struct Storm<'a> {
    /// How many clients do so.
    pub clients: u32,
    pub image: &'a str,
    pub command: &'a [&'a str],
    /// Options of `docker run`, taken in turn.
    pub options: &'a [&'a [&'a str]],
}

impl Engine {
    /// Starts containers, whatever the engine answers, for as long as `meanwhile` takes. Returns the
    /// containers that exist because of it, as the engine inspects them.
    pub fn storm(&self, storm: Storm<'_>, meanwhile: impl FnOnce()) -> Vec<Value> {
        static STORMS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("storm-{}-", STORMS.fetch_add(1, Ordering::Relaxed));
        let (is_over, serial) = (AtomicBool::new(false), AtomicU32::new(0));
        let blow = || {
            while !is_over.load(Ordering::Relaxed) {
                let number = serial.fetch_add(1, Ordering::Relaxed);
                let name = format!("--name={prefix}{number}");
                let options = storm.options[number as usize % storm.options.len()];
                let fixed: &[&str] = &["run", "-d", &name];
                // Refused while the engine is away.
                self.docker(&[fixed, options, &[storm.image], storm.command].concat());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..storm.clients {
                scope.spawn(blow);
            }
            // Also when it panics: the clients would never end.
            struct Over<'a>(&'a AtomicBool);
            impl Drop for Over<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            let _over = Over(&is_over);
            meanwhile();
        });
        let is_of_it = |container: &Value| {
            let name = container["Names"][0].as_str().unwrap_or_default();
            name.trim_start_matches('/').starts_with(&prefix)
        };
        let all = self.list().into_iter().filter(is_of_it);
        all.map(|one| self.inspect(one["Id"].as_str().expect("an id")))
            .collect()
    }
}
