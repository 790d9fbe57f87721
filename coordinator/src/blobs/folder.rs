//! What a local folder adds to an object store: durable folders, plain files, whole trees deleted.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::local::LocalFileSystem;

#[cfg(any(test, feature = "failpoints"))]
use super::faulty::Faults;
use super::{BlobError, path_of};

/// Folders that are remembered as durable; beyond it the memory starts anew, at the price of a few
/// fsyncs. Larger than the tasks of a round.
const SETTLED_MAX: usize = 8192;

/// A staging file that nobody has written to for this long was left by a killed writer. Replicas
/// may share the folder, so a younger one may be somebody's work.
const STALE: Duration = Duration::from_secs(3600);

/// A folder of blobs.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    store: LocalFileSystem,
    /// Folders whose own entry, up to the root's, is known to be on disk.
    settled: Mutex<HashSet<PathBuf>>,
    trouble: Trouble,
}

/// What goes wrong with files on purpose; nothing, in builds without `failpoints`.
#[derive(Debug, Clone, Default)]
struct Trouble {
    #[cfg(any(test, feature = "failpoints"))]
    faults: Option<Arc<Faults>>,
}

impl Trouble {
    fn around<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(any(test, feature = "failpoints"))]
        if let Some(faults) = &self.faults {
            return faults.around(work);
        }
        work()
    }
}

impl Folder {
    /// The same folder, whose files fail on purpose.
    #[cfg(any(test, feature = "failpoints"))]
    pub(super) fn with_faults(&self, faults: Arc<Faults>) -> Self {
        let (root, store) = (self.root.clone(), self.store.clone());
        let trouble = Trouble { faults: Some(faults) };
        Self { root, store, settled: Mutex::default(), trouble }
    }

    pub(super) fn open(root: &FilePath) -> Result<Self, BlobError> {
        let open = || {
            std::fs::create_dir_all(root)?;
            let root = root.canonicalize()?;
            sync_folder(&root)?;
            root.parent().map_or(Ok(()), sync_folder)?;
            Ok(root)
        };
        let name = root.display().to_string();
        let root = open().map_err(|error: io::Error| BlobError::io(&name, "open", error))?;
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| BlobError::of(&name, "open", error))?
            .with_fsync(true);
        Ok(Self { root, store, settled: Mutex::default(), trouble: Trouble::default() })
    }

    /// Whether so many bytes are free on the folder's disk.
    pub(super) fn check_room(&self, reserve: u64) -> Result<(), BlobError> {
        let found = rustix::fs::statvfs(&self.root)
            .map_err(|error| BlobError::io("", "measure the disk of", io::Error::from(error)))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < reserve { Err(BlobError::Full { free, reserve }) } else { Ok(()) }
    }

    pub(super) fn store(&self) -> &LocalFileSystem {
        &self.store
    }

    /// The file of a blob, to read.
    pub(crate) fn file(&self, key: &str) -> Result<File, BlobError> {
        let path = self.path(key)?;
        let file = self.trouble.around(|| File::open(path));
        file.map_err(|error| BlobError::of_file(key, "open", error))
    }

    /// Fills a buffer from a range of a blob's file. It blocks.
    pub(crate) fn read_exact(
        &self,
        file: &File,
        key: &str,
        range: Range<u64>,
        buffer: &mut [u8],
    ) -> Result<(), BlobError> {
        let read = self.trouble.around(|| file.read_exact_at(buffer, range.start));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BlobError::Short {
                key: key.to_owned(),
                expected: range.end,
                found: file.metadata().map_or(0, |meta| meta.len()),
            },
            _ => BlobError::io(key, "read", error),
        })
    }

    fn path(&self, key: &str) -> Result<PathBuf, BlobError> {
        let path = self.store.path_to_filesystem(&path_of(key)?);
        path.map_err(|error| BlobError::of(key, "name", error))
    }

    /// Makes the folders above a new blob durable, up to the root. The store fsyncs only those that
    /// the same call made; one that another call made a moment ago, or that a killed process
    /// left, may not be on disk yet.
    pub(super) async fn settle(self: Arc<Self>, key: &str) -> Result<(), BlobError> {
        let path = self.path(key)?;
        let Some(folder) = path.parent().map(FilePath::to_owned) else { return Ok(()) };
        if self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(&folder) {
            return Ok(());
        }
        blocking(key, "sync the folders of", move || {
            let above =
                folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
            self.trouble.around(|| {
                for above in above {
                    sync_folder(above)?;
                }
                Ok(())
            })?;
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            if settled.len() >= SETTLED_MAX {
                settled.clear();
            }
            settled.insert(folder);
            Ok(())
        })
        .await
    }

    /// Begins a file for a blob that comes in pieces.
    pub(super) async fn stage(self: Arc<Self>, key: String) -> Result<Staged, BlobError> {
        let path = self.path(&key)?;
        let (name, trouble) = (key.clone(), self.trouble.clone());
        let staged = tokio::task::spawn_blocking(move || Staged::create(key, path, trouble)).await;
        staged.map_err(|error| BlobError::io(&name, "begin", error))?
    }

    /// Deletes all that stands under a key, staging files too.
    pub(super) async fn delete_tree(self: Arc<Self>, key: String) -> Result<(), BlobError> {
        let tree = self.path(&key)?;
        blocking(&key, "delete", move || {
            // Forgotten first: a folder that is made anew has to be settled anew.
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            settled.retain(|folder| !folder.starts_with(&tree));
            drop(settled);
            self.trouble.around(|| {
                match std::fs::remove_dir_all(&tree) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    removed => removed?,
                }
                tree.parent().map_or(Ok(()), sync_folder)
            })
        })
        .await
    }

    /// Deletes the staging files of killed writers. They are named `…#1` and are never read, so
    /// they cost space and nothing else; nobody has to wait for it.
    pub(super) fn sweep_in_background(self: &Arc<Self>) {
        let root = self.root.clone();
        let sweep = move || match sweep(&root, STALE) {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "deleted unfinished blobs of an earlier run"),
            Err(error) => tracing::warn!(%error, "cannot sweep unfinished blobs"),
        };
        if let Err(error) = std::thread::Builder::new().name("blob-sweep".to_owned()).spawn(sweep) {
            tracing::warn!(%error, "cannot sweep unfinished blobs");
        }
    }
}

