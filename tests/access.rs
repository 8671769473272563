//! Who is answered and who is not: tokens, names, TLS, and clients that only take up room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    std::fs::write(at("chain.pem"), "broken").unwrap();
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

#[test]
fn ten_thousand_clients_leave_enforcement_alone() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .expect("as many files as are allowed");
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let address = warden.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Most of them are not even let in; the kernel refuses some.
    let connected = Arc::new(AtomicUsize::new(0));
    for _ in 0..10_000 {
        let connected = connected.clone();
        runtime.spawn(async move {
            let _stream = tokio::net::TcpStream::connect(address).await;
            connected.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        });
    }
    runtime.block_on(async {
        // More than are served at once.
        while connected.load(Ordering::Relaxed) < 1_000 {
            tokio::task::yield_now().await;
        }
    });
    for number in 1..=5 {
        let evil = numbered(number);
        fake.begin(&evil, "evil:1");
        fake.wait_for_kill(&evil);
    }
    drop(runtime);
    eventually("the next client is served", SOON * 2, || {
        warden
            .request("GET", "/livez", &[])
            .is_ok_and(|answer| answer.status == 200)
    });
    assert!(warden.peak_memory() < 100, "{} MiB", warden.peak_memory());
}
