//! Who is answered and who is not: tokens, names, TLS, and clients that only take up room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use support::scripted::{Scripted, numbered};
use support::{SOON, Warden, dockwarden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

#[track_caller]
fn status(warden: &Warden, path: &str, authorization: Option<&str>) -> u16 {
    let headers: Vec<_> = authorization
        .map(|value| ("Authorization", value))
        .into_iter()
        .collect();
    warden.get_with(path, &headers).status
}

/// Probes have no token and look at the status alone: they learn nothing else.
#[test]
fn strangers_learn_only_whether_it_is_ready() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "t0ken\n").unwrap();
    let tokens = ["--token-file", tokens.to_str().unwrap()];
    let nowhere = Warden::at("unix:///nowhere.sock").allowlist(LIST);
    for (builder, is_ready) in [(fake.builder(LIST, "1h"), true), (nowhere, false)] {
        let warden = builder.args(tokens).start();
        let status = if is_ready { 200 } else { 503 };
        let asked = |authorization: &[(&str, &str)]| {
            eventually("it says so", SOON, || {
                let answer = warden.get_with("/readyz", authorization);
                (answer.status == status).then(|| answer.json())
            })
        };
        for authorization in [&[][..], &[("Authorization", "Bearer t0kem")]] {
            assert_eq!(asked(authorization), json!({"ready": is_ready}));
        }
        let whole = asked(&[("Authorization", "Bearer t0ken")]);
        assert_eq!(whole["ready"], is_ready, "{whole}");
        assert!(whole["mode"].is_string(), "{whole}");
        let health = dockwarden(["healthcheck", "--listen", &warden.address().to_string()]);
        assert_eq!(health.status.success(), is_ready, "{health:?}");
    }
}

/// Who lets others ask without a token is told so; nobody else is.
#[test]
fn an_open_door_is_told() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "t0ken\n").unwrap();
    let tokens = ["--token-file", tokens.to_str().unwrap()];
    for (listen, options, is_told) in [
        ("0.0.0.0:0", &[][..], true),
        ("0.0.0.0:0", &tokens, false),
        ("127.0.0.1:0", &[], false),
    ] {
        let warden = fake.builder(LIST, "1h").listen(listen).args(options);
        let warden = warden.start();
        warden.wait_ready();
        let logs = warden.logs();
        let is_warned = logs.iter().any(|line| line.contains("may read all"));
        assert_eq!(is_warned, is_told, "{listen} {options:?}: {logs:?}");
    }
}

#[test]
fn only_who_has_a_token_is_answered() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "# two of them\nfirst-t0ken\nother\n").unwrap();
    let warden = fake
        .builder(LIST, "1h")
        .args(["--token-file", tokens.to_str().unwrap()])
        .start();
    warden.wait_ready();

    let refused = warden.get("/containers");
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    let schemes: Vec<&str> = refused
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
        .map(|(_, value)| value.split(' ').next().unwrap())
        .collect();
    assert_eq!(schemes, ["Basic", "Bearer"]);

    let paths = [
        "/",
        "/containers",
        "/decisions",
        "/decisions/stream",
        "/allowlist",
        "/metrics",
    ];
    for path in paths.into_iter().chain(["/nowhere"]) {
        assert_eq!(status(&warden, path, None), 401, "{path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(status(&warden, path, None), 200, "{path}");
    }
    for (authorization, expected) in [
        ("Bearer first-t0ken", 200),
        ("bearer other", 200),
        ("Basic YW55Ym9keTpmaXJzdC10MGtlbg==", 200), // anybody:first-t0ken
        ("Basic Zmlyc3QtdDBrZW46YW55Ym9keQ==", 401), // first-t0ken:anybody
        ("Bearer first-t0kem", 401),
        ("Bearer first", 401),
        ("Bearer # two of them", 401),
        ("Bearer ", 401),
        ("Basic ====", 401),
        ("first-t0ken", 401),
    ] {
        assert_eq!(
            status(&warden, "/containers", Some(authorization)),
            expected,
            "{authorization}"
        );
    }

    std::fs::write(&tokens, "second\n").unwrap();
    eventually("the new token is in force", SOON, || {
        status(&warden, "/containers", Some("Bearer second")) == 200
    });
    assert_eq!(
        status(&warden, "/containers", Some("Bearer first-t0ken")),
        401
    );

    // What lets nobody in, or can't be read, changes nothing, and is told once.
    for (number, change) in [
        &(|| std::fs::write(&tokens, "").unwrap()) as &dyn Fn(),
        &|| std::fs::remove_file(&tokens).unwrap(),
    ]
    .into_iter()
    .enumerate()
    {
        change();
        eventually("it is told", SOON, || {
            let stays = |line: &&String| line.contains("the tokens stay as they were");
            warden.logs().iter().filter(stays).count() == number + 1
        });
        assert_eq!(status(&warden, "/containers", Some("Bearer second")), 200);
    }
    let said = warden.logs().join("\n");
    assert!(
        !said.contains("t0ken") && !said.contains("second"),
        "{said}"
    );
}

