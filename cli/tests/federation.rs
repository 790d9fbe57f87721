//! Whole federations of real processes: coordinator, clients, operator; killed and started again.

#[path = "federation/site.rs"]
mod site;
#[path = "federation/world.rs"]
mod world;

use std::path::Path;
use std::time::Duration;

use tributary_testing::Postgres;
use world::{World, spec};

/// The three uses, as separate processes, from submission to a model on disk.
#[test]
fn a_federation_of_processes_trains_and_answers() {
    let mut world = World::start("answers", None);
    world.add_clients(3);
    let job = world.submit(&spec(3, 1));
    let done = world.wait_for(&job);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["rounds_committed"], 3);
    let accuracy = done["evaluation"]["accuracy"].as_f64().expect("an accuracy");
    assert!(accuracy > 0.5, "three short rounds beat chance by far: {accuracy}");

    let rounds = world.json(&["rounds", &job]);
    let rounds = rounds.as_array().expect("a list");
    assert_eq!(rounds.len(), 3);
    assert!(rounds.iter().all(|r| r["updates"] == 3 && r["bytes_up"].as_u64() > Some(0)));
    let round = world.json(&["round", &job, "2"]);
    assert_eq!(round["checkpoint_in"], rounds[0]["checkpoint_out"]);
    assert_eq!(world.json(&["clients"]).as_array().map(Vec::len), Some(4));
    let events = world.json(&["events", &job]);
    let kinds: Vec<&str> = events["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["kind"].as_str())
        .collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("job_submitted", "job_completed"));

    let to = world.dir().join("model.safetensors");
    let pulled = world.json(&["model", "pull", &job, "--to", &to.display().to_string()]);
    assert_eq!(pulled["digest"], done["checkpoint_digest"]);
    let bytes = std::fs::read(&to).expect("a model");
    let parameters = tributary_core::checkpoint::decode(&bytes).expect("safetensors");
    assert_eq!(parameters.schema().len() as u64, done["parameters"].as_u64().expect("a count"));
    let table = world.run(&["status"]);
    assert!(table.contains(&job) && table.contains("completed"), "{table}");
}

#[test]
fn an_operator_can_end_a_job_and_is_told_what_it_waits_for() {
    let world = World::start("cancel", None);
    let job = world.submit(&spec(3, 1));
    let waiting = world.until(&job, |job| job["phase"] == "selecting");
    let reason = waiting["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("0 present") && reason.contains("min_available_clients is 3"),
        "{reason}"
    );
    world.run(&["cancel", &job, "--reason", "wrong data"]);
    let ended = world.wait_for(&job);
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&"cancelled".into(), &"cancelled: wrong data".into())
    );
    let error = world.fail(&["submit", "/nonexistent/job.toml"]);
    assert!(error.contains("cannot read"), "{error}");
    let error = world.fail(&["status", "nothing"]);
    assert!(error.contains("no such job"), "{error}");
}

/// Long enough that a blow lands while the job runs, on a machine that is quick or busy.
const ROUNDS: u32 = 6;
/// See [`ROUNDS`].
const EPOCHS: u32 = 8;

/// What an undisturbed run gives, and a disturbed one must give as well.
fn undisturbed() -> &'static str {
    static RESULT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    RESULT.get_or_init(|| {
        let mut world = World::start("undisturbed", None);
        world.add_clients(3);
        let job = world.submit(&spec(ROUNDS, EPOCHS));
        let done = world.wait_for(&job);
        assert_eq!(done["status"], "completed", "{done:#}");
        done["result_digest"].as_str().expect("a digest").to_owned()
    })
}

fn disturbed(name: &str, database: Option<String>) {
    let mut world = World::start(name, database);
    world.add_clients(3);
    let job = world.submit(&spec(ROUNDS, EPOCHS));
    // Three blows, each while the job is unfinished: the coordinator, a client, both.
    world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(1));
    world.kill_coordinator();
    world.start_coordinator();
    world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(2));
    assert_ne!(world.status(&job)["status"], "completed", "the blows must land in time");
    world.kill_client(1);
    world.start_client(1);
    std::thread::sleep(Duration::from_millis(150));
    world.kill_client(2);
    world.kill_coordinator();
    world.start_client(2);
    world.start_coordinator();
    let done = world.wait_for(&job);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["result_digest"], undisturbed(), "the same bytes as if nothing had happened");
    let rounds = world.json(&["rounds", &job]);
    assert!(rounds.as_array().expect("a list").iter().all(|r| r["updates"] == 3), "{rounds:#}");
}

#[test]
fn kills_change_no_byte_on_sqlite() {
    disturbed("sqlite", None);
}

#[test]
fn kills_change_no_byte_on_postgres() {
    let Some(postgres) = Postgres::shared().expect("postgres") else { return };
    disturbed("postgres", Some(postgres.database().expect("a database")));
}

