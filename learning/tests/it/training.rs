//! Training and evaluation as a client does them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tributary_core::digest::Hasher;
use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_core::name::ClientName;
use tributary_core::params::ParameterSet;
use tributary_core::prg::Prg;
use tributary_core::spec::train::TrainSpec;
use tributary_data::{Dataset, Inputs, Targets, idx};
use tributary_learning::{
    Compute, Control, Device, EvaluateTask, LearningError, TrainOutcome, TrainTask, evaluate, train,
};

use crate::case::{self, Quiet};

const CNN: &str = "input = { shape = [1, 8, 8] }\nlayers = [\n\
    { conv2d = { out = 8, kernel = 3, padding = 1 } }, \"relu\", { max_pool2d = 2 },\n\
    \"flatten\", { linear = 80 }, \"relu\", { linear = 4 },\n]";

fn cnn() -> ModelSpec {
    case::model(CNN, &case::classes(4)).expect("model")
}

fn sgd(epochs: u32, rate: f64) -> TrainSpec {
    case::training(&format!(
        "local_epochs = {epochs}\nbatch_size = 10\n\
         optimizer = {{ kind = \"sgd\", learning_rate = {rate:?}, momentum = 0.5 }}"
    ))
    .expect("train")
}

/// Pictures of noise with a bright quarter, which is the label.
fn quarters(examples: usize) -> Dataset {
    let mut prg = Prg::for_name(1, "test", "quarters");
    let mut pixels = Vec::new();
    let labels: Vec<u32> = (0..examples).map(|_| prg.below(4) as u32).collect();
    for &label in &labels {
        let (top, left) = (4 * (label / 2), 4 * (label % 2));
        for (y, x) in (0..64_u32).map(|i| (i / 8, i % 8)) {
            let bright = (top..top + 4).contains(&y) && (left..left + 4).contains(&x);
            pixels.push(prg.below(160) as u8 + if bright { 90 } else { 0 });
        }
    }
    Dataset::from_u8(pixels, labels, &[1, 8, 8], 4).expect("data")
}

fn run(
    model: &ModelSpec,
    spec: &TrainSpec,
    data: &Dataset,
    (client, round, threads): (&str, u32, usize),
) -> Result<TrainOutcome, LearningError> {
    run_on(Device::Cpu, model, spec, data, (client, round, threads))
}

fn run_on(
    device: Device,
    model: &ModelSpec,
    spec: &TrainSpec,
    data: &Dataset,
    (client, round, threads): (&str, u32, usize),
) -> Result<TrainOutcome, LearningError> {
    let checkpoint = model.initial(7);
    let client: ClientName = client.parse().expect("name");
    let task = TrainTask {
        model,
        train: spec,
        job_seed: 7,
        round,
        rounds: 1,
        frozen: None,
        client: &client,
        checkpoint: &checkpoint,
        compute: Compute { threads, device },
    };
    train(&task, data, &Quiet)
}

fn score(
    model: &ModelSpec,
    checkpoint: &ParameterSet,
    data: &Dataset,
    compute: Compute,
) -> Result<Statistics, LearningError> {
    let task = EvaluateTask { model, checkpoint, frozen: None, own_rows: None, compute };
    evaluate(&task, data, &Quiet)
}

fn digest(update: &[f32]) -> String {
    let mut hasher = Hasher::new();
    update.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
    hasher.finish().to_string()
}

#[test]
fn the_same_task_gives_the_same_bytes_on_any_number_of_threads() {
    let (model, spec, data) = (cnn(), sgd(2, 0.1), quarters(73));
    let one = run(&model, &spec, &data, ("a", 1, 1)).expect("train");
    for threads in [1, 2, 3] {
        let again = run(&model, &spec, &data, ("a", 1, threads)).expect("train");
        assert_eq!(digest(&one.update), digest(&again.update), "{threads} threads");
        assert_eq!(one, again);
    }
    assert_eq!((one.examples, one.steps, one.statistics.examples), (73, 16, 73));
    for other in [("b", 1, 1), ("a", 2, 1)] {
        let other = run(&model, &spec, &data, other).expect("train");
        assert_ne!(digest(&one.update), digest(&other.update));
    }
}

#[test]
fn a_wide_model_too_is_the_same_on_any_number_of_threads() {
    let text = "input = { shape = [3, 12, 12] }\npreset = \"cifar_cnn\"";
    let model = case::model(text, &case::classes(4)).expect("model");
    let mut prg = Prg::for_name(2, "test", "noise");
    let noise = (0..24 * 432).map(|_| prg.unit_f32()).collect();
    let labels = (0..24).map(|i| i % 4).collect();
    let data = Dataset::from_f32(noise, labels, &[3, 12, 12], 4).expect("data");
    let text = "batch_size = 9\noptimizer = { kind = \"adam\", learning_rate = 0.001 }";
    let spec = case::training(text).expect("train");
    let one = run(&model, &spec, &data, ("a", 1, 1)).expect("train");
    let two = run(&model, &spec, &data, ("a", 1, 2)).expect("train");
    assert_eq!(digest(&one.update), digest(&two.update));
}

