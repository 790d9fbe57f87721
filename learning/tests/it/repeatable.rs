//! The same task gives the same bytes, twice and on one and two threads, for every family of layers;
//! and what `[train]` says reaches the step.

use tributary_core::digest::{Digest, Hasher};
use tributary_core::model::ModelSpec;
use tributary_core::name::ClientName;
use tributary_core::params::ParameterSet;
use tributary_core::prg::Prg;
use tributary_core::spec::data::{DataKind, DataSpec};
use tributary_data::Dataset;
use tributary_learning::{Compute, TrainOutcome, TrainTask, train};

use crate::case::{self, Quiet};

/// Classes of every case.
const CLASSES: u32 = 3;
/// Tokens of the texts.
const VOCABULARY: u32 = 40;

/// A model whose products pass 2^18, above which they are shared among threads.
struct Family {
    name: &'static str,
    model: &'static str,
    texts: bool,
}

const FAMILIES: [Family; 9] = [
    Family {
        name: "rnn",
        model: "input = { shape = [12, 24] }\nlayers = [{ rnn = { hidden = 64, layers = 2, \
            dropout = 0.2, nonlinearity = \"relu\" } }, \"last_step\", { linear = 3 }]",
        texts: false,
    },
    Family {
        name: "lstm",
        model: "input = { shape = [12, 24] }\nlayers = [{ lstm = { hidden = 48, \
            bidirectional = true } }, \"last_step\", { linear = 3 }]",
        texts: false,
    },
    Family {
        name: "gru",
        model: "input = { shape = [12, 24] }\nlayers = [{ gru = { hidden = 64, layers = 2 } }, \
            \"mean_pool\", { linear = 3 }]",
        texts: false,
    },
    Family {
        name: "transformer",
        model: "input = { shape = [16, 32] }\nlayers = [{ transformer_encoder = { layers = 2, \
            heads = 4, feed_forward = 128, dropout = 0.1, norm = \"pre\" } }, \"mean_pool\", \
            { linear = 3 }]",
        texts: false,
    },
    Family {
        name: "dropout",
        model: "input = { shape = [200] }\nlayers = [{ linear = 300 }, \"relu\", { dropout = 0.5 }, \
            { linear = 100 }, \"gelu\", { dropout = 0.2 }, { linear = 3 }]",
        texts: false,
    },
    Family {
        name: "norms",
        model: "input = { shape = [4, 16, 16] }\nlayers = [{ conv2d = { out = 16, kernel = 3 } }, \
            \"batch_norm\", \"relu\", { conv2d = { out = 16, kernel = 3, stride = 2 } }, \
            { group_norm = 4 }, \"tanh\", \"flatten\", { linear = 64 }, \"layer_norm\", { linear = 3 }]",
        texts: false,
    },
    Family {
        name: "text",
        model: "input = { tokens = 16 }\nlayers = [{ embedding = { vocabulary = 40, dimension = 32 } }, \
            { positional_encoding = { kind = \"learned\", length = 16 } }, \
            { transformer_encoder = { layers = 1, heads = 2, feed_forward = 128, dropout = 0.1 } }, \
            { lstm = { hidden = 40 } }, \"last_step\", { linear = 3 }]",
        texts: true,
    },
    Family { name: "bert", model: BERT, texts: true },
    Family { name: "lora", model: BERT, texts: true },
];

const BERT: &str = "input = { tokens = 16 }\npreset = \"bert\"\nconfig = { hidden_size = 48, \
    num_attention_heads = 4, num_hidden_layers = 2, intermediate_size = 128, \
    max_position_embeddings = 16, vocab_size = 40, hidden_dropout_prob = 0.1 }";

fn noise(name: &str, len: usize) -> Vec<f32> {
    let mut prg = Prg::for_name(9, "test", name);
    (0..len).map(|_| 2.0 * prg.unit_f32() - 1.0).collect()
}

fn data(family: &Family, model: &ModelSpec, examples: u32) -> Dataset {
    let labels: Vec<u32> = (0..examples).map(|i| i % CLASSES).collect();
    if !family.texts {
        let len = examples as usize * model.input().iter().product::<usize>();
        return Dataset::from_f32(noise("rows", len), labels, model.input(), CLASSES)
            .expect("data");
    }
    let mut prg = Prg::for_name(9, "test", "texts");
    let mut text = || {
        let len = 1 + prg.below(16);
        (0..len).map(|_| prg.below(VOCABULARY.into()) as u32).collect::<Vec<u32>>()
    };
    let texts: Vec<Vec<u32>> = (0..examples).map(|_| text()).collect();
    Dataset::from_texts(&texts, labels, 16, VOCABULARY, CLASSES).expect("texts")
}

