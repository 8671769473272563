//! The one-shot commands as users run them: answers, exit codes, and what they print where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use support::scripted::{Scripted, event, listed};
use support::{Engine, TcpProxy, Warden, eventually};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:*"
container = "good-*"
labels = { tier = "front" }
[[allow]]
rule = "shop"
image = "shop/**"
"#;

/// A list that nothing is to be said against.
const STRONG: &str = r#"
version = 1
defaults.grants = []
[[allow]]
image = "good:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
"#;

/// One engine, only read here: one container allowed, one denied, one denied and not running.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let engine = Engine::start();
    for image in ["good:1", "shop/front:1", "evil:1"] {
        engine.image(image);
    }
    engine.run(
        &["--name", "good-1", "--label", "tier=front"],
        "good:1",
        &[],
    );
    let hostile = "tier=\u{1b}[31mred\u{7}\u{202e}";
    engine.run(&["--name", "evil-1", "--label", hostile], "evil:1", &[]);
    engine.create(&["--name", "evil-2"], "evil:1", &[]);
    engine
});

// ---- what they print

/// As with `| head`, when that has had enough.
#[test]
fn who_is_no_longer_read_ends_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowlist.toml");
    std::fs::write(&list, LIST).unwrap();
    let list = list.to_str().unwrap();
    for arguments in [
        &["schema"][..],
        &["completions", "bash"],
        &["ps", "--engine", &ENGINE.host(), "--allowlist", list],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_dockwarden"))
            .args(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(141), "{arguments:?}: {said}");
    }
    // Nor does it matter that nobody reads what went wrong.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_dockwarden"))
        .args(["check", "/nowhere"])
        .stderr(writer)
        .status();
    assert_eq!(status.unwrap().code(), Some(2));
}

// ---- daemons

/// What sees the host's processes and has no capability more than dockwarden in its container.
#[test]
fn nobody_reaches_the_engine_through_a_daemon_s_own_root() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowlist.toml");
    std::fs::write(&list, "version = 1\nallow-nothing = true\n").unwrap();
    let bare = [
        "--pdeathsig",
        "KILL",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ];
    let mut daemon = Command::new("setpriv")
        .args(bare)
        .args([
            env!("CARGO_BIN_EXE_dockwarden"),
            "controller",
            "--mode",
            "audit",
        ])
        .args([
            "--engine",
            "unix:///nowhere.sock",
            "--listen",
            "127.0.0.1:0",
            "--allowlist",
        ])
        .arg(&list)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = std::io::BufReader::new(daemon.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(log).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening")), "it serves");
    let reach = |pid: u32| {
        let root = format!("/proc/{pid}/root/");
        let mut ls = Command::new("setpriv");
        ls.args(&bare[2..]).args(["ls", &root]).output().unwrap()
    };
    let answer = reach(daemon.id());
    // The same through a process that does not hide: else this would prove nothing.
    let mut open = Command::new("setpriv");
    let mut open = open.args(bare).args(["sleep", "60"]).spawn().unwrap();
    eventually("another's root is open", SOON, || {
        reach(open.id()).status.success()
    });
    for process in [&mut daemon, &mut open] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(!answer.status.success(), "{answer:?}");
}

// ---- check

#[test]
fn check_tells_whether_a_list_is_valid() {
    let weak = "version = 1\n[[allow]]\ncontainer = \"a\"\n";
    let old = "version = 1\n[[allow]]\nimage = \"a\"\nexpires = 2020-01-01T00:00:00Z\n";
    let table = [
        (LIST, vec![], 0, vec!["valid", "2 rules", "enforce", "kill"]),
        (
            LIST,
            vec![],
            0,
            vec![
                "warning: powers are not looked at",
                "rule `good`: `good:*` is not pinned",
            ],
        ),
        (LIST, vec!["--strict"], 1, vec!["valid", "warning"]),
        (STRONG, vec!["--strict"], 0, vec!["valid, 1 rule,"]),
        (weak, vec![], 0, vec!["warning", "allow-1", "image"]),
        (weak, vec!["--strict"], 1, vec!["warning", "allow-1"]),
        (old, vec!["--strict"], 1, vec!["warning", "expired"]),
    ];
    for (list, options, code, parts) in table {
        let run = Run::with(list).args(&["check"]).args(&options).run();
        run.expect(code);
        for part in parts {
            assert!(run.stdout.contains(part), "{part}: {run:?}");
        }
    }
}

