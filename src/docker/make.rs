//! What is made on an engine to try it: an image of one program, and a container of that which may
//! do nothing. Everything made is labelled, and found again and removed by that.

use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveImageOptions};
use serde_json::Value;

use super::elements::Elements;
use super::{Docker, QUICK, REMOVE, answers, unreadable, within_bollard};
use crate::container::ContainerId;
use crate::engine::{EngineError, Listing};

/// An image as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its full id.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// More than enough for a program that only waits, and for what the engine runs before it.
const MEMORY: i64 = 64 * 1024 * 1024;
const PROCESSES: i64 = 64;

impl Docker {
    /// What the engine runs programs for, such as `linux/amd64`.
    pub async fn platform(&self) -> Result<String, EngineError> {
        let answer = self.object("/version").await?;
        let word = |key| answer.get(key).and_then(Value::as_str).unwrap_or("unknown");
        Ok(format!("{}/{}", word("Os"), word("Arch")))
    }

    /// Makes an image of an archive. Its name, and the keys and values of its labels, consist of
    /// letters, digits, dots and hyphens.
    pub async fn import(
        &self,
        (repository, tag): (&str, &str),
        labels: &BTreeMap<String, String>,
        archive: Vec<u8>,
    ) -> Result<(), EngineError> {
        let labels = labels
            .iter()
            .map(|(key, value)| format!("%20{key}={value}"));
        let labels: String = labels.collect();
        let path =
            format!("/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=LABEL{labels}");
        let mut body = self
            .request(Method::POST, &path, archive.into(), REMOVE)
            .await?;
        let mut elements = Elements::of_lines();
        let mut refusal = None;
        let mut each = |line: &[u8]| {
            let line = serde_json::from_slice::<Value>(line).unwrap_or_default();
            if let Some(error) = line.get("error").and_then(Value::as_str) {
                refusal = Some(error.to_owned());
            }
        };
        // That it is done is known at the end of the answer, and that it failed only from its text.
        while let Some(bytes) = body.piece().await? {
            if !elements.feed(&bytes, &mut each) {
                return Err(unreadable("the progress of an import has no end"));
            }
        }
        match refusal {
            None => Ok(()),
            Some(message) => Err(EngineError::Refused {
                status: 200,
                message,
            }),
        }
    }

    /// Makes a container that may do nothing: no network, no volume, no capability, nothing to
    /// write to, no log, no restart.
    pub async fn create(
        &self,
        name: &str,
        image: &str,
        program: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<ContainerId, EngineError> {
        let config = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec![program.to_owned()]),
            // A stop has to end it. The kernel spares a container's first process any other signal
            // that it did not ask for, and a stop may come before its first instruction.
            stop_signal: Some("SIGKILL".to_owned()),
            labels: Some(labels.clone().into_iter().collect::<HashMap<_, _>>()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                memory: Some(MEMORY),
                pids_limit: Some(PROCESSES),
                // Signals reach the program itself.
                init: Some(false),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".to_owned()),
                    config: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let call = self.bollard.create_container(Some(options), config);
        let created = within_bollard(QUICK, call).await?;
        ContainerId::parse(&created.id).ok_or_else(|| unreadable("a container without its id"))
    }

    /// All containers with a label, whatever its value.
    pub async fn containers_labelled(&self, label: &str) -> Result<Listing, EngineError> {
        let filters = labelled(label);
        let path = format!("/containers/json?all=1&filters={filters}");
        self.containers(&path, QUICK).await
    }

    /// All images with a label, whatever its value.
    pub async fn images_labelled(&self, label: &str) -> Result<Vec<ListedImage>, EngineError> {
        let path = format!("/images/json?filters={}", labelled(label));
        let mut images = Vec::new();
        self.array(&path, QUICK, |element| {
            let element = serde_json::from_slice::<Value>(element).unwrap_or_default();
            images.extend(answers::listed_image(&element));
        })
        .await?;
        Ok(images)
    }

    /// Takes a name from an image, and removes the image with its last name. Nothing is done where
    /// there is none.
    pub async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let call = self
            .bollard
            .remove_image(name, None::<RemoveImageOptions>, None);
        match within_bollard(REMOVE, call).await {
            Ok(_) | Err(EngineError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// `{"label":["…"]}`
fn labelled(label: &str) -> String {
    format!("%7B%22label%22%3A%5B%22{label}%22%5D%7D")
}
