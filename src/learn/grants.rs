//! The grants for what containers can do, none of them wider than it must be.

use std::collections::BTreeSet;

use crate::allowlist::quoted;
use crate::grant::{Grant, Power};

/// Where the kubelet keeps what is a pod's own, each under a generated name.
const PODS: &str = "/var/lib/kubelet/pods/";

/// The grants, and what is to be said of those that there are not.
pub(super) fn of(powers: &BTreeSet<Power>) -> (Vec<String>, Vec<String>) {
    let mut notes = BTreeSet::new();
    let mut grants = BTreeSet::new();
    for power in powers {
        match grant(power) {
            Some(grant) => {
                grants.insert(grant);
            }
            None => {
                let power = quoted(&power.to_string());
                notes.insert(format!("not granted, for only `all` would: {power}"));
            }
        }
    }
    if grants
        .iter()
        .any(|grant| grant.starts_with("bind:/var/lib/kubelet/pods/**"))
    {
        notes.insert(
            "each pod has a directory of a generated name: all of them are granted".to_owned(),
        );
    }
    let is_covered = |text: &String| {
        let power = Power::parse(text);
        let others = grants.iter().filter(|other| *other != text);
        let mut others = others.filter_map(|other| Grant::parse(other).ok());
        power.is_some_and(|power| others.any(|other| other.covers(&power)))
    };
    let needed = grants.iter().filter(|text| !is_covered(text));
    (needed.cloned().collect(), notes.into_iter().collect())
}

/// The narrowest grant that covers a power, today's and of the next container of its kind.
fn grant(power: &Power) -> Option<String> {
    let text = match power {
        Power::Join(name) => format!("join:{}", settled(name)),
        Power::Bind { path, read_only } if path.starts_with(PODS) => {
            let mode = if *read_only { ":ro" } else { "" };
            format!("bind:{PODS}**{mode}")
        }
        // In a grant `/**` means more than the directory of that name.
        Power::Bind { path, .. } if path.contains('*') => return None,
        power => power.to_string(),
    };
    let grant = Grant::parse(&text).ok()?;
    grant.covers(power).then_some(text)
}

/// The name of a container that others join, without what is generated of a Kubernetes one's:
/// `k8s_POD_<pod>_<namespace>_<uid>_<attempt>`.
fn settled(name: &str) -> String {
    match name.split('_').collect::<Vec<_>>().as_slice() {
        ["k8s", container, _, namespace, _, _] => format!("k8s_{container}_*_{namespace}_*"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_as_narrow_as_can_be() {
        let table = [
            (
                &["host-network", "gpus"][..],
                &["gpus", "host-network"][..],
                0,
            ),
            (&["bind:/srv", "bind:/srv:ro"], &["bind:/srv"], 0),
            (
                &["privileged", "cap:SYS_ADMIN", "bind:/x"],
                &["bind:/x", "privileged"],
                0,
            ),
            (&["cap:ALL", "cap:NET_ADMIN"], &["cap:ALL"], 0),
            (&["bind:/srv:ro:rw"], &["bind:/srv:ro:rw"], 0),
            (&["bind:/srv/**"], &[], 1),
            (&["bind:/srv/*/x"], &[], 1),
            (&["unknown:IpcMode=new", "gpus"], &["gpus"], 1),
            (&["cap:NEW_ONE"], &[], 1),
            (&["join:web-1"], &["join:web-1"], 0),
            (
                &["join:k8s_POD_web-5d-x_shop_1-2_0"],
                &["join:k8s_POD_*_shop_*"],
                0,
            ),
            (
                &[
                    "bind:/var/lib/kubelet/pods/1/etc-hosts",
                    "bind:/var/lib/kubelet/pods/1/t:ro",
                ],
                &["bind:/var/lib/kubelet/pods/**"],
                1,
            ),
        ];
        for (powers, expected, notes) in table {
            let powers = powers
                .iter()
                .filter_map(|text| Power::parse(text))
                .collect();
            let (found, said) = of(&powers);
            assert_eq!(found, expected);
            assert_eq!(said.len(), notes, "{said:?}");
        }
    }
}
