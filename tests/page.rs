//! The page in a real browser: what a person sees, live.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::scripted::{Scripted, listed, numbered};
use support::{Browser, Engine, SOON, Warden, eventually};

const LIST: &str = r#"
version = 1
[defaults]
grants = []
[[allow]]
rule = "RULE"
image = "shop/web:*"
container = "web-*"
reason = "<img src=x onerror=\"document.title='owned'\">"
[[allow]]
rule = "db"
image = "shop/db:9"
max = 1
"#;

/// The names of the containers that are shown.
const VISIBLE: &str = "return [...document.querySelectorAll('#containers tbody tr')].filter((row) => !row.hidden).map((row) => row.cells[0].innerText.split('\\n')[0])";

/// The keys, to a driver.
const ESCAPE: &str = "\u{e00c}";
const ENTER: &str = "\u{e007}";

/// From then on only the stream has the page ask for what is new. Not while one of its other timers runs.
const STOP_ASKING: &str = "if (timer !== null || fetching) return false; for (let id = setTimeout(() => {}); id > 0; id--) clearInterval(id); return true";

#[test]
fn a_person_sees_live_what_runs_what_was_ended_and_why() {
    let engine = Engine::start();
    for image in ["shop/web:1.4", "shop/db:9", "evil/miner:1"] {
        engine.image(image);
    }
    engine.run(&["--name", "web-1"], "shop/web:1.4", &[]);
    engine.run(&["--name", "web-2"], "shop/web:1.4", &[]);
    engine.run(&["--name", "db"], "shop/db:9", &[]);
    // Hostile names, but in the pictures.
    let (host, rule) = match is_renewing() {
        true => ("ci-runner-7", "shop front"),
        false => ("<b>host-1</b>", "shop <i>front</i>"),
    };
    let warden = Warden::on(&engine).allowlist(&LIST.replace("RULE", rule));
    let warden = warden.args(["--host-name", host]).start();
    warden.wait_ready();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", warden.address()));
    eventually("it is live", SOON, || browser.text("#live") == "live");
    assert!(browser.text("header").contains(host));
    assert!(browser.text("#list").contains(rule));
    assert!(browser.text("#list").contains("<img src=x"));
    assert!(
        browser
            .run("return document.title")
            .as_str()
            .unwrap()
            .starts_with("dockwarden")
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('img, i, b b').length"),
        0
    );
    assert_eq!(browser.text("#banners"), "");

    // What starts is shown without anybody's doing, and as it happens.
    eventually("it asks no more by the clock", SOON, || {
        browser.run(STOP_ASKING) == true
    });
    engine.run(&["--name", "miner"], "evil/miner:1", &[]);
    engine.run(
        &["--name", "web-3", "--network", "host"],
        "shop/web:1.4",
        &[],
    );
    eventually("it is shown as ended", SOON, || {
        let ended = browser.text("#ended");
        ended.contains("miner") && ended.contains("web-3") && ended.contains("killed")
    });
    eventually("and what would allow it", SOON, || {
        let shown = browser.text("#containers");
        shown.contains("image = \"evil/miner:1\"") && shown.contains("grants = [\"host-network\"]")
    });
    // Once: where it is no longer above, too.
    let edits = |part: &str| {
        browser.run(&format!(
            "return document.querySelectorAll('{part} pre.edit').length"
        ))
    };
    eventually("that is said once", SOON, || {
        (edits("#containers"), edits("#ended")) == (json!(2), json!(0))
    });
    assert!(!browser.text("#containers").contains("would allow it"));

    // Where to write that, too.
    let file = warden.list_path().display().to_string();
    assert!(browser.text("#list").contains(&file));

    // By the keyboard alone.
    let focus = |selector: &str| {
        browser.run(&format!("document.querySelector({selector:?}).focus()"));
        browser.press(ENTER);
    };
    focus("#containers button.copy");
    eventually("it is copied", SOON, || {
        browser.text("#containers button.copy") == "Copied"
    });
    let order = "return document.querySelector('#containers thead th').getAttribute('aria-sort')";
    focus("#containers thead button");
    assert_eq!(browser.run(order), "ascending");
    focus("#containers thead button");
    assert_eq!(browser.run(order), "descending");
    browser.press("/miner");
    assert_eq!(browser.run("return document.activeElement.id"), "filter");
    assert_eq!(browser.run(VISIBLE), json!(["miner"]));
    browser.press(ESCAPE);
    assert_eq!(browser.run(VISIBLE).as_array().unwrap().len(), 5);
    let sort = "document.querySelector('#containers thead button').click(); return document.querySelector('#containers thead th').getAttribute('aria-sort')";
    assert_eq!(browser.run(sort), "ascending");
    assert_eq!(
        browser.run(VISIBLE),
        json!(["db", "miner", "web-1", "web-2", "web-3"])
    );
    assert_eq!(browser.run(sort), "descending");
    assert_eq!(browser.run(VISIBLE)[0], "web-3");
    browser.run(sort);
    picture(&browser, "page-light", "light", 1280);
    picture(&browser, "page-dark", "dark", 1280);
    picture(&browser, "page-phone", "light", 390);

    browser.run("setInterval(soon, 1000)");
    engine.sigkill_dockerd();
    eventually("the banner says so", SOON, || {
        browser
            .text("#banners")
            .contains("The engine is out of reach")
    });
    drop(warden);
    eventually("an old page says so", SOON, || {
        browser.text("#live").contains("no answer")
    });
}