#[test]
fn the_loss_falls_and_evaluation_sees_it() {
    let (model, data) = (cnn(), quarters(200));
    let start = model.initial(7);
    let before = score(&model, &start, &data, Compute::cpu(2)).expect("evaluate");
    let trained = run(&model, &sgd(3, 0.05), &data, ("a", 1, 2)).expect("train");
    let mut end = start.clone();
    end.values_mut().iter_mut().zip(&trained.update).for_each(|(value, change)| *value += change);
    let after = score(&model, &end, &data, Compute::cpu(2)).expect("evaluate");
    assert_eq!(after, score(&model, &end, &data, Compute::cpu(1)).expect("evaluate"));
    let (before, after) = (before.metrics().expect("some"), after.metrics().expect("some"));
    assert!(after.loss < 0.5 * before.loss, "{} to {}", before.loss, after.loss);
    assert!(after.accuracy > 0.9, "{}", after.accuracy);
    assert!(trained.statistics.metrics().expect("some").accuracy > 0.7);
}

/// Candle's kernels and ours, over several steps; dropout in an encoder draws the same masks.
#[test]
fn both_engines_learn_the_same() {
    let text = "input = { shape = [8, 8] }\nlayers = [\n\
        { transformer_encoder = { layers = 1, heads = 2, feed_forward = 16, dropout = 0.2 } },\n\
        \"mean_pool\", { dropout = 0.1 }, { linear = 4 },\n]";
    let flat = quarters(40);
    let indices: Vec<usize> = (0..40).collect();
    let batch = flat.gather(&indices).expect("batch");
    let (Inputs::Floats(values), Targets::Classes(labels)) = (batch.inputs, batch.targets) else {
        panic!("pictures have numbers and classes");
    };
    let rows = Dataset::from_f32(values, labels, &[8, 8], 4).expect("data");
    let encoder = case::model(text, &case::classes(4)).expect("model");
    let spec = sgd(2, 0.05);
    for (model, data) in [(cnn(), flat), (encoder, rows)] {
        let ours = run(&model, &spec, &data, ("a", 1, 1)).expect("ours");
        let candles = run_on(Device::Candle, &model, &spec, &data, ("a", 1, 1)).expect("candle's");
        assert_eq!((ours.steps, ours.examples), (candles.steps, candles.examples));
        let pairs = ours.update.iter().zip(&candles.update);
        let apart: f32 = pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        let size: f32 = ours.update.iter().map(|a| a * a).sum::<f32>().sqrt();
        assert!(apart <= 1e-3 * size && size > 0.0, "{apart} of {size}");
        let scores = [Device::Cpu, Device::Candle].map(|device| {
            let compute = Compute { threads: 1, device };
            score(&model, &model.initial(7), &data, compute).expect("evaluate")
        });
        assert_eq!(scores[0].correct, scores[1].correct);
    }
    let absent = run_on(Device::Cuda(99), &cnn(), &spec, &quarters(4), ("a", 1, 1));
    assert!(matches!(absent, Err(LearningError::Device { .. })));
}

/// With local statistics nothing of a site's distribution travels, and each site's scores use its own.
#[test]
fn local_statistics_stay_at_the_site() {
    let text = |local: bool| {
        format!(
            "input = {{ shape = [1, 8, 8] }}\nlayers = [\n\
             {{ conv2d = {{ out = 4, kernel = 3 }} }}, {{ batch_norm = {{ local = {local} }} }},\n\
             \"relu\", \"flatten\", {{ linear = 4 }},\n]"
        )
    };
    let [travelling, local] =
        [false, true].map(|local| case::model(&text(local), &case::classes(4)).expect("model"));
    assert_eq!(travelling.schema().len() - local.schema().len(), 2 * 4);
    assert!(local.observes() && !travelling.observes());
    let (data, spec) = (quarters(120), sgd(3, 0.05));
    let trained = run(&local, &spec, &data, ("a", 1, 1)).expect("train");
    let mut end = local.initial(7);
    end.values_mut().iter_mut().zip(&trained.update).for_each(|(value, change)| *value += change);
    for device in [Device::Cpu, Device::Candle] {
        let compute = Compute { threads: 2, device };
        let own_rows = Some(&data);
        let task =
            EvaluateTask { model: &local, checkpoint: &end, frozen: None, own_rows, compute };
        let whole = evaluate(&task, &data, &Quiet).expect("evaluate");
        assert!(whole.metrics().expect("some").accuracy > 0.9);
        // A single row is judged by the site's statistics, and not by its own.
        let mut correct = 0;
        for index in 0..data.len() {
            let one = one_of(&data, index);
            correct += evaluate(&task, &one, &Quiet).expect("evaluate").correct;
        }
        assert_eq!(correct, whole.correct);
    }
}

