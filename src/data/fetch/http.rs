//! One file from a server: into a part file that a later try goes on with, if the server lets it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, StatusCode};

use super::sums::{self, Verdict};
use super::{Progress, name_of};
use crate::data::origin::Known;
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// Breaks of a connection that are gone on from, if each brought something.
const BREAKS: u32 = 8;
/// A server that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of a file at most where neither the manifest nor the server says how many there are.
const UNANNOUNCED: u64 = 64 << 30;

/// Why a try did not bring the whole file.
enum Failure {
    /// The connection ended in the middle.
    Broken(String),
    /// This server will not give it.
    Server(String),
    /// Another server will not help either.
    Here(Error),
}

/// What is noted beside a part file of where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Origin {
    url: String,
    /// The server's mark of this version: a strong ETag, or a date.
    version: Option<String>,
    total: Option<u64>,
}

/// A file that is being downloaded.
struct Part {
    path: PathBuf,
    note: PathBuf,
}

impl Part {
    fn len(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    fn origin(&self) -> Option<Origin> {
        serde_json::from_slice(&std::fs::read(&self.note).ok()?).ok()
    }

    fn remove(&self) -> Result<()> {
        for path in [&self.note, &self.path] {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(path, "remove")(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Downloads to `target` from the first of `urls` that has the file as it is known; what a failed try brought stays
/// beside it for the next. Where that is not possible the reasons are the inner error, one an address.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] when the file cannot be kept here.
pub(super) fn download(
    urls: &[&str],
    known: Known,
    target: &Path,
    progress: &mut dyn Progress,
) -> Result<Result<(), Vec<String>>> {
    let beside = |end: &str| target.with_file_name(format!("{}.{end}", name_of(target)));
    let part = Part { path: beside("part"), note: beside("part.json") };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(SILENCE))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .accept_encoding("identity")
        .user_agent(concat!("s3gpu/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut reasons = Vec::new();
    for url in urls {
        let server = Server { agent: &agent, url, known };
        match server.whole(&part, progress)? {
            Ok(()) => {
                std::fs::rename(&part.path, target).map_err(Error::io(target, "rename"))?;
                part.remove()?;
                return Ok(Ok(()));
            }
            Err(reason) => {
                progress.note(&format!("{url}: {reason}"));
                reasons.push(format!("{url}: {reason}"));
            }
        }
    }
    Ok(Err(reasons))
}

struct Server<'a> {
    agent: &'a ureq::Agent,
    url: &'a str,
    known: Known<'a>,
}

impl Server<'_> {
    /// The whole file in its part file, with the right size and sum; or the reason why not.
    fn whole(&self, part: &Part, progress: &mut dyn Progress) -> Result<Result<(), String>> {
        let mut breaks = 0;
        loop {
            let before = part.len();
            match self.attempt(part, progress) {
                Ok(resumed) => match sums::check(&part.path, self.known, progress)? {
                    Verdict::Wrong(what) => {
                        part.remove()?;
                        if !resumed {
                            return Ok(Err(what));
                        }
                        progress.note(&format!("{what}: starting over"));
                    }
                    Verdict::Right(_) | Verdict::Unknown(_) => return Ok(Ok(())),
                },
                Err(Failure::Broken(what)) if breaks < BREAKS && part.len() > before => {
                    breaks += 1;
                    progress.note(&format!("{what} after {} bytes: going on from there", part.len()));
                    std::thread::sleep(Duration::from_millis(100 << breaks));
                }
                Err(Failure::Broken(what) | Failure::Server(what)) => return Ok(Err(what)),
                Err(Failure::Here(error)) => return Err(error),
            }
        }
    }

    /// One request, or two where the answer to the first does not continue the part; whether it did.
    fn attempt(&self, part: &Part, progress: &mut dyn Progress) -> Result<bool, Failure> {
        let origin = part.origin().unwrap_or_default();
        // Bytes of two versions must not meet: a sum tells them apart, or else the server's mark.
        let same = origin.url == self.url;
        let version = origin.version.filter(|_| same);
        let total = self.known.size.or(origin.total.filter(|_| same));
        let have = part.len();
        if have > 0 && (self.known.sum.is_some() || version.is_some()) && total.is_none_or(|total| have <= total) {
            if total == Some(have) {
                return Ok(true);
            }
            let mut request = self.agent.get(self.url).header("Range", format!("bytes={have}-"));
            if let Some(version) = &version {
                request = request.header("If-Range", version);
            }
            let response = request.call().map_err(|e| Failure::Server(reason(e)))?;
            let range = content_range(response.headers());
            if response.status() == StatusCode::PARTIAL_CONTENT
                && range.is_some_and(|(start, end, size)| {
                    start == have && end + 1 == size && total.is_none_or(|total| total == size)
                })
            {
                self.receive(response, have, range.map(|r| r.2), part, progress)?;
                return Ok(true);
            }
            let answer = match response.status() {
                StatusCode::PARTIAL_CONTENT => "the server sends another part than asked for",
                StatusCode::OK => "the server sends the whole file",
                _ => "the server does not go on from there",
            };
            progress.note(&format!("{answer}: starting over"));
            if response.status() == StatusCode::OK {
                let total = length(response.headers());
                self.receive(response, 0, total, part, progress)?;
                return Ok(false);
            }
        }
        let response = self.agent.get(self.url).call().map_err(|e| Failure::Server(reason(e)))?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Server(format!("the server answers {}", response.status())));
        }
        let total = length(response.headers());
        self.receive(response, 0, total, part, progress)?;
        Ok(false)
    }

    /// Writes a body of which `total` is the end from byte `start` on.
    fn receive(
        &self,
        response: ureq::http::Response<ureq::Body>,
        start: u64,
        total: Option<u64>,
        part: &Part,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        if let (Some(total), Some(size)) = (total, self.known.size)
            && total != size
        {
            return Err(Failure::Server(format!("the server's file has {total} bytes, not {size}")));
        }
        let total = total.or(self.known.size);
        let io = |action| move |e: io::Error| Failure::Here(full(part, action, e));
        if start == 0 {
            part.remove().map_err(Failure::Here)?;
            let origin = Origin { url: self.url.into(), version: version(response.headers()), total };
            let text = serde_json::to_vec(&origin).expect("strings and numbers are always JSON");
            write_atomic(&part.note, |out| out.write_all(&text)).map_err(Failure::Here)?;
        }
        let open = File::options().create(true).truncate(false).write(true).open(&part.path);
        let mut file = open.map_err(io("create"))?;
        file.seek(SeekFrom::Start(start)).map_err(io("write"))?;

        progress.begin(&format!("fetching {}", self.url), total, start);
        let limit = total.map_or(UNANNOUNCED, |total| total - start);
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::Broken(plain(&e))),
            };
            got += n as u64;
            if got > limit {
                part.remove().map_err(Failure::Here)?;
                return Err(Failure::Server(format!("the server sends more than {} bytes", start + limit)));
            }
            file.write_all(&buffer[..n]).map_err(io("write"))?;
            progress.advance(n as u64);
        }
        match total {
            Some(total) if start + got < total => Err(Failure::Broken("the connection ended".into())),
            _ => Ok(()),
        }
    }
}

