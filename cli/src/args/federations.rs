//! The command line of what runs on data: demo, data prepare, bench paper.

use std::path::PathBuf;

use clap::Subcommand;
use tributary_data::prepare::recordings::Pattern;

#[derive(Subcommand)]
pub(crate) enum Data {
    /// Turn an archive into files that a client's `[data]` can name.
    #[command(subcommand)]
    Prepare(Prepare),
}

#[derive(Subcommand)]
pub(crate) enum Prepare {
    /// A tar of plays in XML into one text a role: train.jsonl and evaluate.jsonl.
    ///
    /// Reads the markup of Jon Bosak's Shakespeare (PLAY, SPEECH, SPEAKER, LINE) and TEI. A role is a
    /// client, and its last lines are for evaluation. Bind them with format = "jsonl",
    /// text_column = "text", client_column = "client" and [data.tokens] by = "characters".
    Plays(PlaysArgs),
    /// A tar of wav recordings into a folder of them and two indexes: train.csv and evaluate.csv.
    ///
    /// Classes and speakers stand in the names: 7_theo_12.wav is {label}_{client}_{index}, and {}
    /// is ignored. Bind them with format = "wav", index = "train.csv", client_column = "client".
    Recordings(RecordingsArgs),
}

#[derive(clap::Args)]
pub(crate) struct PlaysArgs {
    /// The archive, .tar or .tar.gz.
    pub(crate) archive: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Roles with fewer speeches are left out.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) speeches_min: usize,
    /// The part of a role's lines, at its end, that is for evaluation.
    #[arg(long, default_value_t = 0.2, value_name = "F", value_parser = fraction)]
    pub(crate) evaluate_fraction: f64,
}

#[derive(clap::Args)]
pub(crate) struct RecordingsArgs {
    /// The archive, .tar or .tar.gz.
    pub(crate) archive: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// What the names say, without .wav.
    #[arg(long, default_value = "{label}_{client}_{index}", value_name = "PATTERN")]
    pub(crate) pattern: Pattern,
    /// Recordings with a smaller {index} are for evaluation.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) evaluate_below: u64,
}

fn fraction(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..1.0).contains(number));
    number.ok_or_else(|| format!("expected a number from 0, below 1, found {text}"))
}

#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Folder for database, blobs, spec and model; a new temporary one unless given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A folder of data: what --config names, or MNIST in IDX files (plain or .gz), with QMNIST's
    /// writer table where writers are asked for. Archives are for `data prepare`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A client's file whose `[data]` says how to read --data; client.toml beside --spec unless given.
    #[arg(long, value_name = "FILE", requires = "data", requires = "spec")]
    pub(crate) config: Option<PathBuf>,
    /// How rows are dealt: iid, shards, dirichlet=ALPHA, writers (whole clients of the data, dealt
    /// to --clients), or clients (each client of the data is a site).
    #[arg(long, default_value = "iid", value_name = "P")]
    pub(crate) partition: String,
    /// How many clients train; 4, or all that the data have, unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=128))]
    pub(crate) clients: Option<u32>,
    /// Take only so many rows, evenly drawn: a short try.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rows: Option<u32>,
    /// Score each round's checkpoint on the held-out rows, and draw the curve here, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) figure: Option<PathBuf>,
    /// How many rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: Option<u32>,
    /// A spec of your own (for 1×8×8 digits, or for --data); of it --rounds alone is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// What the job starts from, instead of its seed's draw: a safetensors file, or a folder as Hugging
    /// Face's save_pretrained makes it.
    #[arg(long, value_name = "FILE|DIR", requires = "spec")]
    pub(crate) init: Option<PathBuf>,
    /// A pretrained model's folder, for a spec that trains adapters (lora) on it.
    #[arg(long, value_name = "DIR", requires = "spec")]
    pub(crate) model: Vec<PathBuf>,
    /// postgres://USER@HOST/DATABASE instead of a SQLite file in the folder.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct PaperArgs {
    /// Which: 2nn-iid, 2nn-shards, 2nn-iid-e20, cnn-iid, cnn-iid-e1, cnn-shards (McMahan et al. 2017),
    /// fedprox-synthetic (Li et al. 2020).
    pub(crate) name: String,
    /// MNIST in IDX files, plain or .gz; fedprox-synthetic draws its own rows.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Seeds of the deal (or the rows), the first checkpoint and the cohorts; a run for each.
    #[arg(long, default_value = "1,2,3", value_delimiter = ',', value_name = "S,…")]
    pub(crate) seeds: Vec<u64>,
    /// Stop each run after so many rounds; the headline's own limit unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: Option<u32>,
    /// Stop each run after so many minutes.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) minutes: Option<u64>,
    /// Choose the learning rate before: try each of a grid for so many rounds on nine tenths of the rows
    /// to train on, and take the one that scores best on the other tenth. The test set has no part in it.
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) choose_rate: Option<u32>,
    /// Draw the curves here, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) figure: Option<PathBuf>,
}
