//! What holds weights: a part of an update, a checkpoint, a pretrained model's folder.

use std::path::Path;
use std::sync::OnceLock;

use tributary_core::checkpoint;
use tributary_core::codec::{Expectation, check_part, part_range, update_len};
use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_learning::Pretrained;

use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "update", run: update, words: &["TRBU", "\u{1}\0\u{1}\0"] },
    Target { name: "checkpoint", run: safetensors, words: SAFETENSORS },
    Target { name: "pretrained", run: pretrained, words: SAFETENSORS },
];

const SAFETENSORS: &[&str] = &[
    "{",
    "}",
    "\"dtype\":\"F32\"",
    "\"F16\"",
    "\"BF16\"",
    "\"I64\"",
    "\"shape\":[",
    "[-1]",
    "[0]",
    "[18446744073709551615]",
    "[4294967296,4294967296]",
    "\"data_offsets\":[0,",
    "__metadata__",
    "\"weight\"",
    ",",
    ":",
    "[[[[[[[[",
    "\"\\u0000\"",
    "-0",
    "1e3",
    "\"model_type\":\"bert\"",
    "\"n_heads\":0",
    "\"dim\":-1",
    "\"n_layers\":4294967295",
];

/// Values of the update that is expected.
const PARAMETERS: usize = 6;
/// Its largest magnitude.
const MAX_ABS: f32 = 8.0;

/// The digest that the corpus's updates carry.
fn schema() -> Digest {
    Digest::of(b"schema")
}

/// The first byte is the number of the part.
fn update(bytes: &[u8], _: &Path) -> Verdict {
    let Some((part, bytes)) = bytes.split_first() else { return Verdict::Refused };
    let expected = Expectation { schema: schema(), parameters: PARAMETERS, max_abs: MAX_ABS };
    let checked = check_part(u32::from(*part), bytes, &expected);
    match &checked {
        Ok(()) => {
            let range = part_range(u32::from(*part), update_len(PARAMETERS)).expect("a part");
            assert_eq!(bytes.len() as u64, range.end - range.start);
            let (values, rest) = bytes[bytes.len() - 4 * PARAMETERS..].as_chunks::<4>();
            assert!(rest.is_empty());
            let fine = |v: &[u8; 4]| f32::from_le_bytes(*v).abs() <= MAX_ABS;
            assert!(values.iter().all(fine), "every value within the bound");
        }
        Err(fault) => assert!(!fault.reason().is_empty()),
    }
    Verdict::of(&checked)
}

fn safetensors(bytes: &[u8], _: &Path) -> Verdict {
    let read = checkpoint::decode(bytes);
    if let Ok(set) = &read {
        assert!(set.values().iter().all(|value| value.is_finite()));
        assert!(set.values().len() * 4 <= bytes.len());
        assert!(checkpoint::check_header(bytes, set.schema()).is_ok());
        let again = checkpoint::decode(&checkpoint::encode(set));
        assert_eq!(again.as_ref().ok(), Some(set), "what was read can be written");
    }
    Verdict::of(&read)
}

/// The model that the corpus's folder is of, as a job writes it.
fn model() -> &'static JobSpec {
    static SPEC: OnceLock<JobSpec> = OnceLock::new();
    SPEC.get_or_init(|| JobSpec::parse(BERT).expect("good"))
}

const BERT: &str = "[job]\nname = \"fuzz\"\nrounds = 1\n\
    [data]\nkind = \"text\"\nclasses = 2\nvocabulary = 8\n\
    [model]\npreset = \"distilbert\"\n\
    config = { dim = 4, n_heads = 2, n_layers = 1, hidden_dim = 4, max_position_embeddings = 4, \
    vocab_size = 8 }\ninput = { tokens = 4 }\n\
    [train]\nbatch_size = 1\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\n";

/// A folder's `config.json` where the bytes begin as JSON does, and its weights otherwise.
fn pretrained(bytes: &[u8], folder: &Path) -> Verdict {
    let (config, weights): (&[u8], &[u8]) = match bytes.first() {
        Some(b'{') => (bytes, GOOD_WEIGHTS),
        _ => (GOOD_CONFIG, bytes),
    };
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("room");
    write("config.json", config);
    write("model.safetensors", weights);
    let opened = Pretrained::open(folder);
    if let Ok(base) = &opened {
        let _ = base.spec_lines();
    }
    let start = opened.and_then(|base| base.start(&model().model, 1));
    if let Ok(set) = &start {
        assert!(set.values().iter().all(|value| value.is_finite()));
    }
    Verdict::of(&start)
}

const GOOD_CONFIG: &[u8] = include_bytes!("../../corpus/pretrained/good-config");
const GOOD_WEIGHTS: &[u8] = include_bytes!("../../corpus/pretrained/good-weights");
