//! What the agent must not lose, in its state folder: finished updates until their receipt, and
//! checkpoints while they are fetched.
//!
//! ```text
//! STATE/lock                       held while an agent runs
//! STATE/instance                   whose folder this is, and its last start
//! STATE/checkpoints/HEX            a checkpoint, as far as it is fetched
//! STATE/tasks/TASK/update.bin      a finished update, fsynced
//! STATE/tasks/TASK/manifest.json   written last, by rename: only with it the update exists
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tributary_core::checkpoint;
use tributary_core::codec::{self, ManifestHasher};
use tributary_core::digest::Digest;
use tributary_core::instance::Instance;
use tributary_core::metrics::Statistics;
use tributary_core::name::TaskId;
use tributary_core::params::{ParameterSet, Schema};
use tributary_outside::wall_clock;

use crate::failpoint::failpoint;
use crate::rpc::Outgoing;
use crate::trainer::Trained;

/// Checkpoints that stay for the next task: the newest ones.
const CHECKPOINTS_KEPT: usize = 2;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another agent uses the folder.
    #[error("another agent holds {0}: one state folder serves one agent")]
    Locked(PathBuf),
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> SpoolError + '_ {
    move |source| SpoolError::Io { path: path.to_owned(), source }
}

/// A fault of this machine, for the site's log; what the coordinator may hear of it names no path.
pub(crate) fn local(error: &dyn std::fmt::Display) -> String {
    tracing::error!(%error, "this machine's own fault");
    "this site's machine failed: its log says where".to_owned()
}

/// What a finished update is of. A later process asks the site's policy by it again, and writes the
/// ledger's line, before it sends a byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) job: String,
    pub(crate) round: u32,
    pub(crate) submitted_by: String,
    /// The job's spec, verbatim.
    pub(crate) spec: String,
}

/// An update that an earlier process finished and has no receipt for.
pub(crate) struct LeftOver {
    pub(crate) task: TaskId,
    pub(crate) outgoing: Outgoing,
    pub(crate) origin: Origin,
}

/// What stands beside a finished update.
#[derive(Serialize, Deserialize)]
struct Manifest {
    origin: Origin,
    digest: Digest,
    bytes: u64,
    parts: Vec<Digest>,
    examples: u64,
    statistics: Statistics,
}

impl Manifest {
    fn outgoing(self, task: &TaskId, path: PathBuf) -> Outgoing {
        Outgoing {
            task: task.to_string(),
            path,
            digest: self.digest,
            bytes: self.bytes,
            parts: self.parts,
            examples: self.examples,
            statistics: self.statistics,
        }
    }
}

/// The state folder of a running agent.
pub(crate) struct Spool {
    root: PathBuf,
    _lock: File,
}