#[test]
fn a_stream_ends_with_the_token_that_began_it() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "first\nsecond\n").unwrap();
    let warden = fake
        .builder(LIST, "1h")
        .args(["--token-file", tokens.to_str().unwrap()])
        .start();
    warden.wait_ready();
    let listen = |token: &str| {
        let bearer = format!("Bearer {token}");
        let stream = warden.stream("/decisions/stream", &[("Authorization", &bearer)]);
        assert_eq!(stream.status, 200);
        stream
    };
    let (first, second) = (listen("first"), listen("second"));
    std::fs::write(&tokens, "second\nthird\n").unwrap();
    eventually("the tokens are read", SOON, || {
        status(&warden, "/containers", Some("Bearer third")) == 200
    });
    // One that goes on says something every ten seconds.
    let mut lines = std::iter::from_fn(|| first.next_line(SOON)).take(20);
    assert!(lines.by_ref().count() < 20, "it still tells");
    let evil = numbered(1);
    fake.begin(&evil, "evil:1");
    let mut lines = std::iter::from_fn(|| second.next_line(SOON)).take(20);
    assert!(lines.any(|line| line == "event: decision"));
}

#[test]
fn credentials_that_cannot_be_used_start_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let list = file("allowlist.toml", LIST);
    let (empty, none) = (file("empty", "\n"), file("none.pem", "no PEM"));
    let (one, other) = (certificate("a.example"), certificate("b.example"));
    let (chain, key) = (file("chain.pem", &one.0), file("key.pem", &other.1));
    let table: &[(&[&str], &str)] = &[
        (&["--token-file", &empty], "there is no token in it"),
        (&["--token-file", "/nowhere"], "No such file"),
        (&["--tls-cert", &chain], "--tls-key"),
        (
            &["--tls-cert", &none, "--tls-key", &key],
            "there is no certificate in it",
        ),
        (
            &["--tls-cert", &chain, "--tls-key", &none],
            "no private key",
        ),
        (
            &["--tls-cert", &chain, "--tls-key", &key],
            "chain.pem with ",
        ),
    ];
    for (arguments, text) in table {
        let fixed = ["api", "--allowlist", &list, "--listen", "127.0.0.1:0"];
        let output = dockwarden([&fixed[..], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
}

#[test]
fn refusals_say_to_browsers_what_every_answer_says() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "t0ken\n").unwrap();
    let builder = fake.builder(LIST, "1h");
    let warden = builder
        .args(["--token-file", tokens.to_str().unwrap()])
        .start();
    warden.wait_ready();
    let let_in = ("Authorization", "Bearer t0ken");
    for (method, path, headers, status) in [
        ("GET", "/containers", &[][..], 401),
        ("GET", "/nowhere", &[let_in], 404),
        ("POST", "/containers", &[let_in], 405),
        ("GET", "/containers?limit=x", &[let_in], 400),
    ] {
        let answer = warden.request(method, path, headers).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.is_some_and(|policy| policy.contains("default-src 'none'")));
    }
}

