//! The client's command line: what it says before it ever reaches a network.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tributary_core::digest::Digest;

fn client(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary-client"));
    command.args(args).env("NO_COLOR", "1").output().expect("the client runs")
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn all_faults_of_a_file_are_named_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("client.toml");
    std::fs::write(&path, "coordinator = \"nowhere\"\nnames = \"a\"\n[data]\nformat = \"idx\"\n")
        .expect("written");
    let error = error(&client(&["run", "--config", &path.display().to_string()]));
    for part in ["client.toml", "coordinator:", "`names`", "data.images", "data.classes"] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = error(&client(&["check", "--config", "/nonexistent/client.toml"]));
    assert!(error.contains("/nonexistent/client.toml"), "{error}");
}

#[test]
fn the_help_teaches() {
    let output = client(&["--help"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("never rows"), "{text}");
}

/// A table of two classes that a line cuts, and a job for it.
fn table(folder: &std::path::Path) -> (String, String) {
    let rows: String = (0..60).map(|at| format!("{},{},{}\n", at, 60 - at, at / 30)).collect();
    std::fs::write(folder.join("rows.csv"), format!("up,down,late\n{rows}")).expect("written");
    let site = "coordinator = \"http://127.0.0.1:7443\"\nname = \"site-a\"\nthreads = 1\n[data]\n\
                format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"late\"\n\
                validation_fraction = 0.2\n";
    let job = "[job]\nname = \"late\"\nrounds = 5\n[data]\nkind = \"table\"\nclasses = 2\n\
               [data.normalise]\nmean = 30\ndeviation = 17\n\
               [model]\npreset = \"logistic_regression\"\ninput = { shape = [2] }\n\
               [train]\nlocal_epochs = 5\nbatch_size = 8\n\
               optimizer = { kind = \"sgd\", learning_rate = 0.3 }\n";
    let paths = ["client.toml", "job.toml"].map(|name| folder.join(name));
    std::fs::write(&paths[0], site).expect("written");
    std::fs::write(&paths[1], job).expect("written");
    let [site, job] = paths.map(|path| path.display().to_string());
    (site, job)
}

#[test]
fn a_site_trains_alone_to_compare() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    let out = folder.path().join("model.safetensors");
    let out = out.display().to_string();
    let args = ["train-local", "--config", &site, "--spec", &job, "--out", &out];
    let output = client(&args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.starts_with("round ")).count(), 5, "{text}");
    let last = text.lines().rfind(|line| line.starts_with("round ")).expect("a line");
    let score: f64 = last
        .split_once("validation:")
        .and_then(|(_, held)| held.split_once("accuracy "))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .expect("an accuracy");
    assert!(score > 0.8 && last.contains("on 12 rows"), "{text}");
    let first = std::fs::read(&out).expect("a model");
    let model = tributary_core::checkpoint::decode(&first).expect("safetensors");
    assert_eq!(model.schema().len(), 6);
    assert!(client(&args).status.success());
    assert_eq!(std::fs::read(&out).expect("a model"), first, "the same bytes again");
    let start = out.clone() + ".start";
    std::fs::write(&start, &first).expect("written");
    assert!(client(&[&args[..], &["--init", &start]].concat()).status.success());
    assert_ne!(std::fs::read(&out).expect("a model"), first, "it went on from there");

    // A job that starts from a checkpoint needs its file, and takes no other one.
    let digest = Digest::of(b"another");
    let mut text = std::fs::read_to_string(&job).expect("read");
    text += &format!("\n[init]\ncheckpoint = \"{digest}\"\n");
    std::fs::write(&job, text).expect("written");
    for (more, told) in [(&[] as &[&str], "with --init"), (&["--init", &start], "found sha256:")] {
        let output = client(&[&args[..], more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(told), "{error}");
    }
}

