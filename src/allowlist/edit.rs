//! The one edit that would allow a container, as text to paste into the list.

use toml_edit::{Array, Value};

use super::nearest::is_grant;
use super::{Allowlist, Reason, Rule, Verdict};
use crate::container::Container;
use crate::grant::{Grant, Power};

impl Allowlist {
    /// What to write so that a denied container is allowed: a rule of its own, or the line of the nearest
    /// rule. None where that takes more than a line, or where nobody should.
    pub fn edit(&self, container: &Container, verdict: &Verdict) -> Option<String> {
        let near = verdict.rule().and_then(|name| self.rule(name));
        match (verdict.reason()?, near) {
            (Reason::NoRule, None) => self.new_rule(container),
            (Reason::NotGranted, Some(rule)) => {
                let own = rule.grants.iter().flatten().map(Grant::to_string);
                let grants = own.chain(as_grants(&rule.missing_grants(container)));
                Some(line(rule, "grants", &list(grants)))
            }
            (Reason::OverMax, Some(rule)) => {
                let more = i64::from(rule.max?) + 1;
                Some(line(rule, "max", &more.into()))
            }
            (Reason::ForeignExec, Some(rule)) => Some(line(rule, "exec", &true.into())),
            _ => None,
        }
    }

    fn new_rule(&self, container: &Container) -> Option<String> {
        let image = container.names_of_image().next()?;
        let base = container.name.as_deref().unwrap_or(image);
        let mut name = base.to_owned();
        let mut number = 2;
        while self.rule(&name).is_some() {
            name = format!("{base}-{number}");
            number += 1;
        }
        let mut text = format!(
            "[[allow]]\nrule = {}\nimage = {}\n",
            Value::from(name),
            Value::from(image)
        );
        let defaults = self.defaults.as_ref();
        let asks = defaults.and_then(|defaults| defaults.grants.as_ref());
        if let Some(granted) = asks {
            let powers = container.powers.iter().flatten();
            let missing: Vec<_> = powers
                .filter(|power| !granted.iter().any(|grant| grant.covers(power)))
                .collect();
            if !missing.is_empty() {
                let grants = list(as_grants(&missing));
                text.push_str(&format!("grants = {grants}\n"));
            }
        }
        Some(text)
    }
}

/// What can't be granted by its name is granted by `all`.
fn as_grants(powers: &[&Power]) -> Vec<String> {
    match powers.iter().all(|power| is_grant(power)) {
        true => powers.iter().map(ToString::to_string).collect(),
        false => vec!["all".to_owned()],
    }
}

fn list(words: impl IntoIterator<Item = String>) -> Value {
    words.into_iter().collect::<Array>().into()
}

fn line(rule: &Rule, key: &str, value: &Value) -> String {
    let name: String = rule.name.escape_debug().collect();
    format!("{key} = {value}   # in rule {name}\n")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::container::ContainerId;

    #[test]
    fn what_is_written_allows_it() {
        let lists = [
            "version = 1\nallow-nothing = true\n",
            "version = 1\n[defaults]\ngrants = [\"cap:SYS_TIME\"]\n[[allow]]\nrule = \"web\"\nimage = \"other\"\n",
        ];
        let id = format!("{:064x}", 1);
        let powers = ["host-network", "cap:SYS_TIME"];
        let container = Container {
            name: Some("web".to_owned()),
            image: Some("shop/web:1".to_owned()),
            image_id: Some(format!("sha256:{id}")),
            powers: Some(
                powers
                    .iter()
                    .filter_map(|power| Power::parse(power))
                    .collect(),
            ),
            ..Container::new(ContainerId::parse(&id).expect("full id"))
        };
        for text in lists {
            let judged = |text: &str| {
                let list = Allowlist::parse(text.as_bytes()).expect("a list");
                let verdict = list.judge(&container, Timestamp::UNIX_EPOCH);
                (list.edit(&container, &verdict), verdict)
            };
            let (edit, verdict) = judged(text);
            assert!(verdict.is_denied());
            let edited = text.replace("allow-nothing = true\n", "") + &edit.expect("an edit");
            assert!(judged(&edited).1.is_allowed(), "{edited}");
        }
    }
}
