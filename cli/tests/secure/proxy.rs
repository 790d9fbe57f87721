//! A site whose only way out is an HTTP proxy: enrolment, renewal and work go through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::world::{World, fail, spec, succeed};
use crate::{DRILL_S, site};

/// The coordinator's address as the site knows it: nobody listens there. The proxy alone knows the way.
const NOWHERE: &str = "localhost:1";

/// A CONNECT proxy that asks for `ada` and `p@ss`, and leads to one port whatever is asked for.
struct Proxy {
    port: u16,
    opened: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let opened = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let counts = (opened.clone(), refused.clone(), ended.clone());
        let accepting = std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if counts.2.load(Ordering::SeqCst) {
                    break;
                }
                let (opened, refused) = (counts.0.clone(), counts.1.clone());
                std::thread::spawn(move || {
                    let _ = lead(socket, to, &opened, &refused);
                });
            }
        });
        Self { port, opened, refused, ended, accepting: Some(accepting) }
    }

    fn url(&self, account: &str) -> String {
        format!("http://{account}127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.accepting.take().map(std::thread::JoinHandle::join);
    }
}

fn lead(
    mut socket: TcpStream,
    to: u16,
    opened: &AtomicUsize,
    refused: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let asked = format!("CONNECT {NOWHERE} HTTP/1.1\r\nHost: {NOWHERE}\r\n");
    // ada:p@ss
    if !head.starts_with(&asked)
        || !head.contains("\r\nProxy-Authorization: Basic YWRhOnBAc3M=\r\n")
    {
        refused.fetch_add(1, Ordering::SeqCst);
        return socket.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    opened.fetch_add(1, Ordering::SeqCst);
    let mut there = TcpStream::connect(("127.0.0.1", to))?;
    socket.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")?;
    let (mut from, mut back) = (socket.try_clone()?, there.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut there);
        let _ = there.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut back, &mut socket);
    let _ = socket.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

#[test]
fn a_site_behind_a_proxy_enrolls_renews_and_trains_through_it_alone() {
    let mut world = World::start("proxy", None, DRILL_S, "info");
    let proxy = Proxy::start(world.port(0));
    let through = proxy.url("ada:p%40ss@");
    let address = format!("https://{NOWHERE}");

    // The operator's tool: through it, and not past it.
    let status = |url: Option<&str>| {
        let mut command = world.tributary_at(&address, &["status"], "ada");
        command.args(url.iter().flat_map(|url| ["--proxy", url]));
        command
    };
    fail(status(None));
    let refused = fail(status(Some(&proxy.url(""))));
    assert!(refused.contains("asks for an account"), "{refused}");
    assert_eq!(proxy.refused.load(Ordering::SeqCst), 1);
    succeed(status(Some(&through)));
    assert_eq!(proxy.opened.load(Ordering::SeqCst), 1);

    // The site: its file names the proxy, for enrolment as for work.
    world.run_site(1, 2, "");
    let config = site::write(&world.path(""), 2, 2, &address);
    let text = std::fs::read_to_string(&config).expect("a file");
    std::fs::write(&config, format!("proxy = {through:?}\n{text}")).expect("written");
    let token = world.json(&["token", "create", "--name", "site-2", "--ttl", "10m"]);
    let token = token["token"].as_str().expect("a token").to_owned();
    let mut enroll = world.client(&["enroll", &address], &config);
    enroll.args(["--token", &token]);
    succeed(enroll);
    let before = proxy.opened.load(Ordering::SeqCst);
    assert!(before >= 2, "enrolled through it: {before}");
    world.start_site(&config);
    let job = world.submit(&spec(2, 2));
    assert_eq!(world.completed(&job)["status"], "completed");
    // A certificate of ten seconds: each renewal goes on over a connection of its own.
    world.until("it renews through the proxy", || {
        (proxy.opened.load(Ordering::SeqCst) >= before + 2).then_some(())
    });
    let said = world.said();
    let account = ["p@ss", "p%40ss", "YWRhOnBAc3M"];
    let line = said.iter().find(|line| account.iter().any(|secret| line.contains(secret)));
    assert!(line.is_none(), "the proxy's account was said: {line:?}");
}
