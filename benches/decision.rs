//! What a decision costs against 10, 1,000 and 10,000 rules, verdict and sentence included, and what
//! reading such a list does: `cargo bench --bench decision`.
//!
//! Each decision is on another container of a crowd, so that the memory it looks at is not always the
//! same. What is judged is known as after an inspection.

#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dockwarden::allowlist::Allowlist;
use dockwarden::container::{Container, ContainerId};
use jiff::Timestamp;

const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// How many containers take turns.
const CROWD: usize = 256;

/// A kind of rule, with `{}` in the place of its number.
struct Kind {
    name: &'static str,
    rule: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "exact",
        rule: r#"image = "registry.example.com/team-{}/app:1.{}""#,
    },
    Kind {
        name: "glob",
        rule: r#"image = "registry.example.com/team-{}/*:1.*""#,
    },
    Kind {
        name: "pinned",
        rule: r#"image = "registry.example.com/team-{}/app:1.{}@sha256:{hex}""#,
    },
    Kind {
        name: "every-key",
        rule: r#"
            image = "registry.example.com/team-{}/**"
            container = "web-{}-*"
            labels = { "com.docker.compose.project" = "shop", "com.docker.compose.service" = "web-{}" }"#,
    },
];

fn filled(text: &str, number: usize) -> String {
    text.replace("{}", &number.to_string())
        .replace("{hex}", &format!("{number:064x}"))
}

fn text(kind: &Kind, size: usize) -> String {
    let mut text = "version = 1\n[defaults]\ngrants = []\n".to_owned();
    for number in 0..size {
        writeln!(text, "[[allow]]\n{}", filled(kind.rule, number)).expect("written");
    }
    text
}

fn parse(text: &str) -> Allowlist {
    Allowlist::parse(text.as_bytes()).expect("a valid list")
}

/// The container that the rule of this number means.
fn meant(number: usize) -> Container {
    let image = filled("registry.example.com/team-{}/app:1.{}", number);
    let labels = [
        ("com.docker.compose.project", "shop".to_owned()),
        ("com.docker.compose.service", filled("web-{}", number)),
        ("org.opencontainers.image.version", "1.0".to_owned()),
    ];
    Container {
        name: Some(filled("web-{}-1", number)),
        image_id: Some(filled("sha256:{hex}", number)),
        image_names: Some(vec![image.clone()]),
        image: Some(image),
        powers: Some(BTreeSet::new()),
        labels: Some(Arc::new(BTreeMap::from(
            labels.map(|(key, value)| (key.to_owned(), value)),
        ))),
        ..Container::new(ContainerId::parse(&format!("{number:064x}")).expect("full id"))
    }
}

/// One that no rule is near to.
fn stranger(number: usize) -> Container {
    let mut container = meant(number + 1_000_000);
    container.labels = None;
    container
}

/// One that every key but the image speaks for, where there are others.
fn near(number: usize) -> Container {
    let image = filled("docker.io/library/miner:{}", number);
    Container {
        image_names: Some(vec![image.clone()]),
        image: Some(image),
        image_id: Some(filled("sha256:{hex}", number + 1_000_000)),
        ..meant(number)
    }
}

fn decisions(criterion: &mut Criterion) {
    for kind in &KINDS {
        let mut group = criterion.benchmark_group(kind.name);
        for size in SIZES {
            let list = parse(&text(kind, size));
            let step = |number: usize| number * size / CROWD;
            let crowds = [
                ("allowed", (0..CROWD).map(step).map(meant).collect()),
                ("denied", (0..CROWD).map(step).map(stranger).collect()),
                ("near", (0..CROWD).map(step).map(near).collect::<Vec<_>>()),
            ];
            for (name, crowd) in crowds {
                let mut turns = crowd.iter().cycle();
                let is_allowed = list.judge(&crowd[0], Timestamp::UNIX_EPOCH).is_allowed();
                assert_eq!(is_allowed, name == "allowed");
                group.bench_function(BenchmarkId::new(name, size), |bencher| {
                    bencher.iter(|| {
                        let container = turns.next().expect("it never ends");
                        list.judge(black_box(container), black_box(Timestamp::UNIX_EPOCH))
                    });
                });
            }
        }
        group.finish();
    }
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.sample_size(10);
    for kind in &KINDS {
        let text = text(kind, 10_000);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new(kind.name, 10_000), |bencher| {
            bencher.iter_batched(|| text.as_str(), parse, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, parsing);
criterion_main!(benches);
