//! An S3 server over a temporary folder, on loopback, in this process: it outlives every process that
//! a test kills, and can be taken away and brought back.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The one bucket that is there.
pub const BUCKET: &str = "federation";
/// The key that may do everything.
pub const ACCESS_KEY: &str = "tributary-test";
/// Its secret; a test can look for it where it must not be.
pub const SECRET_KEY: &str = "canary-of-the-bucket";

/// The one address that a server's thread tells.
const ADDRESSES: usize = 1;

/// A running server; dropping it stops it and deletes what it stored.
pub struct S3 {
    address: SocketAddr,
    running: Option<Running>,
    secret: String,
    folder: tempfile::TempDir,
}

/// The server's own thread: it does not depend on the runtime of the test that started it.
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl S3 {
    /// Starts a server with an empty bucket on a free port.
    ///
    /// # Errors
    /// When there is no folder, no port or no thread.
    pub fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tributary-s3-").tempdir()?;
        std::fs::create_dir(folder.path().join(BUCKET)).context("cannot make the bucket")?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (address, running) = Running::start(folder.path(), any, SECRET_KEY)?;
        Ok(Self { address, running: Some(running), secret: SECRET_KEY.to_owned(), folder })
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The variables of a process that uses it: where, and with which key.
    #[must_use]
    pub fn env(&self, prefix: &str) -> Vec<(String, String)> {
        let pairs = [
            ("TRIBUTARY__BLOBS", format!("s3://{BUCKET}/{prefix}")),
            ("TRIBUTARY__S3__ENDPOINT", self.endpoint()),
            ("TRIBUTARY__S3__PATH_STYLE", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The folder that the bucket's objects lie in, by their keys.
    #[must_use]
    pub fn bucket(&self) -> std::path::PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// How many uploads in pieces are neither completed nor aborted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open_uploads(&self) -> anyhow::Result<usize> {
        let mut open = 0;
        for entry in std::fs::read_dir(self.folder.path())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            open += usize::from(name.starts_with(".upload-") && name.ends_with(".json"));
        }
        Ok(open)
    }

    /// Takes the server away: nobody answers at its port, open calls are cut. What is stored stays.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    /// Puts another secret in the key's place, as when somebody rotates it: who has the earlier one is
    /// denied.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub fn replace_secret(&mut self, secret: &str) -> anyhow::Result<()> {
        secret.clone_into(&mut self.secret);
        self.restart()
    }

    /// Brings it back, on the same port.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop();
        self.running = Some(Running::start(self.folder.path(), self.address, &self.secret)?.1);
        Ok(())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(root: &Path, address: SocketAddr, secret: &str) -> anyhow::Result<(SocketAddr, Self)> {
        let files = FileSystem::new(root).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, secret));
        let service = builder.build();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(ADDRESSES);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().context("no runtime")?;
        let serve = move || {
            runtime.block_on(async {
                match TcpListener::bind(address).await {
                    Ok(listener) => {
                        let _ = tell.send(listener.local_addr());
                        tokio::select! {
                            () = accept(listener, service) => {}
                            _ = stopped => {}
                        }
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
            // Ends the connections' tasks too.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("s3".to_owned()).spawn(serve)?;
        let bound = told.recv().context("the S3 server ended at once")?;
        Ok((bound.context("cannot listen")?, Self { stop, thread }))
    }

    fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let server = Builder::new(hyper_util::rt::TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
