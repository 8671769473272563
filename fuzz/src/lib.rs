//! dockwarden's pure core alone. It knows no I/O, no clock and no async: what is fuzzed is built without the daemon's
//! dependencies, and fails to build when it comes to need one.

#[path = "../../src"]
mod rooms {
    pub mod allowlist;
    pub mod container;
    pub mod grant;
    pub mod image;
    pub mod pattern;
    pub mod printable;
}

pub use rooms::*;