#[test]
fn a_stopped_coordinator_goes_on_where_it_was() {
    let mut world = World::start("stop", None);
    world.add_clients(3);
    let job = world.submit(&spec(ROUNDS, EPOCHS));
    world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(1));
    world.stop_coordinator();
    world.start_coordinator();
    let done = world.wait_for(&job);
    assert_eq!(done["result_digest"], undisturbed());
}

#[test]
fn a_watch_goes_on_over_a_killed_coordinator() {
    let mut world = World::start("watch", None);
    world.add_clients(3);
    let job = world.submit(&spec(ROUNDS, EPOCHS));
    let watch = world.spawn(&["watch", &job]);
    world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(1));
    world.kill_coordinator();
    world.start_coordinator();
    let shown = world.said(watch);
    // Every round once, though its history was told from the start after the break.
    for round in 1..=ROUNDS {
        let line = format!("round {round:>3}  ");
        assert_eq!(shown.matches(&line).count(), 1, "{line:?} in:\n{shown}");
    }
    assert!(shown.contains("completed"), "{shown}");
}

#[test]
fn a_broken_data_file_is_named_before_anything_starts() {
    let world = World::start("broken", None);
    let error = world.client_with_truncated_images();
    for part in ["images.idx", "expected", "found"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

/// A job's spec with constants to normalise by, which the sites' files know nothing of.
fn normalised(mean: &str, deviation: &str) -> String {
    let table = format!("[data.normalise]\nmean = {mean}\ndeviation = {deviation}\n[model]\n");
    spec(1, 1).replace("[model]\n", &table)
}

#[test]
fn data_that_do_not_serve_one_job_serve_the_next() {
    let mut world = World::start("unfit", None);
    world.add_clients(3);
    // Pictures of one channel cannot be normalised by the constants of three.
    let unfit = world.submit(&normalised("[0.1, 0.2, 0.3]", "1"));
    let told = world.until_told(&unfit, "does not serve");
    for part in ["expected 1 or 1 means", "found 3 means", "give one pair"] {
        assert!(told.contains(part), "{part:?} is missing in: {told}");
    }

    // A file that is damaged later fails the job that has to read it again. The operator hears that;
    // which file, and what stands in it, is said at the site alone.
    let images = world.dir().join("site-1/images.idx");
    let whole = std::fs::read(&images).expect("images");
    std::fs::write(&images, &whole[..whole.len() - 1]).expect("written");
    let damaged = world.submit(&normalised("0.3", "0.4"));
    let told = world.until_told(&damaged, "cannot be read now");
    assert!(!told.contains("images.idx"), "{told}");
    let log = world.logs();
    for part in ["images.idx", "expected", "found"] {
        assert!(log.contains(part), "{part:?} is missing in: {log}");
    }
    world.end(&unfit);
    world.end(&damaged);

    // The same three processes serve what fits.
    std::fs::write(&images, &whole).expect("written");
    let job = world.submit(&normalised("0.3", "0.4"));
    let done = world.wait_for(&job);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(world.json(&["rounds", &job])[0]["updates"], 3);
}

/// Takes all rows of a class out of a site's files, `prefix` before their names; how many are left.
fn leave_out(folder: &Path, prefix: &str, class: u8) -> usize {
    let path = |name: &str| folder.join(format!("{prefix}{name}.idx"));
    let labels = std::fs::read(path("labels")).expect("labels")[8..].to_vec();
    let keep: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] != class).collect();
    assert!(keep.len() < labels.len(), "there were some");
    // Behind the magic number stands how many rows there are, then the sizes of one.
    for (name, header, size) in [("images", 16, 64), ("labels", 8, 1)] {
        let old = std::fs::read(path(name)).expect("a file");
        let mut new = old[..header].to_vec();
        new[4..8].copy_from_slice(&(keep.len() as u32).to_be_bytes());
        keep.iter().for_each(|row| new.extend_from_slice(&old[header + row * size..][..size]));
        std::fs::write(path(name), new).expect("written");
    }
    keep.len()
}

/// Site 1 has no nines to train on, and nobody has held out a three.
#[test]
fn a_class_that_one_site_lacks_leaves_every_score_right() {
    let mut world = World::start("classes", None);
    world.write_sites(3);
    let rows = leave_out(&world.dir().join("site-1"), "", 9);
    let held_out = leave_out(&world.dir().join("site-0"), "held-out-", 3);
    world.start_clients(3);
    let job = world.submit(&spec(3, 1));
    let done = world.wait_for(&job);
    assert_eq!(done["status"], "completed", "{done:#}");
    let round = world.json(&["round", &job, "3"]);
    assert_eq!(round["examples"], rows + 2 * 240, "{round:#}");

    let scores = &done["evaluation"];
    let classes = scores["classes"].as_array().expect("each class");
    assert_eq!((classes.len(), &scores["examples"]), (10, &held_out.into()));
    let support = |class: usize| classes[class]["support"].as_u64().expect("a count");
    assert_eq!((support(3), (0..10).map(support).sum::<u64>()), (0, held_out as u64));
    assert!(support(9) > 0, "others train on nines, and nines are scored");
    // A class that nobody has and nobody predicts is no class; one that is predicted is, and wrong.
    // So the means are over nine or ten, and the micro scores are sums over rows.
    let sum = |score: &str| -> f64 {
        classes.iter().map(|class| class[score].as_f64().expect("a ratio")).sum()
    };
    for (mean, score) in [("macro_f1", "f1"), ("macro_recall", "recall")] {
        let found = scores[mean].as_f64().expect("a mean");
        let close = |of: f64| (found - sum(score) / of).abs() < 1e-9;
        assert!(close(9.0) || close(10.0), "{mean} {found}: {scores:#}");
    }
    let right: f64 = (0..10)
        .map(|class| classes[class]["recall"].as_f64().expect("a ratio") * support(class) as f64)
        .sum();
    let accuracy = scores["accuracy"].as_f64().expect("a ratio");
    assert!((accuracy - right / held_out as f64).abs() < 1e-9 && accuracy > 0.4, "{scores:#}");
    let weighted = scores["weighted_recall"].as_f64().expect("a ratio");
    assert!((weighted - accuracy).abs() < 1e-9, "{scores:#}");
}

