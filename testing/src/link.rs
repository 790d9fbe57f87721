//! A slow, unreliable link to a port of this machine: bytes go through it at a rate, and it can be cut.
//!
//! It holds next to nothing itself: what a sender has handed over and the link has not carried stays in
//! the sender's own socket, as it does on a real one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

/// Bytes of a buffer of the link's sockets: a few packets.
const BUFFER_BYTES: usize = 16 << 10;
/// Bytes that go at once.
const STEP_BYTES: usize = 4 << 10;
/// How often a thread that waits looks whether the link ends.
const LOOK: Duration = Duration::from_millis(20);

/// A link; dropping it cuts it for good.
#[derive(Debug)]
pub struct SlowLink {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    bytes_per_s: u64,
    up: Way,
    down: Way,
    open: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

/// One direction, which all connections share.
#[derive(Debug)]
struct Way {
    carried: AtomicU64,
    free_at: Mutex<Instant>,
}

impl SlowLink {
    /// A link to a loopback port, at a rate in bits per second each way.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn to(port: u16, bits_per_s: u64) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Accepted sockets have it too; it must be set before a connection is made.
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(64).context("listen on a loopback port")?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let way = || Way { carried: AtomicU64::new(0), free_at: Mutex::new(Instant::now()) };
        let shared = Arc::new(Shared {
            to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            bytes_per_s: (bits_per_s / 8).max(1),
            up: way(),
            down: way(),
            open: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let accepting = std::thread::Builder::new()
            .name("slow-link".to_owned())
            .spawn(move || accepting.accept(&listener))?;
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// The link's near end.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Bytes that were carried to the port.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.up.carried.load(Ordering::SeqCst)
    }

    /// Bytes that were carried from it.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.down.carried.load(Ordering::SeqCst)
    }

    /// Breaks every connection of the moment; new ones can be made.
    pub fn cut(&self) {
        for socket in self.shared.lock().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut carrying = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((near, _)) => carrying.extend(self.clone().carry(near).into_iter().flatten()),
                Err(_) => std::thread::sleep(LOOK),
            }
            carrying.retain(|thread: &JoinHandle<()>| !thread.is_finished());
        }
        // Whoever came while the link was cut for good.
        for socket in self.lock().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in carrying {
            let _ = thread.join();
        }
    }

    /// One thread a direction.
    fn carry(self: Arc<Self>, near: TcpStream) -> std::io::Result<[JoinHandle<()>; 2]> {
        let far = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        far.set_recv_buffer_size(BUFFER_BYTES)?;
        far.connect(&self.to.into())?;
        let far = TcpStream::from(far);
        for socket in [&near, &far] {
            socket.set_nonblocking(false)?;
            socket.set_nodelay(true)?;
        }
        self.lock().extend([near.try_clone()?, far.try_clone()?]);
        let (near_too, far_too, other) = (near.try_clone()?, far.try_clone()?, self.clone());
        let up = std::thread::spawn(move || self.pump(&self.up, near, far));
        let down = std::thread::spawn(move || other.pump(&other.down, far_too, near_too));
        Ok([up, down])
    }

    /// Carries until either end is closed.
    fn pump(&self, way: &Way, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; STEP_BYTES];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            way.wait(read as u64, self.bytes_per_s);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
            way.carried.fetch_add(read as u64, Ordering::SeqCst);
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

impl Way {
    /// Waits until these bytes have had their time on the link.
    fn wait(&self, bytes: u64, bytes_per_s: u64) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let takes = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / bytes_per_s);
        *free_at = (*free_at).max(now) + takes;
        let until = *free_at;
        drop(free_at);
        std::thread::sleep(until.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::SlowLink;

    #[test]
    fn it_carries_at_its_rate_until_it_is_cut() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let link =
            SlowLink::to(listener.local_addr().expect("bound").port(), 8 << 20).expect("a link");
        let began = Instant::now();
        let mut near = TcpStream::connect(("127.0.0.1", link.port())).expect("connected");
        let (mut far, _) = listener.accept().expect("through");
        let sending = std::thread::spawn(move || {
            near.write_all(&vec![7; 512 << 10]).expect("sent");
            let mut rest = Vec::new();
            let _ = near.read_to_end(&mut rest);
            rest
        });
        let mut came = vec![0; 512 << 10];
        far.read_exact(&mut came).expect("all of it");
        assert!(came.iter().all(|byte| *byte == 7));
        // A slower machine takes longer; nothing is faster than the link.
        assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
        far.write_all(b"back").expect("sent");
        while link.received() < 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(link.sent(), 512 << 10);
        link.cut();
        assert_eq!(sending.join().expect("it ended"), b"back");
        assert_eq!(far.read(&mut came).expect("an end"), 0);
    }
}
