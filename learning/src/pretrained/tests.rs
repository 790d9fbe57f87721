//! Folders of pretrained models: what is read, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use tributary_core::document::read_document;
use tributary_core::model::ModelSpec;
use tributary_core::spec::data::{DataKind, DataSpec, Target};

use super::{Pretrained, half};
use crate::LearningError;

const CONFIG: &str = r#"{ "model_type": "bert", "hidden_size": 4, "num_attention_heads": 2,
    "num_hidden_layers": 1, "intermediate_size": 6, "max_position_embeddings": 5,
    "vocab_size": 7, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12 }"#;

const SIZES: &str = "hidden_size = 4, num_attention_heads = 2, num_hidden_layers = 1, \
    intermediate_size = 6, max_position_embeddings = 5, vocab_size = 7, type_vocab_size = 2";

fn model(lines: &str) -> ModelSpec {
    let data =
        DataSpec { name: None, kind: DataKind::Text, target: Target::Classes(2), vocabulary: 7 };
    let text = format!("input = {{ tokens = 5 }}\n{lines}");
    read_document(&text, 1 << 16, |root| ModelSpec::read(root, &data))
        .unwrap_or_else(|faults| panic!("{faults}"))
        .expect("a model")
}

fn bert() -> ModelSpec {
    model(&format!("preset = \"bert\"\nconfig = {{ {SIZES} }}"))
}

/// A folder's tensors: (name, kind, shape, bytes).
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// Values that halves of both kinds hold exactly: eighths from −4 to 4.
fn value(index: usize) -> f32 {
    (index % 64) as f32 / 8.0 - 4.0
}

/// All tensors of a model in one kind, each value by its place in the schema.
fn tensors(model: &ModelSpec, kind: Dtype) -> Tensors {
    let bytes = |index: usize| -> Vec<u8> {
        let value = value(index);
        match kind {
            Dtype::BF16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
            Dtype::F16 => to_half(value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        }
    };
    let list = model.schema().tensors().iter();
    list.map(|tensor| {
        let own = tensor.offset..tensor.offset + tensor.len;
        (tensor.name.clone(), kind, tensor.shape.clone(), own.flat_map(bytes).collect())
    })
    .collect()
}

/// The half that has a value, found by looking.
fn to_half(value: f32) -> u16 {
    (0..=u16::MAX).find(|bits| half(*bits) == value).expect("an eighth is a half")
}

fn folder(home: &Path, config: &str, tensors: &Tensors) -> PathBuf {
    fs::write(home.join("config.json"), config).expect("config.json");
    let views = tensors.iter().map(|(name, kind, shape, bytes)| {
        (name, TensorView::new(*kind, shape.clone(), bytes).expect("a view"))
    });
    let bytes = serialize(views, None).expect("safetensors");
    fs::write(home.join("model.safetensors"), bytes).expect("model.safetensors");
    home.to_owned()
}

fn load(config: &str, tensors: &Tensors) -> Result<Vec<f32>, LearningError> {
    let home = tempfile::tempdir().expect("a folder");
    let folder = folder(home.path(), config, tensors);
    Ok(Pretrained::open(&folder)?.start(&bert(), 3)?.into_values())
}

fn expected() -> Vec<f32> {
    (0..bert().schema().len()).map(value).collect()
}

#[test]
fn halves_are_those_of_the_standard() {
    for (bits, value) in [
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x3555, 0.333_251_95),
        (0x7bff, 65_504.0),
        (0x0400, 6.103_515_6e-5),
        (0x0001, 5.960_464_5e-8),
        (0x8000, -0.0),
        (0x7c00, f32::INFINITY),
    ] {
        assert_eq!(half(bits).to_bits(), f32::to_bits(value), "{bits:#x}");
    }
    assert!(half(0x7e00).is_nan());
}

#[test]
fn floats_and_halves_of_both_kinds_are_read() {
    for kind in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        assert_eq!(load(CONFIG, &tensors(&bert(), kind)).expect("loaded"), expected(), "{kind:?}");
    }
    let doubles = vec![(
        "bert.embeddings.word_embeddings.weight".to_owned(),
        Dtype::F64,
        vec![7, 4],
        vec![0; 7 * 4 * 8],
    )];
    let error = load(CONFIG, &doubles).expect_err("doubles").to_string();
    assert!(error.contains("F32, F16 or BF16, found F64"), "{error}");
}

#[test]
fn names_without_prefix_and_older_names_are_found() {
    let mut named = tensors(&bert(), Dtype::F32);
    for (name, ..) in &mut named {
        *name = name.trim_start_matches("bert.").to_owned();
        if let Some(at) = name.strip_suffix("LayerNorm.weight") {
            *name = format!("{at}LayerNorm.gamma");
        } else if let Some(at) = name.strip_suffix("LayerNorm.bias") {
            *name = format!("{at}LayerNorm.beta");
        }
    }
    assert!(named.iter().any(|(name, ..)| name == "embeddings.LayerNorm.gamma"));
    assert_eq!(load(CONFIG, &named).expect("loaded"), expected());
}