/// A row of a data set of pictures, as one of its own.
fn one_of(data: &Dataset, index: usize) -> Dataset {
    let batch = data.gather(&[index]).expect("a row");
    let (Inputs::Floats(values), Targets::Classes(labels)) = (batch.inputs, batch.targets) else {
        panic!("pictures have numbers and classes");
    };
    Dataset::from_f32(values, labels, &[1, 8, 8], 4).expect("data")
}

#[test]
fn what_does_not_fit_is_refused() {
    let (model, spec, data) = (cnn(), sgd(1, 0.1), quarters(12));
    let refuse = |model: &ModelSpec, data: &Dataset| {
        run(model, &spec, data, ("a", 1, 1)).expect_err("refused").to_string()
    };
    assert!(refuse(&model, &data.subset(&[]).expect("none")).contains("at least one example"));
    let wide = Dataset::from_u8(vec![0; 49], vec![1], &[1, 7, 7], 4).expect("data");
    assert!(
        refuse(&model, &wide).contains("expected examples of shape [1, 8, 8], found [1, 7, 7]")
    );
    let five = Dataset::from_u8(vec![0; 64], vec![1], &[1, 8, 8], 5).expect("data");
    assert!(refuse(&model, &five).contains("found 5 classes"));
    let other =
        case::model("input = { shape = [64] }\nlayers = [{ linear = 4 }]", &case::classes(4))
            .expect("model");
    let foreign = score(&model, &other.initial(1), &data, Compute::cpu(1)).expect_err("schema");
    assert!(matches!(foreign, LearningError::Schema { .. }));
}

#[test]
fn divergence_is_an_error_of_its_own() {
    // Every step makes the weights a thousand times larger.
    let text = "local_epochs = 5\nbatch_size = 10\n\
        optimizer = { kind = \"sgd\", learning_rate = 1000, weight_decay = 1 }";
    let spec = case::training(text).expect("train");
    let wild = run(&cnn(), &spec, &quarters(60), ("a", 1, 1)).expect_err("diverged");
    assert!(matches!(wild, LearningError::Diverged { .. }), "{wild}");
}

struct StopAfter(AtomicU64, u64);

impl Control for StopAfter {
    fn progress(&self, done: u64, total: u64) {
        assert!(done <= total && done == self.0.fetch_add(1, Ordering::Relaxed) + 1);
    }
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

#[test]
fn a_caller_watches_and_stops() {
    let (model, spec, data) = (cnn(), sgd(2, 0.1), quarters(50));
    let (checkpoint, client) = (model.initial(7), "a".parse::<ClientName>().expect("name"));
    let task = TrainTask {
        model: &model,
        train: &spec,
        job_seed: 7,
        round: 1,
        rounds: 1,
        frozen: None,
        client: &client,
        checkpoint: &checkpoint,
        compute: Compute::cpu(1),
    };
    let (patient, hasty) = (StopAfter(AtomicU64::new(0), 99), StopAfter(AtomicU64::new(0), 3));
    train(&task, &data, &patient).expect("train");
    assert_eq!(patient.0.load(Ordering::Relaxed), 10);
    assert!(matches!(train(&task, &data, &hasty), Err(LearningError::Cancelled)));
    assert_eq!(hasty.0.load(Ordering::Relaxed), 3);
}

/// A tenth of MNIST, one pass: where the environment says where it is.
#[test]
fn a_little_mnist_is_learnt() {
    let Some(folder) = std::env::var_os("TRIBUTARY_DATA").map(PathBuf::from) else {
        println!("SKIP: set TRIBUTARY_DATA to a folder with mnist/ to train on the real digits");
        return;
    };
    let read = |part: &str| {
        let file = |kind: &str| folder.join("mnist").join(format!("{part}-{kind}-ubyte.gz"));
        idx::read_dataset(&file("images-idx3"), &file("labels-idx1"), 10).expect("mnist")
    };
    let (digits, test) = (read("train"), read("t10k"));
    let some: Vec<usize> = (0..6000).collect();
    let digits = digits.subset(&some).expect("subset");
    let model = case::model("preset = \"mnist_2nn\"", &case::classes(10)).expect("model");
    let trained = run(&model, &sgd(1, 0.1), &digits, ("a", 1, 2)).expect("train");
    let mut end = model.initial(7);
    end.values_mut().iter_mut().zip(&trained.update).for_each(|(value, change)| *value += change);
    let metrics = score(&model, &end, &test, Compute::cpu(2)).expect("evaluate").metrics();
    let accuracy = metrics.expect("some").accuracy;
    assert!(accuracy > 0.9, "{accuracy}");
}
