//! The test harness: throw-away engines, images that need no network, dockwarden's own binary against
//! them, and faults on order.
//!
//! Everything blocks, has a deadline, and panics with what it saw. Whatever way a test process ends,
//! SIGKILL included, what it started ends with it: see `engine.sh` for engines and [`warden`] for
//! dockwarden. A test file says `mod support;` and uses what it needs:
//!
//! ```no_run
//! let engine = Engine::start();
//! engine.image("good:1");
//! let warden = Warden::on(&engine).allowlist(LIST).start();
//! warden.wait_ready();
//! let id = engine.run(&[], "good:1", &["stubborn"]);
//! engine.wait_until_dead(&id, Duration::from_secs(2));
//! ```
//!
//! Tests of one file may share an engine: `static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::start);`

#![allow(dead_code, unreachable_pub, unused_imports)] // each test file uses just a part
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod browser;
mod contained;
mod engine;
mod eventually;
mod holding;
mod http;
mod image;
mod observe;
mod proxy;
mod random;
mod registry;
pub mod scripted;
mod storm;
mod warden;

pub use browser::Browser;
pub use contained::Contained;
pub use engine::{Engine, EngineBuilder, HiddenSocket};
pub use eventually::{Settled, eventually};
pub use holding::HoldingProxy;
pub use http::{Response, Stream};
pub use observe::{Life, SOON};
pub use proxy::{Answer, Fault, TcpProxy};
pub use random::Random;
pub use registry::Registry;
pub use storm::Storm;
pub use warden::{Builder, Warden, dockwarden, send_signal};

use std::path::Path;
use std::process::Command;

/// Where a tool is missing, says which and how to get it, before anything fails in a darker way.
pub fn require(tool: &str, package: &str) {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    assert!(
        found,
        "these tests need `{tool}`: apt-get install {package}"
    );
}

/// Takes away what the developer's own shell says about engines and about dockwarden.
fn without_inherited_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("DOCKER_") || text.starts_with("DOCKWARDEN_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}

/// The last lines of a file, for the message of a panic.
fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
