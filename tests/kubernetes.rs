//! `k8s/`: each manifest is what the cluster's API takes, they agree with each other, and the list in them lets a
//! node's own containers live.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Service, ServiceSpec};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::scripted::{End, Scripted, numbered};
use support::{Engine, SOON, Warden, dockwarden, eventually};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("YAML")
}

/// What `kubectl apply -f k8s/` reads, in its order.
fn manifests() -> Vec<Value> {
    let entries = std::fs::read_dir(root().join("k8s")).unwrap();
    let paths: BTreeSet<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let yaml = paths.iter().filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    yaml.flat_map(|path| documents(&std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn all<T: DeserializeOwned>(kind: &str) -> Vec<T> {
    let of_kind = |one: &Value| one["kind"] == kind;
    let found = manifests().into_iter().filter(of_kind);
    found
        .map(|one| serde_json::from_value(one).unwrap())
        .collect()
}

fn only<T: DeserializeOwned>(kind: &str) -> T {
    let mut found = all(kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

fn list() -> String {
    let map: ConfigMap = only("ConfigMap");
    map.data.unwrap()["allowlist.toml"].clone()
}

fn containers(set: &DaemonSet) -> &[Container] {
    &set.spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap()
        .containers
}

fn variable<'a>(container: &'a Container, name: &str) -> &'a str {
    let mut named = container.env.iter().flatten();
    let variable = named.find(|one| one.name == name);
    variable.unwrap().value.as_deref().unwrap()
}

fn kubectl_kustomize(directory: &Path) -> Result<Vec<Value>, String> {
    support::require("kubectl", "kubernetes-client");
    let done = Command::new("kubectl")
        .arg("kustomize")
        .arg(directory)
        .output()
        .unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    Ok(documents(&String::from_utf8(done.stdout).unwrap()))
}

/// Read into the API's type and written again, nothing is lost: so no field is unknown to it.
fn strictly<T: DeserializeOwned + Serialize>(manifest: &Value) {
    let typed: T = serde_json::from_value(manifest.clone())
        .unwrap_or_else(|error| panic!("{error}: {manifest:#}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *manifest);
}

/// Of the Prometheus Operator's resource what is used here, by its API reference (monitoring.coreos.com/v1): no
/// crate has it for the Kubernetes types of today.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceMonitor {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: ServiceMonitorSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceMonitorSpec {
    selector: LabelSelector,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Endpoint {
    /// The name of a port of the service.
    port: String,
    relabelings: Vec<Relabeling>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Relabeling {
    #[serde(skip_serializing_if = "Option::is_none")]
    source_labels: Option<Vec<String>>,
    target_label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<String>,
}

fn service_monitor() -> Value {
    let file = root().join("k8s/components/service-monitor/service-monitor.yaml");
    documents(&std::fs::read_to_string(file).unwrap()).remove(0)
}

fn is_known(manifest: &Value) {
    match manifest["kind"].as_str().unwrap() {
        "Namespace" => strictly::<Namespace>(manifest),
        "ConfigMap" => strictly::<ConfigMap>(manifest),
        "DaemonSet" => strictly::<DaemonSet>(manifest),
        "Service" => strictly::<Service>(manifest),
        "NetworkPolicy" => strictly::<NetworkPolicy>(manifest),
        "ServiceMonitor" => strictly::<ServiceMonitor>(manifest),
        kind => panic!("nobody checks a {kind}"),
    }
}

#[test]
fn the_api_knows_every_field_of_every_manifest() {
    let manifests = manifests();
    assert_eq!(manifests[0]["kind"], "Namespace", "what comes first");
    assert_eq!(manifests.len(), 6);
    manifests.iter().for_each(is_known);
    let monitor = service_monitor();
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    is_known(&monitor);
    for manifest in manifests[1..].iter().chain([&monitor]) {
        assert_eq!(
            manifest["metadata"]["namespace"],
            manifests[0]["metadata"]["name"]
        );
    }
}

#[test]
#[should_panic(expected = "assertion")]
fn a_misspelt_field_is_noticed() {
    let mut set = manifests()
        .into_iter()
        .find(|one| one["kind"] == "DaemonSet")
        .unwrap();
    set["spec"]["template"]["spec"]["tolerrations"] = json!([]);
    is_known(&set);
}

#[test]
fn kustomize_makes_the_same_of_it() {
    let by_name = |all: Vec<Value>| -> BTreeMap<String, Value> {
        let named = all.into_iter();
        named
            .map(|one| (format!("{}/{}", one["kind"], one["metadata"]["name"]), one))
            .collect()
    };
    let kustomized = kubectl_kustomize(&root().join("k8s")).unwrap();
    assert_eq!(by_name(kustomized), by_name(manifests()));
}

/// kubectl knows components since 1.21; Debian 12 has 1.20.
#[test]
fn components_add_what_they_say() {
    let version = Command::new("kubectl")
        .args(["version", "--client", "-o", "json"])
        .output()
        .unwrap();
    let version: Value = serde_json::from_slice(&version.stdout).unwrap();
    let minor = version["clientVersion"]["minor"].as_str().unwrap();
    let minor: u32 = minor.trim_end_matches('+').parse().unwrap();
    let made = kubectl_kustomize(&root().join("k8s-audit"));
    if minor < 21 {
        eprintln!("kubectl 1.{minor} knows no components: not checked");
        assert!(made.is_err(), "it does know them");
        return;
    }
    let made = made.unwrap();
    made.iter().for_each(is_known);
    assert_eq!(made.len(), 6);
    let set = made
        .into_iter()
        .find(|one| one["kind"] == "DaemonSet")
        .unwrap();
    only_audits(set);

    let both = tempfile::tempdir_in(root()).unwrap();
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../k8s]\n\
                components: [../k8s/components/audit, ../k8s/components/service-monitor, ../k8s/components/faster-paths]\n";
    std::fs::write(both.path().join("kustomization.yaml"), text).unwrap();
    let made = kubectl_kustomize(both.path()).unwrap();
    made.iter().for_each(is_known);
    assert!(made.contains(&service_monitor()));
    let set = made.iter().find(|one| one["kind"] == "DaemonSet").unwrap();
    may_signal(set);
}

/// The node's processes, and the right to signal them for who enforces alone.
#[track_caller]
fn may_signal(set: &Value) {
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["hostPID"], true);
    for container in pod["containers"].as_array().unwrap() {
        let capabilities = &container["securityContext"]["capabilities"];
        let is_controller = container["name"] == "status-state-controller";
        let added = if is_controller {
            json!(["KILL"])
        } else {
            Value::Null
        };
        assert_eq!(capabilities["add"], added, "{container:#}");
    }
}

/// The DaemonSet with a component's patch, merged by hand, as Debian's kubectl knows no components.
fn patched(patch: &str) -> Value {
    let path = root().join("k8s/components").join(patch);
    let mut documents = documents(&std::fs::read_to_string(path).unwrap());
    let patch = documents.pop().unwrap();
    assert!(documents.is_empty());
    let set: DaemonSet = only("DaemonSet");
    let mut set = serde_json::to_value(set).unwrap();
    merge(&mut set, &patch);
    is_known(&set);
    set
}

#[test]
fn the_faster_paths_take_the_nodes_processes_and_one_right() {
    may_signal(&patched("faster-paths/processes.yaml"));
}

#[test]
fn the_audit_component_has_both_containers_audit() {
    only_audits(patched("audit/mode.yaml"));
}

#[track_caller]
fn only_audits(set: Value) {
    let set: DaemonSet = serde_json::from_value(set).unwrap();
    for container in containers(&set) {
        let modes = container.env.iter().flatten();
        let mode = modes.filter(|one| one.name == "DOCKWARDEN_MODE");
        let mode: Vec<_> = mode.map(|one| one.value.as_deref()).collect();
        assert_eq!(mode, [Some("audit")], "{}", container.name);
    }
}

/// As kustomize merges: lists of what has a name by name, others as a whole.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch))
            if patch.iter().all(|one| one["name"].is_string()) =>
        {
            for one in patch {
                match into.iter_mut().find(|other| other["name"] == one["name"]) {
                    Some(known) => merge(known, one),
                    None => into.push(one.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

#[test]
fn names_ports_and_selectors_agree() {
    let set: DaemonSet = only("DaemonSet");
    let spec = set.spec.as_ref().unwrap();
    let labels = spec
        .template
        .metadata
        .as_ref()
        .unwrap()
        .labels
        .as_ref()
        .unwrap();
    assert_eq!(spec.selector.match_labels.as_ref(), Some(labels));
    let pod = spec.template.spec.as_ref().unwrap();
    let volumes: BTreeSet<_> = pod.volumes.iter().flatten().map(|one| &*one.name).collect();
    let mut ports = BTreeMap::new();
    for container in containers(&set) {
        let mounted: BTreeSet<_> = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|one| &*one.name)
            .collect();
        assert_eq!(mounted, volumes, "{}", container.name);
        assert!(
            container
                .volume_mounts
                .iter()
                .flatten()
                .all(|one| one.sub_path.is_none())
        );
        let [port] = container.ports.as_deref().unwrap() else {
            panic!("one port")
        };
        let name = port.name.clone().unwrap();
        let listen = format!("0.0.0.0:{}", port.container_port);
        assert_eq!(variable(container, "DOCKWARDEN_LISTEN"), listen);
        for probe in [&container.liveness_probe, &container.readiness_probe] {
            let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
            assert_eq!(get.port, IntOrString::String(name.clone()));
        }
        ports.insert(name, port.container_port);
    }
    assert_eq!(ports.len(), 2);

    let services: Vec<Service> = all("Service");
    for service in &services {
        let spec = service.spec.as_ref().unwrap();
        assert_eq!(spec.selector.as_ref(), Some(labels));
        for port in spec.ports.iter().flatten() {
            let Some(IntOrString::String(target)) = &port.target_port else {
                panic!("a name")
            };
            assert_eq!(ports[target], port.port);
        }
    }
    let policy: NetworkPolicy = only("NetworkPolicy");
    let policy = policy.spec.unwrap();
    assert_eq!(
        policy.pod_selector.unwrap().match_labels.as_ref(),
        Some(labels)
    );
    for port in policy.ingress.unwrap()[0].ports.iter().flatten() {
        let Some(IntOrString::String(name)) = &port.port else {
            panic!("a name")
        };
        assert!(ports.contains_key(name));
    }

    let hosts = pod
        .volumes
        .iter()
        .flatten()
        .filter_map(|one| one.host_path.as_ref());
    for host in hosts {
        assert!(
            list().contains(&format!("\"bind:{}", host.path)),
            "{}",
            host.path
        );
    }
    let map: ConfigMap = only("ConfigMap");
    let mounted = pod
        .volumes
        .iter()
        .flatten()
        .find_map(|one| one.config_map.as_ref());
    assert_eq!(Some(mounted.unwrap().name.clone()), map.metadata.name);

    let monitor: ServiceMonitor = serde_json::from_value(service_monitor()).unwrap();
    let wanted = monitor.spec.selector.match_labels.unwrap();
    let is_wanted = |service: &&Service| {
        let has = service.metadata.labels.as_ref().unwrap();
        wanted
            .iter()
            .all(|(key, value)| has.get(key) == Some(value))
    };
    let [selected] = services.iter().filter(is_wanted).collect::<Vec<_>>()[..] else {
        panic!("one")
    };
    let offered = selected.spec.as_ref().unwrap().ports.iter().flatten();
    let offered: BTreeSet<_> = offered.map(|one| one.name.clone().unwrap()).collect();
    let scraped = monitor.spec.endpoints.iter();
    let scraped: BTreeSet<_> = scraped.map(|endpoint| endpoint.port.clone()).collect();
    assert_eq!(scraped, offered);
    let jobs = std::fs::read_to_string(root().join("packaging/prometheus/prometheus.yml")).unwrap();
    for Endpoint { port, relabelings } in monitor.spec.endpoints {
        let by_label: BTreeMap<_, _> = relabelings
            .into_iter()
            .map(|one| {
                (
                    one.target_label,
                    one.source_labels.or(one.replacement.map(|text| vec![text])),
                )
            })
            .collect();
        let job = format!("dockwarden-{port}");
        assert!(jobs.contains(&format!("job_name: {job}\n")), "{job}");
        assert_eq!(by_label["job"], Some(vec![job]));
        assert_eq!(
            by_label["node"],
            Some(vec!["__meta_kubernetes_pod_node_name".to_owned()])
        );
    }
}

/// What goes into a pod's specification is as easily taken out of it again.
#[test]
fn every_node_has_one_that_asks_the_cluster_nothing_and_is_the_last_to_go() {
    let set: DaemonSet = only("DaemonSet");
    let spec = serde_json::to_value(set.spec.unwrap()).unwrap();
    let update = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } });
    assert_eq!(spec["updateStrategy"], update);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["nodeSelector"], Value::Null);
    assert_eq!(pod["affinity"], Value::Null);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > 5, "shorter than a shutdown may take");
    for container in pod["containers"].as_array().unwrap() {
        let named = container["env"].as_array().unwrap().iter();
        let node: Vec<_> = named
            .filter(|one| one["name"] == "DOCKWARDEN_HOST_NAME")
            .map(|one| &one["valueFrom"]["fieldRef"]["fieldPath"])
            .collect();
        assert_eq!(node, ["spec.nodeName"], "{container:#}");
        for what in ["cpu", "memory"] {
            let asked = &container["resources"]["requests"][what];
            assert!(asked.is_string(), "{what}: {container:#}");
        }
    }
    let namespace: Namespace = only("Namespace");
    let labels = namespace.metadata.labels.unwrap();
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn one_service_is_of_the_own_node_and_one_of_each() {
    let services: Vec<Service> = all("Service");
    let specs = services.iter().map(|one| one.spec.as_ref().unwrap());
    let is_headless = |one: &&ServiceSpec| one.cluster_ip.as_deref() == Some("None");
    let (headless, own): (Vec<_>, Vec<_>) = specs.partition(is_headless);
    let [(headless, own)] = headless.into_iter().zip(own).collect::<Vec<_>>()[..] else {
        panic!("{services:#?}");
    };
    assert_eq!(headless.publish_not_ready_addresses, Some(true));
    assert_eq!(own.internal_traffic_policy.as_deref(), Some("Local"));
}

/// Pods ask by a service's name, in any form; the kubelet and Prometheus by addresses; `kubectl port-forward` leads
/// from a browser's localhost.
#[test]
fn each_is_called_by_the_services_names_and_answers_to_no_other() {
    let set: DaemonSet = only("DaemonSet");
    let fake = Scripted::start();
    for container in containers(&set) {
        let warden = fake
            .builder("version = 1\nallow-nothing = true\n", "1h")
            .subcommand(&container.args.as_ref().unwrap()[0])
            .listen("0.0.0.0:0");
        let names = variable(container, "DOCKWARDEN_ALLOWED_HOST");
        let warden = warden.env("DOCKWARDEN_ALLOWED_HOST", names).start();
        warden.wait_ready();
        let status = |host: &str| warden.get_with("/metrics", &[("Host", host)]).status;
        for service in all::<Service>("Service") {
            let mut name = service.metadata.name.unwrap();
            assert_eq!(status(&name), 200, "{name}");
            let namespace = service.metadata.namespace.unwrap();
            for part in [&*namespace, "svc", "cluster.local"] {
                name = format!("{name}.{part}");
                assert_eq!(status(&format!("{name}:8080")), 200, "{name}");
            }
        }
        for host in ["10.1.2.3:8081", "[fd00::1]:8080", "localhost:8080"] {
            assert_eq!(status(host), 200, "{host}");
        }
        for host in ["evil.example", "dockwarden-nodes.evil.example:8080"] {
            assert_eq!(status(host), 421, "{host}");
        }
        let listen = format!("0.0.0.0:{}", warden.address().port());
        let check = dockwarden(["healthcheck", "--listen", &listen]);
        assert!(check.status.success(), "{check:?}");
    }
}

#[test]
fn both_containers_run_this_version_with_no_more_than_they_need() {
    let set: DaemonSet = only("DaemonSet");
    for container in containers(&set) {
        assert_eq!(
            container.image.as_deref(),
            Some(concat!("dockwarden:", env!("CARGO_PKG_VERSION")))
        );
        let context = serde_json::to_value(&container.security_context).unwrap();
        let wanted = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(context, wanted);
        // Every variable is one that the command has.
        let command = &container.args.as_ref().unwrap()[0];
        let help = dockwarden([command, "--help"]);
        let help = String::from_utf8(help.stdout).unwrap();
        for variable in container.env.iter().flatten().map(|one| &one.name) {
            assert!(
                help.contains(&format!("{variable}="))
                    || ["DOCKER_HOST", "MALLOC_ARENA_MAX"].contains(&&**variable),
                "{variable}"
            );
        }
    }
}

/// The warnings are those of a list that can't know the digests of your cluster.
#[test]
fn the_list_is_valid_and_warns_of_nothing_but_open_images_and_strong_grants() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("allowlist.toml");
    std::fs::write(&path, list()).unwrap();
    let done = dockwarden(["check", path.to_str().unwrap()]);
    let told =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    let warnings: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    let expected = ["not pinned", "root on its host", "symlink"];
    assert_eq!(warnings.len(), 10, "{told}");
    for warning in warnings {
        assert!(
            expected.iter().any(|one| warning.contains(one)),
            "{warning}"
        );
    }
}

/// Containers as cri-dockerd makes them, ids for images included.
struct Node {
    engine: Engine,
}

const SHAREABLE: [&str; 2] = ["--ipc", "shareable"];

/// The directories of a node that the list names. The test has its own in their place.
const DIRECTORIES: [&str; 3] = ["/var/lib/kubelet/pods", "/var/lib/dockwarden", "/var/run"];

impl Node {
    fn new() -> Self {
        let node = Self {
            engine: Engine::start(),
        };
        for directory in DIRECTORIES {
            std::fs::create_dir_all(node.place(directory)).unwrap();
        }
        std::fs::write(node.place(DIRECTORIES[0]).join("etc-hosts"), "").unwrap();
        node
    }

    fn place(&self, directory: &str) -> PathBuf {
        self.engine.dir().join("node").join(&directory[1..])
    }

    fn list(&self) -> String {
        DIRECTORIES.iter().fold(list(), |list, directory| {
            let bind = format!("bind:{directory}");
            assert!(list.contains(&bind), "{directory}");
            list.replace(&bind, &format!("bind:{}", self.place(directory).display()))
        })
    }

    fn volume(&self, directory: &str, rest: &str) -> String {
        format!("{}:{rest}", self.place(directory).display())
    }

    fn sandbox(&self, namespace: &str, pod: &str, options: &[&str]) -> String {
        self.run(
            "podsandbox",
            namespace,
            pod,
            "POD",
            "registry.k8s.io/pause:3.10",
            options,
        )
    }

    fn container(
        &self,
        namespace: &str,
        pod: &str,
        name: &str,
        image: &str,
        options: &[&str],
    ) -> String {
        let sandbox = format!("container:k8s_POD_{pod}_{namespace}_uid_0");
        let joined = ["--network", &sandbox, "--ipc", &sandbox];
        let hosts = format!(
            "{}:/etc/hosts",
            self.place(DIRECTORIES[0]).join("etc-hosts").display()
        );
        let options = [&joined[..], &["--volume", &hosts], options].concat();
        let id = self.engine.image_id(image);
        self.run("container", namespace, pod, name, &id, &options)
    }

    fn run(
        &self,
        kind: &str,
        namespace: &str,
        pod: &str,
        name: &str,
        image: &str,
        options: &[&str],
    ) -> String {
        let full = format!("k8s_{name}_{pod}_{namespace}_uid_0");
        let labels = [
            format!("io.kubernetes.docker.type={kind}"),
            format!("io.kubernetes.pod.namespace={namespace}"),
            format!("io.kubernetes.pod.name={pod}"),
            format!("io.kubernetes.container.name={name}"),
        ];
        let mut all = vec!["--name", &full, "--security-opt", "seccomp=unconfined"];
        for label in &labels {
            all.extend(["--label", label]);
        }
        all.extend(options);
        self.engine.run(&all, image, &[])
    }
}

#[test]
fn a_node_s_own_containers_live_and_strangers_end() {
    let node = Node::new();
    let engine = &node.engine;
    for image in [
        "registry.k8s.io/pause:3.10",
        "registry.k8s.io/kube-apiserver:v1.33.1",
        "dockwarden:0.1.0",
        "evil/miner:1",
    ] {
        engine.image(image);
    }
    let warden = Warden::on(engine)
        .subcommand("controller")
        .allowlist(&node.list())
        .start();
    warden.wait_ready();

    let host = ["--network", "host", "--ipc", "host"];
    let mut living = vec![node.sandbox("kube-system", "apiserver", &host)];
    let certificates = ["--pid", "host", "--volume", "/etc:/etc/kubernetes:ro"];
    living.push(node.container(
        "kube-system",
        "apiserver",
        "kube-apiserver",
        "registry.k8s.io/kube-apiserver:v1.33.1",
        &certificates,
    ));
    let [run, state] = [
        node.volume(DIRECTORIES[2], "/host/run:ro"),
        node.volume(DIRECTORIES[1], "/var/lib/dockwarden"),
    ];
    let own = ["--cap-drop", "ALL", "--volume", &run, "--volume", &state];
    // As it is, and under components/faster-paths, whose `hostPID` the sandbox gets and each container.
    let may_signal = ["--cap-add", "KILL", "--security-opt", "apparmor=unconfined"];
    for (pod, all, controller) in [
        ("dockwarden-x", &[][..], &[][..]),
        ("dockwarden-y", &["--pid", "host"], &may_signal),
    ] {
        let sandbox = [&SHAREABLE[..], all].concat();
        living.push(node.sandbox("dockwarden", pod, &sandbox));
        for (name, more) in [
            ("status-state-api", &[][..]),
            ("status-state-controller", controller),
        ] {
            let options = [&own[..], all, more].concat();
            living.push(node.container("dockwarden", pod, name, "dockwarden:0.1.0", &options));
        }
    }
    living.push(node.sandbox("shop", "miner", &SHAREABLE));
    for id in &living {
        warden.wait_for_verdict(id, "allowed");
    }

    // Of a pod that nobody allowed the sandbox stays and the container goes, whatever namespace it claims.
    let strangers = [
        node.container("shop", "miner", "miner", "evil/miner:1", &[]),
        node.run(
            "container",
            "kube-system",
            "apiserver",
            "miner",
            "evil/miner:1",
            &[],
        ),
        node.run(
            "podsandbox",
            "shop",
            "bold",
            "POD",
            "registry.k8s.io/pause:3.10",
            &host,
        ),
        engine.run(
            &["--name", "by-hand"],
            "registry.k8s.io/kube-apiserver:v1.33.1",
            &[],
        ),
    ];
    for id in &strangers {
        warden.wait_for_verdict(id, "denied");
        engine.wait_until_dead(id, SOON);
    }
    for id in &living {
        assert_eq!(
            engine.state(id).as_deref(),
            Some("running"),
            "{:#?}",
            warden.records_of(id)
        );
    }
}

/// Whatever it is about: records of many nodes end up in one place.
#[test]
fn every_record_names_its_node() {
    let fake = Scripted::start();
    let list = "version = 1\n[[allow]]\nimage = \"good:1\"\n";
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl");
    let warden = fake.builder(list, "1s").subcommand("controller");
    let warden = warden.args(["--audit-log", log.to_str().unwrap()]);
    let warden = warden.env("DOCKWARDEN_HOST_NAME", "node-7").start();
    warden.wait_ready();
    let id = numbered(1);
    fake.begin(&id, "evil:1");
    fake.wait_for_kill(&id);
    warden.wait_for_verdict(&id, "denied");
    warden.write_list_by_rename(&format!("mode = \"audit\"\n{list}"));
    fake.end_streams(End::Clean);
    let kinds = || -> BTreeSet<String> {
        let text = std::fs::read_to_string(&log).unwrap();
        // The last line may be under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).unwrap();
                assert_eq!(record["host"], "node-7", "{record:#}");
                record["event"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    let wanted = ["allowlist", "decision", "engine", "lifecycle", "mode"];
    eventually("each kind is there", SOON, || {
        kinds().iter().map(String::as_str).eq(wanted)
    });
    assert!(warden.sigterm().0.success());
    assert_eq!(kinds().len(), wanted.len());
}

#[test]
fn a_node_without_docker_is_told_so_in_plain_words() {
    for service in ["controller", "api"] {
        let warden = Warden::at("unix:///nowhere/docker.sock")
            .subcommand(service)
            .allowlist(&list())
            .start();
        warden.wait_for_log(|line| line.contains("no Docker engine here"), SOON);
        let ready = warden.get("/readyz");
        assert_eq!(ready.status, 503, "{service}");
        assert!(ready.body.contains("engine"), "{service}: {}", ready.body);
        assert_eq!(warden.get("/livez").status, 200, "{service}");
    }
}