fn printed(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn document(args: &[&str]) -> Value {
    let text = printed(&client(&[args, &["--output", "json"]].concat()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn data_are_checked_against_a_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    let args = ["check", "--config", &site, "--spec", &job];
    let text = printed(&client(&args));
    for part in ["rows        48", "classes     0: 2", "range       ", "missing     none"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(text.contains("this site's   the order of the columns"), "{text}");
    let told = document(&args);
    let set = &told["data"][0];
    assert_eq!((&told["client"], &told["job"]), (&json!("site-a"), &json!("late")));
    assert_eq!(
        (&set["rows"]["train"]["rows"], &set["rows"]["evaluate"]["rows"]),
        (&json!(48), &json!(12))
    );
    assert_eq!(set["rows"]["train"]["shape"], json!([2]));
    let offered = &set["offered"][0];
    assert_eq!((&offered["classes"], &offered["train_examples"]), (&json!(2), &json!(48)));

    let other = std::fs::read_to_string(&job).expect("read").replace("shape = [2]", "shape = [3]");
    std::fs::write(&job, other).expect("written");
    let output = client(&args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("does not serve the job"), "{text}");
    assert!(text.contains("another shape: expected [3], found [2]"), "{text}");
    assert!(error(&output).contains("no data set of this site serves the job"));
    let output = client(&[&args[..], &["--output", "json"]].concat());
    assert!(!output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).expect("a document all the same");
    let refused = told["data"][0]["refused"].as_str().expect("a reason");
    assert!(refused.contains("expected [3], found [2]"), "{refused}");
}

#[test]
fn without_a_job_only_what_the_files_say_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    // What the labels mean is a job's to say: no class is counted, and none is offered.
    let text = printed(&client(&["check", "--config", &site]));
    for part in
        ["rows        48", "labels        0, 1, as they are written", "a job says    classes"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("classes     ") && !text.contains("target"), "{text}");
    let told = document(&["check", "--config", &site]);
    let rows = &told["data"][0]["rows"];
    assert_eq!(rows["left_to_job"], json!(["classes"]));
    assert_eq!(
        (&rows["train"]["target"], &rows["train"]["class_counts"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!((&rows["labels_as_written"], &told["job"]), (&json!(["0", "1"]), &Value::Null));
    assert_eq!(told["data"][0]["offered"][0]["classes"], json!(0));

    // Where the columns are a job's to list, none is a feature: no shape, no range, no missing values.
    let mut text = std::fs::read_to_string(&site).expect("read");
    text += "rename = { rising = \"up\" }\n";
    std::fs::write(&site, text).expect("written");
    let told = document(&["check", "--config", &site]);
    let rows = &told["data"][0]["rows"];
    assert_eq!(rows["left_to_job"], json!(["columns", "classes"]));
    for unknown in ["shape", "range", "missing"] {
        assert_eq!(rows["train"][unknown], Value::Null, "{unknown}");
    }
    // A job that lists none is refused; one that does is served, in its order.
    let silent = client(&["check", "--config", &site, "--spec", &job]);
    let said = String::from_utf8_lossy(&silent.stdout).into_owned();
    assert!(!silent.status.success() && said.contains("no `features` in the job"), "{said}");
    let text = std::fs::read_to_string(&job).expect("read");
    let listed = text.replace("classes = 2\n", "classes = 2\nfeatures = [\"down\", \"rising\"]\n");
    std::fs::write(&job, listed).expect("written");
    let told = document(&["check", "--config", &site, "--spec", &job]);
    assert_eq!(told["data"][0]["rows"]["train"]["shape"], json!([2]));
    assert_eq!(told["data"][0]["decided_here"], json!([]));
}

/// The same job, whose constants are all sites' sums.
fn federated(job: &str) {
    let text = std::fs::read_to_string(job).expect("read");
    let text = text.replace(
        "[data.normalise]\nmean = 30\ndeviation = 17\n",
        "normalise = \"federated\"\n[data.statistics]\nmin_clients = 2\nmin_sites = 2\n",
    );
    std::fs::write(job, text).expect("written");
}

#[test]
fn a_site_alone_takes_its_own_rows_for_all_sites() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    let args = ["train-local", "--config", &site, "--spec", &job];
    let score = |text: &str| text.rsplit_once("accuracy ").expect("a score").1[..6].to_owned();
    federated(&job);
    let text = printed(&client(&args));
    assert!(text.contains("constants: of this site's rows alone"), "{text}");
    assert!(score(&text).parse::<f64>().expect("a ratio") > 0.8, "{text}");
}

#[test]
fn a_job_s_sums_are_shown_before_anything_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    federated(&job);
    let args = ["check", "--config", &site, "--spec", &job];
    let text = printed(&client(&args));
    assert!(text.contains("hear this before its first round"), "{text}");
    assert!(
        text.contains("rows to train on: 48") && text.contains("feature 1: 48 values"),
        "{text}"
    );
    let sums = &document(&args)["data"][0]["sums"];
    assert_eq!((&sums["rows"], &sums["features"][0]["values"]), (&json!(48), &json!(48)));
    // A policy that keeps sums of so few rows at home says so, and nothing is shown as leaving.
    let mut own = std::fs::read_to_string(&site).expect("read");
    own += "[policy]\nstatistics_rows_min = 49\n";
    std::fs::write(&site, own).expect("written");
    let output = client(&args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains("does not serve the job"), "{text}");
}

#[test]
fn a_job_for_another_data_set_is_said_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    let text = std::fs::read_to_string(&job).expect("read");
    std::fs::write(&job, text.replace("[data]\n", "[data]\nname = \"hearts\"\n")).expect("written");
    let error = error(&client(&["check", "--config", &site, "--spec", &job]));
    assert!(
        error.contains("this site binds no data set \"hearts\", which the job names"),
        "{error}"
    );
}

/// An array of zeros as a sparse file, and a client's file that reads it with little memory.
fn large(folder: &std::path::Path, mib: u64) -> String {
    let rows = mib << 10;
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 256), }}\n");
    let head = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes()].concat();
    let whole = [head.as_slice(), header.as_bytes()].concat();
    let write = |name: &str, bytes: &[u8], all: u64| {
        std::fs::write(folder.join(name), bytes).expect("written");
        let file = std::fs::OpenOptions::new().write(true).open(folder.join(name)).expect("file");
        file.set_len(all).expect("sparse");
    };
    write("x.npy", &whole, whole.len() as u64 + (mib << 20));
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows},), }}\n");
    let head = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes()].concat();
    let whole = [head.as_slice(), header.as_bytes()].concat();
    write("y.npy", &whole, whole.len() as u64 + rows);
    let site = "coordinator = \"http://127.0.0.1:7443\"\nname = \"site-a\"\nthreads = 1\n[data]\n\
                format = \"npy\"\ninputs = \"x.npy\"\nlabels = \"y.npy\"\nclasses = 2\n\
                memory_mb = 16\n";
    std::fs::write(folder.join("client.toml"), site).expect("written");
    folder.join("client.toml").display().to_string()
}

