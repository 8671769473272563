//! Forbidden containers that write down when they began and that they live.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::enforcers::Enforcer;
use crate::support::Engine;

/// How often a victim writes that it lives.
const BEAT: Duration = Duration::from_micros(100);
/// The same in a burst, of which only the end is looked at: a hundred of them must not keep the machine from it.
const LEISURELY_BEAT: Duration = Duration::from_millis(100);
/// What lives longer has got away: it is ended by the bench, and has lived so long.
const ESCAPED: Duration = Duration::from_secs(20);
/// How long an enforcer may take to begin.
const BEGIN: Duration = Duration::from_secs(30);

/// What became of a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its program never began.
    NeverRan,
    /// From its first to its last instruction, to within [`BEAT`].
    Lived(Duration),
}

impl Life {
    pub(crate) fn length(self) -> Duration {
        match self {
            Self::NeverRan => Duration::ZERO,
            Self::Lived(length) => length,
        }
    }
}

/// What became of a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    /// Until none ran, or none more had ended for so long that the others had got away.
    pub(crate) took: Duration,
    /// How many got away.
    pub(crate) escaped: usize,
}

pub(crate) struct Victims<'a> {
    engine: &'a Engine,
    dir: PathBuf,
    made: AtomicUsize,
}

struct Victim {
    id: String,
    page: File,
}

impl<'a> Victims<'a> {
    pub(crate) fn of(engine: &'a Engine) -> Self {
        let dir = engine.dir().join("pages");
        std::fs::create_dir(&dir).expect("a directory");
        Self {
            engine,
            dir,
            made: AtomicUsize::new(0),
        }
    }

    fn create(&self, beat: Duration) -> Victim {
        let path = self
            .dir
            .join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        let page = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let page = page.expect("a page");
        page.set_len(16).expect("room for two numbers");
        let body = json!({
            "Image": "bad:1",
            "Cmd": ["beat", "/page", beat.as_micros().to_string()],
            "HostConfig": {
                "Binds": [format!("{}:/page", path.display())],
                "NetworkMode": "none",
            },
        });
        let (status, answer) = self.engine.api("POST", "/containers/create", Some(&body));
        assert_eq!(status, 201, "{answer}");
        let id = answer["Id"].as_str().expect("an id").to_owned();
        Victim { id, page }
    }

    /// The starter may be told that it failed: then it was ended before it began.
    fn start(&self, victim: &Victim) {
        let path = format!("/containers/{}/start", victim.id);
        let (status, answer) = self.engine.api("POST", &path, None);
        assert!(
            matches!(status, 204 | 400 | 404 | 409 | 500),
            "{status} {answer}"
        );
    }

    fn state(&self, victim: &Victim) -> Value {
        let path = format!("/containers/{}/json", victim.id);
        self.engine.api("GET", &path, None).1["State"].clone()
    }

    /// Waits until it is dead or has got away, and buries it.
    fn end(&self, victim: &Victim) -> Life {
        let begun = Instant::now();
        while self.state(victim)["Running"] == true && begun.elapsed() < ESCAPED {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.bury(victim);
        victim.life()
    }

    fn bury(&self, victim: &Victim) {
        let path = format!("/containers/{}?force=1", victim.id);
        self.engine.api("DELETE", &path, None);
    }

    /// Starts victims until one is ended.
    pub(crate) fn wait_until_enforced(&self) {
        let begun = Instant::now();
        loop {
            let victim = self.create(BEAT);
            self.start(&victim);
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(1) {
                if self.state(&victim)["Running"] != true {
                    self.end(&victim);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            self.bury(&victim);
            assert!(begun.elapsed() < BEGIN, "nothing is enforced");
        }
    }

    /// One after the other, each created and started at once as `docker run` does.
    pub(crate) fn one_by_one(&self, count: usize) -> Vec<Life> {
        let one = |_| {
            let victim = self.create(BEAT);
            self.start(&victim);
            self.end(&victim)
        };
        (0..count).map(one).collect()
    }

    /// So many at once.
    pub(crate) fn several(&self, count: usize, at_once: usize) -> Vec<Life> {
        let left = AtomicUsize::new(count);
        let take = || {
            let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
            before.is_ok()
        };
        let (take, victims) = (&take, self);
        std::thread::scope(|scope| {
            let starter = || {
                let mut lives = Vec::new();
                while take() {
                    lives.extend(victims.one_by_one(1));
                }
                lives
            };
            let starters: Vec<_> = (0..at_once).map(|_| scope.spawn(starter)).collect();
            let lives = starters.into_iter();
            lives
                .flat_map(|one| one.join().expect("a starter"))
                .collect()
        })
    }

    /// How long an enforcer takes for so many starts that it hears of all at once: it stands still while they
    /// start.
    pub(crate) fn burst(&self, count: usize, enforcer: &Enforcer<'_>) -> Burst {
        let victims: Vec<_> = (0..count).map(|_| self.create(LEISURELY_BEAT)).collect();
        enforcer.pause();
        for victim in &victims {
            self.start(victim);
        }
        enforcer.resume();
        let begun = Instant::now();
        let (mut escaped, mut took) = (count, Duration::ZERO);
        while escaped > 0 && begun.elapsed() < took + ESCAPED {
            let running = self.engine.api("GET", "/containers/json", None).1;
            let running = running.as_array().map_or(0, Vec::len);
            if running < escaped {
                (escaped, took) = (running, begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for victim in &victims {
            self.bury(victim);
        }
        Burst { took, escaped }
    }
}

impl Victim {
    fn life(&self) -> Life {
        let word = |at| {
            let mut bytes = [0; 8];
            self.page.read_exact_at(&mut bytes, at).expect("its page");
            u64::from_ne_bytes(bytes)
        };
        match (word(0), word(8)) {
            (0, _) => Life::NeverRan,
            (begun, last) => Life::Lived(Duration::from_nanos(last.saturating_sub(begun))),
        }
    }
}
