//! The demo's rows: digits that are compiled in, or MNIST from a folder; dealt to the clients, with
//! a part that no client trains on.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tributary_core::prg::Prg;
use tributary_learning::data::partition::{Partition, deal};
use tributary_learning::data::{Dataset, read_writers};

/// Rows by client, and those that are only scored at the end.
pub(crate) struct Shares {
    /// One data set a client.
    pub(crate) train: Vec<Dataset>,
    /// Nobody trains on these.
    pub(crate) held_out: Dataset,
    /// What the rows are, for people.
    pub(crate) title: String,
}

/// Loads and deals rows.
pub(crate) fn load(
    folder: Option<&Path>,
    partition: &str,
    clients: u32,
    seed: u64,
) -> anyhow::Result<Shares> {
    let partition: Partition = partition.parse().context("--partition")?;
    let (train, held_out, writers, title) = match folder {
        None => {
            if matches!(partition, Partition::Writers) {
                bail!("--partition writers needs --data: the compiled-in digits name no writers");
            }
            let (train, held_out) = digits(seed)?;
            (train, held_out, None, "UCI handwritten digits, 8 × 8, compiled in".to_owned())
        }
        Some(folder) => {
            let (train, held_out) = (mnist(folder, "train")?, mnist(folder, "t10k")?);
            let writers = match partition {
                Partition::Writers => Some(writers(folder)?),
                _ => None,
            };
            (train, held_out, writers, "MNIST, 28 × 28".to_owned())
        }
    };
    let dealt = deal(&partition, train.labels(), writers.as_deref(), clients as usize, seed)
        .context("--partition")?;
    let train = dealt.iter().map(|rows| train.subset(rows)).collect();
    Ok(Shares { train, held_out, title })
}

/// A fifth of the digits is held out: drawn by the seed, the same in every run.
fn digits(seed: u64) -> anyhow::Result<(Dataset, Dataset)> {
    let set = smartcore::dataset::digits::load_dataset();
    // Pixels are 0 to 16 there, and 0 to 255 here.
    let pixels = set.data.iter().map(|&v| (v * 255.0 / 16.0).round() as u8).collect();
    let labels = set.target.iter().map(|&v| v as u32).collect();
    let all = Dataset::from_u8(pixels, &[1, 8, 8], labels, 10)?;
    let mut order: Vec<usize> = (0..all.len()).collect();
    Prg::for_name(seed, "demo", "held-out").shuffle(&mut order);
    let (held_out, train) = order.split_at(all.len() / 5);
    Ok((all.subset(train), all.subset(held_out)))
}

fn mnist(folder: &Path, part: &str) -> anyhow::Result<Dataset> {
    let images = find(folder, &format!("{part}-images-idx3-ubyte"))?;
    let labels = find(folder, &format!("{part}-labels-idx1-ubyte"))?;
    Ok(Dataset::read_idx(&images, &labels, 10)?)
}

fn writers(folder: &Path) -> anyhow::Result<Vec<u32>> {
    Ok(read_writers(&find(folder, "qmnist-train-labels-idx2-int")?)?)
}

/// The file of this name, plain or compressed.
fn find(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let paths = [folder.join(name), folder.join(format!("{name}.gz"))];
    let found = paths.iter().find(|path| path.is_file()).cloned();
    found.with_context(|| format!("expected {name} or {name}.gz in {}", folder.display()))
}
