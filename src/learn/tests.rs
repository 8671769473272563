//! Learned lists allow what they were learned from.

use jiff::Timestamp;
use proptest::prelude::{Strategy, any};

use super::*;
use crate::allowlist::Allowlist;
use crate::grant::Power;

const ID: &str = "sha256:1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a";
const DIGEST: &str = "sha256:2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b";
const OTHER: &str = "sha256:3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c";

fn seen(serial: u32, image: &str, labels: &[(&str, &str)]) -> Sighting {
    let labels = labels.iter();
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Sighting {
        source: "what runs on vm".into(),
        container: Container {
            name: Some(format!("name-{serial}")),
            image: Some(image.to_owned()),
            image_id: Some(ID.to_owned()),
            image_names: Some(Vec::new()),
            powers: Some(BTreeSet::new()),
            labels: Some(Arc::new(labels.collect())),
            ..Container::new(ContainerId::parse(&format!("{serial:064x}")).expect("full id"))
        },
    }
}

fn list(learned: &Learned) -> Allowlist {
    Allowlist::parse(learned.text.as_bytes())
        .unwrap_or_else(|error| panic!("{}\n{}", error.report("learned"), learned.text))
}

/// Rule names with their images.
fn rules(learned: &Learned) -> Vec<(String, Vec<String>)> {
    let list = list(learned);
    let rules = list.rules.iter();
    rules
        .map(|rule| {
            let images = rule.image.iter().map(|image| image.as_str().to_owned());
            (rule.name.to_string(), images.collect())
        })
        .collect()
}

const SHOP_WEB: &[(&str, &str)] = &[
    ("com.docker.compose.project", "shop"),
    ("com.docker.compose.service", "web"),
];

#[test]
fn one_rule_an_image_and_service() {
    let swarm = [("com.docker.swarm.service.name", "shop_db")];
    let pod = [
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.container.name", "web"),
        ("io.kubernetes.pod.name", "web-5d-x"),
    ];
    let all = [
        seen(1, "nginx", SHOP_WEB),
        seen(2, "docker.io/library/nginx:latest", SHOP_WEB),
        seen(3, "nginx:1.27", SHOP_WEB),
        seen(4, "nginx:1.27", &[]),
        seen(5, "team/nginx:1.27", &[]),
        seen(6, "db:1", &swarm),
        seen(7, "web:1", &pod),
        seen(8, ID, &[]),
    ];
    let learned = learn(all, PinBy::Digest);
    let found = rules(&learned);
    let expected = [
        ("nginx", format!("nginx:1.27@{ID}")),
        ("nginx-1.27", format!("team/nginx:1.27@{ID}")),
        ("image-1a1a1a1a1a1a", ID.to_owned()),
        ("shop-web", format!("nginx:1.27@{ID}")),
        ("shop-web-nginx", format!("nginx:latest@{ID}")),
        ("shop_db", format!("db:1@{ID}")),
        ("shop-web-web", format!("web:1@{ID}")),
    ];
    let expected = expected.map(|(name, image)| (name.to_owned(), vec![image]));
    assert_eq!(found, expected, "{}", learned.text);
    assert_eq!(learned.notes, Vec::<String>::new());
}

#[test]
fn repo_digests_pin_before_ids_and_own_ones_before_others() {
    let with = |digests: &[String]| {
        let mut sighting = seen(1, "shop/web:1", &[]);
        sighting.container.image_names = Some(digests.to_vec());
        sighting
    };
    let (own, other) = (format!("shop/web@{DIGEST}"), format!("a/b@{OTHER}"));
    let tag = "shop/web:1".to_owned();
    let table = [
        (
            vec![other.clone(), own.clone()],
            PinBy::Digest,
            format!("shop/web:1@{DIGEST}"),
        ),
        (
            vec![tag.clone(), other.clone()],
            PinBy::Digest,
            format!("shop/web:1@{OTHER}"),
        ),
        (vec![tag], PinBy::Digest, format!("shop/web:1@{ID}")),
        (vec![own.clone()], PinBy::Id, format!("shop/web:1@{ID}")),
        (vec![own], PinBy::Nothing, "shop/web:1".to_owned()),
    ];
    for (digests, by, expected) in table {
        assert_eq!(rules(&learn([with(&digests)], by))[0].1, [expected]);
    }
    // A digest that was typed is not given up for a name without a tag.
    let mut typed = seen(1, &format!("shop/web@{DIGEST}"), &[]);
    typed.container.image_names = Some(vec![format!("shop/web@{DIGEST}")]);
    let found = rules(&learn([typed], PinBy::Nothing));
    assert_eq!(found[0].1, [format!("shop/web@{DIGEST}")]);
}