/// A job of one site on its table of this name, whose one feature has this name.
fn on_table(name: &str, feature: &str, rounds: u32) -> String {
    format!(
        "[job]\nname = \"{name}\"\nrounds = {rounds}\nseed = 3\n[data]\nname = \"{name}\"\n\
         kind = \"table\"\nclasses = 2\nfeatures = [\"{feature}\"]\n[model]\n\
         preset = \"logistic_regression\"\ninput = {{ shape = [1] }}\n[train]\nbatch_size = 4\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.001 }}\n[cohort]\n\
         min_available_clients = 1\nmin_train_clients = 1\nmin_updates = 1\nmax_attempts = 2\n\
         [evaluation]\nfinal = false\n"
    )
}

/// More rounds than a test waits for: what ends the job is what the test does.
const ENDLESS: u32 = 1_000_000;

#[test]
fn a_file_that_changes_between_rounds_ends_its_own_job_alone() {
    let mut world = World::start("changes", None);
    let site = world.dir().join("site-0");
    std::fs::create_dir_all(&site).expect("a folder");
    let mut text = format!(
        "coordinator = \"{}\"\nname = \"site-0\"\nstate_dir = \"state\"\nthreads = 1\n",
        world.at()
    );
    for name in ["hearts", "lungs"] {
        text += &format!(
            "[[data]]\nname = \"{name}\"\nformat = \"csv\"\nfile = \"{name}.csv\"\n\
             label_column = \"ill\"\nclasses = 2\nfeatures = \"job\"\n"
        );
    }
    std::fs::write(site.join("client.toml"), text).expect("written");
    let sound = "age,ill\n50,1\n61,0\n47,1\n38,0\n";
    // Whole at once: what a half-written file is read as is another story.
    let write = |name: &str, rows: &str| {
        std::fs::write(site.join("new"), rows).expect("written");
        std::fs::rename(site.join("new"), site.join(name)).expect("renamed");
    };
    write("hearts.csv", sound);
    write("lungs.csv", sound);
    world.start_clients(0);
    let under_way = |job: &serde_json::Value| job["rounds_committed"].as_u64() > Some(2);
    let other = world.submit(&on_table("lungs", "age", ENDLESS));

    // Other columns: sound rows that are not the job's, this round or any other.
    let job = world.submit(&on_table("hearts", "age", ENDLESS));
    world.until(&job, under_way);
    write("hearts.csv", "alter,ill\n50,1\n61,0\n");
    let refused = world.until(&job, |job| job["refusals"].as_array().is_some_and(|r| r.len() == 1));
    let reason = refused["refusals"][0]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("\"hearts\" of this site does not serve"), "{reason}");
    assert!(!reason.contains("alter"), "the site's own words stay there: {reason}");
    world.end(&job);

    // A cut line: a file that may be mended, so the job tries again before it ends.
    write("hearts.csv", sound);
    let job = world.submit(&on_table("hearts", "age", ENDLESS));
    world.until(&job, under_way);
    write("hearts.csv", &sound[..sound.len() - 3]);
    let failed = world.wait_for(&job);
    let told = format!("{failed} {}", world.json(&["events", &job]));
    assert_eq!(failed["status"], "failed", "{told}");
    assert!(told.contains("\"hearts\\\" of this site cannot be read now"), "{told}");
    let log = world.logs();
    assert!(log.contains("hearts.csv at line 5"), "the site's log names file and line: {log}");

    // The other job trained on, and so does the first when its file is whole again.
    let before = world.status(&other)["rounds_committed"].as_u64().expect("a round");
    world.until(&other, |job| job["rounds_committed"].as_u64() > Some(before + 2));
    assert_eq!(world.status(&other)["refusals"].as_array().map_or(0, Vec::len), 0);
    world.end(&other);
    write("hearts.csv", sound);
    for name in ["hearts", "lungs"] {
        let done = world.submit(&on_table(name, "age", 2));
        assert_eq!(world.wait_for(&done)["status"], "completed", "{name}");
    }
}
