//! Models that are right, with their sizes; models whose faults must be named.

use super::{LAYERS_MAX, ModelSpec};
use crate::digest::Hasher;
use crate::document::read_document;
use crate::fault::Faults;
use crate::spec::data::{DataKind, DataSpec, Target};

fn data(classes: u32) -> DataSpec {
    let (kind, target) = (DataKind::Image, Target::Classes(classes));
    DataSpec { name: None, kind, target, vocabulary: 0 }
}

fn read(text: &str, classes: u32) -> Result<ModelSpec, Faults> {
    read_document(text, 1 << 20, |root| {
        let mut section = root.section("model");
        let model = ModelSpec::read(&mut section, &data(classes));
        section.finish();
        model
    })
    .map(|model| model.expect("a model where there are no faults"))
}

fn faults(text: &str) -> Vec<String> {
    let faults = read(text, 10).expect_err("faults");
    faults.0.iter().map(ToString::to_string).collect()
}

fn preset(name: &str) -> ModelSpec {
    read(&format!("[model]\npreset = \"{name}\""), 10).expect(name)
}

const CNN: &str = r#"
[model]
input = { shape = [1, 28, 28] }
layers = [
  { conv2d = { out = 32, kernel = 5, padding = 2 } }, "relu", { max_pool2d = 2 },
  { conv2d = { out = 64, kernel = 5, padding = 2 } }, "relu", { max_pool2d = { kernel = 2 } },
  "flatten", { linear = 512 }, "relu", { linear = { out = 10 } },
]
"#;

#[test]
fn presets_have_the_papers_parameter_counts() {
    assert_eq!(preset("mnist_2nn").schema().len(), 199_210);
    assert_eq!(preset("mnist_cnn").schema().len(), 1_663_370);
    assert_eq!(preset("cifar_cnn").schema().len(), 315_722);
    let text = "[model]\npreset = \"logistic_regression\"\ninput = { shape = [64] }";
    assert_eq!(read(text, 10).expect("logistic regression").schema().len(), 650);
}

#[test]
fn a_preset_is_the_same_model_as_its_layers_written_out() {
    let (written, named) = (read(CNN, 10).expect("cnn"), preset("mnist_cnn"));
    assert_eq!(written.layers(), named.layers());
    assert_eq!(written.schema().digest(), named.schema().digest());
    assert_eq!(written.shapes()[5], [64, 7, 7]);
    assert_eq!((written.output(), written.input()), ([10].as_slice(), [1, 28, 28].as_slice()));
    let names: Vec<&str> = written.schema().tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names[2..4], ["layers.3.weight", "layers.3.bias"]);
    let weight = written.schema().tensor("layers.3.weight").expect("weight");
    assert_eq!(weight.shape, [64, 32, 5, 5]);
}

#[test]
fn the_first_checkpoint_is_the_same_bytes_everywhere() {
    let digest = |seed| {
        let mut hasher = Hasher::new();
        for value in preset("mnist_2nn").initial(seed).values() {
            hasher.update(&value.to_le_bytes());
        }
        hasher.finish().hex()
    };
    assert_eq!(digest(7), "dca1d84cfa11d5905ece43b877ba13ca930d84384ac4b0e2c5e479e75dbede06");
    assert_ne!(digest(7), digest(8));
}

#[test]
fn the_first_weights_are_uniform_and_the_biases_zero() {
    let first = preset("mnist_cnn").initial(3);
    let weight = first.tensor("layers.7.weight").expect("weight");
    let bound = (6.0_f32 / 3136.0).sqrt();
    assert!(weight.iter().all(|w| w.abs() <= bound));
    assert!(
        weight.iter().any(|w| *w > 0.999 * bound) && weight.iter().any(|w| *w < -0.999 * bound)
    );
    let variance = weight.iter().map(|w| f64::from(w * w)).sum::<f64>() / weight.len() as f64;
    assert!((variance * 3136.0 / 2.0 - 1.0).abs() < 0.01, "{variance}");
    assert!(first.tensor("layers.7.bias").expect("bias").iter().all(|b| *b == 0.0));
}