#[test]
fn several_contents_of_a_name_are_several_pins() {
    let mut newer = seen(2, "shop/web:1", SHOP_WEB);
    newer.container.image_id = Some(OTHER.to_owned());
    let learned = learn([seen(1, "shop/web:1", SHOP_WEB), newer], PinBy::Digest);
    let pins = [ID, OTHER].map(|pin| format!("shop/web:1@{pin}"));
    assert_eq!(rules(&learned), [("shop-web".to_owned(), pins.to_vec())]);
}

#[test]
fn what_no_rule_can_allow_is_said() {
    let mut imageless = seen(1, "", &[]);
    imageless.container.image_id = Some(String::new());
    let learned = learn([imageless], PinBy::Digest);
    assert!(list(&learned).allow_nothing);
    assert!(
        learned
            .text
            .contains("# left out: \"name-1\" of what runs on vm has no image")
    );
    assert_eq!(learned.notes.len(), 1);

    let mut odd = seen(1, "a:1", &[]);
    odd.container.powers = Some([Power::Unknown("IpcMode=\nx".to_owned()), Power::Gpus].into());
    let learned = learn([odd], PinBy::Digest);
    assert_eq!(
        list(&learned).rules[0].grants.as_ref().map(Vec::len),
        Some(1)
    );
    assert!(
        learned
            .text
            .contains("# not granted, for only `all` would: \"unknown:IpcMode=\\nx\"")
    );
    let mut open = seen(1, "a:1", &[]);
    open.container.powers = None;
    assert!(
        learn([open], PinBy::Digest)
            .text
            .contains("# what it can do was not looked at")
    );
    assert!(list(&learn([], PinBy::Digest)).allow_nothing);
}

#[test]
fn what_was_seen_twice_is_one() {
    let mut early = seen(1, ID, &[]);
    early.container.powers = None;
    let mut late = seen(1, "a:1", SHOP_WEB);
    late.container.powers = Some([Power::HostPid].into());
    let learned = learn([early, late], PinBy::Digest);
    assert_eq!(rules(&learned).len(), 1, "{}", learned.text);
    assert_eq!(learned.notes, Vec::<String>::new());
}

proptest::proptest! {
    #[test]
    fn what_was_learned_is_allowed(
        projects in proptest::collection::vec(any::<String>(), 1..4),
        host in any::<String>(),
        path in "/[^\u{0}*]{0,20}",
        tag in "[a-z0-9]{1,9}(:[a-zA-Z0-9_.]{1,5})?".prop_filter("a reference", |text| crate::image::Reference::parse(text).is_some()),
    ) {
        let mut all = Vec::new();
        for (serial, project) in (1..).zip(&projects) {
            let labels = [("com.docker.compose.project", &**project), ("com.docker.compose.service", &host)];
            let mut sighting = seen(serial, &tag, &labels);
            sighting.source = format!("what runs on {host}").into();
            sighting.container.powers = Some([Power::bind(&path, serial % 2 == 0), Power::Join("a".to_owned())].into());
            all.push(sighting);
        }
        for by in [PinBy::Digest, PinBy::Id, PinBy::Nothing] {
            let learned = learn(all.clone(), by);
            let list = list(&learned);
            for sighting in &all {
                let verdict = list.judge(&sighting.container, Timestamp::UNIX_EPOCH);
                proptest::prop_assert!(verdict.is_allowed(), "{verdict:?}\n{}", learned.text);
            }
        }
    }
}