const GOOD: &str = "version = 1\n[[allow]]\nimage = \"good:1\"\n";

/// An engine that runs so many of what [`GOOD`] allows.
fn good(many: usize) -> Scripted {
    let engine = Scripted::start();
    let ids = (1..=many).map(numbered);
    engine.world().containers = ids.map(|id| (id.clone(), listed(&id, "good:1"))).collect();
    engine
}

/// Looked at through the service that ends nothing.
#[test]
fn a_person_sees_what_stands_in_the_way() {
    let engine = good(6);
    // The engine's sentence is as of its last reading, and stays so here.
    let began = Timestamp::now() - SignedDuration::from_hours(5);
    let aged = json!({"Status": "Up 2 minutes (healthy)", "StartedAt": began.to_string()});
    for (key, value) in aged.as_object().unwrap() {
        engine.world().containers.get_mut(&numbered(1)).unwrap()[key] = value.clone();
    }
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().display().to_string();
    let in_days = |days: i64| {
        let then = Timestamp::now() + SignedDuration::from_hours(24 * days);
        then.strftime("%FT%TZ").to_string()
    };
    let (soon, later) = (in_days(3), in_days(30));
    let guest = |rule, expires| {
        format!("[[allow]]\nrule = \"{rule}\"\nimage = \"guest:1\"\nexpires = {expires}\n")
    };
    let list = [GOOD, &guest("soon", &soon), &guest("later", &later)].concat();
    let start = |command| {
        let warden = engine.builder(&list, "1s").subcommand(command);
        let warden = warden.args(["--state-dir", &state]).start();
        warden.wait_ready();
        warden
    };
    let (controller, api) = (start("controller"), start("api"));
    let browser = Browser::start();
    browser.open(&format!("http://{}/", api.address()));
    eventually("it is live", SOON, || browser.text("#live") == "live");
    assert!(browser.text("#containers").contains("Up 5 hours (healthy)"));
    assert_eq!(browser.text(".banner"), "");
    let notes = browser.text("#banners");
    let told = soon.replace('T', " ").replace('Z', " UTC.");
    assert!(
        notes.contains(&format!("Rule soon expires at {told}")),
        "{notes}"
    );
    assert!(!notes.contains("later"), "{notes}");

    controller.write_list_by_rename("version = 1\nallow-nothing = true\n");
    let held = "A newer list is held back: it would end 6 of the 6 running containers: n1, ";
    eventually("a list is held", SOON, || {
        browser.text("#banners").contains(held)
    });
    controller.sigkill();
    let silent = "Denied containers are not being ended: the controller is silent.";
    eventually("nobody enforces", SOON, || {
        browser.text("#banners").contains(silent)
    });
    assert!(browser.text("#banners").contains(held));
    assert!(engine.killed().is_empty());
}

/// An address that holds name and password is one to begin with; what the page asks for later has none.
#[test]
fn behind_a_token_it_is_live_and_foreign_words_are_text() {
    let engine = good(1);
    let foreign = "<img src=x onerror=\"document.title='owned'\">";
    let mut hostile = listed(&numbered(7), &format!("bad:{foreign}"));
    hostile["Names"] = json!([format!("/{foreign}")]);
    hostile["Labels"] = json!({ "com.docker.compose.project": foreign });
    engine.world().containers.insert(numbered(7), hostile);
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "t0ken\n").unwrap();
    let list = format!("mode = \"audit\"\n{GOOD}");
    let warden = engine.builder(&list, "1s");
    let warden = warden.args(["--token-file", tokens.to_str().unwrap()]);
    let warden = warden.start();
    warden.wait_ready();
    let browser = Browser::start();
    browser.open(&format!("http://me:t0ken@{}/", warden.address()));
    eventually("it is live", SOON, || browser.text("#live") == "live");
    eventually("it is shown", SOON, || {
        browser.text("#containers").matches(foreign).count() > 1
    });
    assert_eq!(
        browser.run("return document.querySelectorAll('img').length"),
        0
    );
    assert!(browser.text("#banners").contains("audit"));
}