/// What people copy.
#[test]
fn every_list_in_the_documents_is_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = std::fs::read_dir(root.join("docs")).unwrap();
    let documents = documents.map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|one| one == "md"));
    let mut lists = 0;
    for path in documents.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let blocks = text.split("\n```toml\n").skip(1);
        for list in blocks.map(|rest| rest.split("```").next().unwrap()) {
            // Some show rules alone.
            let head = match list.contains("version = 1") {
                true => "",
                false => "version = 1\n",
            };
            let run = Run::with(&format!("{head}{list}")).args(&["check"]).run();
            run.expect(0);
            lists += 1;
        }
    }
    assert!(lists >= 2, "README and monitoring have some");
}

#[test]
fn check_tells_everything_that_is_wrong_at_once() {
    let bad = "version = 2\nmoode = \"audit\"\naction = \"explode\"\nguard = { share = 2 }\n[[allow]]\nrule = \"a\"\nimage = 5\n[[allow]]\nrule = \"a\"\nimage = \"**\"\nmax = 0\nexpires = \"soon\"\n";
    let run = Run::with(bad).args(&["check"]).run();
    run.expect(2);
    let file = run.list();
    for place in ["1:11", "2:1", "3:10", "4:19", "7:9", "9:8", "11:7", "12:11"] {
        assert!(
            run.stderr.contains(&format!("{file}:{place}:")),
            "{place}\n{}",
            run.stderr
        );
    }
    for part in [
        "unknown key `moode`",
        "allowed here: version, mode, audit-until, action, stop-timeout, on-create, keep-dead, guard, allow-nothing, defaults, allow",
        "allowed here: kill, stop, pause, remove",
        "`share` can't be 2",
        "`max` can't be 0",
        "allowed here: a whole number from 1 to 4294967295",
        "^^^^^",
        "moode = \"audit\"",
    ] {
        assert!(run.stderr.contains(part), "{part}\n{}", run.stderr);
    }
    assert_eq!(run.stdout, "");
    run.steers_no_terminal();
    assert!(run.stderr.lines().count() > 8, "{}", run.stderr);
    // A tab that is typed is shown as room.
    let run = Run::with("version = 1\n\tmoode\t= 5\n").args(&["check"]);
    let run = run.run();
    run.expect(2);
    assert!(!run.stderr.contains("\\u"), "{}", run.stderr);
}

#[test]
fn check_of_a_file_that_is_no_list() {
    for (file, code) in [("/nowhere/allowlist.toml", 2), ("/", 2), ("/dev/null", 2)] {
        let run = Run::with(LIST).args(&["check", file]).run();
        run.expect(code);
        assert!(run.stderr.contains(file), "{run:?}");
    }
    // A steering sequence in the file reaches no terminal.
    let run = Run::with("version = 1\n\u{1b}[31m = 5\n")
        .args(&["check"])
        .run();
    run.expect(2);
    assert!(!run.stderr.contains('\u{1b}'), "{run:?}");
}

#[test]
fn check_takes_the_list_here_before_the_system_one() {
    let here = tempfile::tempdir().unwrap();
    let check = || {
        let mut command = binary(&["check"]);
        command
            .current_dir(here.path())
            .output()
            .unwrap()
            .status
            .code()
    };
    std::fs::write(here.path().join("allowlist.toml"), LIST).unwrap();
    assert_eq!(check(), Some(0));
    std::fs::write(here.path().join("allowlist.toml"), "").unwrap();
    assert_eq!(check(), Some(2));
}

