//! Models against PyTorch's logits, losses, gradients and steps. See `fixtures/golden/README.md`.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tributary_core::model::ModelSpec;
use tributary_core::spec::data::{DataKind, DataSpec, Target};
use tributary_core::spec::train::Optimizer;
use tributary_data::{Batch, Inputs, Targets};
use tributary_learning::optimizer::{State, Terms};
use tributary_learning::portable::PortableNetwork;
use tributary_learning::{Network, Parameters, Pretrained};

use crate::case;

const TOLERANCE: f64 = 1e-4;
const LOSS_TOLERANCE: f64 = 1e-5;

/// One case: its description and its tensors' bytes.
struct Case {
    folder: PathBuf,
    description: Value,
    bytes: Vec<u8>,
}

impl Case {
    fn open(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("case.json")).expect("case.json");
        Self {
            folder: folder.to_owned(),
            description: serde_json::from_str(&text).expect("json"),
            bytes: std::fs::read(folder.join("tensors.safetensors")).expect("tensors"),
        }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("safetensors")
    }

    fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).expect(name);
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let values =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (values.collect(), tensor.shape().to_vec())
    }

    /// Integers and their shape; `None` where the tensor holds something else.
    fn integers(&self, name: &str) -> Option<(Vec<u32>, Vec<usize>)> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).ok()?;
        let one = |b: &[u8]| u32::try_from(i64::from_le_bytes(b.try_into().unwrap())).unwrap();
        match tensor.dtype() {
            Dtype::I64 => {
                Some((tensor.data().chunks_exact(8).map(one).collect(), tensor.shape().to_vec()))
            }
            Dtype::U8 => Some((
                tensor.data().iter().map(|&b| u32::from(b)).collect(),
                tensor.shape().to_vec(),
            )),
            _ => None,
        }
    }

    /// What the spec says of this case's data.
    fn data(&self) -> DataSpec {
        let logits = self.floats("logits").1;
        let last = u32::try_from(*logits.last().unwrap()).unwrap();
        let tokens = self.integers("input");
        let target = match self.integers("target") {
            Some((_, shape)) if shape.len() == 2 => Target::NextToken,
            Some(_) => Target::Classes(last),
            None => Target::Values(last),
        };
        let vocabulary = match (&tokens, target) {
            (None, _) => 0,
            (Some(_), Target::NextToken) => last,
            (Some((tokens, _)), _) => tokens.iter().max().unwrap() + 1,
        };
        let kind = if tokens.is_some() { DataKind::Text } else { DataKind::Series };
        DataSpec { name: None, kind, target, vocabulary }
    }

    fn model(&self) -> ModelSpec {
        let tokens = self.integers("input");
        let input = match &tokens {
            Some((_, shape)) => format!("{{ tokens = {} }}", shape[1]),
            None => format!("{{ shape = {:?} }}", &self.floats("input").1[1..]),
        };
        let layers = &self.description["layers"];
        let what = match layers[0].get("from") {
            None => format!("layers = {}", toml_text(layers)),
            Some(from) => {
                let config = self.config(from == "bert");
                format!("preset = {from}\nconfig = {config}\n{}", self.lora())
            }
        };
        let loss = toml_text(&self.description["loss"]);
        case::model(&format!("input = {input}\n{what}\nloss = {loss}"), &self.data())
            .unwrap_or_else(|faults| panic!("{}: {faults}", self.folder.display()))
    }

    /// The adapters' line of the spec, where the case has adapters.
    fn lora(&self) -> String {
        let Some(lora) = self.description["lora"].as_object() else { return String::new() };
        let base = self.pretrained().expect("the adapters' base").digest();
        format!(
            "lora = {{ base = \"{base}\", rank = {}, alpha = {} }}",
            lora["rank"], lora["alpha"]
        )
    }

    /// The sizes of a Hugging Face folder.
    fn config(&self, bert: bool) -> String {
        let text = std::fs::read_to_string(self.folder.join("model/config.json")).expect("config");
        let config: Value = serde_json::from_str(&text).expect("json");
        let sizes = if bert {
            "hidden_size num_attention_heads num_hidden_layers intermediate_size type_vocab_size \
             hidden_dropout_prob classifier_dropout"
        } else {
            "dim n_heads n_layers hidden_dim dropout seq_classif_dropout"
        };
        let keys = sizes.split_whitespace().chain(["max_position_embeddings", "vocab_size"]);
        let pairs: Vec<String> = keys.map(|key| format!("{key} = {}", config[key])).collect();
        format!("{{ {} }}", pairs.join(", "))
    }

    /// PyTorch's name of each of our tensors: ours where it is the same, else the next in order.
    fn names(&self, model: &ModelSpec) -> Vec<String> {
        let list = self.description["parameters"].as_array().expect("parameters");
        let mut theirs = list.iter().map(|name| name.as_str().unwrap().to_owned());
        let known = |name: &str| list.iter().any(|known| known == name);
        let mut last = String::new();
        let tensors = model.schema().tensors().iter();
        let names = tensors.map(|tensor| {
            let running = tensor.name.rsplit('.').next().filter(|part| part.starts_with("running"));
            if let Some(running) = running {
                let prefix = last.rsplit_once('.').map_or("", |(prefix, _)| prefix);
                return format!("{prefix}.{running}");
            }
            last = if known(&tensor.name) { tensor.name.clone() } else { theirs.next().unwrap() };
            last.clone()
        });
        names.collect()
    }

    /// A set of tensors, in the schema's order; running statistics come from `buffers`.
    fn flat(&self, model: &ModelSpec, prefix: &str, buffers: &str) -> Vec<f32> {
        let mut flat = Vec::new();
        for (tensor, name) in model.schema().tensors().iter().zip(self.names(model)) {
            let full = if self.has(&format!("{prefix}{name}")) { prefix } else { buffers };
            if full.is_empty() {
                flat.extend(std::iter::repeat_n(0.0, tensor.len));
                continue;
            }
            let (values, shape) = self.floats(&format!("{full}{name}"));
            assert_eq!(shape, tensor.shape, "{name}");
            flat.extend(values);
        }
        flat
    }

    /// The case's Hugging Face folder, where it has weights.
    fn pretrained(&self) -> Option<Pretrained> {
        let folder = self.folder.join("model");
        let has = folder.join("model.safetensors").is_file();
        has.then(|| Pretrained::open(&folder).expect("a pretrained model"))
    }

    /// The tensors that are not trained, as the Hugging Face folder has them.
    fn frozen(&self, model: &ModelSpec) -> Vec<f32> {
        if model.frozen_schema().is_none() {
            return Vec::new();
        }
        let base = self.pretrained().expect("the adapters' base");
        base.frozen(model).expect("the body").expect("a frozen body").into_values()
    }

    /// A model that is trained whole is the folder's, number by number.
    fn check_pretrained(&self, model: &ModelSpec, start: &[f32]) {
        if let (Some(folder), None) = (self.pretrained(), model.frozen_schema()) {
            let whole = folder.start(model, 1).expect("all of the model");
            assert_eq!(whole.values(), start);
        }
    }

    fn batch(&self) -> Batch {
        let (inputs, size) = match self.integers("input") {
            Some((tokens, shape)) => (Inputs::Tokens(tokens), shape[0]),
            None => {
                let (values, shape) = self.floats("input");
                (Inputs::Floats(values), shape[0])
            }
        };
        let targets = match self.integers("target") {
            Some((tokens, shape)) if shape.len() == 2 => Targets::Tokens(tokens),
            Some((labels, _)) => Targets::Classes(labels),
            None => Targets::Values(self.floats("target").0),
        };
        Batch { size, inputs, lengths: self.lengths(size), targets }
    }

    /// Steps that are no padding; padding stands at the end in these cases.
    fn lengths(&self, size: usize) -> Vec<u32> {
        let count = |name: &str, seen: u32| {
            let (mask, shape) = self.integers(name)?;
            let rows = mask.chunks_exact(shape[1]);
            Some(rows.map(|row| row.iter().filter(|&&m| m == seen).count() as u32).collect())
        };
        let lengths: Vec<u32> =
            count("padding", 0).or_else(|| count("attention_mask", 1)).unwrap_or_default();
        assert!(lengths.is_empty() || lengths.len() == size);
        lengths
    }
}

