//! Someone who is told: an HTTP server that answers as it is told to, and keeps what it got.

#![allow(unreachable_pub)] // as all that tests share

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use super::support::eventually;

/// Longer than any notification may take, a deadline and a delay included.
const TOLD: Duration = Duration::from_secs(30);

/// What the path of the address is. It must never be seen elsewhere.
pub const SECRET: &str = "T0p-s3cr3t-w0rd";

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Status(u16),
    /// To this port of this host.
    Redirect(u16),
    Never,
    Cut,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    pub path: String,
    pub content_type: String,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Its threads end with the test process.
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    /// Gives these answers one by one, and the last one for ever.
    pub fn start(answers: &[Answer]) -> Self {
        Self::with("http", answers, Some)
    }

    /// The same, behind TLS.
    pub fn start_tls(config: rustls::ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::with("https", &[Answer::Status(200)], move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).ok()?;
            Some(rustls::StreamOwned::new(connection, stream))
        })
    }

    fn with<S: Read + Write + Send + 'static>(
        scheme: &'static str,
        answers: &[Answer],
        wrap: impl Fn(TcpStream) -> Option<S> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let (kept, answers) = (got.clone(), answers.to_vec());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let answer = answers[number.min(answers.len() - 1)];
                let (kept, stream) = (kept.clone(), wrap(stream));
                std::thread::spawn(move || serve(stream?, answer, &kept));
            }
        });
        Self {
            address,
            scheme,
            got,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address by this name of this host.
    pub fn url_by(&self, name: &str) -> String {
        format!("{}://{name}:{}/{SECRET}", self.scheme, self.port())
    }

    pub fn url(&self) -> String {
        self.url_by("127.0.0.1")
    }

    /// What it got so far, answered or not.
    pub fn got(&self) -> MutexGuard<'_, Vec<Got>> {
        self.got.lock().expect("what it got")
    }

    /// Waits until it got so many.
    #[track_caller]
    pub fn wait_for(&self, number: usize) -> Vec<Got> {
        eventually(&format!("{number} notifications"), TOLD, || {
            let got = self.got();
            (got.len() >= number).then(|| got.clone())
        })
    }
}

fn serve(stream: impl Read + Write, answer: Answer, kept: &Mutex<Vec<Got>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.strip_prefix("POST ")?.split(' ').next()?.to_owned();
    let (mut length, mut content_type) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "content-type" => value.trim().clone_into(&mut content_type),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    kept.lock().ok()?.push(Got {
        path,
        content_type,
        body,
    });
    let head = match answer {
        Answer::Status(status) => format!("HTTP/1.1 {status} X"),
        Answer::Redirect(port) => {
            format!("HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:{port}/{SECRET}")
        }
        Answer::Never => loop {
            std::thread::park();
        },
        Answer::Cut => return None,
    };
    let stream = reader.get_mut();
    let answer = format!("{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    stream.flush().ok()
}