#[test]
fn check_running_names_what_would_be_ended() {
    let run = Run::with(LIST)
        .args(&["check", "--running"])
        .on(&ENGINE)
        .run();
    run.expect(1);
    assert!(
        run.stdout.contains("evil-1") && run.stdout.contains("denied    no rule matches"),
        "{run:?}"
    );
    assert!(!run.stdout.contains("good-1"), "{run:?}");
    assert!(!run.stdout.contains("evil-2"), "it does not run: {run:?}");
    let run = Run::with(LIST)
        .args(&["check", "--running", "--output", "json"])
        .on(&ENGINE)
        .run();
    run.expect(1);
    let answer = run.json();
    let names: Vec<_> = answer["would_end"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["container_name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["evil-1"]);
    assert_eq!(answer["hash"].as_str().unwrap().len(), 64);

    let all = "version = 1\n[[allow]]\nimage = \"**\"\n";
    let run = Run::with(all)
        .args(&["check", "--running"])
        .on(&ENGINE)
        .run();
    run.expect(0);
    assert!(
        run.stdout.contains("nothing that runs would be ended"),
        "{run:?}"
    );
    Run::with(all)
        .args(&["check", "--running", "--strict"])
        .on(&ENGINE)
        .run()
        .expect(1);
    // Nothing was touched by any of it.
    assert_eq!(ENGINE.state("evil-1").as_deref(), Some("running"));
}

// ---- ps

#[test]
fn ps_shows_every_container_and_its_verdict() {
    let run = Run::with(LIST).args(&["ps"]).on(&ENGINE).run();
    run.expect(0);
    let row = |name: &str| {
        let mut rows = run.stdout.lines().filter(|line| line.contains(name));
        (
            rows.next()
                .unwrap_or_else(|| panic!("{name}: {run:?}"))
                .to_owned(),
            rows.next(),
        )
    };
    for (name, parts) in [
        ("good-1", ["good:1", "running", "allowed   rule good"]),
        ("evil-1", ["evil:1", "running", "denied    no rule matches"]),
        ("evil-2", ["evil:1", "created", "denied    no rule matches"]),
    ] {
        let (line, second) = row(name);
        assert_eq!(second, None, "{run:?}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(
        run.stdout
            .lines()
            .next()
            .unwrap()
            .starts_with("CONTAINER ID")
    );
    assert!(
        run.stderr.contains(&ENGINE.host()),
        "the engine is named: {run:?}"
    );
    run.steers_no_terminal();

    let run = Run::with(LIST)
        .args(&["ps", "--output", "json"])
        .on(&ENGINE)
        .run();
    run.expect(0);
    let all = run.json();
    let evil = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["container_name"] == "evil-1")
        .unwrap();
    assert_eq!(
        (
            &evil["verdict"],
            &evil["reason"],
            &evil["status"],
            &evil["image"]
        ),
        (
            &json!("denied"),
            &json!("no-rule"),
            &json!("running"),
            &json!("evil:1")
        )
    );
    assert_eq!(evil["container_id"].as_str().unwrap().len(), 64);
}

// ---- explain

#[test]
fn explain_takes_a_verdict_apart() {
    let good = ENGINE.docker_ok(&["inspect", "-f", "{{.Id}}", "good-1"]);
    let table = [
        (
            "good-1",
            0,
            vec!["allowed by rule `good`", "+ `image`", "- `image`: `good:1`"],
        ),
        (&*good, 0, vec!["good-1: allowed"]),
        (&good[..12], 0, vec!["good-1: allowed"]),
        (
            "evil-1",
            1,
            vec!["evil-1: denied, no-rule", "- `container`", "- `labels`"],
        ),
        ("evil-2", 1, vec!["denied"]),
        ("nobody", 2, vec![]),
    ];
    for (name, code, parts) in table {
        let run = Run::with(LIST).args(&["explain", name]).on(&ENGINE).run();
        run.expect(code);
        for part in parts {
            assert!(run.stdout.contains(part), "{part}: {run:?}");
        }
        run.steers_no_terminal();
    }
    let run = Run::with(LIST)
        .args(&["explain", "evil-1", "--output", "json"])
        .on(&ENGINE)
        .run();
    run.expect(1);
    let answer = run.json();
    assert_eq!(answer["container"]["verdict"], "denied");
    let keys = answer["rules"][0]["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3, "{answer}");
    assert!(keys.iter().all(|key| key["matches"] == false));
}

#[test]
fn explain_of_an_imagined_container_asks_no_engine() {
    let good = [
        "--image",
        "good:1",
        "--name",
        "good-7",
        "--label",
        "tier=front",
    ];
    let table = [
        (&good[..], 0, "allowed by rule `good`"),
        (&good[..4], 1, "rule `good` matches but for"),
        (
            &[
                "--image",
                "shop/a/b@sha256:1111111111111111111111111111111111111111111111111111111111111111",
            ],
            0,
            "rule `shop`",
        ),
        (&["--image", "evil"], 1, "no-rule"),
        (&["--image", "NOT A REFERENCE"], 2, ""),
        (&["--image", "a", "--label", "novalue"], 2, ""),
        (&["--name", "a"], 2, ""),
        (&["good-1", "--image", "a"], 2, ""),
        (&[], 2, ""),
    ];
    for (options, code, part) in table {
        let run = Run::with(LIST)
            .args(&["explain"])
            .args(options)
            .env("DOCKER_HOST", "unix:///nowhere.sock")
            .run();
        run.expect(code);
        assert!(run.stdout.contains(part), "{run:?}");
    }
}

#[test]
fn explain_shows_the_normal_form_of_an_image() {
    let digest = format!("sha256:{}", "1a".repeat(32));
    let long = format!("a/{}", "b".repeat(300));
    let table = [
        ("nginx", Some("docker.io/library/nginx:latest")),
        ("index.docker.io/team/app:1", Some("docker.io/team/app:1")),
        ("[::1]:5000/app", Some("[::1]:5000/app:latest")),
        ("localhost/a:1@DIGEST", Some("localhost/a:1@DIGEST")),
        ("DIGEST", None),
        ("Nginx", None),
        ("nginx:", None),
        ("a@md5:00", None),
        (&*long, None),
    ];
    for (image, normal) in table {
        let image = image.replace("DIGEST", &digest);
        let run = Run::with(LIST)
            .args(&["explain", "--output", "json", "--image", &image])
            .run();
        let Some(normal) = normal else {
            run.expect(2);
            continue;
        };
        run.expect(1);
        let normal = normal.replace("DIGEST", &digest);
        assert_eq!(run.json()["image_normalized"], normal);
    }
}

#[test]
fn explain_of_imagined_powers_and_of_what_would_be_denied() {
    let list = "version = 1\n[defaults]\ngrants = []\n[[allow]]\nrule = \"a\"\nimage = \"a:1\"\ngrants = [\"host-network\"]\n[[allow]]\nrule = \"b\"\nimage = \"b:1\"\naudit = true\n";
    let table = [
        (&["--image", "a:1"][..], 0, "allowed by rule `a`"),
        (
            &["--image", "a:1", "--power", "host-network"],
            0,
            "+ `grants`",
        ),
        (
            &["--image", "a:1", "--power", "bind:/srv:ro"],
            1,
            "denied, not-granted: rule `a` matches but does not grant `bind:/srv:ro`",
        ),
        (&["--image", "b:1"], 0, "it would be denied"),
        (&["--image", "a:1", "--power", "strength"], 2, ""),
    ];
    for (options, code, part) in table {
        let run = Run::with(list).args(&["explain"]).args(options).run();
        run.expect(code);
        assert!(run.stdout.contains(part), "{run:?}");
    }
    let run = Run::with(list)
        .args(&["explain", "--image", "b:1", "--output", "json"])
        .run();
    assert_eq!(run.json()["container"]["would_deny"], true);
}

#[test]
fn explain_remembers_what_is_gone() {
    let engine = Engine::start();
    engine.image("evil:1");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--audit-log", &log])
        .start();
    warden.wait_ready();
    let id = engine.run(&["--name", "brief"], "evil:1", &[]);
    engine.wait_until_dead(&id, SOON);
    eventually("it is on record", SOON, || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"done\""))
    });
    engine.docker_ok(&["rm", "brief"]);
    for name in ["brief", &id, &id[..12]] {
        let run = Run::with(LIST)
            .args(&["explain", name, "--audit-log", &log])
            .on(&engine)
            .run();
        run.expect(1);
        let told = "brief: denied, killed: no-rule: no rule matches";
        assert!(run.stdout.contains(told), "{run:?}");
    }
    // The log answers without an engine, where it can.
    let nowhere = ["--audit-log", &log, "--engine", "unix:///nowhere.sock"];
    for (name, code) in [("brief", 1), ("nobody", 3)] {
        let run = Run::with(LIST).args(&["explain", name]).args(&nowhere);
        let run = run.run();
        run.expect(code);
        assert!(run.stderr.contains("can't be reached"), "{run:?}");
    }
    Run::with(LIST)
        .args(&["explain", "brief"])
        .on(&engine)
        .run()
        .expect(2);
    Run::with(LIST)
        .args(&["explain", "nobody", "--audit-log", &log])
        .on(&engine)
        .run()
        .expect(2);
    Run::with(LIST)
        .args(&["explain", "nobody", "--audit-log", "/nowhere/audit.jsonl"])
        .on(&engine)
        .run()
        .expect(2);
}

