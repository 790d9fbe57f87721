//! The demo's rows: digits that are compiled in, or MNIST from a folder; dealt to the clients, with
//! a part that no client trains on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tributary_client::config::{ClientConfig, DataConfig};
use tributary_core::name::ClientName;
use tributary_core::prg::Prg;
use tributary_core::spec::JobSpec;
use tributary_core::spec::data::DataKind;
use tributary_data::idx::read_dataset;
use tributary_data::qmnist::read_writers;
use tributary_data::{Dataset, Partition, Wanted, open};

use super::CLIENTS_DEFAULT;
use crate::args::DemoArgs;

/// Most clients of one demo: each is an agent of its own, with connections and a folder.
pub(crate) const CLIENTS_MAX: usize = 128;
/// The partition that makes each of the data's clients a site.
const CLIENTS: &str = "clients";

/// One client's rows.
pub(crate) struct Share {
    /// The client's name in the federation.
    pub(crate) site: String,
    pub(crate) rows: Dataset,
}

/// Rows dealt to clients, and how, for people.
type Dealt = (Vec<Share>, String);

/// Rows by client, and those that are only scored at the end.
pub(crate) struct Shares {
    /// One data set a client.
    pub(crate) train: Vec<Share>,
    /// Nobody trains on these.
    pub(crate) held_out: Option<Dataset>,
    /// What the rows are.
    pub(crate) kind: DataKind,
    /// The name that the sites bind them under.
    pub(crate) name: String,
    /// What the rows are, for people.
    pub(crate) title: String,
    /// The files to read again by each site, where the job has its constants from the sites' sums.
    pub(crate) files: Option<DataConfig>,
}

impl Shares {
    /// Pictures of digits, as they are called where no site's file names them.
    fn digits((train, title): Dealt, held_out: Dataset) -> Self {
        let (kind, name) = (DataKind::Image, "digits".to_owned());
        Self { train, held_out: Some(held_out), kind, name, title, files: None }
    }

    /// Whether each next token is predicted.
    pub(crate) fn predicts_tokens(&self) -> bool {
        let first = self.train.first().map(|share| &share.rows);
        first.is_some_and(|rows| rows.classes() == 0 && rows.vocabulary() > 0)
    }
}

/// Loads and deals rows.
pub(crate) fn load(args: &DemoArgs, spec: &JobSpec) -> anyhow::Result<Shares> {
    args.data.as_deref().map_or(Ok(()), check_folder)?;
    if let Some(config) = site_file(args) {
        let folder = args.data.as_deref().context("--config needs --data, the files' folder")?;
        return bound(args, spec, &config, folder);
    }
    if spec.statistics.is_some() {
        bail!(
            "the spec leaves constants to its sites' sums, which are made of files: give --data, and a \
             --config that says how to read it"
        );
    }
    let clients = args.clients.unwrap_or(CLIENTS_DEFAULT) as usize;
    let Some(folder) = &args.data else {
        if matches!(args.partition.as_str(), "writers" | CLIENTS) {
            bail!(
                "--partition {} needs --data: the compiled-in digits name nobody",
                args.partition
            );
        }
        let (train, held_out) = digits(spec.seed)?;
        let title = "UCI handwritten digits, 8 × 8, compiled in";
        let dealt = deal(&train, &args.partition, clients, spec.seed, title)?;
        return Ok(Shares::digits(dealt, held_out));
    };
    mnist_shares(folder, &args.partition, clients, spec.seed)
}

/// That `--data` is a folder. Which reader an archive is for is not the demo's to guess.
fn check_folder(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let shown = path.display();
    if !path.is_file() {
        bail!("--data: expected a folder, found nothing at {shown}; check the path");
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().to_lowercase());
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".tar", ".tar.gz", ".tgz"]) {
        bail!(
            "--data: expected a folder, found the archive {shown}: run `tributary data prepare recordings \
             {shown} --to DIR` where it holds wav files, `tributary data prepare plays {shown} --to DIR` \
             where it holds plays in XML, or unpack it, and give --data DIR"
        );
    }
    if ends(&[".zip"]) {
        bail!(
            "--data: expected a folder, found the archive {shown}: unpack it (`unzip {shown} -d DIR`), and \
             give --data DIR"
        );
    }
    bail!("--data: expected a folder, found the file {shown}; give the folder that it lies in")
}

