//! An allowed image that asks for more than an ordinary container has: each power in each spelling,
//! and the grant that it needs.

use crate::report::Row;
use crate::support::{Engine, SOON, Warden, eventually};
use crate::{create_raw, volume_plugin, wait_until_shown};
use Ask::{Api, Cli};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;

/// How a power is asked for.
enum Ask {
    /// Options of `docker create`.
    Cli(Vec<String>),
    /// `HostConfig` for the raw API.
    Api(Value),
}

/// One power, and what it takes.
struct Case {
    what: String,
    ask: Ask,
    /// What the denial names as missing.
    missing: String,
    /// The grants with which it lives. Where there are more than one, without the first it does not.
    grants: Vec<String>,
    starts: bool,
}

fn case(ask: Ask, missing: &str, grants: &[&str]) -> Case {
    let what = match &ask {
        Cli(options) => options.join(" "),
        Api(body) => body.to_string(),
    };
    Case {
        what: tidied(&what),
        ask,
        missing: missing.to_owned(),
        grants: grants.iter().map(|&grant| grant.to_owned()).collect(),
        starts: true,
    }
}

/// Without the engine's directory, whose name has six letters of its own.
fn tidied(text: &str) -> String {
    let mut parts = text.split("/dw.");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.get(6..).unwrap_or(part));
    rest.fold(first, |text, part| text + "/…" + part)
}

/// A power that takes the one grant of its own name.
fn one(ask: Ask, grant: &str) -> Case {
    case(ask, grant, &[grant])
}

impl Case {
    /// Not every machine can start it: it is judged as it was created.
    fn only_created(mut self) -> Self {
        self.starts = false;
        self
    }

    fn create(&self, engine: &Engine, label: &str) -> String {
        match &self.ask {
            Cli(options) => {
                let label = format!("--label=case={label}");
                let mut all = vec![label.as_str()];
                all.extend(options.iter().map(String::as_str));
                engine.create(&all, "good:1", &[])
            }
            Api(settings) => {
                let labels = json!({ "case": label });
                let body = json!({"Image": "good:1", "Labels": labels, "HostConfig": settings});
                create_raw(engine, &body)
            }
        }
    }
}

fn cli(options: &str) -> Ask {
    Cli(options.split(' ').map(str::to_owned).collect())
}

/// A rule for ordinary containers, for the others a rule that grants what each needs, and one that
/// grants all but the first of it.
fn list(cases: &[Case]) -> String {
    let mut list = r#"
version = 1
[defaults]
grants = []
[[allow]]
rule = "ordinary"
image = "good:1"
labels = { case = "ordinary" }
[[allow]]
rule = "peer"
image = "good:1"
container = "peer*"
grants = ["all"]
"#
    .to_owned();
    let mut rule = |name: String, grants: &[String]| {
        let _ = write!(
            list,
            "[[allow]]\nrule = \"{name}\"\nimage = \"good:1\"\nlabels = {{ case = \"{name}\" }}\ngrants = {grants:?}\n",
        );
    };
    for (number, case) in cases.iter().enumerate() {
        rule(format!("bare-{number}"), &[]);
        rule(format!("full-{number}"), &case.grants);
        if case.grants.len() > 1 {
            rule(format!("less-{number}"), &case.grants[1..]);
        }
    }
    list
}

/// With no grants it is denied and told what is missing; with all of them it lives.
fn judge(row: &Row, engine: &Engine, warden: &Warden, cases: &[Case]) {
    let mut control = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let what = &case.what;
        let start = |label: &str| {
            let id = case.create(engine, &format!("{label}-{number}"));
            if case.starts {
                let (status, answer) = engine.api("POST", &format!("/containers/{id}/start"), None);
                assert!([204, 404, 409].contains(&status), "{what}: {answer}");
            }
            id
        };
        let is_denied = |id: &str, label: &str| {
            let both = (engine, warden);
            let said = if case.starts {
                let record = row.ended(both, what, id, "not-granted");
                record["detail"].to_string()
            } else {
                row.denied_as_created(warden, what, id, "not-granted");
                let explained = warden.get_json(&format!("/containers/{id}"));
                explained.to_string()
            };
            let missing = format!("`{}`", case.missing);
            assert!(said.contains(&missing), "{what}: {missing} of {said}");
            assert!(
                said.contains(&format!("{label}-{number}")),
                "{what}: {said}"
            );
        };
        let is_new = number == 0 || cases[number - 1].what != *what;
        if is_new {
            is_denied(&start("bare"), "bare");
        }
        if case.grants.len() > 1 {
            is_denied(&start("less"), "less");
        }

        let id = start("full");
        let rule = if case.starts {
            control.push(engine.life(&id));
            warden.wait_for_verdict(&id, "allowed")["rule"].take()
        } else {
            wait_until_shown(warden, &id, "allowed")["rule"].take()
        };
        assert_eq!(rule, format!("full-{number}"), "{what}");
    }
    for life in &control {
        assert_eq!(life.state, "running");
    }
    engine.assert_same(&control);
}