/// A failed write: of a full disk it says that nothing is lost.
fn full(part: &Part, action: &'static str, e: io::Error) -> Error {
    if !matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return Error::io(&part.path, action)(e);
    }
    let what = format!("the disk is full after {} bytes", part.len());
    Error::data(
        &part.path,
        what,
        "free some space, and the same command goes on from there; or name another folder by --data-dir",
    )
}

/// `bytes START-END/SIZE`, with all three.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers.get("content-range")?.to_str().ok()?.trim();
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, size) = (start.trim().parse().ok()?, end.trim().parse().ok()?, size.trim().parse().ok()?);
    (start <= end && end < size).then_some((start, end, size))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.trim().parse().ok()
}

/// What `If-Range` may name: a strong ETag, else the date.
fn version(headers: &HeaderMap) -> Option<String> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_string());
    text("etag").filter(|tag| !tag.starts_with("W/")).or_else(|| text("last-modified"))
}

fn reason(e: ureq::Error) -> String {
    match e {
        ureq::Error::Io(e) => plain(&e),
        ureq::Error::HostNotFound => "there is no such host, or no network".into(),
        ureq::Error::BadUri(what) => format!("not an address: {what}"),
        e => e.to_string(),
    }
}

/// An error of a connection in words, where the system's own say little.
fn plain(e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "the connection ended".into(),
        ErrorKind::TimedOut => format!("no answer within {} s", SILENCE.as_secs()),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_content_range_counts() {
        let range = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(range("bytes 5-9/10"), Some((5, 9, 10)));
        for text in
            ["bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "5-9/10", "items 5-9/10", "bytes 5-/10"]
        {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn a_weak_mark_is_no_version() {
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            version(&headers)
        };
        assert_eq!(of("etag", "\"a\""), Some("\"a\"".into()));
        assert_eq!(of("etag", "W/\"a\""), None);
        assert!(of("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT").is_some());
    }
}