/// `db` is a name, and the beginning of another's id.
#[test]
fn explain_tells_of_nobody_else_on_record() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    let warden = fake.builder(LIST, "1h").args(["--audit-log", &log]).start();
    warden.wait_ready();
    let (db, like_db) = ("a".repeat(64), format!("db{}", "0".repeat(62)));
    for (id, name) in [(&db, "/db"), (&like_db, "/web")] {
        let mut container = listed(id, "evil:1");
        container["Names"] = json!([name]);
        fake.world().containers.insert(id.clone(), container);
        fake.say(event("start", id).as_bytes());
        fake.wait_for_kill(id);
        warden.wait_for_verdict(id, "denied");
        fake.world().containers.remove(id);
    }
    let (url, gone) = (fake.url(), "unix:///nowhere.sock");
    for engine in [&*url, gone] {
        let options = ["--engine", engine, "--audit-log", &log];
        for (word, name) in [("db", "db"), ("db0", "web"), (&like_db[..12], "web")] {
            let run = Run::with(LIST).args(&["explain", word]).args(&options);
            let run = run.run();
            run.expect(1);
            let said = run
                .stdout
                .lines()
                .all(|line| line.contains(&format!(" {name}: denied")));
            assert!(said && !run.stdout.is_empty(), "{word}: {run:?}");
        }
    }
}