fn warden(engine: &Engine, cases: &[Case]) -> Warden {
    crate::warden(engine, &list(cases))
}

/// What every container may have.
fn assert_ordinary_ones_live(engine: &Engine, warden: &Warden) {
    engine.docker_ok(&["volume", "create", "plain"]);
    let memory = ["type=tmpfs", "device=tmpfs"].map(|option| format!("--opt={option}"));
    engine.docker_ok(&["volume", "create", &memory[0], &memory[1], "memory"]);
    let control: Vec<_> = [
        "--init",
        "--network none",
        "--ipc shareable",
        "--ipc none",
        "--cgroupns private",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--read-only",
        "--user 1000:1000",
        "--log-driver none",
        "--tmpfs /x",
        "--mount type=tmpfs,dst=/x",
        "--volume /x",
        "--volume plain:/x",
        "--volume memory:/x",
        "--mount type=volume,src=plain,dst=/x,readonly",
        "--memory 64m --cpus 1 --pids-limit 10",
    ]
    .map(|options| {
        let options: Vec<_> = options.split(' ').collect();
        let label = ["--label", "case=ordinary"];
        engine.run_life(&[&label[..], &options].concat(), "good:1")
    })
    .to_vec();
    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    engine.assert_same(&control);
}

#[test]
fn row_09_an_allowed_image_with_more_power() {
    let row = Row::begin("09");
    let engine = Engine::start();
    engine.image("good:1");
    volume_plugin::serve(&engine);
    let dir = engine.dir().join("host");
    fs::create_dir_all(dir.join("open/sub")).unwrap();
    let dir = dir.display();
    let socket = engine.socket_path();
    let socket = socket.display();
    engine.docker_ok(&[
        "create",
        "--name=peer",
        &format!("--volume={dir}:/x"),
        "good:1",
    ]);

    let (open, sub) = (format!("bind:{dir}/open"), format!("bind:{dir}/open/sub"));
    let sub_ro = format!("{sub}:ro");
    let (under, under_ro) = (format!("{open}/**"), format!("{open}/**:ro"));
    let bind = |options: &str| cli(&options.replace("DIR", &dir.to_string()));
    let device = |path: &str| {
        let device =
            json!({"PathOnHost": path, "PathInContainer": "/dev/x", "CgroupPermissions": "r"});
        Api(json!({ "Devices": [device] }))
    };
    let cases = [
        one(cli("--privileged"), "privileged").only_created(),
        one(cli("--network host"), "host-network"),
        one(cli("--pid host"), "host-pid"),
        one(cli("--ipc host"), "host-ipc"),
        one(cli("--userns host"), "host-userns"),
        case(
            cli("--network host --pid host"),
            "host-network",
            &["host-network", "host-pid"],
        ),
        // Paths: what lies under them, who may write, and how they are spelled.
        one(bind("--volume DIR/open:/x"), &open),
        one(bind("--volume DIR/open/sub:/x"), &sub),
        case(bind("--volume DIR/open/sub:/x"), &sub, &[&under]),
        case(
            bind("--volume DIR/open/sub:/x"),
            &sub,
            &[&under, &sub_ro, &under_ro],
        ),
        one(bind("--volume DIR/open/sub:/x:ro"), &sub_ro),
        case(bind("--volume DIR/open/sub:/x:ro"), &sub_ro, &[&sub]),
        case(
            bind("--volume DIR/open/sub:/x:ro"),
            &sub_ro,
            &[&under_ro, &open],
        ),
        one(bind("--volume DIR/open/../open//sub/./:/x"), &sub),
        one(bind("--mount type=bind,src=DIR/open/sub,dst=/x"), &sub),
        one(
            bind("--mount type=bind,src=DIR/open/sub,dst=/x,readonly"),
            &sub_ro,
        ),
        one(Api(json!({"Binds": [format!("{dir}/open/sub/:/x")]})), &sub),
        one(cli("--volumes-from peer"), &format!("bind:{dir}")),
        one(cli("--volumes-from peer:ro"), &format!("bind:{dir}:ro")),
        case(cli("--volume /:/x"), "bind:/", &["bind:/", "engine-socket"]),
        one(
            bind(&format!(
                "--volume {}:/x --volume-driver {}",
                volume_plugin::VOLUME,
                volume_plugin::DRIVER
            )),
            "volume:odd",
        ),
        one(
            cli(&format!(
                "--mount type=volume,src={},dst=/x,volume-driver={}",
                volume_plugin::VOLUME,
                volume_plugin::DRIVER
            )),
            "volume:odd",
        ),
        // The engine's own socket, and directories that hold one.
        one(cli(&format!("--volume {socket}:/x")), "engine-socket"),
        one(cli(&format!("--volume {socket}:/x:ro")), "engine-socket"),
        one(
            cli(&format!("--mount type=bind,src={socket},dst=/x")),
            "engine-socket",
        ),
        // Devices.
        one(cli("--device /dev/null"), "device:/dev/null"),
        one(cli("--device /dev/null:/dev/x:r"), "device:/dev/null"),
        one(device("/tmp/../dev/./null"), "device:/dev/null"),
        one(cli("--device /dev/pts"), "device:/dev/pts"),
        one(
            Api(json!({"DeviceCgroupRules": ["a *:* rwm"]})),
            "device-rule",
        ),
        // Capabilities, as the CLI and as the API leave them.
        one(cli("--cap-add SYS_ADMIN"), "cap:SYS_ADMIN"),
        one(Api(json!({"CapAdd": ["SYS_ADMIN"]})), "cap:SYS_ADMIN"),
        one(Api(json!({"CapAdd": ["cap_sys_admin"]})), "cap:SYS_ADMIN"),
        case(
            Api(json!({"CapAdd": ["sys_ptrace"]})),
            "cap:SYS_PTRACE",
            &["cap:CAP_SYS_PTRACE"],
        ),
        case(
            Api(json!({"CapAdd": ["sys_ptrace"]})),
            "cap:SYS_PTRACE",
            &["cap:sys_ptrace"],
        ),
        one(Api(json!({"CapAdd": ["all"]})), "cap:ALL").only_created(),
        one(cli("--cap-add ALL"), "cap:ALL").only_created(),
        // No profile, or another one.
        one(cli("--security-opt seccomp=unconfined"), "unconfined"),
        one(security("seccomp:unconfined"), "unconfined"),
        one(
            security(r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#),
            "unconfined",
        ),
        one(cli("--security-opt apparmor=unconfined"), "unconfined"),
        one(security("apparmor:unconfined"), "unconfined"),
        one(security("apparmor=other"), "unconfined").only_created(),
    ];
    let warden = warden(&engine, &cases);
    judge(&row, &engine, &warden, &cases);
    assert_ordinary_ones_live(&engine, &warden);
}

fn security(option: &str) -> Ask {
    Api(json!({ "SecurityOpt": [option] }))
}

#[test]
fn row_29_another_s_namespaces_and_other_powers() {
    let row = Row::begin("29");
    let engine = Engine::start_with(&["--add-runtime=other=runc"]);
    engine.image("good:1");
    let peer = engine.run(&["--name=peer", "--ipc=shareable"], "good:1", &[]);
    engine.run(&["--name=peer-net", "--network=host"], "good:1", &[]);
    let dir = engine.dir().display();
    let above = engine.dir().parent().unwrap().display();
    let gpu = json!({"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]});
    let cases = [
        one(cli("--network container:peer"), "join:peer"),
        one(cli("--pid container:peer"), "join:peer"),
        one(cli("--ipc container:peer"), "join:peer"),
        case(cli("--pid container:peer"), "join:peer", &["join:p*r"]),
        one(
            Api(json!({"PidMode": format!("container:{}", &peer[..12])})),
            "join:peer",
        ),
        one(
            Api(json!({"NetworkMode": format!("container:{peer}")})),
            "join:peer",
        ),
        // What the other one has, this one has.
        case(
            cli("--network container:peer-net"),
            "host-network",
            &["host-network", "join:peer-net"],
        ),
        one(cli("--uts host"), "host-uts"),
        one(cli("--security-opt label=disable"), "unconfined"),
        one(cli("--security-opt label:disable"), "unconfined"),
        one(security("disable"), "unconfined"),
        one(cli("--security-opt systempaths=unconfined"), "unconfined"),
        one(Api(json!({"MaskedPaths": []})), "unconfined"),
        one(Api(json!({"ReadonlyPaths": []})), "unconfined"),
        one(Api(json!({"MaskedPaths": ["/proc/acpi"]})), "unconfined"),
        one(cli("--gpus all"), "gpus").only_created(),
        one(Api(json!({"DeviceRequests": [gpu]})), "gpus").only_created(),
        one(cli("--runtime other"), "runtime:other"),
        // A directory that holds an engine's socket; its bind is granted, and does not help.
        case(
            cli(&format!("--volume {dir}:/x")),
            "engine-socket",
            &["engine-socket", &format!("bind:{dir}")],
        ),
        case(
            cli(&format!("--volume {above}:/x")),
            "engine-socket",
            &["engine-socket", &format!("bind:{above}")],
        ),
        case(
            cli("--volume /:/x:ro"),
            "engine-socket",
            &["engine-socket", "bind:/"],
        ),
        case(
            cli("--volume /:/x"),
            "engine-socket",
            &["engine-socket", "bind:/**"],
        ),
        case(
            cli("--volume /run:/x"),
            "engine-socket",
            &["engine-socket", "bind:/run"],
        ),
        case(
            cli("--mount type=bind,src=/var/run,dst=/x"),
            "engine-socket",
            &["engine-socket", "bind:/run"],
        ),
    ];
    let warden = warden(&engine, &cases);
    let peers = ["peer", "peer-net"].map(|name| engine.life(name));
    judge(&row, &engine, &warden, &cases);
    assert_ordinary_ones_live(&engine, &warden);
    engine.assert_same(&peers);
}

/// What an engine gives every container is no power of one that asks for it, and what it gives none
/// is one. With cgroup v1 the host's view of cgroups is such a default.
#[test]
fn row_29_what_is_ordinary_on_another_engine() {
    let row = Row::begin("29 defaults");
    let engine = Engine::start_with(&[
        "--default-cgroupns-mode=private",
        "--add-runtime=other=runc",
        "--default-runtime=other",
    ]);
    engine.image("good:1");
    let cases = [
        one(cli("--cgroupns host"), "host-cgroupns"),
        one(cli("--runtime runc"), "runtime:runc"),
    ];
    let warden = warden(&engine, &cases);
    judge(&row, &engine, &warden, &cases);
    assert_ordinary_ones_live(&engine, &warden);
}

/// Before API 1.24 a start may bring another configuration than the create did.
#[test]
fn row_09_power_that_a_start_brings() {
    let row = Row::begin("09 start");
    let engine = Engine::start();
    engine.image("good:1");
    let list = "version = 1\n[defaults]\ngrants = []\n[[allow]]\nimage = \"good:1\"\n";
    let warden = crate::warden(&engine, list);
    let start = |id: &str, config: &Value| {
        let path = format!("/v1.23/containers/{id}/start");
        let (status, answer) = engine.api("POST", &path, Some(config));
        assert_eq!(status, 204, "{answer}");
    };
    let control = engine.run_life(&[], "good:1");
    for config in [
        json!({"Binds": ["/:/x"], "PidMode": "host"}),
        json!({"NetworkMode": "host"}),
    ] {
        // First it is known as an ordinary one: as created, and in a life that is over.
        let id = engine.create(&[], "good:1", &[]);
        wait_until_shown(&warden, &id, "allowed");
        start(&id, &config);
        row.ended((&engine, &warden), &config.to_string(), &id, "not-granted");
        let shown = wait_until_shown(&warden, &id, "denied");
        assert_ne!(shown["powers"], json!([]), "{shown:#}");
        let id = engine.run(&[], "good:1", &[]);
        warden.wait_for_verdict(&id, "allowed");
        engine.docker_ok(&["kill", &id]);
        start(&id, &config);
        let what = format!("its second start: {config}");
        row.ended((&engine, &warden), &what, &id, "not-granted");
    }
    engine.assert_same(&[control]);
}

/// A field of megabytes is left out when answers are read. That does not make it none.
#[test]
fn row_09_power_in_too_many_words() {
    let row = Row::begin("09 words");
    let engine = Engine::start();
    engine.image("good:1");
    let list = "version = 1\n[defaults]\ngrants = []\n[[allow]]\nimage = \"good:1\"\n";
    let warden = crate::warden(&engine, list);
    let control = engine.run_life(&[], "good:1");
    let padding = "x".repeat(1_200_000);
    let seccomp = format!("seccomp={{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":\"{padding}\"}}");
    for (what, config) in [
        ("a long profile", json!({"SecurityOpt": [seccomp]})),
        (
            "many capabilities",
            json!({"CapAdd": vec!["NET_ADMIN"; 100_000]}),
        ),
        (
            "many rules",
            json!({"DeviceCgroupRules": vec!["c 1:3 rwm"; 100_000]}),
        ),
    ] {
        let body = json!({"Image": "good:1", "HostConfig": config});
        let id = create_raw(&engine, &body);
        engine.docker_ok(&["start", &id]);
        row.ended((&engine, &warden), what, &id, "not-granted");
    }
    engine.assert_same(&[control]);
}

/// The engine keeps a name that is nobody's, and looks for it at the start.
#[test]
fn row_29_the_namespaces_of_whoever_comes_by_that_name() {
    let row = Row::begin("29 name");
    let engine = Engine::start();
    engine.image("good:1");
    let list = r#"
version = 1
[[allow]]
image = "good:1"
container = "web"
grants = ["host-network"]
[[allow]]
image = "good:1"
container = "side"
grants = ["join:web"]
"#;
    let warden = crate::warden(&engine, list);
    let side = engine.create(&["--name=side", "--network=container:web"], "good:1", &[]);
    wait_until_shown(&warden, &side, "denied");
    let web = engine.run_life(&["--name=web", "--network=host"], "good:1");
    engine.docker_ok(&["start", &side]);
    let what = "--network container:web, before there is one";
    let record = row.ended((&engine, &warden), what, &side, "not-granted");
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains("only `all`"), "{detail}");
    engine.assert_same(&[web]);
}

#[test]
fn row_28_a_bind_in_disguise() {
    let row = Row::begin("28");
    let engine = Engine::start();
    engine.image("good:1");
    let dir = engine.dir().join("host");
    fs::create_dir_all(&dir).unwrap();
    let dir = dir.display();
    let volume = |name: &str, options: &[&str]| {
        let options: Vec<_> = options
            .iter()
            .map(|option| format!("--opt={option}"))
            .collect();
        let mut all = vec!["volume", "create"];
        all.extend(options.iter().map(String::as_str));
        all.push(name);
        engine.docker_ok(&all);
        cli(&format!("--volume {name}:/x"))
    };
    let (device, socket) = (
        format!("device={dir}"),
        format!("device={}", engine.dir().display()),
    );
    let path = format!("bind:{dir}");
    let typed = format!("volume-opt=type=none,volume-opt=o=bind,volume-opt={device}");
    let disguised = |name: &str| {
        cli(&format!(
            "--mount type=volume,{name}dst=/x,volume-driver=local,{typed}"
        ))
    };
    let cases = [
        one(volume("v1", &["type=none", "o=bind", &device]), &path),
        one(volume("v2", &["type=none", "o=rbind", &device]), &path),
        one(
            volume("v3", &["type=none", "o=nosuid,bind", &device]),
            &path,
        ),
        one(disguised(""), &path),
        one(disguised("src=v4,"), &path),
        case(
            volume("v5", &["type=none", "o=bind", "device=/"]),
            "bind:/",
            &["bind:/", "engine-socket"],
        ),
        case(
            volume("v6", &["type=none", "o=bind", &socket]),
            "engine-socket",
            &["engine-socket", &format!("bind:{}", engine.dir().display())],
        ),
        one(
            volume("v7", &["type=ext4", "device=/dev/null"]),
            "device:/dev/null",
        )
        .only_created(),
        one(
            volume("v8", &["type=nfs", "o=addr=192.0.2.1", "device=:/srv"]),
            "volume:nfs",
        )
        .only_created(),
        one(
            volume(
                "v9",
                &["type=cifs", "o=addr=192.0.2.1", "device=//192.0.2.1/x"],
            ),
            "volume:cifs",
        )
        .only_created(),
    ];
    // The volume says nothing in the container.
    let id = engine.create(&["--volume=v5:/x"], "good:1", &[]);
    let seen = engine.inspect(&id);
    assert_eq!(seen["Mounts"][0]["Driver"], "local");
    assert!(!seen["Mounts"][0].to_string().contains("bind"), "{seen:#}");

    let warden = warden(&engine, &cases);
    judge(&row, &engine, &warden, &cases);
    assert_ordinary_ones_live(&engine, &warden);
}

#[test]
fn row_09_a_path_that_leads_elsewhere() {
    let row = Row::begin("09 symlink");
    let engine = Engine::start();
    engine.image("good:1");
    let dir = engine.dir().join("host");
    let (open, secret) = (dir.join("open"), dir.join("secret"));
    fs::create_dir_all(open.join("sub")).unwrap();
    fs::create_dir(&secret).unwrap();
    symlink(&secret, open.join("link")).unwrap();
    symlink("link", open.join("link-to-link")).unwrap();
    symlink("../open/link", dir.join("relative")).unwrap();
    symlink(engine.socket_path(), open.join("socket")).unwrap();
    symlink(&open, dir.join("way")).unwrap();
    let list = format!(
        "version = 1\n[[allow]]\nrule = \"www\"\nimage = \"good:1\"\ngrants = [\"bind:{0}/open/**\", \"bind:{0}/way/**\"]\n",
        dir.display()
    );
    let warden = crate::warden(&engine, &list);
    let both = (&engine, &warden);
    let volume = |path: &str| format!("--volume={}:/x", dir.join(path).display());
    let control = [
        engine.run_life(&[&volume("open/sub")], "good:1"),
        engine.run_life(&[&volume("open")], "good:1"),
        engine.run_life(&[&volume("way/sub")], "good:1"),
    ];
    let denied = |id: &str, what: &str, missing: &str| {
        let record = row.ended(both, what, id, "not-granted");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.contains(missing), "{what}: {detail}");
    };
    let missing = format!("`bind:{}`", secret.display());
    for path in ["open/link", "open/link-to-link", "way/link"] {
        let id = engine.run(&[&volume(path)], "good:1", &[]);
        denied(&id, &format!("{path} -> secret"), &missing);
    }
    let id = engine.run(&[&volume("open/socket")], "good:1", &[]);
    denied(&id, "open/socket -> the engine's", "`engine-socket`");

    let device = format!("--opt=device={}", open.join("link").display());
    engine.docker_ok(&[
        "volume",
        "create",
        "--opt=type=none",
        "--opt=o=bind",
        &device,
        "way",
    ]);
    let id = engine.run(&["--volume=way:/x"], "good:1", &[]);
    denied(&id, "a volume of open/link -> secret", &missing);

    // Exchanged between two starts of one container.
    fs::create_dir(open.join("later")).unwrap();
    let swapped = engine.run(&[&volume("open/later")], "good:1", &[]);
    warden.wait_for_verdict(&swapped, "allowed");
    engine.docker_ok(&["kill", &swapped]);
    fs::remove_dir(open.join("later")).unwrap();
    symlink(&secret, open.join("later")).unwrap();
    engine.docker_ok(&["start", &swapped]);
    denied(
        &swapped,
        "open/later, a symlink since its last start",
        &missing,
    );
    eventually("it stays dead", SOON, || {
        engine.state(&swapped).as_deref() == Some("exited")
    });

    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    engine.assert_same(&control);
}
