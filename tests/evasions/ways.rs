//! Ways to come to run, to run on, and to come back.

use crate::report::Row;
use crate::support::{Engine, SOON, Warden, eventually};
use crate::{LIST, create_raw, engine, fence, warden};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

#[test]
fn row_06_exec_into_an_allowed_container() {
    const LISTS: &str = r#"
version = 1
[[allow]]
rule = "closed"
image = "checked:1"
container = "closed*"
exec = false
[[allow]]
rule = "open"
image = "checked:1"
container = "open*"
"#;
    let row = Row::begin("06");
    let engine = Engine::start();
    let check = r#"HEALTHCHECK --interval=1s CMD ["/victim", "exit", "0"]"#;
    engine.image_with("checked:1", &[check, "USER 1000"]);
    engine.image("bad:1");
    let warden = warden(&engine, LISTS);
    let both = (&engine, &warden);
    let control = [
        engine.run_life(&["--name=closed"], "checked:1"),
        engine.run_life(&["--name=open"], "checked:1"),
    ];
    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    engine.docker_ok(&["exec", "--detach", "open", "/victim"]);
    engine.docker_ok(&["exec", "--user=0", "open", "/victim", "exit", "0"]);
    // Not foreign, whoever starts it.
    engine.docker_ok(&["exec", "closed", "/victim", "exit", "0"]);

    for (number, (what, options)) in [
        (
            "docker exec, it runs on",
            &["--detach", "NAME", "/victim"][..],
        ),
        (
            "docker exec, it is over at once",
            &["NAME", "/victim", "exit", "1"],
        ),
        (
            "the health check with more arguments",
            &["NAME", "/victim", "exit", "0", "0"],
        ),
        ("the health check with fewer", &["NAME", "/victim", "exit"]),
        (
            "the health check as another user",
            &["--user=0", "NAME", "/victim", "exit", "0"],
        ),
        (
            "the health check as a --privileged one",
            &["--privileged", "NAME", "/victim", "exit", "0"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("closed-{number}");
        let id = engine.run(&["--name", &name], "checked:1", &[]);
        warden.wait_for_verdict(&id, "allowed");
        let options: Vec<_> = options
            .iter()
            .map(|&option| {
                if option == "NAME" {
                    name.as_str()
                } else {
                    option
                }
            })
            .collect();
        // It may end while docker still waits for the exec.
        let exec = engine.docker(&[&["exec"], &options[..]].concat());
        println!("{what}: {exec:?}");
        let record = row.ended(both, what, &id, "foreign-exec");
        assert_eq!(record["trigger"], "exec", "{record:#}");
        let record = record.to_string();
        assert!(
            !record.contains("exit 0"),
            "only the program is told: {record}"
        );

        if number == 0 {
            engine.docker_ok(&["start", &id]);
            let life = engine.life(&id);
            fence(&engine);
            engine.assert_same(&[life]); // forgotten at its next start
        }
    }

    // A health check that its creator brought along is none of the image's.
    let body = json!({
        "Image": "checked:1",
        "Healthcheck": {"Test": ["CMD", "/victim", "exit"], "Interval": 1_000_000_000},
    });
    let id = create_raw(&engine, &body);
    engine.docker_ok(&["rename", &id, "closed-own-check"]);
    engine.docker_ok(&["start", &id]);
    row.ended(both, "a health check of its own", &id, "foreign-exec");

    for life in &control {
        eventually("its own health checks pass", SOON, || {
            let health = engine.inspect(&life.id)["State"]["Health"].take();
            let checks = health["Log"].as_array().map_or(0, Vec::len);
            health["Status"] == "healthy" && checks >= 3
        });
    }
    fence(&engine);
    engine.assert_same(&control);
}

#[test]
fn row_08_start_restart_unpause_update() {
    let row = Row::begin("08");
    let engine = engine();
    let old = |name: &str| {
        let id = engine.run(&["--name", name], "bad:1", &[]);
        engine.docker_ok(&["kill", name]);
        id
    };
    let (started, restarted, updated) = (old("started"), old("restarted"), old("updated"));
    let created = engine.create(&[], "bad:1", &[]);
    let paused = engine.run(&["--restart=always"], "bad:1", &[]);
    engine.docker_ok(&["pause", &paused]);
    let control = engine.run_life(&[], "good:1");

    let warden = warden(&engine, LIST);
    let both = (&engine, &warden);
    row.ended(both, "paused since before", &paused, "no-rule");
    for (what, id) in [
        ("start of an old one", &started),
        ("start of one created before", &created),
    ] {
        engine.docker_ok(&["start", id]);
        row.ended(both, what, id, "no-rule");
    }
    engine.docker_ok(&["restart", &restarted]);
    row.ended(both, "restart of an old one", &restarted, "no-rule");
    engine.docker_ok(&["update", "--restart=always", &updated]);
    engine.docker_ok(&["start", &updated]);
    row.ended(both, "update --restart=always, start", &updated, "no-rule");
    engine.docker_ok(&["update", "--cpu-shares=512", &control.id]);
    fence(&engine);
    engine.assert_same(std::slice::from_ref(&control));
    drop(warden);

    // Where denied ones are frozen, nobody thaws them.
    let warden = crate::warden(
        &engine,
        &LIST.replace("version = 1", "version = 1\naction = \"pause\""),
    );
    let id = engine.run(&[], "bad:1", &[]);
    let frozen = |times: usize| {
        eventually("it is frozen, on record", SOON, || {
            let records = warden.records_of(&id);
            let is_paused = engine.state(&id).as_deref() == Some("paused");
            (is_paused && records.len() == times).then(|| records[times - 1].clone())
        })
    };
    frozen(1);
    engine.docker_ok(&["unpause", &id]);
    let record = frozen(2);
    assert_eq!(
        (&record["trigger"], &record["reason"], &record["outcome"]),
        (&json!("unpause"), &json!("no-rule"), &json!("done")),
    );
    row.tell(
        "unpause, where it was frozen",
        "frozen again",
        "no-rule",
        "",
    );
    engine.assert_same(&[control]);
}

#[test]
fn row_12_it_comes_back() {
    let row = Row::begin("12");
    let engine = engine();
    let control = engine.run(&["--restart=always"], "good:1", &[]);
    let warden = warden(&engine, LIST);
    let both = (&engine, &warden);
    let mut ended = Vec::new();
    for policy in ["always", "unless-stopped", "on-failure", "no"] {
        for command in [&["stubborn"][..], &["exit", "1"]] {
            let id = engine.run(&[&format!("--restart={policy}")], "bad:1", command);
            let what = format!("--restart={policy}, {}", command.join(" "));
            row.ended(both, &what, &id, "no-rule");
            ended.push(id);
        }
    }
    for number in 1..=10 {
        let id = engine.run(&["--rm"], "bad:1", &[]);
        row.ended(both, &format!("a new one, {number}"), &id, "no-rule");
    }
    let life = engine.life(&control);
    fence(&engine);
    engine.assert_same(&[life]);

    // An engine that starts again starts what it was told to.
    engine.restart_dockerd();
    for id in &ended {
        engine.wait_until_dead(id, SOON);
    }
    eventually("the allowed one is back", SOON, || {
        engine.state(&control).as_deref() == Some("running")
    });
    let life = engine.life(&control);
    eventually("dockwarden is back", SOON, || {
        warden.get("/readyz").status == 200
    });
    fence(&engine);
    assert_eq!(engine.running_ids(), [control]);
    engine.assert_same(&[life]);
}

#[test]
fn row_13_be_done_before_the_end_comes() {
    let row = Row::begin("13");
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    {
        let warden = warden(&engine, LIST);
        // As slow as can be: it runs from begin to end before dockwarden sees any of it.
        warden.signal("STOP");
        let id = engine.run(&[], "bad:1", &["exit", "0"]);
        engine.wait_until_dead(&id, SOON);
        warden.signal("CONT");
        let record = row.ended((&engine, &warden), "done at once", &id, "no-rule");
        assert_eq!(record["outcome"], "ended-itself", "{record:#}");

        let ids: Vec<_> = (0..10)
            .map(|_| engine.run(&["--rm"], "bad:1", &["exit", "0"]))
            .collect();
        for id in &ids {
            row.ended((&engine, &warden), "--rm, done at once", id, "no-rule");
        }
        warden.wait_for_verdict(&control.id, "allowed");
    }
    let warden = warden(
        &engine,
        &LIST.replace("version = 1", "version = 1\non-create = \"remove\""),
    );
    let both = (&engine, &warden);
    let id = engine.create(&[], "bad:1", &["exit", "0"]);
    eventually("it is removed", SOON, || engine.state(&id).is_none());
    let record = row.ended(both, "on-create = \"remove\": created", &id, "no-rule");
    assert_eq!(record["outcome"], "never-ran", "{record:#}");
    assert_eq!(record["lived_ms"].as_f64(), Some(0.0));
    for number in 1..=5 {
        // Whoever starts it is told that it is gone, or is too quick.
        let name = format!("quick-{number}");
        let run = engine.docker(&["run", "-d", "--name", &name, "bad:1"]);
        println!("{run:?}");
        let record = eventually("it is on record", SOON, || {
            let mut records = warden.records();
            records
                .retain(|record| record["container_name"] == name && record["verdict"] == "denied");
            records.pop()
        });
        let id = record["container_id"].as_str().unwrap();
        row.ended(
            both,
            "on-create = \"remove\": created and started",
            id,
            "no-rule",
        );
        assert_eq!(engine.state(id), None);
    }
    engine.assert_same(&[control]);
}

#[test]
fn row_19_a_storm() {
    const COUNT: usize = 60;
    let row = Row::begin("19");
    let engine = engine();
    let warden = warden(&engine, LIST);
    let body = json!({"Image": "bad:1"});
    let bad: Vec<_> = (0..COUNT).map(|_| create_raw(&engine, &body)).collect();
    let good = engine.create(&[], "good:1", &[]);
    let start = |id: &String| {
        let (status, answer) = engine.api("POST", &format!("/containers/{id}/start"), None);
        assert_eq!(status, 204, "{answer}");
    };
    std::thread::scope(|scope| {
        for share in bad.chunks(COUNT / 6) {
            scope.spawn(move || share.iter().for_each(start));
        }
        scope.spawn(|| start(&good));
    });
    let life = engine.life(&good);
    let lived: Vec<f64> = bad
        .iter()
        .map(|id| {
            engine.wait_until_dead(id, SOON);
            let record = warden.wait_for_verdict(id, "denied");
            assert_eq!(record["reason"], "no-rule", "{record:#}");
            record["lived_ms"].as_f64().unwrap_or_default()
        })
        .collect();
    let longest = lived.iter().copied().fold(0.0, f64::max);
    let what = format!("{COUNT} at once, six at a time: the longest");
    row.tell(&what, "ended", "no-rule", &format!("{longest:.0} ms"));
    fence(&engine);
    engine.assert_same(&[life]);
    assert_eq!(warden.metric("dockwarden_engine_reconnects_total"), 0.0);
}

/// While its shim hangs, so does every call that means this container.
#[test]
fn row_20_one_that_can_t_be_ended() {
    let row = Row::begin("20");
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let stuck = engine.run(&[], "bad:1", &["stubborn"]);
    let shim = shim_of(&stuck);
    kill_process(shim, Signal::STOP).unwrap();
    let warden = warden(&engine, LIST);
    let both = (&engine, &warden);
    for number in 1..=4 {
        let id = engine.run(&[], "bad:1", &[]);
        row.ended(both, &format!("beside it, {number}"), &id, "no-rule");
    }
    assert_eq!(engine.state(&stuck).as_deref(), Some("running"));
    kill_process(shim, Signal::CONT).unwrap();
    row.ended(both, "itself, once it can be", &stuck, "no-rule");
    engine.assert_same(&[control]);
}

/// The process that keeps a container, as this machine counts it.
fn shim_of(id: &str) -> Pid {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let shim = all.map(|entry| entry.path()).find(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("containerd-shim") && line.contains(id)
    });
    let number = shim.as_deref().and_then(Path::file_name).expect("a shim");
    Pid::from_raw(number.to_str().unwrap().parse().unwrap()).unwrap()
}

#[test]
fn row_27_choose_one_s_own_end() {
    let row = Row::begin("27");
    let engine = engine();
    let deaf = ["--stop-signal=SIGWINCH", "--stop-timeout=3600"];
    let control = engine.run_life(&deaf, "good:1");
    let list = LIST.replace(
        "version = 1",
        "version = 1\naction = \"stop\"\nstop-timeout = \"2s\"",
    );
    let before = engine.run(&deaf, "bad:1", &["stubborn"]);
    let warden = warden(&engine, &list);
    let after = engine.run(&deaf, "bad:1", &["stubborn"]);
    for (what, id) in [("runs already", before), ("starts", after)] {
        let what = format!("SIGWINCH and an hour's time, {what}");
        engine.wait_until_dead(&id, SOON);
        let done = done_of(&warden, &id);
        assert_eq!(done["action"], "stop", "{done:#}");
        row.ended((&engine, &warden), &what, &id, "no-rule");
        assert_eq!(engine.inspect(&id)["State"]["ExitCode"], 137);
    }
    warden.wait_for_verdict(&control.id, "allowed");
    engine.assert_same(&[control]);
}

fn done_of(warden: &Warden, id: &str) -> Value {
    eventually("done is on record", SOON, || {
        let records = warden.records_of(id).into_iter();
        records.rev().find(|record| record["outcome"] == "done")
    })
}