fn model(family: &Family) -> ModelSpec {
    let (kind, vocabulary) =
        if family.texts { (DataKind::Text, VOCABULARY) } else { (DataKind::Image, 0) };
    let spec = DataSpec { kind, vocabulary, ..case::classes(CLASSES) };
    let lora = match family.name {
        "lora" => format!("\nlora = {{ base = \"{}\", rank = 4 }}", Digest::of(b"base")),
        _ => String::new(),
    };
    case::model(&format!("{}{lora}", family.model), &spec).expect(family.name)
}

fn run(
    model: &ModelSpec,
    data: &Dataset,
    train_text: &str,
    (round, rounds, threads): (u32, u32, usize),
) -> TrainOutcome {
    let spec = case::training(train_text).expect("train");
    let client: ClientName = "a".parse().expect("name");
    let checkpoint = model.initial(4);
    let frozen = model.frozen_schema().map(|schema| {
        let values = noise("frozen", schema.len()).iter().map(|value| 0.2 * value).collect();
        ParameterSet::new(schema.clone(), values).expect("a frozen body")
    });
    let task = TrainTask {
        model,
        train: &spec,
        job_seed: 4,
        round,
        rounds,
        frozen: frozen.as_ref(),
        client: &client,
        checkpoint: &checkpoint,
        compute: Compute::cpu(threads),
    };
    train(&task, data, &Quiet).expect("training")
}

fn digest(update: &[f32]) -> String {
    let mut hasher = Hasher::new();
    update.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
    hasher.finish().to_string()
}

#[test]
fn every_family_gives_the_same_bytes_twice_and_on_any_number_of_threads() {
    let text = "local_epochs = 2\nbatch_size = 24\nclip_norm = 1.0\n\
        optimizer = { kind = \"adamw\", learning_rate = 0.01 }";
    for family in &FAMILIES {
        let model = model(family);
        let data = data(family, &model, 60);
        let first = run(&model, &data, text, (1, 1, 1));
        assert!(first.update.iter().any(|value| *value != 0.0), "{}", family.name);
        for threads in [1, 2, 2] {
            let again = run(&model, &data, text, (1, 1, threads));
            let name = family.name;
            assert_eq!(digest(&first.update), digest(&again.update), "{name}, {threads} threads");
            assert_eq!(first.statistics, again.statistics, "{name}, {threads} threads");
        }
    }
}

/// One full batch of plain gradient descent: the update is −rate · gradient, so that what shapes the
/// step can be read from it.
#[test]
fn schedule_clipping_and_proximal_term_reach_the_step() {
    let family = Family {
        name: "mlp",
        model: "input = { shape = [5] }\nlayers = [{ linear = 4 }, \"tanh\", { linear = 3 }]",
        texts: false,
    };
    let model = model(&family);
    let data = data(&family, &model, 8);
    let text = |epochs: u32, more: &str| {
        format!(
            "local_epochs = {epochs}\nbatch_size = 8\n{more}\n\
             optimizer = {{ kind = \"sgd\", learning_rate = 0.5 }}"
        )
    };
    let norm = |update: &[f32]| update.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
    let plain = run(&model, &data, &text(1, ""), (1, 4, 1)).update;
    let size = norm(&plain);
    assert!(size > 1e-2, "{size}");
    // The second round of a warm-up over four has half of the rate.
    let warm = text(1, "schedule = { warmup_rounds = 4 }");
    let half = run(&model, &data, &warm, (2, 4, 1)).update;
    let apart: Vec<f32> = plain.iter().zip(&half).map(|(a, b)| 0.5 * a - b).collect();
    assert!(norm(&apart) < 1e-5 * size, "{} of {size}", norm(&apart));
    // A cosine over the job's rounds ends at its floor.
    let cosine = text(1, "schedule = { kind = \"cosine\", floor = 0.25 }");
    let last = run(&model, &data, &cosine, (4, 4, 1)).update;
    assert!((norm(&last) - 0.25 * size).abs() < 1e-4 * size, "{} of {size}", norm(&last));
    // A clipped gradient has the norm asked for: the update is the rate times that.
    let clipped = run(&model, &data, &text(1, "clip_norm = 0.01"), (1, 4, 1)).update;
    assert!((norm(&clipped) - 0.5 * 0.01).abs() < 1e-5, "{}", norm(&clipped));
    // At the checkpoint the proximal term is nothing; afterwards it pulls back. With µ = 1 ⁄ rate the
    // second step begins with a return to the checkpoint, and adds its own gradient there.
    let twice = run(&model, &data, &text(2, ""), (1, 4, 1)).update;
    let pulled = run(&model, &data, &text(2, "proximal_mu = 2.0"), (1, 4, 1)).update;
    let apart: Vec<f32> =
        twice.iter().zip(&pulled).zip(&plain).map(|((t, p), first)| t - first - p).collect();
    assert!(norm(&apart) < 1e-4 * size, "{} of {size}", norm(&apart));
}