// ---- healthcheck

#[test]
fn healthcheck_says_whether_it_is_ready() {
    let engine = Engine::start();
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    let address = warden.address().to_string();
    Run::bare()
        .args(&["healthcheck", "--listen", &address])
        .run()
        .expect(0);
    Run::bare()
        .args(&["healthcheck"])
        .env("DOCKWARDEN_LISTEN", &address)
        .run()
        .expect(0);
    let any = format!("0.0.0.0:{}", warden.address().port());
    Run::bare()
        .args(&["healthcheck", "--listen", &any])
        .run()
        .expect(0);

    engine.stop_dockerd();
    eventually("it is not ready", SOON, || {
        warden.get("/readyz").status == 503
    });
    let run = Run::bare()
        .args(&["healthcheck", "--listen", &address])
        .run();
    run.expect(1);
    assert!(run.stderr.contains("out of reach"), "{run:?}");
    warden.sigterm();
    Run::bare()
        .args(&["healthcheck", "--listen", &address])
        .run()
        .expect(1);
    Run::bare()
        .args(&["healthcheck", "--listen", "not an address"])
        .run()
        .expect(2);
}

// ---- Which engine

#[test]
fn without_an_engine_it_is_3_and_with_a_bad_url_2() {
    let table = [
        ("unix:///nowhere/docker.sock", 3),
        ("unix:///dev/null", 3),
        ("tcp://127.0.0.1:1", 3),
        ("tcp://no-such-host.invalid:2375", 3),
        ("ssh://somewhere", 2),
        ("npipe:////./pipe/docker_engine", 2),
        ("http://127.0.0.1:2375", 2),
        ("tcp://127.0.0.1", 2),
        ("unix://relative.sock", 2),
        ("nonsense", 2),
    ];
    for (url, code) in table {
        for command in [
            &["ps"][..],
            &["check", "--running"],
            &["explain", "x"],
            &["learn"],
        ] {
            let run = Run::with(LIST).args(command).args(&["--engine", url]).run();
            run.expect(code);
            assert!(run.stderr.contains(url), "{run:?}");
            assert_eq!(run.stdout, "", "{run:?}");
        }
    }
    // Daemons wait for an engine, and not for a URL to become right.
    let warden = Warden::at("ssh://somewhere").allowlist(LIST).spawn();
    assert_eq!(warden.wait_exit(SOON).code(), Some(2));
}