/// MNIST from a folder of IDX files, dealt.
pub(crate) fn mnist_shares(
    folder: &Path,
    partition: &str,
    clients: usize,
    seed: u64,
) -> anyhow::Result<Shares> {
    let (mut train, held_out) = (mnist(folder, "train")?, mnist(folder, "t10k")?);
    if partition == "writers" {
        let writers = find(folder, "qmnist-train-labels-idx2-int")?;
        let writers = read_writers(&writers, train.len())?;
        train = train.with_writers(writers)?;
    }
    Ok(Shares::digits(deal(&train, partition, clients, seed, "MNIST, 28 × 28")?, held_out))
}

/// As [`mnist_shares`], with a tenth of the rows to train on held out in place of the test set, which
/// is not read.
pub(crate) fn mnist_without_test(
    folder: &Path,
    partition: &str,
    clients: usize,
    seed: u64,
) -> anyhow::Result<Shares> {
    let all = mnist(folder, "train")?;
    let mut order: Vec<usize> = (0..all.len()).collect();
    Prg::for_name(seed, "paper", "held-out").shuffle(&mut order);
    let (held_out, train) = order.split_at(all.len() / 10);
    let (train, held_out) = (all.subset(train)?, all.subset(held_out)?);
    let title = "MNIST's training rows, 28 × 28";
    Ok(Shares::digits(deal(&train, partition, clients, seed, title)?, held_out))
}

/// The site's file that says how to read `--data`: named, or beside the spec.
fn site_file(args: &DemoArgs) -> Option<PathBuf> {
    let beside = || {
        let path = args.spec.as_ref()?.parent()?.join("client.toml");
        (args.data.is_some() && path.is_file()).then_some(path)
    };
    args.config.clone().or_else(beside)
}

/// The rows that a site's file binds, read as the job wants them.
fn bound(args: &DemoArgs, spec: &JobSpec, config: &Path, folder: &Path) -> anyhow::Result<Shares> {
    let text = std::fs::read_to_string(config)
        .with_context(|| format!("cannot read {}", config.display()))?;
    let site = ClientConfig::parse(&text, folder)
        .map_err(|faults| anyhow::anyhow!("{}: {faults}", config.display()))?;
    let named = |set: &&DataConfig| spec.data.name.as_ref().is_none_or(|name| set.name == *name);
    // Where the site's name is another, the demo's own site has the job's.
    let set = site.data.iter().find(named).or(site.data.first());
    let set = set.context("the file names no data set")?;
    let before_constants = spec.statistics.is_some();
    let by_class = !["iid", "writers", CLIENTS].contains(&args.partition.as_str());
    if before_constants && by_class {
        bail!(
            "--partition {}: rows are dealt before the job knows its classes; deal them as iid, writers \
             or clients, as the spec leaves constants to its sites' sums",
            args.partition
        );
    }
    let opened = if before_constants {
        set.source.open_as_written(spec)?
    } else {
        open(&set.source, &Wanted::by_job(spec))?
    };
    let (kind, names) = (opened.kind, opened.clients);
    let train = opened.train.context("there are no rows to train on: name `file` or `images`")?;
    let train = first_rows(train, args.rows)?;
    let held_out = opened.evaluate.map(|rows| first_rows(rows, args.rows)).transpose()?;
    let title = folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
    let (train, title) = if args.partition == CLIENTS {
        by_client(&train, &names, args.clients, spec.seed, &title)?
    } else {
        let clients = args.clients.unwrap_or(CLIENTS_DEFAULT) as usize;
        deal(&train, &args.partition, clients, spec.seed, &title)?
    };
    let files = before_constants.then(|| set.clone());
    Ok(Shares { train, held_out, kind, name: set.name.clone(), title, files })
}

/// Every so many-th row, so that a short try sees all clients and classes.
fn first_rows(data: Dataset, most: Option<u32>) -> anyhow::Result<Dataset> {
    let Some(most) = most.map(|most| most as usize).filter(|&most| most < data.len()) else {
        return Ok(data);
    };
    let rows: Vec<usize> = (0..most).map(|at| at * data.len() / most).collect();
    Ok(data.subset(&rows)?)
}

fn deal(
    train: &Dataset,
    partition: &str,
    clients: usize,
    seed: u64,
    title: &str,
) -> anyhow::Result<Dealt> {
    let partition: Partition = partition.parse().context("--partition")?;
    let dealt = partition.deal(train, clients, seed).context("--partition")?;
    let share = |(at, rows): (usize, &Vec<usize>)| {
        anyhow::Ok(Share { site: format!("site-{}", at + 1), rows: train.subset(rows)? })
    };
    let shares: anyhow::Result<_> = dealt.iter().enumerate().map(share).collect();
    Ok((shares?, format!("{title}, dealt {partition}")))
}

