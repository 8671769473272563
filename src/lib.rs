//! dockwarden: a Docker host runs what is on its allowlist, and nothing else.
//!
//! The rooms stand in floors, and each imports only from below; `ARCHITECTURE.md` has the map.

pub mod allowlist;
pub mod container;
pub mod image;
pub mod pattern;