#[test]
fn only_the_head_is_drawn_where_the_file_lacks_it() {
    let mut body = tensors(&bert(), Dtype::F32);
    body.retain(|(name, ..)| !name.starts_with("classifier") && !name.contains("pooler"));
    let loaded = load(CONFIG, &body).expect("loaded");
    let drawn = bert().initial(3);
    for tensor in bert().schema().tensors() {
        let own = tensor.offset..tensor.offset + tensor.len;
        let head = tensor.name.starts_with("classifier") || tensor.name.contains("pooler");
        let source = if head { drawn.values().to_vec() } else { expected() };
        assert_eq!(loaded[own.clone()], source[own], "{}", tensor.name);
    }
    body.remove(0);
    let error = load(CONFIG, &body).expect_err("no words").to_string();
    assert!(error.contains("`bert.embeddings.word_embeddings.weight`, found none"), "{error}");
}

#[test]
fn wrong_tensors_are_named() {
    let with = |change: &dyn Fn(&mut Tensors)| {
        let mut changed = tensors(&bert(), Dtype::F32);
        change(&mut changed);
        load(CONFIG, &changed).expect_err("refused").to_string()
    };
    let shape = with(&|list| list[0].2 = vec![4, 7]);
    assert!(shape.contains("of shape [7, 4], found [4, 7]"), "{shape}");
    let odd = with(&|list| list[1].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(
        odd.contains("finite numbers in `bert.embeddings.position_embeddings.weight`"),
        "{odd}"
    );
}

#[test]
fn a_config_that_is_not_the_specs_is_refused_without_a_path() {
    let tensors = tensors(&bert(), Dtype::F32);
    for (old, new, part) in [
        ("\"model_type\": \"bert\"", "\"model_type\": \"roberta\"", "found \"roberta\""),
        ("\"model_type\": \"bert\"", "\"model_type\": \"distilbert\"", "change `preset`"),
        (
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": 4",
            "model.config.num_attention_heads",
        ),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": true", "found true"),
        ("\"vocab_size\": 7, ", "", "expected vocab_size = 7 as the spec has it, found 30522"),
        (
            "\"hidden_act\": \"gelu\"",
            "\"hidden_act\": \"relu\"",
            "hidden_act \"gelu\", found \"relu\"",
        ),
        ("1e-12", "1e-05", "expected layer_norm_eps 1e-12, found"),
        ("1e-12", "1e-12, \"position_embedding_type\": \"relative_key\"", "\"absolute\""),
    ] {
        assert!(CONFIG.contains(old), "{old}");
        let error = load(&CONFIG.replace(old, new), &tensors).expect_err(new);
        assert!(matches!(error, LearningError::Base { .. }), "{error}");
        assert!(error.to_string().contains(part) && !error.to_string().contains('/'), "{error}");
    }
    for broken in ["", "[]", "{"] {
        let error = load(broken, &tensors).expect_err("no config").to_string();
        assert!(error.contains("config.json: expected"), "{error}");
    }
}

#[test]
fn a_folder_that_is_none_or_changes_is_told() {
    let home = tempfile::tempdir().expect("a folder");
    let open = || Pretrained::open(home.path());
    assert!(open().expect_err("nothing").to_string().contains("save_pretrained"));
    fs::write(home.path().join("config.json"), CONFIG).expect("config.json");
    assert!(open().expect_err("no weights").to_string().contains("model.safetensors"));
    fs::write(home.path().join("model.safetensors"), "no tensors").expect("a file");
    let damaged = open().expect("opened").start(&bert(), 0).expect_err("damaged").to_string();
    assert!(damaged.contains("damaged"), "{damaged}");
    folder(home.path(), CONFIG, &tensors(&bert(), Dtype::F32));
    let before = open().expect("opened");
    fs::write(home.path().join("model.safetensors"), "others").expect("a file");
    let changed = before.start(&bert(), 0).expect_err("changed").to_string();
    assert!(changed.contains("it changed"), "{changed}");
}

#[test]
fn the_lines_for_a_spec_make_the_model() {
    let home = tempfile::tempdir().expect("a folder");
    let base = Pretrained::open(&folder(home.path(), CONFIG, &tensors(&bert(), Dtype::F32)));
    let base = base.expect("opened");
    let adapters = model(&base.spec_lines().expect("lines"));
    assert_eq!(adapters.base(), Some(base.digest()));
    let frozen = base.frozen(&adapters).expect("the body").expect("a frozen body");
    assert_eq!(frozen.values()[..28], expected()[..28]);
    assert!(base.frozen(&bert()).expect("whole").is_none());
    let other = model(
        "layers = [{ embedding = { vocabulary = 7, dimension = 2 } }, \"mean_pool\", { linear = 2 }]",
    );
    assert!(base.start(&other, 0).is_err());
}