impl Spool {
    pub(crate) fn open(root: &Path) -> Result<Self, SpoolError> {
        for dir in ["checkpoints", "tasks"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        let path = root.join("lock");
        let lock = File::create(&path).map_err(at(&path))?;
        lock.try_lock().map_err(|_| SpoolError::Locked(path))?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The process that begins now: of this folder's copy, later than any of its processes before,
    /// also when the clock was set back.
    pub(crate) fn instance(&self) -> Result<Instance, SpoolError> {
        let path = self.root.join("instance");
        let earlier = fs::read_to_string(&path).ok();
        let earlier = earlier.and_then(|text| Instance::parse(text.trim()));
        let now = wall_clock().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let instance = match earlier {
            Some(earlier) => {
                Instance::new(earlier.copy(), now_us.max(earlier.start().saturating_add(1)))
            }
            None => Instance::new(tributary_outside::unique().as_u128(), now_us),
        };
        let new = self.root.join("instance.new");
        let mut file = File::create(&new).map_err(at(&new))?;
        file.write_all(instance.to_string().as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(at(&new))?;
        fs::rename(&new, &path).map_err(at(&path))?;
        Ok(instance)
    }

    /// Where a checkpoint is fetched to.
    pub(crate) fn checkpoint_path(&self, digest: Digest) -> PathBuf {
        self.root.join("checkpoints").join(digest.hex())
    }

    /// Reads a fetched checkpoint; a file of other bytes is removed, so that it is fetched anew.
    pub(crate) fn checkpoint(
        &self,
        digest: Digest,
        schema: &Schema,
    ) -> Result<Option<ParameterSet>, String> {
        let path = self.checkpoint_path(digest);
        let unread =
            |error: std::io::Error| local(&SpoolError::Io { path: path.clone(), source: error });
        let bytes = fs::read(&path).map_err(unread)?;
        if Digest::of(&bytes) != digest {
            fs::remove_file(&path).map_err(unread)?;
            return Ok(None);
        }
        // The newest are those that were used last; where the time cannot be set, those that were fetched.
        let _ = File::open(&path).and_then(|file| file.set_modified(wall_clock()));
        let parameters = checkpoint::decode(&bytes).map_err(|error| error.to_string())?;
        if **parameters.schema() != *schema {
            return Err("the checkpoint's tensors are not those of the spec's model".to_owned());
        }
        Ok(Some(parameters))
    }

    /// Removes all checkpoints but the newest.
    pub(crate) fn trim_checkpoints(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("checkpoints")) else { return };
        let mut files: Vec<(std::time::SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
            .collect();
        files.sort();
        let old = files.len().saturating_sub(CHECKPOINTS_KEPT);
        for (_, path) in files.into_iter().take(old) {
            // What cannot be removed now is tried again after the next task.
            let _ = fs::remove_file(path);
        }
    }

    fn task_dir(&self, task: &TaskId) -> PathBuf {
        self.root.join("tasks").join(task.as_str())
    }

    /// A finished update of this task.
    pub(crate) fn finished(&self, task: &TaskId) -> Option<LeftOver> {
        let dir = self.task_dir(task);
        let text = fs::read(dir.join("manifest.json")).ok()?;
        let manifest: Manifest = serde_json::from_slice(&text).ok()?;
        let path = dir.join("update.bin");
        let whole = fs::metadata(&path).is_ok_and(|m| m.len() == manifest.bytes);
        let origin = manifest.origin.clone();
        let left =
            || LeftOver { task: task.clone(), outgoing: manifest.outgoing(task, path), origin };
        whole.then(left)
    }

    /// Writes a finished update and makes it durable; only then may a byte of it be sent.
    pub(crate) fn finish(
        &self,
        task: &TaskId,
        schema: &Schema,
        trained: Trained,
        origin: Origin,
    ) -> Result<Outgoing, SpoolError> {
        let dir = self.task_dir(task);
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let path = dir.join("update.bin");
        let mut file = File::create(&path).map_err(at(&path))?;
        let mut hasher = ManifestHasher::new();
        codec::write_update(schema.digest(), &trained.update, |bytes| {
            hasher.update(bytes);
            file.write_all(bytes)
        })
        .map_err(at(&path))?;
        file.sync_all().map_err(at(&path))?;
        failpoint!("spool.update.written");
        let sums = hasher.finish();
        let manifest = Manifest {
            origin,
            digest: sums.digest(),
            bytes: sums.len,
            parts: sums.parts,
            examples: trained.examples,
            statistics: trained.statistics,
        };
        self.write_manifest(&dir, &manifest)?;
        Ok(manifest.outgoing(task, path))
    }

    fn write_manifest(&self, dir: &Path, manifest: &Manifest) -> Result<(), SpoolError> {
        let (new, path) = (dir.join("manifest.new"), dir.join("manifest.json"));
        let text = serde_json::to_vec(manifest)
            .map_err(|error| SpoolError::Io { path: path.clone(), source: error.into() })?;
        let mut file = File::create(&new).map_err(at(&new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(at(&new))?;
        failpoint!("spool.manifest.staged");
        fs::rename(&new, &path).map_err(at(&path))?;
        failpoint!("spool.manifest.placed");
        // The names must be as durable as the bytes.
        for dir in [dir, &self.root.join("tasks")] {
            File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))?;
        }
        Ok(())
    }

    /// Forgets a task: its update has a receipt, or is no longer wanted.
    pub(crate) fn forget(&self, task: &TaskId) {
        let dir = self.task_dir(task);
        // Without its manifest the update does not exist, whatever else is left.
        let _ = fs::remove_file(dir.join("manifest.json"));
        let _ = fs::remove_dir_all(&dir);
    }

    /// Updates that an earlier process finished and has no receipt for.
    pub(crate) fn left_over(&self) -> Vec<LeftOver> {
        let Ok(entries) = fs::read_dir(self.root.join("tasks")) else { return Vec::new() };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let mut tasks: Vec<TaskId> = names.filter_map(|name| name.parse().ok()).collect();
        tasks.sort();
        let mut left = Vec::new();
        for task in tasks {
            match self.finished(&task) {
                Some(one) => left.push(one),
                None => self.forget(&task),
            }
        }
        left
    }
}
