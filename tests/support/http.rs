//! A tiny HTTP/1.1 client: one request per connection, over TCP or a unix socket, with timeouts.
//!
//! It is the tests' own on purpose: a shared client library would hide what dockwarden really sends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The first header of that name, in whatever case it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as JSON; panics where it is not.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// An answer that goes on: server-sent events, an engine's event stream.
pub struct Stream {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    lines: Receiver<String>,
}

impl Stream {
    /// The next line without its end; `None` when the stream has ended or the time is up.
    pub fn next_line(&self, timeout: Duration) -> Option<String> {
        self.lines.recv_timeout(timeout).ok()
    }
}

/// Sends a request and reads the answer to its end.
pub(super) fn exchange<S: Read + Write>(
    stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let (status, headers, mut reader) = send(stream, method, path, headers, body)?;
    let mut body = Vec::new();
    if method != "HEAD" {
        reader.read_to_end(&mut body)?;
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// Sends a GET and hands on the answer line by line from a thread, which ends with the stream.
pub(super) fn follow<S: Read + Write + Send + 'static>(
    stream: S,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Stream> {
    let (status, headers, reader) = send(stream, "GET", path, headers, b"")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(Stream {
        status,
        headers,
        lines,
    })
}

type Head<S> = (u16, Vec<(String, String)>, Body<BufReader<S>>);

fn send<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Head<S>> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if find(headers, "host").is_none() {
        request.push_str("Host: localhost\r\n");
    }
    if !body.is_empty() || method == "POST" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(&[request.as_bytes(), body].concat())?;

    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let status = status
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| bad(format!("not a status line: {status:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(line.clone()))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let chunked = find(&headers, "transfer-encoding").is_some_and(|value| value == "chunked");
    let length = find(&headers, "content-length").and_then(|value| value.parse().ok());
    let left = match (chunked, length, status) {
        (_, _, 204 | 304) => Left::Bytes(0),
        (true, ..) => Left::Chunk(0),
        (false, Some(length), _) => Left::Bytes(length),
        (false, None, _) => Left::UntilClosed,
    };
    Ok((status, headers, Body { reader, left }))
}

/// A body in any of the three ways HTTP/1.1 delimits one.
struct Body<R> {
    reader: R,
    left: Left,
}

enum Left {
    Bytes(u64),
    Chunk(u64),
    UntilClosed,
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Left::Chunk(0) = self.left {
            let size = line(&mut self.reader)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad(format!("chunk {size:?}")))?;
            self.left = Left::Chunk(size);
            if size == 0 {
                self.left = Left::Bytes(0);
            }
        }
        let (Left::Bytes(left) | Left::Chunk(left)) = &mut self.left else {
            return self.reader.read(buffer);
        };
        let wanted = buffer
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        if let Left::Chunk(0) = self.left {
            line(&mut self.reader)?; // the end of line after each chunk
        }
        Ok(read)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn find<'a, T: AsRef<str>>(headers: &'a [(T, T)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key.as_ref().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_ref())
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
