//! Lists that dockwarden writes itself, on real engines: learned from what runs, pinned, shipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{Engine, Life, Registry, SOON, Warden, dockwarden, eventually};

// ---- learn

/// Containers with powers of all kinds, by the names of all makers.
fn zoo(engine: &Engine, registry: &Registry<'_>) {
    for image in ["good:1", "shop/web:1.4", "shop/db:9", "team/tool:1"] {
        engine.image(image);
    }
    let digest = registry.publish("team/web:1");
    let pulled = format!("{}@{digest}", registry.name("team/web"));
    engine.docker_ok(&["pull", &pulled]);
    let nameless = engine.image("gone:1");
    let by_id = engine.image_id("team/tool:1");

    let run = |options: &[&str], image: &str| engine.run(options, image, &[]);
    let labelled = |labels: &[(&str, &str)], options: &[&str], image: &str| {
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels: Vec<_> = labels
            .flat_map(|label| ["--label".to_owned(), label])
            .collect();
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        run(&[&labels, options].concat(), image);
    };
    let compose = |project, service| {
        [
            ("com.docker.compose.project", project),
            ("com.docker.compose.service", service),
        ]
    };
    run(
        &["--name", "base", "--network", "host", "--ipc", "shareable"],
        "good:1",
    );
    run(
        &["--pid", "host", "--ipc", "host", "--uts", "host"],
        "good:1",
    );
    run(
        &["--network", "container:base", "--ipc", "container:base"],
        "good:1",
    );
    run(
        &["-v", "/tmp:/one", "-v", "/usr:/two:ro", "-v", "data:/three"],
        "good:1",
    );
    run(
        &[
            "--tmpfs",
            "/x",
            "--cap-add",
            "NET_ADMIN",
            "--cap-drop",
            "CHOWN",
        ],
        "shop/db:9",
    );
    run(
        &[
            "--device",
            "/dev/null:/dev/x",
            "--device-cgroup-rule",
            "c 1:3 rwm",
        ],
        "team/tool:1",
    );
    run(&["--security-opt", "seccomp=unconfined"], "team/tool:1");
    let socket = format!("{}:/s", engine.socket_path().display());
    run(&["-v", &socket], "team/tool:1");
    engine.docker_ok(&[
        "volume",
        "create",
        "--opt",
        "type=none",
        "--opt",
        "o=bind",
        "--opt",
        "device=/tmp",
        "bound",
    ]);
    run(&["-v", "bound:/x"], "team/tool:1");
    run(&[], &by_id);
    run(&[], &by_id.trim_start_matches("sha256:")[..12]);
    run(&[], &pulled);
    engine.image("gone:1");
    run(&[], &nameless);

    labelled(
        &compose("shop", "web"),
        &["--name", "shop_web_1"],
        "shop/web:1.4",
    );
    labelled(
        &compose("shop", "web"),
        &["--name", "shop_web_2", "--cap-add", "SYS_TIME"],
        "shop/web:1.4",
    );
    labelled(&compose("shop", "web"), &[], "good:1");
    labelled(
        &compose("she said \"*\" \\ '''", "\u{202e}kcab \u{1f980}\t\u{7f}é"),
        &[],
        "good:1",
    );
    labelled(&compose("", "a\nb"), &[], "good:1");
    labelled(
        &[("com.docker.swarm.service.name", "shop_db")],
        &["--name", "shop_db.1.k3j"],
        "shop/db:9",
    );
    let pod = [
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.container.name", "web"),
    ];
    run(&["--name", "k8s_POD_web-5d-x_shop_1-2_0"], "good:1");
    labelled(
        &pod,
        &["--network", "container:k8s_POD_web-5d-x_shop_1-2_0"],
        "shop/web:1.4",
    );
    let paused = run(&["--name", "paused"], "good:1");
    engine.docker_ok(&["pause", &paused]);
    // A name that has moved on before anything was learned.
    run(&["--name", "early"], "good:1");
    engine.docker_ok(&["tag", "shop/db:9", "good:1"]);
}

#[test]
fn what_was_learned_ends_nothing_and_is_pinned() {
    let engine = Engine::start();
    let registry = Registry::start(&engine);
    zoo(&engine, &registry);
    engine.image("evil:1");
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowlist.toml");
    let all = engine.running_ids();
    let lives: Vec<Life> = all.iter().map(|id| engine.life(id)).collect();
    assert!(lives.len() > 20);

    let learned = learn(&engine, &[], &list);
    assert_eq!(learned, learn(&engine, &[], &list), "the same again");
    let rules = rules(&list);
    let images = rules
        .iter()
        .flat_map(|rule| rule["image"].as_array().unwrap());
    for image in images {
        assert!(
            image.as_str().unwrap().contains("sha256:"),
            "{image} in {learned}"
        );
    }
    for part in [
        "rule = \"shop-web\"",
        "\"cap:SYS_TIME\"",
        "\"join:base\"",
        "\"join:k8s_POD_*_shop_*\"",
        "\"engine-socket\"",
        "\"bind:/usr:ro\"",
        "[defaults]\ngrants = []",
    ] {
        assert!(learned.contains(part), "{part} in {learned}");
    }
    assert!(
        !learned.contains("shop_web_1"),
        "a generated name in {learned}"
    );
    let web = rules
        .iter()
        .find(|rule| rule["rule"] == "shop-web-web")
        .unwrap();
    assert_eq!(web["image"].as_array().unwrap().len(), 1, "{learned}");

    is_clean(&engine, &list);
    for name in ["good:1", "shop/web:1.4", "shop/db:9", "team/tool:1"] {
        engine.docker_ok(&["tag", "evil:1", name]);
    }
    is_clean(&engine, &list);

    // And in force it ends what was not there, under whatever name it comes.
    let warden = Warden::on(&engine)
        .allowlist(&learned)
        .args(["--resync", "1s"])
        .start();
    warden.wait_ready();
    let evil = engine.run(&[], "good:1", &[]);
    engine.wait_until_dead(&evil, SOON);
    let record = warden.wait_for_verdict(&evil, "denied");
    assert_eq!(record["reason"], "wrong-content", "{record}");
    warden.wait_for_sweeps(2);
    engine.assert_same(&lives);
}

