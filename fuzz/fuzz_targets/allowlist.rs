//! Any bytes are a list or a report of what is wrong with them; a list judges and hashes.
#![no_main]

use dockwarden::allowlist::Allowlist;
use dockwarden::container::{Container, ContainerId};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Allowlist::parse(bytes) {
        Err(invalid) => assert!(!invalid.report("allowlist.toml").is_empty()),
        Ok(list) => {
            let mut container = Container::new(ContainerId::parse(&"ab".repeat(32)).unwrap());
            container.image = Some("nginx:1.27".to_owned());
            container.image_id = Some(format!("sha256:{}", "1a".repeat(32)));
            container.name = Some("web-1".to_owned());
            let verdict = list.judge(&container, Timestamp::UNIX_EPOCH);
            let matched = list
                .explain(&container, Timestamp::UNIX_EPOCH)
                .iter()
                .any(|rule| rule.matches);
            assert_eq!(verdict.is_allowed(), matched);
            assert_eq!(list.hash().len(), 64);
        }
    }
});