/// What it says may have come from anybody: a registry, a container's name.
#[test]
fn an_engine_s_words_steer_no_terminal() {
    let fake = Scripted::start();
    let words = json!({"message": "no \u{1b}[31mway\u{202e}\r"});
    fake.world().lists = Some((500, words.to_string()));
    for command in [&["ps"][..], &["check", "--running"], &["explain", "x"]] {
        let run = Run::with(LIST)
            .args(command)
            .args(&["--engine", &fake.url()]);
        let run = run.run();
        run.expect(3);
        run.steers_no_terminal();
        assert!(run.stderr.contains("no \\u{1b}[31mway\\u{202e}"), "{run:?}");
    }
}

#[test]
fn an_engine_that_answers_nonsense_is_3() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull");
        }
    });
    Run::with(LIST)
        .args(&["ps", "--engine", &url])
        .run()
        .expect(3);
}

#[test]
fn the_option_wins_over_the_environment_and_empty_is_unset() {
    let proxy = TcpProxy::to(&ENGINE.socket_path());
    let (socket, tcp) = (ENGINE.host(), proxy.url());
    let wrong = "unix:///nowhere/docker.sock";
    // DOCKER_HOST, DOCKWARDEN_ENGINE, --engine, and which one is used.
    let table = [
        (Some(&*tcp), None, None, &*tcp),
        (Some(wrong), Some(&*socket), None, &*socket),
        (Some(wrong), Some(wrong), Some(&*tcp), &*tcp),
        (Some(&*tcp), Some(""), None, &*tcp),
    ];
    for (docker_host, variable, option, used) in table {
        let mut run = Run::with(LIST).args(&["ps"]);
        for (name, value) in [
            ("DOCKER_HOST", docker_host),
            ("DOCKWARDEN_ENGINE", variable),
        ] {
            if let Some(value) = value {
                run = run.env(name, value);
            }
        }
        if let Some(option) = option {
            run = run.args(&["--engine", option]);
        }
        let run = run.run();
        run.expect(0);
        assert!(run.stderr.contains(used), "{run:?}");
        assert!(run.stdout.contains("good-1"), "{run:?}");
    }
    // Others than the engine.
    let run = || Run::with(LIST).args(&["ps"]).on(&ENGINE);
    assert!(
        run()
            .env("DOCKWARDEN_OUTPUT", "json")
            .run()
            .json()
            .is_array()
    );
    assert!(
        run()
            .env("DOCKWARDEN_OUTPUT", "")
            .run()
            .stdout
            .starts_with("CONTAINER")
    );
    let both = run()
        .env("DOCKWARDEN_OUTPUT", "json")
        .args(&["--output", "table"]);
    assert!(both.run().stdout.starts_with("CONTAINER"));
    run().env("DOCKWARDEN_OUTPUT", "nonsense").run().expect(2);
}

#[test]
fn a_flag_may_be_set_by_its_variable() {
    let weak = "version = 1\n[[allow]]\ncontainer = \"a\"\n";
    for (value, code) in [("true", 1), ("1", 1), ("", 0), ("false", 0), ("0", 0)] {
        let run = Run::with(weak)
            .args(&["check"])
            .env("DOCKWARDEN_STRICT", value)
            .run();
        run.expect(code);
    }
}