/// Follows a `check` until it ends: what it had at most in memory, in MiB; `each` may end it.
fn follow(child: &mut std::process::Child, mut each: impl FnMut(&mut std::process::Child)) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) >> 10);
        each(child);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    peak
}

fn check_of(site: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary-client"));
    command.args(["check", "--config", site]).env("NO_COLOR", "1");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    command
}

#[test]
fn data_larger_than_memory_are_read_through_a_file_without_a_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = large(folder.path(), 300);
    let mut child = check_of(&site).spawn().expect("the client runs");
    let peak = follow(&mut child, |_| ());
    let output = child.wait_with_output().expect("an answer");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("rows        307200"), "{text}");
    assert!((16..120).contains(&peak), "{peak} MiB at most");
    let scratch = folder.path().join("tributary-client-site-a/scratch");
    assert_eq!(std::fs::read_dir(&scratch).expect("it was used").count(), 0);

    // Killed while it writes there: nothing is left either.
    let mut child = check_of(&site).spawn().expect("the client runs");
    let mut killed = false;
    follow(&mut child, |child| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten();
        let mut places = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        if !killed && places.any(|place| place.starts_with(&scratch)) {
            killed = true;
            child.kill().expect("killed");
        }
    });
    assert!(killed, "it was seen at work");
    assert_eq!(std::fs::read_dir(&scratch).expect("the folder stays").count(), 0);
}

/// The user that owns nothing.
const NOBODY: u32 = 65534;

#[test]
fn a_file_that_the_client_s_user_may_not_read_is_named() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().expect("a folder");
    let (site, _) = table(folder.path());
    let rows = folder.path().join("rows.csv");
    let mode = |path: &std::path::Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("a mode");
    };
    let binary = folder.path().join("client");
    std::fs::copy(env!("CARGO_BIN_EXE_tributary-client"), &binary).expect("a copy");
    mode(&binary, 0o755);
    mode(folder.path(), 0o755);
    let mut command = Command::new(&binary);
    command.args(["check", "--config", &site]).env("NO_COLOR", "1");
    // Root reads everything, so the client runs as somebody else.
    if std::fs::metadata(&rows).expect("rows").uid() == 0 {
        chown(&rows, Some(0), Some(0)).expect("root's");
        command.uid(NOBODY).gid(NOBODY);
    }
    mode(&rows, 0o000);
    let told = error(&command.output().expect("the client runs"));
    mode(&rows, 0o644);
    for part in ["cannot read", "rows.csv", "let the user that runs the client read it"] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    assert!(command.output().expect("the client runs").status.success(), "and then it may");
}
