//! A small web server on this machine that answers as a test wants, also wrongly.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// The first byte of a `Range`.
    pub from: Option<usize>,
    pub if_range: Option<String>,
}

/// An answer, sent as it is; then the connection ends.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The whole file.
    pub fn whole(file: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"v1\"\r\n", file.len());
        Self { head, body: file.to_vec() }
    }

    /// The file from a byte on.
    pub fn rest(file: &[u8], from: usize) -> Self {
        let (all, last) = (file.len(), file.len() - 1);
        let range = format!("Content-Range: bytes {from}-{last}/{all}");
        let head =
            format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n{range}\r\nETag: \"v1\"\r\n", all - from);
        Self { head, body: file[from..].to_vec() }
    }

    /// As a good server does it.
    pub fn good(file: &[u8], asked: &Asked) -> Self {
        asked.from.map_or_else(|| Self::whole(file), |from| Self::rest(file, from))
    }

    /// A status without a file.
    pub fn status(line: &str) -> Self {
        Self { head: format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\n"), body: b"sorry".to_vec() }
    }

    /// Only the first bytes of the body, though the head promises all.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }
}

/// A server that lives as long as the test's process.
pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and what is asked for.
    pub fn new(answer: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream, &log, &*answer));
            }
        });
        Self { address, asked }
    }

    /// Serves one file well, at any path.
    pub fn of(file: &[u8]) -> Self {
        let file = file.to_vec();
        Self::new(move |_, asked| Answer::good(&file, asked))
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: &TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(usize, &Asked) -> Answer) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty());
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
    let mut asked = Asked { path, from: None, if_range: None };
    for line in lines {
        let (key, value) = line.split_once(": ").unwrap_or_default();
        match key.to_lowercase().as_str() {
            "range" => asked.from = value.strip_prefix("bytes=").and_then(|v| v.trim_end_matches('-').parse().ok()),
            "if-range" => asked.if_range = Some(value.into()),
            _ => {}
        }
    }
    let number = {
        let mut log = log.lock().expect("no panic");
        log.push(asked.clone());
        log.len() - 1
    };
    let answer = answer(number, &asked);
    // A client that has seen enough closes the connection.
    let _ = stream.write_all(format!("{}Connection: close\r\n\r\n", answer.head).as_bytes());
    let _ = stream.write_all(&answer.body);
}
