//! What canaries leave, removed: the container first, then the image.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Error, LABEL, REPOSITORY, UNTIL};
use crate::docker::{Docker, ListedImage};
use crate::engine::{Act, Engine, EngineError};

/// How long it is tried, and how often: an engine that restarts is back in some seconds.
const TRYING: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

/// Removes what was made for a canary, and tries again until nothing is left of it.
pub(super) async fn own(docker: &Docker, mark: &str) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let left = TRYING.saturating_sub(begun.elapsed());
        let cleaned = tokio::time::timeout(left, remove(docker, |other, _| other == mark)).await;
        let source = match cleaned {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => EngineError::Timeout(TRYING),
        };
        if begun.elapsed() + PAUSE >= TRYING {
            return Err(Error::Left {
                mark: mark.to_owned(),
                source,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removes what canaries have left whose time is over, as far as the engine lets it.
pub(super) async fn left_behind(docker: &Docker, now: Timestamp) {
    let is_over = |_: &str, image: &ListedImage| {
        let until = image.labels.get(UNTIL).and_then(|until| until.parse().ok());
        until.is_some_and(|until: i64| until < now.as_second())
    };
    // What nobody can remove must not keep the next canary from its work, and where the engine
    // itself is in trouble the next call tells.
    let _ = tokio::time::timeout(TRYING, remove(docker, is_over)).await;
}

/// Removes the canaries whose images are wanted so, all that can be removed.
///
/// # Errors
/// The first.
async fn remove(
    docker: &Docker,
    is_wanted: impl Fn(&str, &ListedImage) -> bool,
) -> Result<(), EngineError> {
    let mut outcome = Ok(());
    for image in docker.images_labelled(LABEL).await? {
        let mark = image.labels.get(LABEL);
        if let Some(mark) = mark.filter(|mark| is_wanted(mark, &image)) {
            outcome = outcome.and(remove_one(docker, mark, &image).await);
        }
    }
    outcome
}

/// Removes the container that bears this mark, its name and its image, and then the image, unless
/// that has other names by now.
async fn remove_one(docker: &Docker, mark: &str, image: &ListedImage) -> Result<(), EngineError> {
    for container in docker.containers_labelled(LABEL).await?.containers {
        let labels = container.labels.as_ref();
        let is_canary = labels
            .and_then(|labels| labels.get(LABEL))
            .map(String::as_str)
            == Some(mark)
            && container.name.as_deref() == Some(&format!("{REPOSITORY}-{mark}"))
            && container.image_id.as_deref() == Some(&image.id);
        if is_canary {
            docker.act(&container.id, Act::Remove).await?;
        }
    }
    let name = format!("{REPOSITORY}:{mark}");
    if image.tags.contains(&name) {
        docker.remove_image(&name).await
    } else if image.tags.is_empty() {
        docker.remove_image(&image.id).await
    } else {
        Ok(())
    }
}
