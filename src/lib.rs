//! dockwarden: a Docker host runs what is on its allowlist, and nothing else.
//!
//! The rooms stand in floors, and each imports only from below; `ARCHITECTURE.md` has the map.

pub mod allowlist;
pub mod api;
pub mod app;
pub mod backoff;
pub mod canary;
pub mod cli;
pub mod container;
pub mod containerd;
pub mod controller;
pub mod credentials;
pub mod decide;
pub mod docker;
pub mod engine;
pub mod follow;
pub mod grant;
pub mod image;
pub mod inventory;
pub mod journal;
pub mod learn;
pub mod look;
pub mod metrics;
pub mod notification;
pub mod own;
pub mod pattern;
pub mod pin;
pub mod printable;
pub mod processes;
pub mod record;
pub mod reload;
pub mod restore;
pub mod serve;
pub mod state;
pub mod status;
pub mod telemetry;
pub mod together;
pub mod uptime;
pub mod weigh;