#[test]
fn what_was_learned_can_be_piped_into_check() {
    let engine = Engine::start();
    engine.image("good:1");
    engine.run(&["--cap-add", "SYS_TIME"], "good:1", &[]);
    let binary = env!("CARGO_BIN_EXE_dockwarden");
    let pipe = |filter: &str| {
        let line = format!("{binary} learn | {filter} | {binary} check - --running");
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &line]).env("DOCKER_HOST", engine.host());
        shell.output().unwrap()
    };
    let output = pipe("cat");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = pipe("sed s/SYS_TIME/SYS_NICE/");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = pipe("sed s/version/vision/");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        text(&output.stderr).contains("standard input:"),
        "{output:?}"
    );
}

#[test]
fn other_pins_and_none() {
    let engine = Engine::start();
    engine.image("good:1");
    engine.run(&[], "good:1", &[]);
    let id = engine.image_id("good:1");
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowlist.toml");
    let with_id = format!("image = \"good:1@{id}\"");
    for (pin, image) in [
        ("id", &*with_id),
        ("none", "image = \"good:1\""),
        ("digest", &with_id),
    ] {
        let learned = learn(&engine, &["--pin", pin], &list);
        assert!(learned.contains(image), "{pin}: {learned}");
        is_clean(&engine, &list);
        let noted = text(&check(&engine, &list).stderr);
        let is_noted = noted.contains("valid on this engine's store only");
        assert_eq!(is_noted, image == with_id, "{pin}: {noted}");
    }
}

