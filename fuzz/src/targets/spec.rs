//! What an operator submits: the spec of a job.

use std::path::Path;

use tributary_core::spec::JobSpec;

use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[Target { name: "spec", run: spec, words: WORDS }];

const WORDS: &[&str] = &[
    "linear",
    "relu",
    "conv2d",
    "max_pool",
    "flatten",
    "dropout",
    "embedding",
    "lstm",
    "gru",
    "layer_norm",
    "batch_norm",
    "attention",
    "encoder",
    "residual",
    "softmax",
    "last",
    "kernel",
    "stride",
    "padding",
    "shape",
    "layers",
    "preset",
    "\"mnist_cnn\"",
    "\"distilbert\"",
    "lora",
    "federated",
    "normalise",
    "[data.normalise]",
    "[statistics]",
    "[strategy]",
    "mu",
    "{ ",
    " }",
    "[",
    "]",
    "= ",
    "\n",
    "-1",
    "0",
    "18446744073709551615",
    "4294967295",
    "1e308",
    "inf",
    "nan",
    "\"\"\"",
    "\\u0000",
    "[[",
    "]]",
];

fn spec(bytes: &[u8], _: &Path) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let parsed = JobSpec::parse(text);
    if let Ok(spec) = &parsed {
        assert!(spec.rounds >= 1 && spec.train.batch_size >= 1, "{spec:?}");
        assert!(!spec.model.schema().is_empty(), "a model without a tensor");
        let shapes = spec.model.shapes().iter().flatten();
        assert!(shapes.copied().all(|size| size > 0), "{:?}", spec.model.shapes());
        let _ = (spec.model.activations_per_example(), spec.data.measure(), spec.job_id(0));
        let again = JobSpec::parse(text).map(|again| again.digest);
        assert_eq!(again.ok(), Some(spec.digest), "one digest");
    }
    Verdict::of(&parsed)
}