// ---- Usage

#[test]
fn bad_usage_is_2_and_help_is_0() {
    for arguments in [
        &["--nonsense"][..],
        &["nonsense"],
        &[],
        &["ps", "--nonsense"],
        &["ps", "extra"],
        &["ps", "--output", "yaml"],
        &["check", "a", "b"],
        &["run", "--mode", "enforce"],
        &["controller", "--mode", "enforce"],
        &["run", "--resync", "0s"],
        &["run", "--resync", "10ms"],
        &["run", "--resync", "-5s"],
        &["run", "--resync", "soon"],
        &["run", "--log-format", "xml"],
        &["run", "--show-labels", "some"],
        &["authz"],
    ] {
        let run = Run::bare().args(arguments).run();
        run.expect(2);
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
    let version = Run::bare().args(&["--version"]).run();
    version.expect(0);
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")));
    for arguments in [&["--help"][..], &["run", "--help"], &["check", "--help"]] {
        Run::bare().args(arguments).run().expect(0);
    }
}

#[test]
fn a_duration_that_can_not_be_is_refused_with_what_can() {
    for (arguments, expected) in [
        (
            &["restore", "--audit-log", "/nowhere", "--since=-1h"][..],
            "at least 1s",
        ),
        (&["run", "--resync", "10ms"], "at least 1s"),
        (&["canary", "--interval=-1s"], "at least 0s"),
        (&["canary", "--timeout", "2h"], "from 1s to 1h"),
    ] {
        let run = Run::bare().args(arguments).run();
        run.expect(2);
        assert!(run.stderr.contains(expected), "{run:?}");
    }
}

#[test]
fn a_daemon_that_cannot_start_says_why_with_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for options in [
        &["--listen", &*taken][..],
        &["--listen", "nonsense"],
        &["--listen", "127.0.0.1:99999"],
        &["--audit-log", "/nowhere/audit.jsonl"],
        &["--audit-log", "/"],
        &["--log-level", "a=b=c"],
    ] {
        let run = Run::with(LIST)
            .args(&["run", "--engine", "unix:///nowhere.sock"])
            .args(if options[0] == "--listen" {
                &[]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .args(options)
            .run();
        run.expect(2);
        assert!(
            run.stderr.contains(options[1]) || run.stderr.contains(options[0]),
            "{run:?}"
        );
    }
}

// ---- Helpers

/// A command with a list of its own; nothing of the developer's environment.
struct Run {
    directory: TempDir,
    command: Command,
}

struct Ran {
    directory: TempDir,
    code: Option<i32>,
    stdout: String,
    stderr: String,
    said: String,
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            said,
            code,
            stdout,
            stderr,
            ..
        } = self;
        write!(
            formatter,
            "{said}\nexit code {code:?}\nstdout: {stdout}\nstderr: {stderr}"
        )
    }
}

fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "1", "60", env!("CARGO_BIN_EXE_dockwarden")])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

impl Run {
    fn with(list: &str) -> Self {
        let mut run = Self::bare();
        let path = run.directory.path().join("allowlist.toml");
        std::fs::write(&path, list).unwrap();
        run.command.env("DOCKWARDEN_ALLOWLIST", path);
        run
    }

    fn bare() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            command: binary(&[]),
        }
    }

    fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn on(self, engine: &Engine) -> Self {
        let host = engine.host();
        self.args(&["--engine", &host])
    }

    fn run(mut self) -> Ran {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command.output().unwrap();
        Ran {
            said: format!("{:?}", self.command.get_args().skip(3).collect::<Vec<_>>()),
            directory: self.directory,
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn expect(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn list(&self) -> String {
        self.directory
            .path()
            .join("allowlist.toml")
            .display()
            .to_string()
    }

    #[track_caller]
    fn steers_no_terminal(&self) {
        let steers = |character: char| {
            (character.is_control() && character != '\n')
                || ('\u{202a}'..='\u{202e}').contains(&character)
        };
        assert!(
            !self.stdout.contains(steers) && !self.stderr.contains(steers),
            "{self:?}"
        );
    }
}
