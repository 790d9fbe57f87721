//! A site's own file: which coordinator, under which name, with which data. Paths stay here; the
//! coordinator hears of names, types and counts.

use std::path::{Path, PathBuf};

use tributary_core::document::{Section, read_document, show};
use tributary_core::fault::Faults;
use tributary_core::name::ClientName;
use tributary_data::config::SourceConfig;
use tributary_learning::{Compute, Device};

use crate::agent::AgentConfig;
use crate::policy::Policy;
use crate::rpc::{Egress, ProxyError};

/// Longest client file.
const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Most pretrained models: each is read once at start.
const MODELS_MAX: usize = 64;
/// Most data sets: a coordinator takes no more of one client.
const DATA_MAX: usize = 64;
/// Most threads that training may use.
const THREADS_MAX: u32 = 1024;

/// One data set of the site.
#[derive(Debug, Clone)]
pub struct DataConfig {
    /// Its name; a job may ask for it.
    pub name: String,
    /// Its files, and how they are read.
    pub source: SourceConfig,
}

/// A client's configuration.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Coordinator, name, state folder.
    pub agent: AgentConfig,
    /// The data sets, at least one, each under a name of its own.
    pub data: Vec<DataConfig>,
    /// What the site agrees to.
    pub policy: Policy,
    /// Folders of pretrained models that jobs may build upon.
    pub models: Vec<PathBuf>,
    /// Threads and device that training uses.
    pub compute: Compute,
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
    let coordinator = read_coordinator(root);
    if !coordinator.is_empty() && !coordinator.split(',').all(is_address) {
        let expected = "https://HOST:PORT, or http:// and a loopback address (127.0.0.1:7443): \
                        nothing leaves this machine in the clear";
        root.fault("coordinator", expected, format!("{coordinator:?}"));
    }
    let name: Option<ClientName> = root.parsed("name");
    let state_default =
        name.as_ref().map_or_else(String::new, |name| format!("tributary-client-{name}"));
    let state_dir = base.join(root.text("state_dir", Some(&state_default)));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let threads = root.count("threads", 1..=THREADS_MAX, Some(cores.clamp(1, THREADS_MAX)));
    let device = read_device(root);
    let models = read_models(root, base);
    let egress = read_egress(root);
    let data = read_data(root, base, &state_dir);
    let mut section = root.section("policy");
    let policy = Policy::read(&mut section);
    section.finish();
    for (name, _) in &policy.data {
        // A name that is none would leave the data set that is meant open to every job.
        if !data.iter().flatten().any(|data| data.name == *name) {
            let expected = "a data set of this file";
            root.fault_at(format!("policy.data.{name}"), expected, format!("{name:?}"));
        }
    }
    Some(ClientConfig {
        agent: AgentConfig { coordinator, name: name?, state_dir, egress },
        data: data?,
        policy,
        models,
        compute: Compute { threads: threads as usize, device },
    })
}

/// Folders of pretrained models.
fn read_models(root: &mut Section, base: &Path) -> Vec<PathBuf> {
    let list = root.optional_list("models").unwrap_or_default();
    if list.len() > MODELS_MAX {
        root.fault("models", format!("at most {MODELS_MAX} folders"), list.len().to_string());
    }
    let folder = |(path, value): (String, toml::Value)| match value {
        toml::Value::String(folder) => Some(base.join(folder)),
        other => {
            root.fault_at(path, "a folder's path", show(&other));
            None
        }
    };
    list.into_iter().take(MODELS_MAX).filter_map(folder).collect()
}

/// The device, which must be there: better now than in the first task.
fn read_device(root: &mut Section) -> Device {
    let word = root.text("device", Some("cpu"));
    let device: Device = match word.parse() {
        Ok(device) => device,
        Err(_) => {
            root.fault("device", Device::EXPECTED, format!("{word:?}"));
            return Device::Cpu;
        }
    };
    if let Err(error) = device.check() {
        root.fault("device", "a device of this machine and this build", error.to_string());
    }
    device
}

/// One address, or a list: the replicas of one coordinator.
fn read_coordinator(root: &mut Section) -> String {
    match root.optional_texts("coordinator") {
        Some(list) => list.join(","),
        None => root.text("coordinator", None),
    }
}

/// Encrypted, or to this very machine.
fn is_address(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return text.starts_with("https://") };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = |ip: std::net::IpAddr| ip.is_loopback();
    host == "localhost" || host.parse().is_ok_and(loopback)
}

/// The way out: the file's proxy, or else the environment's.
fn read_egress(root: &mut Section) -> Egress {
    let Some(text) = root.optional_text("proxy") else { return Egress::from_environment() };
    match text.parse() {
        Ok(proxy) => Egress::through(proxy),
        Err(error) => {
            let ProxyError { expected, found } = error;
            root.fault("proxy", expected, found);
            Egress::default()
        }
    }
}

/// `[data]`, or each `[[data]]`.
fn read_data(root: &mut Section, base: &Path, state_dir: &Path) -> Option<Vec<DataConfig>> {
    if !root.has("data") || root.is_table("data") {
        let mut section = root.section("data");
        let one = read_one(&mut section, (base, state_dir), Some("data"));
        section.finish();
        return Some(vec![one?]);
    }
    let list = root.optional_list("data").unwrap_or_default();
    if list.is_empty() || list.len() > DATA_MAX {
        root.fault("data", format!("1 to {DATA_MAX} data sets"), list.len().to_string());
    }
    let mut sets: Vec<DataConfig> = Vec::new();
    let mut whole = true;
    for (path, value) in list.into_iter().take(DATA_MAX) {
        let toml::Value::Table(table) = value else {
            root.fault_at(path, "a table", show(&value));
            continue;
        };
        let mut section = root.below(path, table);
        let one = read_one(&mut section, (base, state_dir), None);
        if let Some(one) = one.as_ref().filter(|one| sets.iter().any(|set| set.name == one.name)) {
            section.fault("name", "a name of its own", format!("{:?} again", one.name));
        }
        section.finish();
        whole &= one.is_some();
        sets.extend(one);
    }
    (whole && !sets.is_empty()).then_some(sets)
}

