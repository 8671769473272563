//! From a notification to what the receiver is sent: JSON, into which values are put as JSON, so
//! that no name of a container can change what is said around it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::message::Message;

const JSON: &str = include_str!("templates/json");
const SLACK: &str = include_str!("templates/slack");
const DISCORD: &str = include_str!("templates/discord");
const TEAMS: &str = include_str!("templates/teams");
const TEXT: &str = include_str!("templates/text");

/// Discord takes 2,000 characters.
const LONGEST_MARKDOWN: usize = 1_900;
/// Each may be escaped, wherever it stands.
const MARKS: &str = r"\`*_~|[]()<>{}#!";

/// More than any template needs.
const LARGEST: u64 = 64 * 1_024;

/// The fields of a record that templates can use. Every one is there in each notification, null
/// where it has no meaning: so a slip is found at the start, whatever is told first.
const FIELDS: [&str; 10] = [
    "event",
    "host",
    "time",
    "container_id",
    "container_name",
    "image",
    "rule",
    "reason",
    "detail",
    "outcome",
];

/// Why a template can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTemplate {
    /// It is not there.
    #[error("{}: {error} (built in are json, slack, discord, teams and text)", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// It has a fault.
    #[error("{name}: {message}")]
    Faulty {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
}

pub(super) struct Template {
    environment: Environment<'static>,
    source: String,
    is_json: bool,
}

impl Template {
    /// One that is built in, or a file's; tried out with a notification.
    pub(super) fn load(name: &str) -> Result<Self, BadTemplate> {
        let source = match name {
            "json" => JSON.to_owned(),
            "slack" => SLACK.to_owned(),
            "discord" => DISCORD.to_owned(),
            "teams" => TEAMS.to_owned(),
            "text" => TEXT.to_owned(),
            file => read(Path::new(file)).map_err(|error| BadTemplate::Unreadable {
                file: file.into(),
                error,
            })?,
        };
        let is_json = name != "text";
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(move |_| match is_json {
            true => AutoEscape::Json,
            false => AutoEscape::None,
        });
        environment.add_filter("slack", for_slack);
        environment.add_filter("markdown", for_markdown);
        let template = Self {
            environment,
            source,
            is_json,
        };
        template.try_out().map_err(|message| BadTemplate::Faulty {
            name: name.to_owned(),
            message,
        })?;
        Ok(template)
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.is_json {
            true => "application/json",
            false => "text/plain; charset=utf-8",
        }
    }

    pub(super) fn render(&self, message: &Message) -> Result<String, Failure> {
        let record = &message.record;
        let field = |name: &str| (name.to_owned(), record[name].clone());
        let mut values: Map<String, Value> = FIELDS.into_iter().map(field).collect();
        values.extend([
            ("text".to_owned(), json!(message.text)),
            ("level".to_owned(), json!(message.level)),
            ("record".to_owned(), record.clone()),
        ]);
        let rendered = self.environment.render_str(&self.source, Serde(values));
        rendered.map_err(|error| Failure::Template(error.to_string()))
    }

    fn try_out(&self) -> Result<(), String> {
        let mut test = Message::test("");
        // Texts as well as nulls, and what would break out of a careless template.
        for fill in [Value::Null, "a \"quoted\" \\ name".into()] {
            for name in FIELDS {
                test.record[name] = fill.clone();
            }
            test.record["time"] = Timestamp::now().to_string().into();
            let rendered = self.render(&test).map_err(|error| error.to_string())?;
            if self.is_json
                && let Err(error) = serde_json::from_str::<Value>(&rendered)
            {
                return Err(format!(
                    "it does not make JSON: {error}. (Values need no quotes: {{\"text\": {{{{ text }}}}}})"
                ));
            }
        }
        Ok(())
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(file)?;
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Slack's three characters: with them `<!channel>` in a name would call everyone.
fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// What Markdown would take for its own: a link in a label's value would show one address and lead to another.
/// No longer than Discord takes, or nobody would be told.
fn for_markdown(text: &str) -> String {
    let mut plain = String::new();
    let mut length = 0;
    for one in text.chars() {
        if length > LONGEST_MARKDOWN {
            plain.push('…');
            break;
        }
        if MARKS.contains(one) {
            plain.push('\\');
            length += 1;
        }
        plain.push(one);
        length += 1;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: [&str; 5] = ["json", "slack", "discord", "teams", "text"];

    const MARKDOWN: &str = r#"\<\!channel\> "\}, \{"@everyone \[here\]\(http://there\)"#;

    fn hostile() -> Message {
        let mut message = Message::test("");
        message.text = r#"<!channel> "}, {"@everyone [here](http://there)"#.to_owned();
        message
    }

    #[test]
    fn what_is_built_in_can_be_used_and_values_stay_values() {
        for name in BUILT_IN {
            let template = Template::load(name).expect(name);
            let body = template.render(&hostile()).expect(name);
            if name == "text" {
                assert_eq!(body, hostile().text);
                continue;
            }
            let body: Value = serde_json::from_str(&body).expect(name);
            let (place, text) = match name {
                "slack" => (
                    "/text",
                    r#"&lt;!channel&gt; "}, {"@everyone [here](http://there)"#,
                ),
                "discord" => ("/content", MARKDOWN),
                "teams" => ("/attachments/0/content/body/0/text", MARKDOWN),
                _ => ("/event", "test"),
            };
            let found = body.pointer(place).and_then(Value::as_str);
            assert_eq!(found, Some(text), "{name}: {body}");
        }
        let discord = Template::load("discord").expect("discord");
        let body = discord.render(&hostile()).expect("a body");
        assert!(body.contains(r#""allowed_mentions": {"parse": []}"#));
    }

    #[test]
    fn no_name_is_too_long_to_be_told() {
        for name in ["_", "a", "a_", "_ä"] {
            let shown = for_markdown(&name.repeat(3_000));
            assert!(shown.chars().count() < 1_950, "{name}");
            assert!(shown.ends_with('…') && !shown.ends_with(r"\…"), "{name}");
        }
    }

    #[test]
    fn json_is_the_record() {
        let message = hostile();
        let body = Template::load("json").expect("json").render(&message);
        let body: Value = serde_json::from_str(&body.expect("a body")).expect("JSON");
        assert_eq!(body, message.record);
    }

    #[test]
    fn faults_are_found_before_anything_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("mine");
        for (source, fault) in [
            (r#"{"a": {{ text }}, "b": {{ image }}}"#, None),
            (r#"{"a": {{ "at " ~ host ~ ": " ~ text }}}"#, None),
            (r#"{"a": "{{ text }}"}"#, Some("does not make JSON")),
            (r#"{"a": {{ text }"#, Some("syntax error")),
            (r#"{"a": {{ txet }}}"#, Some("undefined")),
            ("", Some("does not make JSON")),
            (
                r#"{"a": {% if level == "info" %}1{% else %}2{% endif %}}"#,
                None,
            ),
        ] {
            std::fs::write(&file, source).expect("the file");
            let loaded = Template::load(&file.to_string_lossy());
            let found = loaded.err().map(|error| error.to_string());
            match (fault, found) {
                (None, None) => {}
                (Some(fault), Some(found)) => assert!(found.contains(fault), "{source}: {found}"),
                (_, found) => panic!("{source}: {found:?}"),
            }
        }
        let missing = Template::load("/nowhere/at/all").err();
        assert!(missing.is_some_and(|error| error.to_string().contains("/nowhere/at/all")));
    }
}
