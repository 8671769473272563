//! Any bytes are a list or a report of what is wrong with them; a list judges, explains, warns and
//! hashes, and its verdict is what its explanation says.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use dockwarden::allowlist::Allowlist;
use dockwarden::container::{Container, ContainerId};
use dockwarden::grant::Power;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// Containers of which everything is known that a rule may look at: there is nothing left to ask.
static CONTAINERS: LazyLock<[Container; 2]> = LazyLock::new(|| {
    let mut plain = Container::new(ContainerId::parse(&"ab".repeat(32)).unwrap());
    plain.name = Some("web-1".to_owned());
    plain.image = Some("nginx:1.27".to_owned());
    plain.image_id = Some(format!("sha256:{}", "1a".repeat(32)));
    plain.image_names = Some(vec![format!("nginx@sha256:{}", "2b".repeat(32))]);
    plain.ancestors = Some(Vec::new());
    plain.powers = Some(BTreeSet::new());
    plain.runs_image_command = Some(true);
    plain.labels = Some(BTreeMap::from([("a.b".to_owned(), "c".to_owned())]).into());

    let mut strong = plain.clone();
    strong.image = strong.image_id.clone();
    strong.powers = Some(BTreeSet::from([
        Power::HostNetwork,
        Power::bind("/srv/www", true),
        Power::capability("NET_ADMIN"),
        Power::Join("web-1".to_owned()),
        Power::Unknown("IpcMode=new".to_owned()),
    ]));
    strong.runs_image_command = Some(false);
    strong.foreign_exec = Some("sh".to_owned());
    [plain, strong]
});

fuzz_target!(|bytes: &[u8]| {
    let now = Timestamp::UNIX_EPOCH;
    match Allowlist::parse(bytes) {
        Err(invalid) => assert!(!invalid.report("allowlist.toml").is_empty()),
        Ok(list) => {
            for container in CONTAINERS.iter() {
                assert_eq!(list.question(container, now), None);
                let verdict = list.judge(container, now);
                let explained = list.explain(container, now);
                let matched = explained.iter().any(|rule| rule.matches);
                assert_eq!(verdict.is_allowed(), matched);
                let _ = list.judge_at_create(container, now);
            }
            let _ = list.warnings(now);
            assert_eq!(list.hash().len(), 64);
        }
    }
});
