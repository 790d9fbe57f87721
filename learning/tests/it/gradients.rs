//! Whole networks' gradients against central differences of their own losses, and against candle's
//! autograd.

use tributary_core::model::ModelSpec;
use tributary_core::prg::Prg;
use tributary_core::spec::data::{DataKind, DataSpec, Target};
use tributary_data::{Batch, Inputs, Targets};
use tributary_learning::portable::PortableNetwork;
use tributary_learning::{Network, Parameters};

use crate::case;

fn noise(name: &str, len: usize) -> Vec<f32> {
    let mut prg = Prg::for_name(5, "test", name);
    (0..len).map(|_| 2.0 * prg.unit_f32() - 1.0).collect()
}

/// Four examples of numbers in three classes.
fn numbers(model: &ModelSpec, lengths: Vec<u32>) -> Batch {
    let len = 4 * model.input().iter().product::<usize>();
    let targets = Targets::Classes(vec![0, 2, 1, 1]);
    Batch { size: 4, inputs: Inputs::Floats(noise("input", len)), lengths, targets }
}

/// Each step of a difference passes kinks of rectifiers and maxima: along a direction they even out
/// where the step is small, so directions are compared, one a tensor. With dropout both sides drop
/// the same values, since the mask follows from the seed.
fn check(text: &str, data: &DataSpec, batch: impl Fn(&ModelSpec) -> Batch) {
    let model = case::model(text, data).expect("model");
    let batch = batch(&model);
    let start = model.initial(5);
    let start: Vec<f32> = start
        .values()
        .iter()
        .zip(noise("start", start.values().len()))
        .map(|(a, b)| a + 0.1 * b)
        .collect();
    let frozen = model.frozen_schema().map_or(0, |schema| schema.len());
    let frozen: Vec<f32> = noise("frozen", frozen).iter().map(|value| 0.3 * value).collect();
    let mut network = Network::new(&model).expect("network");
    let mut loss_at = |values: &[f32]| {
        let given = Parameters { trained: values, frozen: &frozen };
        let loss = network.learn(given, &batch, 3, None).expect("learn");
        (loss, network.gradients().to_vec())
    };
    let (loss, ours) = loss_at(&start);
    let mut portable = PortableNetwork::new(&model, candle_core::Device::Cpu);
    let given = Parameters { trained: &start, frozen: &frozen };
    let candles = portable.learn(given, &batch, 3, None).expect("learn by candle");
    assert!((candles - loss).abs() <= 1e-5 * loss.abs(), "losses {loss} and {candles}");
    assert_same(&model, &ours, portable.gradients());
    for tensor in model.schema().tensors().iter().filter(|t| !t.name.contains("running_")) {
        let direction = noise(&tensor.name, tensor.len);
        let step = 1.0 / 256.0 / (tensor.len as f32).sqrt();
        let mut at = |sign: f32| {
            let mut values = start.clone();
            let place = &mut values[tensor.offset..tensor.offset + tensor.len];
            place.iter_mut().zip(&direction).for_each(|(v, d)| *v += sign * step * d);
            loss_at(&values).0
        };
        let numeric = (at(1.0) - at(-1.0)) / (2.0 * f64::from(step));
        let slopes = &ours[tensor.offset..tensor.offset + tensor.len];
        let pairs = slopes.iter().zip(&direction);
        let exact: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let norm = slopes.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        let error = (numeric - exact).abs();
        assert!(error <= 2e-2 * norm + 1e-4, "{}: {numeric}, {exact}, {norm}", tensor.name);
    }
}

