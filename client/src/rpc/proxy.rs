//! The way out of a site through its HTTP proxy: one CONNECT, then bytes both ways. The proxy sees
//! where the connection goes and how much flows; TLS ends at the coordinator.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// Longest head of a proxy's answer: a status line and a few headers.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// Longest user and password of a proxy.
const ACCOUNT_BYTES_MAX: usize = 512;
/// What a proxy's address looks like.
const EXPECTED: &str = "http://[USER:PASSWORD@]HOST:PORT";

/// A proxy's address that is none. It repeats nothing that may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct ProxyError {
    pub(crate) expected: &'static str,
    pub(crate) found: String,
}

/// An HTTP proxy. Its `Debug` prints where it is, and nothing of the account.
#[derive(Clone)]
pub struct Proxy {
    address: String,
    /// `Basic …`, ready to be sent.
    account: Option<Arc<Zeroizing<String>>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = if self.account.is_some() { ", with an account" } else { "" };
        write!(f, "Proxy({}{account})", self.address)
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let account = |proxy: &Self| proxy.account.as_ref().map(|text| text.to_string());
        self.address == other.address && account(self) == account(other)
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let fault = |found: &str| ProxyError { expected: EXPECTED, found: found.to_owned() };
        let rest = text.strip_prefix("http://").ok_or_else(|| fault("another scheme"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (account, address) = match rest.rsplit_once('@') {
            Some((account, address)) => (Some(account), address),
            None => (None, rest),
        };
        let uri: http::uri::Authority =
            address.parse().map_err(|_| fault("no host and port behind it"))?;
        if uri.port_u16().is_none() || uri.host().is_empty() {
            return Err(fault("no port"));
        }
        let account = account.map(|account| {
            let (user, _) = account.split_once(':').ok_or_else(|| fault("a user, no password"))?;
            if user.is_empty() || account.len() > ACCOUNT_BYTES_MAX {
                return Err(fault("no user, or a long one"));
            }
            let plain = decoded(account).ok_or_else(|| fault("a % that is no %XX"))?;
            let mut line = Zeroizing::new(String::with_capacity(8 + plain.len() * 4 / 3 + 4));
            line.push_str("Basic ");
            base64(&plain, &mut line);
            Ok(Arc::new(line))
        });
        Ok(Self { address: address.to_owned(), account: account.transpose()? })
    }
}

/// `%XX` as the byte that it stands for.
fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?,
            other => other,
        });
    }
    Some(bytes)
}

fn base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
}

/// Which way connections take out of the site.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Egress {
    proxy: Option<Proxy>,
    /// Hosts that are reached without it, each with all below it; `*` for all.
    direct: Vec<String>,
}

impl Egress {
    /// Everything through this proxy.
    #[must_use]
    pub fn through(proxy: Proxy) -> Self {
        Self { proxy: Some(proxy), direct: Vec::new() }
    }

    /// As `HTTPS_PROXY` and `NO_PROXY` say. This machine itself is always reached directly. A proxy
    /// that is none is said in the log, and the connection is tried without it.
    #[must_use]
    pub fn from_environment() -> Self {
        let first = |names: [&str; 2]| {
            names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
        };
        let proxy = first(["HTTPS_PROXY", "https_proxy"]).map(Zeroizing::new);
        let without = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Self::of_environment(proxy.as_ref().map(|text| text.as_str()), &without)
    }

    fn of_environment(proxy: Option<&str>, without: &str) -> Self {
        let Some(text) = proxy else { return Self::default() };
        // Other programs take HOST:PORT for http:// as well.
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let text = Zeroizing::new(text);
        let proxy = match text.parse() {
            Ok(proxy) => Some(proxy),
            Err(error) => {
                tracing::warn!(%error, "HTTPS_PROXY is not used");
                None
            }
        };
        let listed = without.split(',').map(|host| host.trim().trim_start_matches('.'));
        let mut direct = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        direct.extend(listed.filter(|host| !host.is_empty()).map(str::to_lowercase));
        Self { proxy, direct }
    }

    fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let direct = self.direct.iter().any(|listed| {
            let below = bare.strip_suffix(listed.as_str());
            listed == "*" || below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
        });
        self.proxy.as_ref().filter(|_| !direct)
    }

    /// A connection to `HOST:PORT`.
    pub(super) async fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let socket = match self.proxy_for(host) {
            None => TcpStream::connect(address).await?,
            Some(proxy) => tunnel(proxy, address).await?,
        };
        socket.set_nodelay(true)?;
        // A keep-alive must not wait behind what a slow link has not sent.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&socket).set_tcp_notsent_lowat(tributary_proto::UNSENT_BYTES)?;
        Ok(socket)
    }
}

/// Asks a proxy for a connection to `HOST:PORT`.
async fn tunnel(proxy: &Proxy, address: &str) -> std::io::Result<TcpStream> {
    let said = |what: String| std::io::Error::other(format!("the proxy {}: {what}", proxy.address));
    let away = |error: std::io::Error| said(error.to_string());
    let mut socket = TcpStream::connect(&proxy.address).await.map_err(away)?;
    let mut request = Zeroizing::new(String::with_capacity(
        address.len() * 2 + ACCOUNT_BYTES_MAX * 2 + 64, // not moved while it grows
    ));
    request.push_str(&format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"));
    if let Some(account) = &proxy.account {
        request.push_str("Proxy-Authorization: ");
        request.push_str(account);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    socket.write_all(request.as_bytes()).await.map_err(away)?;

    // Byte by byte: what comes behind the head is the coordinator's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_BYTES_MAX {
            return Err(said(format!("expected an answer of at most {ANSWER_BYTES_MAX} bytes")));
        }
        head.push(socket.read_u8().await.map_err(away)?);
    }
    let line: String =
        head.iter().take_while(|&&byte| byte != b'\r').map(|&b| char::from(b)).collect();
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    match (version, words.next().map(str::parse::<u16>)) {
        ("HTTP/1.1" | "HTTP/1.0", Some(Ok(200..=299))) => Ok(socket),
        ("HTTP/1.1" | "HTTP/1.0", Some(Ok(407))) => {
            Err(said("it asks for an account: http://USER:PASSWORD@HOST:PORT".to_owned()))
        }
        ("HTTP/1.1" | "HTTP/1.0", Some(Ok(code))) => {
            Err(said(format!("expected 200 for CONNECT {address}, found {code}")))
        }
        _ => Err(said("expected an answer in HTTP/1.1".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Egress, Proxy, base64};

    #[test]
    fn a_proxy_s_address_reads_and_its_account_stays_hidden() {
        let proxy: Proxy = "http://ada:p%40ss@proxy.example.org:3128".parse().expect("a proxy");
        assert_eq!(proxy.address, "proxy.example.org:3128");
        // ada:p@ss
        assert_eq!(proxy.account.as_ref().expect("an account").as_str(), "Basic YWRhOnBAc3M=");
        let shown = format!("{proxy:?}");
        assert_eq!(shown, "Proxy(proxy.example.org:3128, with an account)");
        for text in [
            "https://proxy:1",
            "proxy:3128",
            "http://proxy",
            "http://:1",
            "http://secret@proxy:1",
            "http://:secret@proxy:1",
            "http://a:secret%@proxy:1",
            "http://a:secret@",
            "",
            "http://a b:3128/secret",
        ] {
            let error = text.parse::<Proxy>().expect_err(text).to_string();
            assert!(error.contains("http://[USER") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn bytes_are_written_in_base64() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            let mut out = String::new();
            base64(bytes.as_bytes(), &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn the_environment_says_what_is_reached_directly() {
        let egress = Egress::of_environment(Some("proxy:3128"), "example.org, .internal,10.0.0.7");
        for (host, through) in [
            ("fl.hospital.net", true),
            ("example.org", false),
            ("fl.example.org", false),
            ("notexample.org", true),
            ("a.INTERNAL", false),
            ("10.0.0.7", false),
            ("localhost", false),
            ("[::1]", false),
        ] {
            assert_eq!(egress.proxy_for(host).is_some(), through, "{host}");
        }
        assert!(Egress::of_environment(Some("proxy:1"), "*").proxy_for("a").is_none());
        assert_eq!(Egress::of_environment(None, "x"), Egress::default());
        assert!(Egress::of_environment(Some("socks5://x:1"), "").proxy_for("a").is_none());
        let named = Egress::through("http://proxy:1".parse().expect("a proxy"));
        assert!(named.proxy_for("localhost").is_some(), "a file's proxy is for everything");
    }
}
