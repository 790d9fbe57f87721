//! Models against PyTorch's logits, losses, gradients and steps. See `fixtures/golden/README.md`.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tributary_core::model::ModelSpec;
use tributary_core::params::ParameterSet;
use tributary_core::spec::train::Optimizer;
use tributary_learning::model::Network;
use tributary_learning::optimizer;

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

    fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).expect(name);
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let values =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (values.collect(), tensor.shape().to_vec())
    }

    /// The labels of a classification; `None` where the targets are something else.
    fn labels(&self) -> Option<Vec<u32>> {
        let tensors = self.tensors();
        let tensor = tensors.tensor("target").ok().filter(|t| t.dtype() == Dtype::I64)?;
        let label = |b: &[u8]| u32::try_from(i64::from_le_bytes(b.try_into().unwrap())).unwrap();
        Some(tensor.data().chunks_exact(8).map(label).collect())
    }

    /// The model, or why it is not one of ours yet.
    fn model(&self) -> Result<ModelSpec, String> {
        let input = self.tensors().tensor("input").map_err(|error| error.to_string())?;
        if input.dtype() != Dtype::F32 {
            return Err("its input is not of numbers".to_owned());
        }
        let classes = self.floats("logits").1.last().copied().unwrap_or(0);
        let text = format!(
            "input = {{ shape = {:?} }}\nlayers = {}\nloss = {}",
            &input.shape()[1..],
            toml_text(&self.description["layers"]),
            toml_text(&self.description["loss"]),
        );
        case::model(&text, u32::try_from(classes).unwrap()).map_err(|faults| faults.to_string())
    }

    fn parameters(&self, model: &ModelSpec) -> ParameterSet {
        let values = self.flat(model, "param.");
        ParameterSet::new(model.schema().clone(), values).expect("the schema's size")
    }

    /// A set of tensors, in the schema's order.
    fn flat(&self, model: &ModelSpec, prefix: &str) -> Vec<f32> {
        let tensors = model.schema().tensors().iter();
        let values = tensors.flat_map(|tensor| {
            let name = tensor.name.strip_prefix("layers.").expect("a layer's name");
            let (values, shape) = self.floats(&format!("{prefix}{name}"));
            assert_eq!(shape, tensor.shape, "{name}");
            values
        });
        values.collect()
    }

    fn input(&self) -> Tensor {
        let (values, shape) = self.floats("input");
        Tensor::from_vec(values, shape, &Device::Cpu).expect("input")
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

/// ‖ours − theirs‖ ⁄ ‖theirs‖ for each tensor of the schema.
fn assert_tensors(what: &str, model: &ModelSpec, ours: &[f32], theirs: &[f32]) {
    for tensor in model.schema().tensors() {
        let place = tensor.offset..tensor.offset + tensor.len;
        assert_close(&format!("{what} {}", tensor.name), &ours[place.clone()], &theirs[place]);
    }
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let whole = norm(&mut theirs.iter().map(|&t| f64::from(t)));
    let pairs = ours.iter().zip(theirs);
    let error = norm(&mut pairs.map(|(&o, &t)| f64::from(o) - f64::from(t)));
    let bound = if whole == 0.0 { TOLERANCE } else { TOLERANCE * whole };
    assert!(error <= bound, "{what}: {error} of {whole}");
}

fn flat(tensors: &[Tensor]) -> Vec<f32> {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors.iter().flat_map(flat).collect()
}

/// Checks one case; says why where it cannot.
fn check(folder: &Path) -> Result<(), String> {
    let case = Case::open(folder);
    let model = case.model()?;
    let labels = case.labels().ok_or("its targets are no labels")?;
    let network = Network::trainable(&model, &case.parameters(&model)).expect("network");
    let logits = network.forward(&case.input()).expect("forward");
    assert_close("logits", &flat(std::slice::from_ref(&logits)), &case.floats("logits").0);
    let loss = network.loss(&logits, labels.clone().into()).expect("loss");
    let (ours, theirs) = (loss.to_scalar::<f32>().unwrap(), case.floats("loss").0[0]);
    let error = f64::from((ours - theirs).abs() / theirs);
    assert!(error <= LOSS_TOLERANCE, "loss {ours} and {theirs}");
    let gradients = network.gradients(&loss).expect("gradients");
    assert_tensors("gradient", &model, &flat(&gradients), &case.flat(&model, "grad."));

    for (name, rule) in case.description["optimizers"].as_object().expect("optimizers") {
        let text = format!("batch_size = 1\noptimizer = {}", toml_text(rule));
        match case::training(&text) {
            Ok(train) => check_steps(&case, &model, &labels, name, train.optimizer),
            Err(faults) => println!("SKIP {} {name}: {faults}", case.folder.display()),
        }
    }
    Ok(())
}

fn check_steps(case: &Case, model: &ModelSpec, labels: &[u32], name: &str, rule: Optimizer) {
    let network = Network::trainable(model, &case.parameters(model)).expect("network");
    let sizes = network.parameters().iter().map(Tensor::elem_count);
    let mut state = optimizer::State::new(rule, sizes);
    let (input, labels): (_, std::sync::Arc<[u32]>) = (case.input(), labels.into());
    for _ in 0..case.description["steps"].as_u64().expect("steps") {
        let logits = network.forward(&input).expect("forward");
        let loss = network.loss(&logits, labels.clone()).expect("loss");
        let gradients = network.gradients(&loss).expect("gradients");
        state.step(network.parameters(), &gradients).expect("step");
    }
    let theirs = case.flat(model, &format!("after.{name}."));
    assert_tensors(&format!("after {name}"), model, &network.values().expect("values"), &theirs);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden").join(name)
}

#[test]
fn golden_cnn() {
    check(&fixture("cnn")).expect("supported");
}

#[test]
fn golden_mlp() {
    check(&fixture("mlp")).expect("supported");
}

/// Cases of a folder that somebody names, either its own or those of its `cases`.
#[test]
fn golden_cases_of_the_environment() {
    let Some(folder) = std::env::var_os("TRIBUTARY_GOLDEN").map(PathBuf::from) else {
        println!("SKIP: set TRIBUTARY_GOLDEN to a folder of golden cases to run more");
        return;
    };
    let cases = folder.join("cases");
    let folder = if cases.is_dir() { cases } else { folder };
    let entries = std::fs::read_dir(&folder).expect("a folder");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").is_file());
    folders.sort();
    assert!(!folders.is_empty(), "there are no cases in {}", folder.display());
    for folder in folders {
        match check(&folder) {
            Ok(()) => println!("ok   {}", folder.display()),
            Err(reason) => println!("SKIP {}: {reason}", folder.display()),
        }
    }
}