fn read_one(
    section: &mut Section,
    (base, state_dir): (&Path, &Path),
    name: Option<&str>,
) -> Option<DataConfig> {
    let name = section.text("name", name);
    let mut source = SourceConfig::read(section, base)?;
    source.room.scratch_dir.get_or_insert_with(|| state_dir.join("scratch"));
    Some(DataConfig { name, source })
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
        assert_eq!(config.data[0].name, "data");
        assert_eq!(config.agent.state_dir, Path::new("/site/tributary-client-site-a"));
        let scratch = Some(Path::new("/site/tributary-client-site-a/scratch").to_owned());
        assert_eq!(config.data[0].source.room.scratch_dir, scratch);
    }

    #[test]
    fn several_data_sets_have_names_and_the_policy_names_them() {
        let set = |name: &str| {
            format!(
                "[[data]]\nname = {name:?}\nformat = \"idx\"\nclasses = 10\n\
                 images = \"i\"\nlabels = \"l\"\n"
            )
        };
        let head = "coordinator = \"http://127.0.0.1:7443\"\nname = \"site-a\"\n";
        let two = format!("{head}{}{}", set("a"), set("b"));
        let policy = "[policy.data]\nb = [\"study-*\"]\n";
        let config = ClientConfig::parse(&format!("{two}{policy}"), Path::new("")).expect("good");
        let names: Vec<&str> = config.data.iter().map(|data| data.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(config.policy.data, [("b".to_owned(), vec!["study-*".to_owned()])]);
        let faulty = |text: String| {
            ClientConfig::parse(&text, Path::new("")).expect_err("faulty").to_string()
        };
        let twice = faulty(format!("{head}{}{}", set("a"), set("a")));
        assert!(twice.contains("data[1].name"), "{twice}");
        let typo = faulty(format!("{two}[policy.data]\nc = [\"*\"]\n"));
        assert!(typo.contains("policy.data.c"), "{typo}");
        let nameless = faulty(format!("{head}{}", set("a").replace("name = \"a\"\n", "")));
        assert!(nameless.contains("data[0].name"), "{nameless}");
        let other = faulty(format!("{head}data = [3]\n"));
        assert!(other.contains("data[0]"), "{other}");
    }

    #[test]
    fn a_proxy_reads_and_its_password_is_never_said() {
        let text = |proxy: &str| {
            format!(
                "coordinator = \"https://fl:7443\"\nname = \"site-a\"\nproxy = {proxy:?}\n[data]\n\
                 format = \"idx\"\nclasses = 10\nimages = \"i\"\nlabels = \"l\"\n"
            )
        };
        let proxy = "http://ada:hunter2@proxy.local:3128";
        let config = ClientConfig::parse(&text(proxy), Path::new("")).expect("good");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        let wrong = ClientConfig::parse(&text("ftp://ada:hunter2@proxy"), Path::new(""));
        let wrong = wrong.expect_err("none").to_string();
        assert!(wrong.contains("proxy:") && !wrong.contains("hunter2"), "{wrong}");
    }

    #[test]
    fn replicas_are_a_list_of_addresses() {
        let rest = "name = \"site-a\"\n[data]\nformat = \"idx\"\nclasses = 10\n\
                    images = \"i.gz\"\nlabels = \"l.gz\"\n";
        let list = "coordinator = [\"https://a:7443\", \"https://b:7443\"]\n";
        let config = ClientConfig::parse(&format!("{list}{rest}"), Path::new("")).expect("good");
        assert_eq!(config.agent.coordinator, "https://a:7443,https://b:7443");
        let one_bad = "coordinator = [\"https://a:7443\", \"http://10.0.0.1:7443\"]\n";
        let faults = ClientConfig::parse(&format!("{one_bad}{rest}"), Path::new(""));
        assert!(faults.expect_err("in the clear").to_string().contains("coordinator:"));
    }

    #[test]
    fn nothing_is_sent_in_the_clear_to_another_machine() {
        for (address, good) in [
            ("https://fl.example.org:7443", true),
            ("http://127.0.0.1:7443", true),
            ("http://localhost:7443", true),
            ("http://[::1]:7443", true),
            ("http://10.0.0.1:7443", false),
            ("http://fl.example.org:7443", false),
            ("http://127.0.0.1.example.org:7443", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(super::is_address(address), good, "{address}");
        }
    }

    #[test]
    fn all_faults_of_a_client_s_file_come_at_once() {
        let text = "coordinator = \"10.0.0.1\"\nname = \"Site A\"\nthread = 2\n[data]\n\
                    format = \"idx\"\nimages = \"i\"\n";
        let faults = ClientConfig::parse(text, Path::new("")).expect_err("faulty").to_string();
        for part in ["coordinator:", "name:", "data.classes:", "data.labels:", "`threads`"] {
            assert!(faults.contains(part), "{part} is missing in {faults}");
        }
    }
}