/// A page of another site that has its own name lead to the loopback reads nothing.
#[test]
fn a_name_that_is_not_ours_is_not_answered() {
    let fake = Scripted::start();
    let warden = fake
        .builder(LIST, "1h")
        .args(["--allowed-host", "status.example,other.example"])
        .start();
    warden.wait_ready();
    for (host, expected) in [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("status.example", 200),
        ("OTHER.example:80", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("localhost.evil.example", 421),
    ] {
        let answer = warden.get_with("/containers", &[("Host", host)]);
        assert_eq!(answer.status, expected, "{host}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let policy = answer.header("content-security-policy");
        assert!(policy.is_some_and(|policy| policy.contains("default-src 'none'")));
    }
}

/// A certificate for a name, signed by itself, and its key.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn tls_is_spoken_with_the_certificate_that_is_there() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let put = |(chain, key): &(String, String)| {
        std::fs::write(at("chain.pem"), chain).unwrap();
        std::fs::write(at("key.pem"), key).unwrap();
    };
    let first = certificate("localhost");
    put(&first);
    let (chain, key) = (at("chain.pem"), at("key.pem"));
    let warden = fake
        .builder(LIST, "1h")
        .args([
            "--tls-cert",
            chain.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ])
        .start();
    let port = warden.address().port();
    let trusts = |(chain, _): &(String, String)| {
        std::fs::write(at("ca.pem"), chain).unwrap();
        let output = curl(&at("ca.pem"), &format!("https://localhost:{port}/readyz"));
        output.status.success()
    };
    eventually("it is ready", SOON, || trusts(&first));

    let second = certificate("localhost");
    assert!(!trusts(&second));
    put(&second);
    eventually("the renewed one is shown", SOON, || trusts(&second));
    assert!(!trusts(&first));

    // A key without its certificate is what half of a renewal looks like.
    let third = certificate("localhost");
    std::fs::write(at("key.pem"), &third.1).unwrap();
    let stays = |line: &str| line.contains("the certificate stays as it was");
    warden.wait_for_log(stays, SOON);
    assert!(trusts(&second));
    let times = || warden.logs().iter().filter(|line| stays(line)).count();
    let before = times();
    std::fs::write(at("chain.pem"), "broken").unwrap();
    eventually("it was tried", SOON, || times() > before);
    assert!(trusts(&second));
    put(&third);
    eventually("the other half is there", SOON, || trusts(&third));

    // Its own health check knows it by its certificate, whatever name that is for.
    let listen = format!("127.0.0.1:{port}");
    let asks = |certificate: &Path| {
        let certificate = certificate.to_str().unwrap();
        dockwarden([
            "healthcheck",
            "--listen",
            &listen,
            "--tls-cert",
            certificate,
        ])
    };
    let healthy = asks(&chain);
    assert!(healthy.status.success(), "{healthy:?}");
    std::fs::write(at("ca.pem"), &first.0).unwrap();
    assert_eq!(asks(&at("ca.pem")).status.code(), Some(1));

    // Who speaks without it learns nothing, and disturbs nobody.
    let mut plain = TcpStream::connect(warden.address()).unwrap();
    plain
        .write_all(b"GET /containers HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(
        !String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"),
        "{answer:?}"
    );
    assert!(trusts(&third));
}

fn curl(certificate: &Path, url: &str) -> Output {
    Command::new("curl")
        .args([
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            "--max-time",
            "10",
            "--cacert",
        ])
        .arg(certificate)
        .arg(url)
        .output()
        .expect("curl runs: apt-get install curl")
}

/// A byte now and then is no request.
#[test]
fn a_request_that_never_ends_is_given_up() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let mut slow = TcpStream::connect(warden.address()).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        .unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    eventually("it is given up", SOON * 2, || {
        let is_sent = slow.write_all(b"y").is_ok();
        let mut piece = [0; 512];
        !is_sent || matches!(slow.read(&mut piece), Ok(0))
    });
    // One whose head is too large is told so, or not answered at all.
    let long = "y".repeat(1024 * 1024);
    let answer = warden.request("GET", "/", &[("X", &long)]);
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431));
    assert_eq!(warden.get("/livez").status, 200);
}

/// Connections that say nothing, or half a request.
fn flood(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |number| {
        let mut client = TcpStream::connect(address).ok()?;
        // Who had to make room already can't write.
        if number % 2 == 0 {
            let _ = client.write_all(b"GET /containers HTTP/1.1\r\nHost: loc");
        }
        Some(client)
    };
    (0..count).filter_map(connect).collect()
}

#[test]
fn ten_thousand_clients_keep_neither_others_out_nor_ends_from_happening() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const CLIENTS: usize = 10_000;
    let maximum = getrlimit(Resource::Nofile).maximum;
    assert!(
        maximum.is_none_or(|maximum| maximum > 11_000),
        "this test needs 11,000 open files: ulimit -Hn 20000"
    );
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("as many files as are allowed");
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let address = warden.address();
    let stream = warden.stream("/decisions/stream", &[]);
    let mut clients = Vec::new();
    for round in 1..=10 {
        // A tenth more come, and all of them stay.
        let flood = std::thread::spawn(move || flood(address, CLIENTS / 10));
        let evil = numbered(round);
        fake.begin(&evil, "evil:1");
        fake.wait_for_kill(&evil);
        clients.extend(flood.join().unwrap());
        eventually("others are answered", SOON, || {
            let answer = warden.request("GET", "/allowlist", &[]);
            answer.is_ok_and(|answer| answer.status == 200)
        });
    }
    assert!(clients.len() > CLIENTS * 9 / 10, "{}", clients.len());
    // Who listened before they came has heard it all.
    let ends = std::iter::from_fn(|| stream.next_line(SOON));
    let ends = ends.filter(|line| line == "event: decision");
    assert_eq!(ends.take(10).count(), 10);
    let open = std::fs::read_dir(format!("/proc/{}/fd", warden.pid()));
    let open = open.expect("its descriptors").count();
    assert!(open < 400, "{open} descriptors are open");
    assert!(warden.peak_memory() < 100, "{} MiB", warden.peak_memory());
}