/// Each of the data's clients is a site; with `--clients` so many of them, drawn by the seed.
fn by_client(
    train: &Dataset,
    names: &[String],
    most: Option<u32>,
    seed: u64,
    title: &str,
) -> anyhow::Result<Dealt> {
    let Some(writers) = train.writers() else {
        bail!(
            "--partition clients needs to know whose rows they are: give `client_column`, \
               `client_by_file` or `group_file` in [data]"
        );
    };
    let mut rows: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, writer) in writers.into_iter().enumerate() {
        rows.entry(writer).or_default().push(row);
    }
    let mut order: Vec<(u32, Vec<usize>)> = rows.into_iter().collect();
    if let Some(most) = most.map(|most| most as usize).filter(|&most| most < order.len()) {
        Prg::for_name(seed, "demo", "clients").shuffle(&mut order);
        order.truncate(most);
        order.sort();
    }
    if order.len() > CLIENTS_MAX {
        bail!(
            "the data are of {} clients, and a demo runs at most {CLIENTS_MAX}: take some \
             (--clients N), or deal all of them to a few (--partition writers --clients N)",
            order.len()
        );
    }
    let mut taken = BTreeSet::from([super::federation::HELD_OUT.to_owned()]);
    let share = |(at, (writer, rows)): (usize, &(u32, Vec<usize>))| {
        let name = names.get(*writer as usize).and_then(|name| site_name(name));
        let site = name.filter(|name| taken.insert(name.clone()));
        let site = site.unwrap_or_else(|| format!("site-{}", at + 1));
        anyhow::Ok(Share { site, rows: train.subset(rows)? })
    };
    let shares: anyhow::Result<_> = order.iter().enumerate().map(share).collect();
    Ok((shares?, format!("{title}, {} clients as they are", order.len())))
}

/// A client's name as the federation's names are; none where nothing of it is left.
fn site_name(name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(40).collect();
    let name = name.trim_matches('-').to_owned();
    name.parse::<ClientName>().is_ok().then_some(name)
}

/// A fifth of the digits is held out: drawn by the seed, the same in every run.
fn digits(seed: u64) -> anyhow::Result<(Dataset, Dataset)> {
    let set = smartcore::dataset::digits::load_dataset();
    // Pixels are 0 to 16 there, and 0 to 255 here.
    let pixels = set.data.iter().map(|&v| (v * 255.0 / 16.0).round() as u8).collect();
    let labels = set.target.iter().map(|&v| v as u32).collect();
    let all = Dataset::from_u8(pixels, labels, &[1, 8, 8], 10)?;
    let mut order: Vec<usize> = (0..all.len()).collect();
    Prg::for_name(seed, "demo", "held-out").shuffle(&mut order);
    let (held_out, train) = order.split_at(all.len() / 5);
    Ok((all.subset(train)?, all.subset(held_out)?))
}

fn mnist(folder: &Path, part: &str) -> anyhow::Result<Dataset> {
    let images = find(folder, &format!("{part}-images-idx3-ubyte"))?;
    let labels = find(folder, &format!("{part}-labels-idx1-ubyte"))?;
    Ok(read_dataset(&images, &labels, 10)?)
}

/// The file of this name, plain or compressed.
fn find(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let paths = [folder.join(name), folder.join(format!("{name}.gz"))];
    let found = paths.iter().find(|path| path.is_file()).cloned();
    found.with_context(|| format!("expected {name} or {name}.gz in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::check_folder;

    #[test]
    fn an_archive_or_a_file_is_told_what_to_do_with_it() {
        let dir = tempfile::tempdir().expect("a folder");
        check_folder(dir.path()).expect("a folder");
        let said = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").expect("written");
            check_folder(&path).expect_err("no folder").to_string()
        };
        for name in ["plays.tar", "plays.tar.gz", "PLAYS.TGZ"] {
            let said = said(name);
            let path = dir.path().join(name).display().to_string();
            for kind in ["plays", "recordings"] {
                assert!(said.contains(&format!("data prepare {kind} {path} --to DIR")), "{said}");
            }
        }
        assert!(said("scans.zip").contains("unzip"));
        assert!(said("rows.csv").contains("give the folder that it lies in"));
        let nowhere = check_folder(&dir.path().join("nowhere")).expect_err("nothing").to_string();
        assert!(nowhere.contains("found nothing at") && nowhere.contains("nowhere"), "{nowhere}");
    }
}
