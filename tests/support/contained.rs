//! dockwarden's own binary inside a container of the engine that it enforces on, as docker-compose.yml
//! has it: a read-only root, no capabilities, and the engine's socket by its directory.

use super::eventually::poll;
use super::{Engine, SOON};
use serde_json::Value;
use std::path::{Path, PathBuf};

const BINARY: &str = env!("CARGO_BIN_EXE_dockwarden");

/// A dockwarden in a container. It ends with the engine.
pub struct Contained<'a> {
    engine: &'a Engine,
    dir: PathBuf,
    pub id: String,
}

impl Engine {
    /// Runs dockwarden in a container that needs an image of any content. `socket` is what is mounted
    /// and where, such as `DIR:/host/run`; the engine is looked for at `/host/run/d.sock`.
    #[track_caller]
    pub fn run_dockwarden(
        &self,
        image: &str,
        list: &str,
        socket: &str,
        options: &[&str],
    ) -> Contained<'_> {
        let dir = tempfile::Builder::new()
            .prefix("contained.")
            .tempdir_in(self.dir())
            .expect("a directory")
            .keep();
        std::fs::write(dir.join("allowlist.toml"), list).expect("the list");
        let mut volumes = vec![
            format!("{socket}:ro"),
            format!("{}:/etc/dockwarden", dir.display()),
            format!("{BINARY}:/dockwarden:ro"),
        ];
        // It is linked to the machine's own libraries.
        let libraries = ["/lib", "/lib64"]
            .iter()
            .filter(|dir| Path::new(dir).exists());
        volumes.extend(libraries.map(|dir| format!("{dir}:{dir}:ro")));
        let volumes: Vec<_> = volumes.iter().flat_map(|one| ["-v", one]).collect();
        let fixed = [
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--entrypoint=/dockwarden",
            "--env=DOCKER_HOST=unix:///host/run/d.sock",
        ];
        let run = [
            "run",
            "--allowlist=/etc/dockwarden/allowlist.toml",
            "--audit-log=/etc/dockwarden/audit.jsonl",
            "--resync=10m",
        ];
        let id = self.run(&[&fixed[..], &volumes, options].concat(), image, &run);
        Contained {
            engine: self,
            dir,
            id,
        }
    }
}

impl Contained<'_> {
    /// Whether its own health check says that it is ready.
    pub fn is_ready(&self) -> bool {
        let check = ["exec", &self.id, "/dockwarden", "healthcheck"];
        self.engine.docker(&check).status.success()
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        poll(SOON, || self.is_ready()).unwrap_or_else(|| panic!("not ready\n{}", self.log()));
    }

    /// What it logged, in all its lives.
    pub fn log(&self) -> String {
        let output = self.engine.docker(&["logs", &self.id]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Gives it another list, as editors do.
    #[track_caller]
    pub fn write_list(&self, text: &str) {
        let draft = self.dir.join("new");
        std::fs::write(&draft, text).expect("the draft");
        std::fs::rename(draft, self.dir.join("allowlist.toml")).expect("the list");
    }

    /// The records in its audit log, oldest first.
    pub fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.join("audit.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until a container's end is on record as done.
    #[track_caller]
    pub fn wait_for_end(&self, id: &str) {
        poll(SOON, || {
            let mut records = self.records().into_iter();
            records.any(|record| record["container_id"] == id && record["outcome"] == "done")
        })
        .unwrap_or_else(|| panic!("{id} is not on record as ended\n{}", self.log()));
    }
}