#[test]
fn every_fault_of_a_model_is_named_at_once() {
    let text = r#"
[model]
input = { shape = [1, 28, 28, 1] }
layers = [
  { conv2d = { out = 0, kernel = 5, pading = 2 } }, "gelo", { max_pool2d = "two" },
  { linear = 512, relu = 1 }, { linear = -1 }, { lstn = 3 }, 4,
]
loss = "mse"
"#;
    let faults = faults(text);
    let expected = [
        "model.input.shape: expected [channels, height, width], [channels, length],",
        "model.loss: expected cross_entropy for `classes`",
        "model.layers[0].conv2d.out: expected an integer from 1 to 1048576, found 0",
        "model.layers[0].conv2d.pading: expected a known key (did you mean `padding`?)",
        "model.layers[1]: expected a layer: one of \"relu\"",
        "model.layers[2].max_pool2d.kernel: expected an integer from 1 to 255",
        "model.layers[3]: expected a table with one key, the layer's kind, found linear, relu",
        "model.layers[4].linear.out: expected an integer from 1 to 1048576, found -1",
        "model.layers[5]: expected a layer",
        "model.layers[6]: expected a layer",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (index, line) in expected.iter().enumerate() {
        assert!(faults.iter().any(|fault| fault.starts_with(line)), "{index}: {faults:#?}");
    }
}

#[test]
fn a_wrong_shape_names_the_layer_what_it_got_and_what_it_needs() {
    let with = |layers: &str| {
        faults(&format!("[model]\ninput = {{ shape = [3, 8, 8] }}\nlayers = [{layers}]")).join("; ")
    };
    assert_eq!(
        with("{ linear = 10 }"),
        "model.layers[0]: expected an input of [features] or [steps, features] (put \"flatten\" before it) to linear for \
         layer 0, found [3, 8, 8]"
    );
    assert_eq!(
        with("\"flatten\", \"relu\", { conv2d = { out = 1, kernel = 3 } }"),
        "model.layers[2]: expected an input of [channels, height, width] to conv2d for layer 2, \
         found [192]"
    );
    assert!(with("{ max_pool2d = 9 }").contains("at least 9 × 9"));
    assert!(with("{ conv2d = { out = 1, kernel = 11, padding = 1 } }").contains("at least 11"));
    assert_eq!(
        with("\"flatten\", { linear = 9 }"),
        "model.layers[1]: expected a last layer that gives [10] for cross_entropy, found [9]"
    );
}

#[test]
fn hostile_sizes_are_refused_without_overflow() {
    let with = |shape: &str, layers: &str| {
        faults(&format!("[model]\ninput = {{ shape = {shape} }}\nlayers = [{layers}]")).join("; ")
    };
    let big = 1 << 20;
    assert!(with(&format!("[{big}, {big}, {big}]"), "\"flatten\"").contains("at most 16777216"));
    assert!(with("[9223372036854775807]", "\"relu\"").contains("model.input.shape"));
    let linear = format!("{{ linear = {big} }}, {{ linear = {big} }}");
    assert!(with("[16]", &linear).contains("a weight of at most"));
    let conv = format!("{{ conv2d = {{ out = {big}, kernel = 1 }} }}");
    assert!(with("[1, 64, 64]", &conv).contains("at most 16777216 values behind conv2d"));
    let conv = "{ conv2d = { out = 1, kernel = 255, padding = 255 } }";
    assert!(with("[1024, 64, 64]", conv).contains("kernel places × output places"));
    let many = "\"relu\", ".repeat(LAYERS_MAX + 1);
    assert!(with("[10]", &many).contains("at most 1024 layers"));
    let wide = "{ linear = 1048576 }, { linear = 500 }, ".repeat(2);
    assert!(with("[500]", &format!("{wide} {{ linear = 10 }}")).contains("parameters"));
}

#[test]
fn layers_or_a_preset_are_needed_and_not_both() {
    assert!(faults("[model]")[0].contains("a list of layers, or a `preset`"));
    let both = faults("[model]\npreset = \"mnist_cnn\"\nlayers = [\"relu\"]").join("; ");
    assert!(both.contains("either `layers` or `preset`, found both"), "{both}");
    assert!(faults("[model]\npreset = \"resnet\"")[0].contains("\"bert\", found \"resnet\""));
    assert!(faults("[model]\npreset = \"logistic_regression\"")[0].starts_with("model.input"));
    assert!(faults("[model]\nlayers = [\"relu\"]")[0].starts_with("model.input"));
    assert!(
        faults("[model]\npresett = \"mnist_cnn\"").join("; ").contains("did you mean `preset`")
    );
    let small = "[model]\npreset = \"mnist_cnn\"\ninput = { shape = [1, 2, 2] }";
    assert!(faults(small)[0].starts_with("model.preset: expected a picture of at least 2 × 2"));
}

fn text(vocabulary: u32, target: Target) -> DataSpec {
    DataSpec { name: None, kind: DataKind::Text, target, vocabulary }
}

fn read_for(text: &str, data: &DataSpec) -> Result<ModelSpec, Faults> {
    read_document(text, 1 << 20, |root| ModelSpec::read(root, data))
        .map(|model| model.expect("a model where there are no faults"))
}

#[test]
fn presets_of_sequences_have_the_papers_parameter_counts() {
    let series = DataSpec { kind: DataKind::Series, ..data(10) };
    let lstm = read_for("preset = \"stacked_lstm\"", &series).expect("stacked_lstm");
    assert_eq!(lstm.schema().len(), 53_386);
    let next = text(90, Target::NextToken);
    let characters = read_for("preset = \"char_lstm\"", &next).expect("char_lstm");
    assert_eq!((characters.schema().len(), characters.output()), (822_570, [80, 90].as_slice()));
    let classes = text(10_000, Target::Classes(10));
    let encoder = read_for("preset = \"text_transformer\"", &classes).expect("text_transformer");
    assert_eq!(encoder.schema().len(), 1_686_026);
    let two = text(30_522, Target::Classes(2));
    let distilbert = read_for("preset = \"distilbert\"", &two).expect("distilbert");
    assert_eq!(distilbert.schema().len(), 66_955_010);
    let bert = read_for("preset = \"bert\"", &two).expect("bert");
    assert_eq!(bert.schema().len(), 109_483_778);
    let base = crate::digest::Digest::of(b"weights");
    let lora = format!("preset = \"distilbert\"\nlora = {{ base = \"{base}\", rank = 8 }}");
    let adapters = read_for(&lora, &two).expect("adapters");
    assert_eq!(adapters.base(), Some(base));
    let bare = read_for("preset = \"distilbert\"\nlora = { rank = 8 }", &two).expect_err("no base");
    assert!(bare.to_string().contains("lora.base"), "{bare}");
    assert!(adapters.schema().len() < 1_000_000);
    assert_eq!(adapters.frozen_schema().map(|schema| schema.len()), Some(66_362_880));
}

#[test]
fn what_does_not_fit_names_its_layer() {
    let data = text(100, Target::Classes(2));
    let fault = |text: &str| read_for(text, &data).expect_err("faulty").to_string();
    let embedding = "{ embedding = { vocabulary = 100, dimension = 6 } }";
    let heads = format!(
        "input = {{ tokens = 4 }}\nlayers = [{embedding}, {{ transformer_encoder = \
         {{ layers = 1, heads = 4, feed_forward = 8 }} }}, \"mean_pool\", {{ linear = 2 }}]"
    );
    assert!(
        fault(&heads).contains("heads that divide 6 features to transformer_encoder for layer 1")
    );
    let numbers = "input = { shape = [4] }\nlayers = [{ linear = 2 }]";
    assert!(fault(numbers).contains("an input of { tokens = … } for data of kind \"text\""));
    let small = "input = { tokens = 4 }\nlayers = [{ embedding = { vocabulary = 9, dimension = 2 } }, \
                 \"mean_pool\", { linear = 2 }]";
    assert!(fault(small).contains("a vocabulary of at least 100"));
    let loss = format!(
        "input = {{ tokens = 4 }}\nlayers = [{embedding}, \"mean_pool\", {{ linear = 2 }}]\nloss = \"mse\""
    );
    assert!(fault(&loss).contains("mse for 2 classes"));
    let residual = format!(
        "input = {{ tokens = 4 }}\nlayers = [{embedding}, {{ residual = {{ layers = [{{ linear = 5 }}] }} }}, \
         \"mean_pool\", {{ linear = 2 }}]"
    );
    assert!(fault(&residual).contains("layers and shortcut of one shape"));
}