#[test]
fn what_came_and_went_is_learned_from_audit_logs() {
    let engine = Engine::start();
    for image in ["good:1", "shop/web:1.4"] {
        engine.image(image);
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    let list = directory.path().join("allowlist.toml");
    let run = |project: &str| {
        let label = format!("com.docker.compose.project={project}");
        let service = "com.docker.compose.service=web";
        let options = ["--label", &label, "--label", service, "-v", "/usr:/usr:ro"];
        engine.run(&options, "shop/web:1.4", &[])
    };
    let all = {
        let warden = Warden::on(&engine)
            .allowlist("version = 1\nmode = \"audit\"\nallow-nothing = true\n")
            .args(["--audit-log", &log, "--host-name", "far-1"])
            .start();
        warden.wait_ready();
        let all = [
            run("shop"),
            run("shop"),
            engine.run(&["--network", "host"], "good:1", &[]),
        ];
        for id in &all {
            warden.wait_for_verdict(id, "denied");
        }
        warden.sigterm();
        all
    };
    for id in &all {
        engine.docker_ok(&["rm", "--force", id]);
    }
    // No engine is asked.
    let output = dockwarden(["learn", "--engine", "unix:///nowhere.sock", "--from", &log]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let learned = text(&output.stdout);
    std::fs::write(&list, &learned).unwrap();
    for part in [
        "rule = \"shop-web\"",
        "bind:/usr:ro",
        "host-network",
        "audit log of far-1",
    ] {
        assert!(learned.contains(part), "{part} in {learned}");
    }
    assert_eq!(rules(&list).len(), 2, "{learned}");

    run("shop");
    engine.run(&["--network", "host"], "good:1", &[]);
    is_clean(&engine, &list);
    run("other");
    assert_eq!(check(&engine, &list).status.code(), Some(1));
}

// ---- pin

#[test]
fn pins_are_written_in_place() {
    let engine = Engine::start();
    let id = engine.image("good:1");
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("real.toml");
    let list = directory.path().join("allowlist.toml");
    symlink("real.toml", &list).unwrap();
    let before = "# mine\nversion = 1\n\n[[allow]] # the good\nimage = [ 'good:1', \"evil:1\" ]\n[[allow]]\nimage = \"good\"\n";
    std::fs::write(&target, before).unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();

    let dry = pin(&engine, &list, &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(1), "{dry:?}");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), before);
    let output = pin(&engine, &list, &["--output", "json"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "one could not be pinned: {output:?}"
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer["changes"][0]["new"],
        format!("good:1@{id}"),
        "{answer}"
    );
    assert_eq!(answer["changes"][0]["by_id"], true);
    assert_eq!(answer["left"].as_array().unwrap().len(), 2, "{answer}");
    let said = text(&output.stderr);
    for part in [
        "evil:1",
        "no such image",
        "`good` is left alone",
        "this engine's store only",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let after = before.replace("'good:1'", &format!("'good:1@{id}'"));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), after);
    assert!(list.symlink_metadata().unwrap().is_symlink());
    assert_eq!(
        target.metadata().unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        2,
        "no draft stays"
    );

    engine.image("evil:1");
    let output = pin(&engine, &list, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let whole = std::fs::read_to_string(&target).unwrap();
    let again = pin(&engine, &list, &["--update", "--keep-old"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(
        text(&again.stdout).contains("nothing to change"),
        "{again:?}"
    );
    assert_eq!(std::fs::read_to_string(&target).unwrap(), whole);
}

#[test]
fn what_can_not_be_pinned_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowlist.toml");
    let path = list.display().to_string();
    let nowhere = ["--engine", "unix:///nowhere.sock"];
    let table = [
        ("version = 1\n[[allow]]\nimage = \"a:1\"\n", 3),
        ("version = 1\n[[allow]]\nimage = \"A\"\n", 2),
        ("version = 1\n[[allow]]\nimage = \"a\"\n", 0),
    ];
    for (before, code) in table {
        std::fs::write(&list, before).unwrap();
        let output = dockwarden([&["pin", &path][..], &nowhere].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(std::fs::read_to_string(&list).unwrap(), before);
    }
    let output = dockwarden([&["pin", "/nowhere/list.toml"][..], &nowhere].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = dockwarden([&["pin", &path, "--keep-old"][..], &nowhere].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// The README's recipe: pull, `pin --update`, ship the list, then up.
#[test]
fn a_deploy_with_pins() {
    let engine = Engine::start();
    let registry = Registry::start(&engine);
    let image = registry.name("shop/web:1");
    let first = registry.publish("shop/web:1");
    engine.docker_ok(&["pull", &image]);
    let warden = Warden::on(&engine)
        .allowlist(&format!(
            "version = 1\n[defaults]\ngrants = []\n[[allow]]\nrule = \"web\"\nimage = \"{image}\" # the shop\n"
        ))
        .start();
    warden.wait_ready();
    let in_force = || warden.get_json("/allowlist")["hash"].clone();
    let ship = |options: &[&str]| {
        let before = in_force();
        let output = pin(&engine, &warden.list_path(), options);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        eventually("the shipped list is in force", SOON, || {
            in_force() != before
        });
    };
    ship(&[]);
    let list = std::fs::read_to_string(warden.list_path()).unwrap();
    assert!(
        list.contains(&format!("\"{image}@{first}\" # the shop")),
        "{list}"
    );
    let old = engine.run_life(&[], &image);

    let second = registry.publish("shop/web:1");
    assert_ne!(first, second);
    engine.docker_ok(&["pull", &image]);
    let early = engine.run(&[], &image, &[]);
    engine.wait_until_dead(&early, SOON);
    let record = warden.wait_for_verdict(&early, "denied");
    assert_eq!(record["reason"], "wrong-content", "{record}");

    ship(&["--update", "--keep-old"]);
    let new = engine.run_life(&[], &image);
    warden.wait_for_verdict(&new.id, "allowed");
    engine.assert_same(&[old.clone(), new.clone()]);

    ship(&["--update"]);
    engine.wait_until_dead(&old.id, SOON);
    engine.assert_same(&[new]);
    let list = std::fs::read_to_string(warden.list_path()).unwrap();
    assert!(list.contains(&second) && !list.contains(&first), "{list}");
}

// ---- Helpers

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Learns what runs into a file.
#[track_caller]
fn learn(engine: &Engine, options: &[&str], list: &PathBuf) -> String {
    let host = engine.host();
    let output = dockwarden([&["learn", "--engine", &host], options].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(
        said.trim(),
        format!("engine {host}"),
        "nothing was left out"
    );
    std::fs::write(list, &output.stdout).unwrap();
    text(&output.stdout)
}

fn check(engine: &Engine, list: &Path) -> Output {
    let (host, list) = (engine.host(), list.display().to_string());
    dockwarden(["check", &list, "--running", "--engine", &host])
}

#[track_caller]
fn is_clean(engine: &Engine, list: &Path) {
    let output = check(engine, list);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}\n{output:?}",
        text(&output.stdout)
    );
    let said = text(&output.stdout);
    assert!(said.contains("nothing that runs would be ended"), "{said}");
    assert!(
        !text(&output.stderr).contains("can't be judged"),
        "{output:?}"
    );
}

fn rules(list: &Path) -> Vec<Value> {
    let list = list.display().to_string();
    let output = dockwarden(["check", &list, "--output", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["list"]["allow"].as_array().unwrap().clone()
}

fn pin(engine: &Engine, list: &Path, options: &[&str]) -> Output {
    let (host, list) = (engine.host(), list.display().to_string());
    dockwarden([&["pin", &list, "--engine", &host], options].concat())
}
