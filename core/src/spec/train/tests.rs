//! What `[train]` may say.

use super::{Decay, Optimizer, TrainSpec};
use crate::document::read_document;
use crate::fault::Faults;

fn read(text: &str) -> Result<TrainSpec, Faults> {
    read_document(text, 1000, TrainSpec::read)
}

#[test]
fn optimizers_read_with_their_defaults() {
    let text = "batch_size = 10\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }";
    let train = read(text).expect("sgd");
    assert_eq!((train.local_epochs, train.batch_size), (1, 10));
    assert_eq!(train.optimizer, Optimizer::sgd(0.1));
    assert_eq!((train.clip_norm, train.proximal_mu), (None, 0.0));
    let text = "batch_size = 1\nlocal_epochs = 5\n[optimizer]\nkind = \"adam\"\n\
                learning_rate = 1\nbeta2 = 0.99";
    let adam = |beta2, weight_decay, decoupled| {
        let (learning_rate, beta1, epsilon) = (1.0, 0.9, 1e-8);
        Optimizer::Adam { learning_rate, beta1, beta2, epsilon, weight_decay, decoupled }
    };
    assert_eq!(read(text).expect("adam").optimizer, adam(0.99, 0.0, false));
    let text = "batch_size = 1\noptimizer = { kind = \"adamw\", learning_rate = 1 }";
    assert_eq!(read(text).expect("adamw").optimizer, adam(0.999, 0.01, true));
}

#[test]
fn schedule_clipping_and_the_proximal_term_read() {
    let text = "batch_size = 1\nclip_norm = 1\nproximal_mu = 0.1\n\
                optimizer = { kind = \"rmsprop\", learning_rate = 0.1 }\n\
                schedule = { kind = \"cosine\", warmup_rounds = 3 }";
    let train = read(text).expect("train");
    assert_eq!((train.clip_norm, train.proximal_mu), (Some(1.0), 0.1));
    assert_eq!(train.schedule.decay, Decay::Cosine { floor: 0.0 });
    assert_eq!(train.schedule.warmup_rounds, 3);
    let faults = read(
        "batch_size = 1\nclip_norm = 0\nproximal_m = 1\n[schedule]\nkind = \"step\"\n\
                       [optimizer]\nkind = \"adagrad\"\nlearning_rate = 1\nbeta1 = 0.5",
    );
    let faults = faults.expect_err("faults").to_string();
    for part in
        ["clip_norm:", "schedule.every_rounds:", "did you mean `proximal_mu`", "optimizer.beta1"]
    {
        assert!(faults.contains(part), "{part} is missing in {faults}");
    }
}

#[test]
fn faults_come_together() {
    let text = "batch_size = 0\n[optimizer]\nkind = \"sgd\"\nlearning_rate = -1\n\
                nesterov = true\nmomentum = 1\nbeta1 = 0.9";
    let faults = read(text).expect_err("faults").to_string();
    for part in [
        "batch_size: expected an integer from 1 to 65536, found 0",
        "optimizer.learning_rate: expected a number from 0 to 1000, found -1",
        "optimizer.momentum: expected a number from 0 to 0.999999, found 1",
        "optimizer.nesterov: expected false, or a momentum above 0",
        "optimizer.beta1: expected one of the keys kind, learning_rate, momentum",
    ] {
        assert!(faults.contains(part), "{part} is missing in {faults}");
    }
    let faults = read("batch_size = 1").expect_err("no optimizer").to_string();
    assert!(faults.contains("optimizer.kind: expected one of \"sgd\", \"adam\", \"adamw\""));
    let faults = read("batch_size = 1\n[optimizer]\nkind = \"sdg\"\nlearning_rate = 0.1");
    assert_eq!(faults.expect_err("kind").0.len(), 1);
}
