//! `tributary bench train` as somebody types it: a line of JSON with what others rely on.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command.args(["bench", "train", "--seconds", "0.01"]).args(args);
    command.output().expect("the bench")
}

fn line(args: &[&str]) -> Value {
    let output = bench(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

#[test]
fn both_engines_are_measured_and_told_apart() {
    for (device, threads) in [("cpu", "1"), ("cpu", "2"), ("candle", "1")] {
        let args =
            ["--model", "stacked_lstm", "--threads", threads, "--batch", "4", "--device", device];
        let line = line(&args);
        assert_eq!(line["bench"], "train");
        assert_eq!((&line["model"], &line["params"]), (&"stacked_lstm".into(), &53_386.into()));
        assert_eq!((&line["batch"], &line["device"]), (&4.into(), &device.into()));
        assert_eq!(line["threads"].to_string(), threads);
        for measured in ["examples_per_s", "examples_per_s_best", "peak_rss_mb"] {
            assert!(line[measured].as_f64() > Some(0.0), "{measured}: {line}");
        }
    }
}

#[test]
fn what_cannot_be_measured_is_named() {
    for (args, parts) in [
        (["--model", "mnist_3nn"], ["mnist_3nn", "mnist_2nn"]),
        (["--device", "gpu"], ["gpu", "\"cuda:N\""]),
    ] {
        let more: &[&str] = if args[0] == "--model" { &[] } else { &["--model", "stacked_lstm"] };
        let output = bench(&[&args, more].concat());
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        for part in parts {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
    }
}