/// Each tensor's gradients within 1e-4; what is nothing but rounding, within that of the whole.
fn assert_same(model: &ModelSpec, ours: &[f32], candles: &[f32]) {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let whole = norm(&mut candles.iter().map(|&v| f64::from(v)));
    for tensor in model.schema().tensors() {
        let place = tensor.offset..tensor.offset + tensor.len;
        let pairs = ours[place.clone()].iter().zip(&candles[place.clone()]);
        let error = norm(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let size = norm(&mut candles[place].iter().map(|&v| f64::from(v)));
        let name = &tensor.name;
        assert!(error <= 1e-4 * size.max(1e-2 * whole), "{name}: {error} of {size} in {whole}");
    }
}

#[test]
fn convolutions_of_every_kind_agree_with_central_differences() {
    let text = "input = { shape = [4, 9, 8] }\nlayers = [\n\
        { conv2d = { out = 6, kernel = 3, padding = 1, groups = 2 } }, \"relu\", { max_pool2d = 2 },\n\
        { residual = { layers = [{ conv2d = { out = 6, kernel = 3, padding = 1 } }, \"tanh\"] } },\n\
        { residual = { layers = [{ conv2d = { out = 4, kernel = 3, stride = 2, padding = 1 } }],\n\
          shortcut = [{ conv2d = { out = 4, kernel = 1, stride = 2 } }, { group_norm = 2 }] } },\n\
        \"sigmoid\", \"flatten\", { linear = 6 }, \"gelu\", { linear = 3 }, \"softmax\",\n]";
    check(text, &case::classes(3), |model| numbers(model, vec![]));
    let text = "input = { shape = [3, 11] }\nlayers = [\n\
        { conv1d = { out = 4, kernel = 3, dilation = 2, padding = 2 } }, \"batch_norm\", \"relu\",\n\
        \"transpose\", { gru = { hidden = 5, return = \"last_step\" } }, { linear = 3 },\n]";
    check(text, &case::classes(3), |model| numbers(model, vec![]));
    let text = "input = { shape = [2, 9, 9] }\nlayers = [\n\
        { conv2d = { out = 4, kernel = 2 } }, { max_pool2d = { kernel = 3, stride = 1 } },\n\
        { avg_pool2d = { kernel = 2, stride = 1 } }, \"global_avg_pool\", { linear = 3 },\n]";
    check(text, &case::classes(3), |model| numbers(model, vec![]));
    // Rows and columns, and the steps of a signal, that no window reaches.
    let text = "input = { shape = [2, 12, 9] }\nlayers = [\n\
        { conv2d = { out = 4, kernel = 3, stride = 2 } }, \"gelu\",\n\
        { conv2d = { out = 4, kernel = 2, stride = 3, padding = 1, groups = 2 } },\n\
        \"flatten\", { linear = 3 },\n]";
    check(text, &case::classes(3), |model| numbers(model, vec![]));
    let text = "input = { shape = [2, 15] }\nlayers = [\n\
        { conv1d = { out = 4, kernel = 3, stride = 4, padding = 1 } }, \"tanh\",\n\
        \"flatten\", { linear = 3 },\n]";
    check(text, &case::classes(3), |model| numbers(model, vec![]));
}

#[test]
fn recurrent_stacks_with_padding_and_dropout_agree_with_central_differences() {
    for (cell, more) in
        [("rnn", ""), ("rnn", "nonlinearity = \"relu\", "), ("lstm", ""), ("gru", "")]
    {
        for dropout in ["0.0", "0.3"] {
            let text = format!(
                "input = {{ shape = [6, 3] }}\nlayers = [\n\
                 {{ {cell} = {{ {more}hidden = 5, layers = 2, bidirectional = true, \
                    dropout = {dropout} }} }},\n\
                 {{ dropout = 0.2 }}, \"layer_norm\", \"last_step\", {{ linear = 3 }},\n]"
            );
            for lengths in [vec![6, 3, 1, 5], vec![]] {
                let batch = |model: &ModelSpec| numbers(model, lengths.clone());
                check(&text, &case::classes(3), batch);
            }
        }
    }
}

fn texts(lengths: Vec<u32>) -> Batch {
    let mut prg = Prg::for_name(5, "test", "tokens");
    let tokens = (0..4 * 6).map(|_| prg.below(11) as u32).collect();
    let targets = Targets::Classes(vec![0, 2, 1, 1]);
    Batch { size: 4, inputs: Inputs::Tokens(tokens), lengths, targets }
}

#[test]
fn encoders_with_padding_and_dropout_agree_with_central_differences() {
    let data = DataSpec { kind: DataKind::Text, vocabulary: 11, ..case::classes(3) };
    for (norm, pool) in [("pre", "mean_pool"), ("post", "cls_pool")] {
        let text = format!(
            "input = {{ tokens = 6 }}\nlayers = [\n\
             {{ embedding = {{ vocabulary = 11, dimension = 8 }} }},\n\
             {{ positional_encoding = \"sinusoidal\" }},\n\
             {{ transformer_encoder = {{ layers = 2, heads = 2, feed_forward = 12, dropout = 0.2,\
             activation = \"gelu\", norm = \"{norm}\" }} }},\n\"{pool}\", {{ linear = 3 }},\n]"
        );
        check(&text, &data, |_| texts(vec![6, 3, 2, 5]));
    }
}

#[test]
fn causal_attention_with_dropout_agrees_with_central_differences() {
    let data = DataSpec { kind: DataKind::Text, vocabulary: 11, ..case::classes(3) };
    let text = "input = { tokens = 6 }\nlayers = [\n\
        { embedding = { vocabulary = 11, dimension = 8 } }, { positional_encoding = \"sinusoidal\" },\n\
        { transformer_encoder = { layers = 2, heads = 2, feed_forward = 12, dropout = 0.3,\n\
        activation = \"gelu\", causal = true } }, \"last_step\", { linear = 3 },\n]";
    check(text, &data, |_| texts(vec![6, 3, 2, 5]));
    check(text, &data, |_| texts(vec![]));
}

#[test]
fn the_loss_of_two_classes_by_one_output_agrees_with_central_differences() {
    let text = "input = { shape = [5] }\nloss = \"binary_cross_entropy\"\n\
        layers = [{ linear = 4 }, \"tanh\", { linear = 1 }]";
    check(text, &case::classes(2), |model| Batch {
        targets: Targets::Classes(vec![0, 1, 1, 0]),
        ..numbers(model, vec![])
    });
}

#[test]
fn adapters_and_bert_agree_with_central_differences() {
    let data = DataSpec { kind: DataKind::Text, vocabulary: 11, ..case::classes(3) };
    let bert = "input = { tokens = 6 }\npreset = \"bert\"\nconfig = { hidden_size = 8,\
         num_attention_heads = 2, num_hidden_layers = 1, intermediate_size = 12,\
         max_position_embeddings = 8, vocab_size = 11, hidden_dropout_prob = 0.1 }";
    check(bert, &data, |_| texts(vec![6, 3, 2, 5]));
    let base = tributary_core::digest::Digest::of(b"weights");
    let lora = format!("{bert}\nlora = {{ base = \"{base}\", rank = 2, alpha = 4 }}");
    let model = case::model(&lora, &data).expect("adapters");
    let names: Vec<&str> = model.schema().tensors().iter().map(|t| t.name.as_str()).collect();
    assert!(
        names
            .iter()
            .all(|n| n.contains("lora_") || n.contains("pooler") || n.contains("classifier"))
    );
    assert!(model.schema().len() < model.frozen_schema().expect("a frozen body").len());
    check(&lora, &data, |_| texts(vec![6, 3, 2, 5]));
}

#[test]
fn the_next_token_s_loss_agrees_with_central_differences() {
    let target = Target::NextToken;
    let data = DataSpec { name: None, kind: DataKind::Text, target, vocabulary: 11 };
    let text = "input = { tokens = 6 }\nlayers = [{ embedding = { vocabulary = 11, dimension = 4 } },\n\
        { lstm = { hidden = 5 } }, { linear = 11 }]";
    check(text, &data, |_| {
        let batch = texts(vec![]);
        let Inputs::Tokens(tokens) = &batch.inputs else { panic!("tokens") };
        let mut targets = tokens.clone();
        targets.rotate_left(1);
        targets[5] = tributary_data::NO_TOKEN;
        Batch { targets: Targets::Tokens(targets), ..batch.clone() }
    });
}
