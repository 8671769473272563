//! Every row of the table, by what engines answer.

use serde_json::json;

use super::*;

/// What a plain container has on Docker 20.10, and on an engine that fills nothing in.
fn plain() -> [Value; 2] {
    let masked: Vec<_> = MASKED_PATHS.iter().chain(&["/proc/interrupts"]).collect();
    let full = json!({
        "NetworkMode": "default", "IpcMode": "private", "PidMode": "", "UTSMode": "",
        "UsernsMode": "", "CgroupnsMode": "private", "Runtime": "runc", "Privileged": false,
        "CapAdd": null, "SecurityOpt": null, "Devices": [], "DeviceCgroupRules": null,
        "DeviceRequests": null, "Binds": null, "Cgroup": "", "MaskedPaths": masked,
        "ReadonlyPaths": READ_ONLY_PATHS,
    });
    [full, json!({})]
}

fn read_config(config: Value) -> Found {
    read(&json!({ "HostConfig": config }), &EngineDefaults::default())
}

fn words(powers: &BTreeSet<Power>) -> Vec<String> {
    powers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_container_has_no_powers() {
    for config in plain() {
        let found = read_config(config.clone());
        assert_eq!(words(&found.powers), [""; 0], "{config}");
        assert!(found.joins.is_empty() && found.unknown_fields == 0);
    }
}

/// Field, value, powers.
fn rows() -> Vec<(&'static str, Value, &'static [&'static str])> {
    vec![
        ("Privileged", json!(true), &["privileged"]),
        ("Privileged", json!("yes"), &["privileged"]),
        ("NetworkMode", json!("host"), &["host-network"]),
        ("NetworkMode", json!("HOST"), &[]),
        ("NetworkMode", json!("none"), &[]),
        ("PidMode", json!("host"), &["host-pid"]),
        ("PidMode", json!("private"), &[]),
        ("PidMode", json!("other"), &["unknown:PidMode=other"]),
        ("IpcMode", json!("host"), &["host-ipc"]),
        ("IpcMode", json!("shareable"), &[]),
        ("IpcMode", json!(7), &["unknown:IpcMode=?"]),
        ("UTSMode", json!("host"), &["host-uts"]),
        ("UsernsMode", json!("host"), &["host-userns"]),
        ("CgroupnsMode", json!("host"), &["host-cgroupns"]),
        ("Cgroup", json!("spec"), &["unknown:Cgroup=spec"]),
        ("CapAdd", json!(["all"]), &["cap:ALL"]),
        (
            "CapAdd",
            json!(["cap_sys_admin", "SYS_ADMIN", "Net_Admin"]),
            &["cap:NET_ADMIN", "cap:SYS_ADMIN"],
        ),
        ("CapAdd", json!([5]), &["unknown:CapAdd=5"]),
        (
            "Devices",
            json!([{"PathOnHost": "/tmp/a/../../dev//fuse"}, {"PathOnHost": "/dev/kvm"}]),
            &["device:/dev/fuse", "device:/dev/kvm"],
        ),
        ("Devices", json!([{}]), &["unknown:Devices={}"]),
        ("DeviceCgroupRules", json!(["a *:* rwm"]), &["device-rule"]),
        (
            "DeviceRequests",
            json!([{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]),
            &["gpus"],
        ),
        (
            "DeviceRequests",
            json!([{"Driver": "cdi", "DeviceIDs": ["vendor.com/net=nic0"]}]),
            &["device:vendor.com/net=nic0"],
        ),
        ("Runtime", json!("io.containerd.runc.v2"), &[]),
        ("Runtime", json!("kata"), &["runtime:kata"]),
        ("SecurityOpt", json!(["no-new-privileges"]), &[]),
        ("SecurityOpt", json!(["no-new-privileges:true"]), &[]),
        ("SecurityOpt", json!(["apparmor=docker-default"]), &[]),
        ("SecurityOpt", json!(["seccomp=builtin"]), &[]),
        (
            "SecurityOpt",
            json!(["seccomp=unconfined"]),
            &["unconfined"],
        ),
        (
            "SecurityOpt",
            json!(["seccomp:unconfined"]),
            &["unconfined"],
        ),
        (
            "SecurityOpt",
            json!(["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]),
            &["unconfined"],
        ),
        ("SecurityOpt", json!(["apparmor=other"]), &["unconfined"]),
        ("SecurityOpt", json!(["apparmor="]), &["unconfined"]),
        ("SecurityOpt", json!(["label=disable"]), &["unconfined"]),
        ("SecurityOpt", json!(["disable"]), &["unconfined"]),
        ("SecurityOpt", json!(["label=type:spc_t"]), &["unconfined"]),
        ("SecurityOpt", json!(["unheard=of"]), &["unconfined"]),
        ("MaskedPaths", json!([]), &["unconfined"]),
        ("MaskedPaths", json!(["/proc/acpi"]), &["unconfined"]),
        ("ReadonlyPaths", json!([]), &["unconfined"]),
    ]
}

#[test]
fn every_row_gives_what_it_says() {
    for (field, value, powers) in rows() {
        for mut config in plain() {
            config[field] = value.clone();
            let found = read_config(config);
            assert_eq!(words(&found.powers), powers, "{field} = {value}");
        }
    }
    for (field, _) in HOST_CONFIG {
        assert!(
            rows().iter().any(|(tested, ..)| tested == field),
            "{field} has no case"
        );
    }
}

#[test]
fn what_the_engine_adds_by_itself_asks_for_nothing_more() {
    for (field, value, power) in [
        ("Privileged", json!(true), "privileged"),
        ("PidMode", json!("host"), "host-pid"),
        ("IpcMode", json!("host"), "host-ipc"),
    ] {
        let config = json!({ field: value, "SecurityOpt": ["label=disable"], "MaskedPaths": null });
        assert_eq!(words(&read_config(config).powers), [power]);
    }
}

#[test]
fn what_is_the_default_of_an_engine_is_no_power_there() {
    let defaults = EngineDefaults {
        host_cgroupns: true,
        runtime: Some("nvidia".to_owned()),
        socket: None,
    };
    let config = json!({"HostConfig": {"CgroupnsMode": "host", "Runtime": "nvidia"}});
    assert_eq!(words(&read(&config, &defaults).powers), [""; 0]);
    let config = json!({"HostConfig": {"Runtime": "runc"}});
    assert_eq!(words(&read(&config, &defaults).powers), ["runtime:runc"]);
}

#[test]
fn joined_namespaces_are_named() {
    let id = "ab".repeat(32);
    for field in ["NetworkMode", "PidMode", "IpcMode", "Cgroup"] {
        let found = read_config(json!({ field: format!("container:{id}") }));
        assert_eq!(found.joins, [id.clone()].into(), "{field}");
        assert!(found.powers.is_empty(), "{field}");
    }
}

#[test]
fn fields_that_are_not_known_are_counted() {
    let found = read_config(json!({"Telepathy": true, "Sysctls": {}, "Levitation": {}}));
    assert_eq!(found.unknown_fields, 2);
    assert!(found.powers.is_empty());
    let nothing = read(&json!({}), &EngineDefaults::default());
    assert_eq!(words(&nothing.powers), ["unknown:HostConfig=absent"]);
}

/// What is too large to be read (`elements.rs`) is no field that is not there.
#[test]
fn what_is_left_out_of_an_answer_asks_for_more_than_is_granted() {
    for (field, _) in HOST_CONFIG {
        let found = read_config(json!({ *field: true }));
        let joins_a_network = *field == "NetworkMode";
        assert!(joins_a_network || !found.powers.is_empty(), "{field}");
    }
    for answer in [
        json!({"HostConfig": true}),
        json!({"HostConfig": {}, "Mounts": true}),
    ] {
        let found = read(&answer, &EngineDefaults::default());
        assert_eq!(found.powers.len(), 1, "{answer}");
    }
}

#[test]
fn mounts_give_binds_and_volumes() {
    let defaults = EngineDefaults {
        socket: Some("/srv/engine/d.sock".to_owned()),
        ..EngineDefaults::default()
    };
    let bind =
        |source: &str, writable: bool| json!({"Type": "bind", "Source": source, "RW": writable});
    let volume =
        |driver: &str| json!({"Type": "volume", "Name": "v", "Driver": driver, "RW": true});
    let table: [(Value, &[&str]); 14] = [
        (bind("/srv/www", true), &["bind:/srv/www"]),
        (bind("/srv/../etc/", false), &["bind:/etc:ro"]),
        (bind("/", false), &["engine-socket", "bind:/:ro"]),
        (bind("/var/run", true), &["engine-socket", "bind:/run"]),
        (bind("/run/docker.sock", true), &["engine-socket"]),
        (bind("/var/run/docker.sock", false), &["engine-socket"]),
        (
            bind("/run/containerd", true),
            &["engine-socket", "bind:/run/containerd"],
        ),
        (
            bind("/srv/engine", true),
            &["engine-socket", "bind:/srv/engine"],
        ),
        (bind("/srv/engine/d.sock", true), &["engine-socket"]),
        (bind("/run/user", true), &["bind:/run/user"]),
        (volume("local"), &[]),
        (volume("rclone"), &["volume:rclone"]),
        (json!({"Type": "tmpfs"}), &[]),
        (json!({"Type": "npipe"}), &["unknown:Mounts=npipe"]),
    ];
    for (mount, powers) in table {
        let answer = json!({"HostConfig": {}, "Mounts": [mount]});
        let found = read(&answer, &defaults);
        assert_eq!(words(&found.powers), powers, "{mount}");
        let is_local = mount["Driver"] == "local";
        assert_eq!(found.local_volumes.contains("v"), is_local, "{mount}");
    }
}

#[test]
fn a_local_volume_is_what_its_options_make_it() {
    let table: [(Value, &[&str]); 16] = [
        (json!(null), &[]),
        (json!({}), &[]),
        (
            json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}),
            &[],
        ),
        (
            json!({"type": "none", "o": "bind", "device": "/"}),
            &["engine-socket", "bind:/"],
        ),
        (
            json!({"type": "none", "o": "rw,rbind", "device": "/srv"}),
            &["bind:/srv"],
        ),
        (
            json!({"type": "ext4", "o": "ro,bind", "device": "/srv"}),
            &["bind:/srv:ro"],
        ),
        (
            json!({"Type": "none", "O": "bind", "Device": "/srv"}),
            &["bind:/srv"],
        ),
        (
            json!({"type": "ext4", "device": "/dev/vda"}),
            &["device:/dev/vda"],
        ),
        (
            json!({"type": "nfs", "o": "addr=10.0.0.1", "device": ":/export"}),
            &["volume:nfs"],
        ),
        (
            json!({"type": "overlay", "o": "lowerdir=/", "device": "overlay"}),
            &["volume:overlay"],
        ),
        (json!({"type": "proc", "device": "proc"}), &["volume:proc"]),
        (json!({"device": "/srv"}), &["volume:unknown"]),
        (
            json!({"type": "none", "o": "ro,bind,rw", "device": "/srv"}),
            &["bind:/srv"],
        ),
        (
            json!({"type": "none", "o": "bind, ro", "device": "/srv"}),
            &["bind:/srv"],
        ),
        // What is too large to be read.
        (
            json!({"type": "tmpfs", "o": true, "device": "/"}),
            &["volume:unknown"],
        ),
        (json!(true), &["volume:unknown"]),
    ];
    for (options, powers) in table {
        let answer = json!({"Name": "v", "Driver": "local", "Options": options});
        let found = read_volume(&answer, &EngineDefaults::default());
        assert_eq!(words(&found), powers, "{options}");
    }
}
