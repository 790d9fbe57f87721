//! The demo's rows: digits that are compiled in, or MNIST from a folder; dealt to the clients, with
//! a part that no client trains on.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tributary_core::prg::Prg;
use tributary_data::idx::read_dataset;
use tributary_data::qmnist::read_writers;
use tributary_data::{Dataset, Partition};

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
    let (train, held_out, title) = match folder {
        None => {
            if partition == Partition::Writers {
                bail!("--partition writers needs --data: the compiled-in digits name no writers");
            }
            let (train, held_out) = digits(seed)?;
            (train, held_out, "UCI handwritten digits, 8 × 8, compiled in".to_owned())
        }
        Some(folder) => {
            let (mut train, held_out) = (mnist(folder, "train")?, mnist(folder, "t10k")?);
            if partition == Partition::Writers {
                let writers = find(folder, "qmnist-train-labels-idx2-int")?;
                let writers = read_writers(&writers, train.len())?;
                train = train.with_writers(writers)?;
            }
            (train, held_out, "MNIST, 28 × 28".to_owned())
        }
    };
    let dealt = partition.deal(&train, clients as usize, seed).context("--partition")?;
    let train = dealt.iter().map(|rows| train.subset(rows)).collect::<Result<_, _>>()?;
    Ok(Shares { train, held_out, title: format!("{title}, dealt {partition}") })
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
