//! Images without a registry: one static program (`victim.c`), compiled once, imported under any name.

use super::Engine;
use super::require;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// A `build.rs` would compile it for everybody; this does so for whoever runs these tests, once per
/// target directory.
static VICTIM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    require("cc", "gcc libc6-dev");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCE);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("victim");
    let age = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    if age(&built) <= age(&source) {
        let draft = built.with_extension(std::process::id().to_string());
        let done = Command::new("cc")
            .args(["-static", "-Os", "-s", "-o"])
            .args([&draft, &source])
            .output()
            .expect("cc runs");
        assert!(
            done.status.success(),
            "cc can't link a static program (apt-get install gcc libc6-dev): {}",
            String::from_utf8_lossy(&done.stderr)
        );
        std::fs::rename(&draft, &built).expect("the victim in place");
    }
    std::fs::read(&built).expect("the victim")
});

const SOURCE: &str = "tests/support/victim.c";

impl Engine {
    /// Imports the victim under a name; returns the image's id, `sha256:…`. Every call makes another
    /// id, and other content, also under the same name.
    pub fn image(&self, name: &str) -> String {
        self.image_with(name, &[])
    }

    /// The same with Dockerfile instructions, such as `LABEL team=shop` or `CMD ["exit", "3"]`.
    pub fn image_with(&self, name: &str, changes: &[&str]) -> String {
        static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let content = format!("{name} {} {serial}\n", std::process::id());

        let layer = archive([
            ("victim", 0o755, &VICTIM),
            ("content", 0o644, content.as_bytes()),
        ]);

        let (repo, tag) = match name.rsplit_once(':') {
            Some((repo, tag)) if !tag.contains('/') => (repo, tag),
            _ => (name, "latest"),
        };
        let mut path = format!(
            "/images/create?fromSrc=-&repo={}&tag={}&changes={}",
            percent(repo),
            percent(tag),
            percent("ENTRYPOINT [\"/victim\"]")
        );
        for change in changes {
            path.push_str(&format!("&changes={}", percent(change)));
        }
        let answer = self
            .request(
                "POST",
                &path,
                &[("Content-Type", "application/x-tar")],
                &layer,
            )
            .unwrap_or_else(|error| panic!("import of {name}: {error}"));
        answer
            .body
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| Some(line["status"].as_str()?.to_owned()))
            .find(|status| status.starts_with("sha256:"))
            .unwrap_or_else(|| panic!("import of {name}: {answer:?}"))
    }

    /// `docker build` by the classic builder, whose steps are containers.
    pub fn build(&self, name: &str, dockerfile: &str) -> Output {
        let mut build = self
            .cli(&["build", "--no-cache", "--tag", name, "-"])
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker runs");
        let mut input = build.stdin.take().expect("piped");
        input
            .write_all(dockerfile.as_bytes())
            .expect("the Dockerfile is read");
        drop(input);
        build.wait_with_output().expect("docker ends")
    }

    /// The id of an image; panics where there is none of that name.
    #[track_caller]
    pub fn image_id(&self, name: &str) -> String {
        self.docker_ok(&["image", "inspect", "--format", "{{.Id}}", name])
    }
}

/// A tar archive of files: their names, modes and contents.
fn archive(files: [(&str, u32, &[u8]); 2]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        let appended = archive.append_data(&mut header, name, content);
        appended.expect("a short name, and memory");
    }
    archive.into_inner().expect("memory")
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