/// JSON as the inline TOML that says the same.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(toml_text).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// ‖ours − theirs‖ ⁄ ‖theirs‖ for each tensor of the schema. Where the gradient is nothing but
/// rounding (a bias before batch normalisation, the keys' bias of attention), it is compared
/// absolutely, against the size of the whole gradient.
fn assert_tensors(what: &str, model: &ModelSpec, ours: &[f32], theirs: &[f32]) {
    let whole = norm(theirs.iter().map(|&t| f64::from(t)));
    for tensor in model.schema().tensors() {
        let place = tensor.offset..tensor.offset + tensor.len;
        let what = format!("{what} {}", tensor.name);
        assert_close(&what, &ours[place.clone()], &theirs[place], 1e-5 * whole);
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// `nothing` is the size below which a tensor is only rounding.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32], nothing: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let whole = norm(theirs.iter().map(|&t| f64::from(t)));
    let error = norm(ours.iter().zip(theirs).map(|(&o, &t)| f64::from(o) - f64::from(t)));
    let bound = if whole <= nothing { TOLERANCE * nothing.max(1.0) } else { TOLERANCE * whole };
    assert!(error <= bound, "{what}: {error} of {whole}");
}

fn check(folder: &Path) {
    let case = Case::open(folder);
    let (model, batch) = (case.model(), case.batch());
    let start = case.flat(&model, "param.", "buffer.");
    let mut network = Network::new(&model).expect("network");
    let (mut values, frozen) = (start.clone(), case.frozen(&model));
    case.check_pretrained(&model, &start);
    let given = Parameters { trained: &values, frozen: &frozen };
    let loss = network.learn(given, &batch, 0, None).expect("learn");
    let theirs = f64::from(case.floats("loss").0[0]);
    assert!(((loss - theirs) / theirs).abs() <= LOSS_TOLERANCE, "loss {loss} and {theirs}");
    let gradients = case.flat(&model, "grad.", "");
    assert_tensors("gradient", &model, network.gradients(), &gradients);
    check_portable(&case, &model, &batch, &start, &gradients);
    network.settle(&mut values);
    let running = case.flat(&model, "param.", "buffer_after.");
    assert_tensors("running", &model, &values, &running);
    // Outside training a batch is normalised by running statistics: the logits of training are others.
    let running = model.schema().tensors().iter().any(|tensor| tensor.name.contains("running_"));
    let known = if running { "evaluation_logits" } else { "logits" };
    if case.has(known) {
        let given = Parameters { trained: &start, frozen: &frozen };
        let logits = network.predict(given, &batch).expect("predict");
        assert_close("logits", logits, &case.floats(known).0, 0.0);
    }
    for (name, rule) in case.description["optimizers"].as_object().expect("optimizers") {
        let text = format!("batch_size = 1\noptimizer = {}", toml_text(rule));
        let train = case::training(&text).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        check_steps(&case, &model, &batch, name, train.optimizer);
    }
}

/// The portable engine against the same gradients.
fn check_portable(case: &Case, model: &ModelSpec, batch: &Batch, start: &[f32], theirs: &[f32]) {
    let mut network = PortableNetwork::new(model, candle_core::Device::Cpu);
    let (mut values, frozen) = (start.to_vec(), case.frozen(model));
    let given = Parameters { trained: start, frozen: &frozen };
    let loss = network.learn(given, batch, 0, None).expect("learn by candle");
    let known = f64::from(case.floats("loss").0[0]);
    assert!(((loss - known) / known).abs() <= LOSS_TOLERANCE, "portable loss {loss}");
    assert_tensors("portable gradient", model, network.gradients(), theirs);
    network.settle(&mut values);
    let running = case.flat(model, "param.", "buffer_after.");
    assert_tensors("portable running", model, &values, &running);
}

fn check_steps(case: &Case, model: &ModelSpec, batch: &Batch, name: &str, rule: Optimizer) {
    let mut network = Network::new(model).expect("network");
    let (start, frozen) = (case.flat(model, "param.", "buffer."), case.frozen(model));
    let mut values = start.clone();
    let proximal = case.description["proximal_mu"].as_f64().map(|mu| (mu, start.as_slice()));
    let mut state = State::new(rule, values.len());
    for _ in 0..case.description["steps"].as_u64().expect("steps") {
        let given = Parameters { trained: &values, frozen: &frozen };
        network.learn(given, batch, 0, None).expect("learn");
        let (gradients, ranges) = (network.gradients(), network.optimised());
        let clip_norm = case.description["clip_norm"].as_f64();
        let terms = Terms { proximal, clip_norm, ..Terms::default() };
        state.step(&mut values, gradients, ranges, &terms);
    }
    let theirs = case.flat(model, &format!("after.{name}."), "buffer.");
    for (tensor, named) in model.schema().tensors().iter().zip(case.names(model)) {
        // Adam turns the rounding of a gradient that is nothing (the keys' bias of attention) into
        // steps of full size: such values are left out.
        let gradient = case_gradient(case, &named, tensor.len);
        let counts = |index: &usize| name.starts_with("sgd") || gradient[*index].abs() > 1e-7;
        let pick = |list: &[f32]| -> Vec<f32> {
            let own = &list[tensor.offset..tensor.offset + tensor.len];
            (0..tensor.len).filter(counts).map(|index| own[index]).collect()
        };
        let what = format!("{} after {name} {}", case.folder.display(), tensor.name);
        assert_close(&what, &pick(&values), &pick(&theirs), 1e-5);
    }
}

fn case_gradient(case: &Case, name: &str, len: usize) -> Vec<f32> {
    let name = format!("grad.{name}");
    if case.has(&name) { case.floats(&name).0 } else { vec![0.0; len] }
}

fn cases_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").is_file());
    folders.sort();
    assert!(!folders.is_empty(), "there are no cases in {}", folder.display());
    folders
}

fn check_all(folder: &Path) {
    let failed: Vec<PathBuf> = cases_of(folder)
        .into_iter()
        .filter(|folder| {
            println!("case {}", folder.display());
            std::panic::catch_unwind(|| check(folder)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "these cases disagree: {failed:?}");
}

#[test]
fn golden_fixtures() {
    check_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden"));
}

/// Cases of a folder that somebody names, either its own or those of its `cases`.
#[test]
fn golden_cases_of_the_environment() {
    let Some(folder) = std::env::var_os("TRIBUTARY_GOLDEN").map(PathBuf::from) else {
        println!("SKIP: set TRIBUTARY_GOLDEN to a folder of golden cases to run more");
        return;
    };
    let cases = folder.join("cases");
    check_all(if cases.is_dir() { &cases } else { &folder });
}
