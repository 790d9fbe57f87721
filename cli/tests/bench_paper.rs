//! `tributary bench paper` as an operator runs it, cut short: what it prints, and that it claims nothing.

use std::process::{Command, Output};

use serde_json::Value;
use tributary_testing::data_dir;

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command.args(["bench", "paper"]).args(args).output().expect("the operator's tool")
}

#[test]
fn an_unknown_headline_is_named_beside_those_that_there_are() {
    let output = bench(&["3nn", "--data", "nowhere"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("2nn-iid, 2nn-shards") && error.contains("found \"3nn\""), "{error}");
}

#[test]
fn a_run_that_is_cut_short_shows_its_curve_and_claims_nothing() {
    let Some(root) = data_dir() else { return };
    let data = root.join("mnist").display().to_string();
    let output = bench(&["2nn-iid", "--data", &data, "--seeds", "1", "--rounds", "1"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&line["name"], &line["clients"]), (&"2nn-iid".into(), &100.into()));
    // One round of 87 is neither a pass nor a miss.
    assert_eq!((&line["passed"], &line["median_rounds"]), (&Value::Null, &Value::Null));
    let run = &line["runs"][0];
    assert_eq!((&run["seed"], &run["rounds"]), (&1.into(), &1.into()));
    assert_eq!(run["stopped_by"], "rounds");
    let accuracy = run["curve"][0]["accuracy"].as_f64().expect("a score");
    assert!((0.3..0.97).contains(&accuracy), "one round beats chance by far: {accuracy}");
}

#[test]
fn fedprox_among_stragglers_shows_three_curves_and_claims_nothing_when_cut_short() {
    let output = bench(&["fedprox-synthetic", "--seeds", "4", "--rounds", "3"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&line["clients"], &line["passed"]), (&30.into(), &Value::Null));
    let arms = line["arms"].as_array().expect("arms");
    let told = |arm: &Value| (arm["proximal_mu"].as_f64(), arm["updates_a_round"].as_u64());
    let expected = [(Some(0.0), Some(1)), (Some(0.0), Some(10)), (Some(1.0), Some(10))];
    assert_eq!(arms.iter().map(told).collect::<Vec<_>>(), expected);
    let curves: Vec<&Value> = arms.iter().map(|arm| &arm["runs"][0]["curve"]).collect();
    assert!(curves.iter().all(|curve| curve.as_array().is_some_and(|points| points.len() == 3)));
    // Each arm trained otherwise than the others.
    assert!(curves[0] != curves[1] && curves[1] != curves[2], "{line:#}");
}

#[test]
fn what_a_headline_needs_or_does_not_take_is_said() {
    let said = |args: &[&str]| String::from_utf8_lossy(&bench(args).stderr).into_owned();
    assert!(said(&["2nn-iid"]).contains("2nn-iid needs --data, MNIST's folder"));
    let data = said(&["fedprox-synthetic", "--data", "mnist"]);
    assert!(data.contains("--data: expected nothing") && data.contains("leave it out"), "{data}");
    let rounds = said(&["fedprox-synthetic", "--rounds", "201"]);
    assert!(rounds.contains("expected 1 to 200") && rounds.contains("found 201"), "{rounds}");
}
