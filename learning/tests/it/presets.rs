//! The presets at their full sizes against PyTorch's figures. `fixtures/presets.py` made them; inputs
//! and parameters are the same noise there and here.

use serde_json::Value;
use tributary_core::model::ModelSpec;
use tributary_core::spec::data::{DataKind, DataSpec, Target};
use tributary_core::spec::train::Optimizer;
use tributary_data::{Batch, Inputs, Targets};
use tributary_learning::optimizer::{State, Terms};
use tributary_learning::{Network, Parameters};

use crate::case;

const TOLERANCE: f64 = 1e-4;
const BATCH: usize = 3;
const CHARACTERS: usize = 90;

/// Numbers in [-1, 1): 32 bits of a stream and an index, mixed.
fn noise(stream: u32, index: usize) -> f64 {
    let mut x = (index as u32).wrapping_add(stream.wrapping_mul(0x9e37_79b9));
    x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    f64::from(x ^ x >> 16) / 2_147_483_648.0 - 1.0
}

fn below(stream: u32, count: usize, most: usize) -> Vec<u32> {
    let one = |index| ((noise(stream, index) + 1.0) / 2.0 * most as f64) as u32;
    (0..count).map(one).collect()
}

/// A difference of two tensors gives sums with signs that are as large as itself.
fn assert_told(what: &str, ours: &[f32], told: &Value) {
    let number = |value: &Value| value.as_f64().expect("a number");
    let norm = number(&told["norm"]);
    let sums = told["sums"].as_array().expect("sums");
    assert!(sums.len() >= 8, "{what}");
    let squares = sums.iter().zip(9000..).map(|(theirs, stream)| {
        let sign = |index| if noise(stream, index) < 0.0 { -1.0 } else { 1.0 };
        let signed = ours.iter().enumerate().map(|(i, value)| sign(i) * f64::from(*value));
        (signed.sum::<f64>() - number(theirs)).powi(2)
    });
    let apart = (squares.sum::<f64>() / sums.len() as f64).sqrt();
    assert!(apart <= TOLERANCE * norm, "{what}: {apart} of {norm}");
    let own = ours.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!((own - norm).abs() <= TOLERANCE * norm, "{what}: norm {own}, theirs {norm}");
}

fn start(model: &ModelSpec) -> Vec<f32> {
    let mut values = Vec::with_capacity(model.schema().len());
    for (tensor, stream) in model.schema().tensors().iter().zip(100..) {
        let (factor, base) = match tensor.shape.len() {
            1 if tensor.name.contains("norm") && tensor.name.ends_with("weight") => (0.1, 1.0),
            1 => (0.1, 0.0),
            _ => ((3.0 / tensor.shape[1..].iter().product::<usize>() as f64).sqrt(), 0.0),
        };
        values.extend((0..tensor.len).map(|i| (base + factor * noise(stream, i)) as f32));
    }
    values
}

fn check(answer: &Value) {
    let preset = answer["preset"].as_str().expect("a name");
    let next = preset == "char_lstm";
    let vocabulary = answer["vocabulary"].as_u64().expect("a vocabulary") as usize;
    let target = if next { Target::NextToken } else { Target::Classes(10) };
    let kind = if vocabulary > 0 { DataKind::Text } else { DataKind::Image };
    let data = DataSpec { name: None, kind, target, vocabulary: vocabulary as u32 };
    let mut text = format!("preset = \"{preset}\"");
    if preset == "logistic_regression" {
        text.push_str("\ninput = { shape = [1, 28, 28] }");
    }
    let model = case::model(&text, &data).expect(preset);
    assert_eq!(answer["input"], serde_json::json!(model.input()), "{preset}");
    assert_eq!(answer["parameters"], model.schema().len(), "{preset}");
    let shapes: Vec<&[usize]> = model.schema().tensors().iter().map(|t| &t.shape[..]).collect();
    assert_eq!(answer["shapes"], serde_json::json!(shapes), "{preset}");
    let count = BATCH * model.input().iter().product::<usize>();
    let inputs = match vocabulary {
        0 => Inputs::Floats((0..count).map(|index| noise(1, index) as f32).collect()),
        _ => Inputs::Tokens(below(1, count, vocabulary)),
    };
    let targets = match next {
        true => Targets::Tokens(below(2, count, CHARACTERS)),
        false => Targets::Classes(below(2, BATCH, 10)),
    };
    let batch = Batch { size: BATCH, inputs, lengths: Vec::new(), targets };
    let mut values = start(&model);
    let mut network = Network::new(&model).expect("network");
    let given = Parameters { trained: &values, frozen: &[] };
    assert_told(
        &format!("{preset} logits"),
        network.predict(given, &batch).expect("predict"),
        &answer["logits"],
    );
    let loss = network.learn(given, &batch, 0, None).expect("learn");
    let theirs = answer["loss"].as_f64().expect("loss");
    assert!(((loss - theirs) / theirs).abs() <= 1e-5, "{preset}: loss {loss}, theirs {theirs}");
    let told = |what: &str, ours: &[f32], key: &str| {
        for (index, tensor) in model.schema().tensors().iter().enumerate() {
            let own = &ours[tensor.offset..tensor.offset + tensor.len];
            assert_told(&format!("{preset} {what} {}", tensor.name), own, &answer[key][index]);
        }
    };
    told("gradient", network.gradients(), "gradients");
    let mut state = State::new(Optimizer::sgd(0.05), values.len());
    for _ in 0..5 {
        network
            .learn(Parameters { trained: &values, frozen: &[] }, &batch, 0, None)
            .expect("learn");
        state.step(&mut values, network.gradients(), network.optimised(), &Terms::default());
    }
    told("after five steps", &values, "after_5_steps");
}

#[test]
fn golden_presets_at_full_size() {
    let answers: Value =
        serde_json::from_str(include_str!("../fixtures/presets.json")).expect("json");
    let answers = answers.as_array().expect("a list");
    assert_eq!(answers.len(), 7);
    answers.iter().for_each(check);
}