/// A file in the making, beside the place of its blob. Dropping it deletes it.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    key: String,
    staging: PathBuf,
    path: PathBuf,
    published: bool,
    trouble: Trouble,
}

impl Staged {
    /// Named like the store's own staging files, so the same sweep finds it and no listing shows it.
    fn create(key: String, path: PathBuf, trouble: Trouble) -> Result<Self, BlobError> {
        let open = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            for number in 1_u64.. {
                let mut staging = path.clone().into_os_string();
                staging.push(format!("#{number}"));
                match File::create_new(&staging) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    file => return Ok((file?, PathBuf::from(staging))),
                }
            }
            Err(io::Error::from(io::ErrorKind::AlreadyExists))
        };
        let opened = open().map_err(|error| BlobError::io(&key, "begin", error));
        let (file, staging) = opened?;
        Ok(Self { file, key, staging, path, published: false, trouble })
    }

    /// Adds bytes and makes them durable. It blocks.
    pub(super) fn append(&mut self, pieces: &[Bytes]) -> Result<(), BlobError> {
        let synced = self.trouble.clone().around(|| {
            let written = pieces.iter().try_for_each(|piece| self.file.write_all(piece));
            written.and_then(|()| self.file.sync_data())
        });
        synced.map_err(|error| BlobError::io(&self.key, "write", error))
    }

    /// Puts the file in its place, durably; the folders above are the caller's to settle.
    pub(super) async fn publish(mut self) -> Result<(), BlobError> {
        let key = self.key.clone();
        blocking(&key, "finish", move || {
            self.trouble.clone().around(|| {
                self.file.sync_all()?;
                std::fs::rename(&self.staging, &self.path)?;
                self.published = true;
                self.path.parent().map_or(Ok(()), sync_folder)
            })
        })
        .await
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // What stays in spite of it is swept later.
            let _ = std::fs::remove_file(&self.staging);
        }
    }
}

/// Deletes staging files that are older than `stale`; says how many.
pub(super) fn sweep(root: &FilePath, stale: Duration) -> io::Result<usize> {
    let mut swept = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_staging(&entry.file_name().to_string_lossy())
                && is_older(&entry, stale)
                && std::fs::remove_file(entry.path()).is_ok()
            {
                swept += 1;
            }
        }
    }
    Ok(swept)
}

/// The names that `LocalFileSystem` gives to files in the making.
fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Files that vanish meanwhile, or come from the future, are left alone.
fn is_older(entry: &std::fs::DirEntry, stale: Duration) -> bool {
    let modified = entry.metadata().and_then(|meta| meta.modified());
    let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age >= stale)
}

fn sync_folder(path: &FilePath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

async fn blocking(
    key: &str,
    operation: &'static str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).flatten().map_err(|error| BlobError::io(key, operation, error))
}
