//! A site's own file: which coordinator, under which name, with which data. Paths stay here; the
//! coordinator hears of names, types and counts.

use std::path::{Path, PathBuf};

use tributary_core::document::{Section, read_document};
use tributary_core::fault::Faults;
use tributary_core::name::ClientName;
use tributary_core::spec::data::CLASSES_MAX;

use crate::agent::AgentConfig;

/// Longest client file.
const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Most threads that training may use.
const THREADS_MAX: u32 = 1024;

/// Pictures and their labels as IDX files, plain or `.gz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxFiles {
    /// `idx3-ubyte` pixels.
    pub images: PathBuf,
    /// `idx1-ubyte` labels.
    pub labels: PathBuf,
}

/// One data set of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataConfig {
    /// Its name; a job may ask for it.
    pub name: String,
    /// How many classes its labels have.
    pub classes: u32,
    /// Rows to train on.
    pub train: Option<IdxFiles>,
    /// Rows that are only ever scored.
    pub evaluate: Option<IdxFiles>,
}

/// A client's configuration.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Coordinator, name, state folder.
    pub agent: AgentConfig,
    /// The data set.
    pub data: DataConfig,
    /// Threads that training uses; the results do not depend on it.
    pub threads: usize,
}

impl ClientConfig {
    /// Reads a client's file. Relative paths start at its folder.
    ///
    /// # Errors
    /// A sentence that names the file and all faults in it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).map_err(|faults| anyhow::anyhow!("{}: {faults}", path.display()))
    }

    /// Reads a client's document.
    ///
    /// # Errors
    /// All its faults.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Faults> {
        let config = read_document(text, CONFIG_BYTES_MAX, |root| read(root, base))?;
        config.ok_or_else(|| {
            let mut faults = Faults::default();
            faults.add("name", "a client's name", "nothing");
            faults
        })
    }
}

fn read(root: &mut Section, base: &Path) -> Option<ClientConfig> {
    let coordinator = root.text("coordinator", None);
    if !coordinator.is_empty() && !coordinator.starts_with("http://") {
        let expected = "an address such as http://127.0.0.1:7443";
        root.fault("coordinator", expected, format!("{coordinator:?}"));
    }
    let name: Option<ClientName> = root.parsed("name");
    let state_default =
        name.as_ref().map_or_else(String::new, |name| format!("tributary-client-{name}"));
    let state_dir = base.join(root.text("state_dir", Some(&state_default)));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let threads = root.count("threads", 1..=THREADS_MAX, Some(cores.clamp(1, THREADS_MAX)));
    let mut section = root.section("data");
    let data = read_data(&mut section, base);
    section.finish();
    Some(ClientConfig {
        agent: AgentConfig { coordinator, name: name?, state_dir },
        data,
        threads: threads as usize,
    })
}

fn read_data(section: &mut Section, base: &Path) -> DataConfig {
    let name = section.text("name", Some("data"));
    let _ = section.choice("format", &[("idx", ())], None);
    let classes = section.count("classes", 2..=CLASSES_MAX, None);
    let train = read_files(section, "images", "labels", base);
    let evaluate = read_files(section, "evaluate_images", "evaluate_labels", base);
    if train.is_none() && evaluate.is_none() {
        let expected = "a file to train on (or evaluate_images and evaluate_labels alone)";
        section.fault("images", expected, "nothing");
    }
    DataConfig { name, classes, train, evaluate }
}

fn read_files(section: &mut Section, images: &str, labels: &str, base: &Path) -> Option<IdxFiles> {
    match (section.optional_text(images), section.optional_text(labels)) {
        (Some(images), Some(labels)) => {
            Some(IdxFiles { images: base.join(images), labels: base.join(labels) })
        }
        (Some(_), None) => {
            section.fault(labels, format!("the labels of {images}"), "nothing");
            None
        }
        (None, Some(_)) => {
            section.fault(images, format!("the images of {labels}"), "nothing");
            None
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::ClientConfig;

    #[test]
    fn a_client_s_file_reads_with_paths_from_its_folder() {
        let text = "coordinator = \"http://127.0.0.1:7443\"\nname = \"site-a\"\n[data]\n\
                    format = \"idx\"\nclasses = 10\nimages = \"i.gz\"\nlabels = \"l.gz\"\n";
        let config = ClientConfig::parse(text, Path::new("/site")).expect("good");
        assert_eq!(config.data.train.expect("train").images, Path::new("/site/i.gz"));
        assert_eq!(config.agent.state_dir, Path::new("/site/tributary-client-site-a"));
    }

    #[test]
    fn all_faults_of_a_client_s_file_come_at_once() {
        let text = "coordinator = \"10.0.0.1\"\nname = \"Site A\"\nthread = 2\n[data]\n\
                    format = \"csv\"\nimages = \"i\"\n";
        let faults = ClientConfig::parse(text, Path::new("")).expect_err("faulty").to_string();
        for part in
            ["coordinator:", "name:", "data.format:", "data.classes:", "data.labels:", "`threads`"]
        {
            assert!(faults.contains(part), "{part} is missing in {faults}");
        }
    }
}
