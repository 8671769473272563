//! A real registry, on 127.0.0.1:5000 of an engine's own network: where repo digests come from.
//!
//! It runs in the engine's pid namespace, too, and so ends with the engine whatever ends that one.

use super::{Engine, eventually, require};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1:5000";

/// Ended with the value, or else with its engine.
pub struct Registry<'a> {
    engine: &'a Engine,
    process: Child,
}

impl<'a> Registry<'a> {
    #[track_caller]
    pub fn start(engine: &'a Engine) -> Self {
        require("docker-registry", "docker-registry");
        require("setpriv", "util-linux");
        let dir = engine.dir().join("registry");
        let config = engine.dir().join("registry.yml");
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{ADDRESS}'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n",
            dir.display()
        );
        std::fs::write(&config, settings).expect("the registry's settings");
        let process = Command::new("nsenter")
            .arg(format!("--target={}", engine.init_pid()))
            .args(["--net", "--mount", "--pid", "--"])
            // nsenter forks and passes no signal on.
            .args(["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter runs");
        let registry = Self { engine, process };
        let connect = format!("exec 3<>/dev/tcp/{}", ADDRESS.replace(':', "/"));
        eventually("the registry listens", Duration::from_secs(20), || {
            let answer = engine.net_exec(&["bash", "-c", &connect]);
            answer.status.success()
        });
        registry
    }

    /// An image's full name there.
    pub fn name(&self, repository_and_tag: &str) -> String {
        format!("{ADDRESS}/{repository_and_tag}")
    }

    /// Makes an image and pushes it; returns the digest of its manifest, `sha256:…`. Here nothing of
    /// it stays.
    #[track_caller]
    pub fn publish(&self, repository_and_tag: &str) -> String {
        let name = self.name(repository_and_tag);
        let id = self.engine.image(&name);
        self.engine.docker_ok(&["push", &name]);
        let digests = "{{range .RepoDigests}}{{println .}}{{end}}";
        let answer = self
            .engine
            .docker_ok(&["image", "inspect", "--format", digests, &id]);
        let digest = answer.lines().find_map(|line| line.split_once('@'));
        let digest = digest.expect("a repo digest after a push").1.to_owned();
        self.engine.docker_ok(&["rmi", &name]);
        digest
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
