//! A web server for a page's files, over HTTP/1.1: GET and HEAD of what is in memory, nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{File, Site, policy};
use crate::error::{Error, Result};

/// How long a client may take for a request's head.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port of this machine, held for the server.
pub struct Bound {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Bound {
    /// Takes a port; 0 is any that is free.
    ///
    /// # Errors
    /// [`Error::Usage`] with the way out where the port or the host cannot be had.
    pub fn new(host: &str, port: u16) -> Result<Self> {
        use std::io::ErrorKind;
        let refused = |e: std::io::Error| {
            let (what, hint) = match e.kind() {
                ErrorKind::AddrInUse => (
                    format!("port {port} is taken by another program"),
                    "choose another with --port, or --port 0 for any that is free",
                ),
                ErrorKind::PermissionDenied => (
                    format!("port {port} is not for every user"),
                    "choose one from 1024 on with --port, or --port 0 for any that is free",
                ),
                _ => (
                    format!("cannot listen on {host}, port {port}: {e}"),
                    "name an address of this machine with --host; without it the page is for this machine alone",
                ),
            };
            Error::usage(what, hint)
        };
        if host.is_empty() {
            return Err(Error::usage("--host is empty", "name an address of this machine, or leave it out"));
        }
        let listener = TcpListener::bind((host, port)).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Answers requests until `stop` is there.
    ///
    /// # Errors
    /// [`Error::Io`] where the system gives no event loop.
    pub fn serve(self, site: &Site, stop: impl Future<Output = ()>) -> Result<()> {
        let failed = || Error::io("the web server", "start");
        let pages = Arc::new(Pages { files: site.files(), local: self.address.ip().is_loopback() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(failed())?;
            let accept = async {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => drop(tokio::spawn(connection(stream, pages.clone()))),
                        // Too many open files, or a client that is gone already: others may fare better, a little later.
                        Err(e) => {
                            tracing::warn!(error = %e, "a connection could not be accepted");
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = accept => (),
                () = stop => (),
            }
            Ok(())
        })
    }
}

async fn connection(stream: tokio::net::TcpStream, pages: Arc<Pages>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request.method(), request.uri().path(), request.headers())) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(e) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

struct Pages {
    files: Vec<File>,
    /// Whether only this machine reaches it.
    local: bool,
}

impl Pages {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let plain =
            |status, text: &str| respond(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(text.as_bytes()));
        // A page of another site, whose name was made to point here, must not read this one.
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        if self.local && !is_local(host) {
            return plain(StatusCode::FORBIDDEN, "This server answers to localhost alone.\n");
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let name = path.trim_start_matches('/');
        let name = if name.is_empty() { "index.html" } else { name };
        match self.files.iter().find(|f| f.name == name) {
            // hyper leaves the body of an answer to HEAD out, and keeps its length.
            Some(file) => respond(StatusCode::OK, file.mime, Bytes::copy_from_slice(&file.bytes)),
            None => plain(StatusCode::NOT_FOUND, "There is no such file.\n"),
        }
    }
}

/// Whether a `Host` header names this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn respond(status: StatusCode, mime: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let policy = format!("{}; frame-ancestors 'none'", policy());
    let fixed: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_TYPE, mime),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(), geolocation=()"),
    ];
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    fixed.into_iter().for_each(|(name, value)| drop(headers.insert(name, HeaderValue::from_static(value))));
    headers.extend(HeaderValue::from_str(&policy).ok().map(|value| (header::CONTENT_SECURITY_POLICY, value)));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(local: bool, method: Method, path: &str, host: &str) -> Response<Full<Bytes>> {
        let files = vec![File { name: "index.html", mime: "text/html; charset=utf-8", bytes: b"page".to_vec() }];
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a header"));
        Pages { files, local }.answer(&method, path, &headers)
    }

    #[test]
    fn files_are_found_and_nothing_else() {
        let status = |method, path| ask(true, method, path, "localhost:8080").status().as_u16();
        assert_eq!([status(Method::GET, "/"), status(Method::HEAD, "/index.html")], [200, 200]);
        assert_eq!([status(Method::GET, "/../Cargo.toml"), status(Method::GET, "/index.html/")], [404, 404]);
        assert_eq!([status(Method::POST, "/"), status(Method::DELETE, "/index.html")], [405, 405]);
    }

    #[test]
    fn every_answer_is_guarded() {
        for answer in [ask(true, Method::GET, "/", "localhost"), ask(true, Method::GET, "/none", "localhost")] {
            let value = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let policy = value("content-security-policy");
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self'")
                    && policy.ends_with("frame-ancestors 'none'")
            );
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
            assert_eq!(value("x-content-type-options"), "nosniff");
        }
    }

    #[test]
    fn other_sites_names_do_not_reach_this_machine() {
        let status = |local, host| ask(local, Method::GET, "/", host).status().as_u16();
        assert!(["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"].iter().all(|h| status(true, h) == 200));
        assert!(["evil.example:8080", "localhost.evil.example", ""].iter().all(|h| status(true, h) == 403));
        assert_eq!(status(false, "192.168.1.5:8080"), 200);
    }

    #[test]
    fn a_taken_port_names_the_way_out() {
        let first = Bound::new("127.0.0.1", 0).unwrap_or_else(|e| panic!("{e}"));
        let message = Bound::new("127.0.0.1", first.address.port()).err().expect("taken").to_string();
        assert!(message.contains("taken") && message.contains("--port 0"), "{message}");
    }
}
