//! How fast the learning engine trains: the six models and the work of `torch_train.py`, forward,
//! backward and a step of SGD on one batch again and again.

use std::time::Instant;

use tributary_core::document::read_document;
use tributary_core::model::ModelSpec;
use tributary_core::prg::Prg;
use tributary_core::spec::data::{DataKind, DataSpec, Target};
use tributary_core::spec::train::Optimizer;
use tributary_data::{Batch, Inputs, Targets};
use tributary_learning::optimizer::{State, Terms};
use tributary_learning::{Device, Engine, Parameters, within_threads};

use super::memory::peak_rss_mb;
use crate::args::TrainArgs;

/// Windows that a rate is the median of.
const WINDOWS: usize = 3;
/// Classes of the models that classify.
const CLASSES: u32 = 10;

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let spec = model(&args.model)?;
    let batch = batch(&spec, args.batch as usize);
    let rates = within_threads(args.threads, || rates(&spec, args.device, &batch, args.seconds))?;
    let mut sorted = rates.clone();
    sorted.sort_by(f64::total_cmp);
    let line = serde_json::json!({
        "bench": "train",
        "model": args.model,
        "params": spec.schema().len(),
        "threads": args.threads,
        "batch": args.batch,
        "device": args.device.to_string(),
        "examples_per_s": sorted[WINDOWS / 2],
        "examples_per_s_best": sorted[WINDOWS - 1],
        "peak_rss_mb": peak_rss_mb("self"),
    });
    println!("{line}");
    Ok(())
}

/// A preset on the data that it is benched with.
fn model(preset: &str) -> anyhow::Result<ModelSpec> {
    let (kind, target, vocabulary) = match preset {
        "char_lstm" => (DataKind::Text, Target::NextToken, 90),
        "text_transformer" => (DataKind::Text, Target::Classes(CLASSES), 10_000),
        "distilbert" => (DataKind::Text, Target::Classes(CLASSES), 30_000),
        _ => (DataKind::Image, Target::Classes(CLASSES), 0),
    };
    let data = DataSpec { name: None, kind, target, vocabulary };
    let dropout = if preset == "distilbert" {
        "\nconfig = { dropout = 0.0, seq_classif_dropout = 0.0 }"
    } else {
        ""
    };
    let text = format!("preset = {preset:?}{dropout}");
    let model = read_document(&text, 1 << 16, |root| ModelSpec::read(root, &data));
    model
        .map_err(|faults| anyhow::anyhow!("{faults}"))?
        .ok_or_else(|| anyhow::anyhow!("the preset {preset} is no model"))
}

fn batch(spec: &ModelSpec, size: usize) -> Batch {
    let mut prg = Prg::for_name(0, "bench", "batch");
    let len = size * spec.input().iter().product::<usize>();
    let vocabulary = spec.vocabulary().unwrap_or(0).min(30_000) as u64;
    let mut tokens = |len: usize, below: u64| -> Vec<u32> {
        (0..len).map(|_| prg.below(below) as u32).collect()
    };
    let targets = match spec.output() {
        [steps, width] => Targets::Tokens(tokens(size * steps, *width as u64)),
        _ => Targets::Classes(tokens(size, u64::from(CLASSES))),
    };
    let inputs = if spec.takes_tokens() {
        Inputs::Tokens(tokens(len, vocabulary))
    } else {
        Inputs::Floats((0..len).map(|_| 2.0 * prg.unit_f32() - 1.0).collect())
    };
    Batch { size, inputs, lengths: Vec::new(), targets }
}

fn rates(
    spec: &ModelSpec,
    device: Device,
    batch: &Batch,
    seconds: f64,
) -> Result<Vec<f64>, tributary_learning::LearningError> {
    let mut engine = Engine::new(spec, device)?;
    let mut values = spec.initial(0).into_values();
    let mut state = State::new(Optimizer::sgd(0.01), values.len());
    let mut window = |seconds: f64| {
        let (begin, mut steps) = (Instant::now(), 0);
        while steps == 0 || begin.elapsed().as_secs_f64() < seconds {
            let given = Parameters { trained: &values, frozen: &[] };
            engine.learn(given, batch, 0, None)?;
            let (gradients, ranges) = engine.gradients();
            state.step(&mut values, gradients, ranges, &Terms::default());
            steps += 1;
        }
        Ok((steps * batch.size) as f64 / begin.elapsed().as_secs_f64())
    };
    window(seconds.min(1.0))?;
    (0..WINDOWS).map(|_| window(seconds)).collect()
}
