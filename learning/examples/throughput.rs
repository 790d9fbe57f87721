//! How fast a preset trains on this machine: `throughput PRESET THREADS BATCH [EXAMPLES]`.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use tributary_core::document::read_document;
use tributary_core::model::ModelSpec;
use tributary_core::prg::Prg;
use tributary_core::spec::train::TrainSpec;
use tributary_learning::data::Dataset;
use tributary_learning::{Control, TrainTask, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Quiet;

impl Control for Quiet {
    fn progress(&self, _: u64, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let preset = arguments.next().unwrap_or_else(|| "mnist_cnn".to_owned());
    let mut number = |default: usize| -> Result<usize, std::num::ParseIntError> {
        arguments.next().map_or(Ok(default), |text| text.parse())
    };
    let (threads, batch, examples) = (number(2)?, number(64)?, number(1920)?);
    let text = format!("preset = \"{preset}\"");
    let model = read_document(&text, 1000, |root| ModelSpec::read(root, 10))?.ok_or("no model")?;
    let text =
        format!("batch_size = {batch}\noptimizer = {{ kind = \"sgd\", learning_rate = 0.01 }}");
    let spec = read_document(&text, 1000, TrainSpec::read)?;
    let mut prg = Prg::for_name(1, "throughput", &preset);
    let size: usize = model.input().iter().product();
    let pixels = (0..examples * size).map(|_| prg.below(256) as u8).collect();
    let labels = (0..examples).map(|_| prg.below(10) as u32).collect();
    let data = Dataset::from_u8(pixels, labels, model.input(), 10)?;
    let (checkpoint, client) = (model.initial(1), "bench".parse()?);
    for round in 0..4 {
        let task = TrainTask {
            model: &model,
            train: &spec,
            job_seed: 1,
            round,
            client: &client,
            checkpoint: &checkpoint,
            threads,
        };
        let begin = Instant::now();
        let outcome = train(&task, &data, &Quiet)?;
        let seconds = begin.elapsed().as_secs_f64();
        let rate = outcome.examples as f64 / seconds;
        println!("{preset}, {threads} threads, batch {batch}: {rate:.0} examples/s");
    }
    Ok(())
}