/// What did not change stays as it is; who has no room at the stream asks by the clock, and says so.
#[test]
fn only_what_changed_is_new_and_live_is_said_as_it_is() {
    let engine = good(1);
    let bad = listed(&numbered(7), "bad:1");
    engine.world().containers.insert(numbered(7), bad);
    let list = format!("mode = \"audit\"\n{GOOD}");
    let warden = engine.warden(&list, "1h");
    let listeners: Vec<_> = (0..32)
        .map(|_| warden.stream("/decisions/stream", &[]))
        .collect();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", warden.address()));
    eventually("it asks by the clock", SOON, || {
        browser.text("#live") == "live, every 5 s"
    });
    drop(listeners);
    eventually("it listens", SOON * 2, || browser.text("#live") == "live");

    browser.run("document.querySelector('#containers button.copy').focus()");
    browser.press(ENTER);
    eventually("it is copied", SOON, || {
        browser.text("#containers button.copy") == "Copied"
    });
    warden.write_list_by_rename(&format!(
        "{list}[[allow]]\nrule = \"other\"\nimage = \"other:1\"\n"
    ));
    eventually("the list is shown", SOON, || {
        browser.text("#list").contains("other:1")
    });
    assert_eq!(browser.text("#containers button.copy"), "Copied");
}

#[test]
fn thousands_are_filtered_and_are_a_plain_table_without_scripts() {
    const MANY: usize = 5_000;
    let engine = good(MANY);
    let warden = engine.warden(GOOD, "60s");
    let browser = Browser::start();
    let page = format!("http://{}/", warden.address());
    browser.open(&page);
    eventually("it is live", SOON, || browser.text("#live") == "live");
    assert_eq!(browser.run(VISIBLE).as_array().unwrap().len(), MANY);
    browser.press("/n10e1");
    assert_eq!(browser.run(VISIBLE), json!(["n10e1"]));
    assert_eq!(browser.text("#shown"), "1 shown");
    // What comes is found by what was typed before.
    let other = format!("10e1{}", "0".repeat(60));
    engine.begin(&other, "good:1");
    let both = json!(["n10e1", format!("n{other}")]);
    // (Asked for little: what looks at thousands of rows keeps the page itself from its work.)
    eventually("it is shown", SOON, || browser.text("#shown") == "2 shown");
    assert_eq!(browser.run(VISIBLE), both);

    browser.emulate(
        "Emulation.setScriptExecutionDisabled",
        &json!({ "value": true }),
    );
    browser.open(&page);
    assert_eq!(browser.text("#live"), "", "scripts are off");
    let tools = "return document.querySelector('.tools').checkVisibility()";
    assert_eq!(browser.run(tools), false, "what needs them is not shown");
    assert_eq!(browser.run(VISIBLE).as_array().unwrap().len(), MANY + 1);
}

fn is_renewing() -> bool {
    std::env::var_os("RENEW").is_some()
}

/// The page so wide, all of it within that; the picture for README and docs, where it is to be renewed.
#[track_caller]
fn picture(browser: &Browser, name: &str, scheme: &str, width: u32) {
    let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
    browser.emulate(
        "Emulation.setEmulatedMedia",
        &json!({ "features": features }),
    );
    browser.run("document.activeElement.blur(); scrollTo(0, 0)");
    let metrics =
        json!({ "width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 500 });
    browser.emulate("Emulation.setDeviceMetricsOverride", &metrics);
    let wide = format!(
        "return [...document.querySelectorAll('body *')].filter((one) => !one.closest('.wide') && one.getBoundingClientRect().right > {width}).map((one) => one.outerHTML.slice(0, 200))"
    );
    assert_eq!(browser.run(&wide), json!([]), "wider than {name}");
    if is_renewing() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let image = base64::engine::general_purpose::STANDARD
            .decode(browser.screenshot())
            .unwrap();
        std::fs::write(docs.join(format!("{name}.png")), image).unwrap();
    }
}
