//! Rows that a job says how to read, counted before there is a job, and refused where site and job
//! say different things.

use tributary_core::spec::JobSpec;

use crate::fixture::{Folder, message, numbers, parse, says, tokens};
use crate::{Wanted, open};

fn job(data: &str, model: &str) -> JobSpec {
    let text = format!(
        "[job]\nname = \"j\"\nrounds = 1\n[data]\n{data}\n[model]\n{model}\n[train]\n\
         batch_size = 1\noptimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n"
    );
    JobSpec::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
}

const REVIEWS: &str = "format = \"tsv\"\nfile = \"t.tsv\"\ntext_column = \"text\"\n\
                       label_column = \"label\"\n";

fn reviews() -> Folder {
    let folder = Folder::new();
    folder.file("t.tsv", "text\tlabel\ngood film !\tpraise\nbad\tblame\n");
    folder
}

#[test]
fn a_job_gives_classes_words_and_length() {
    let folder = reviews();
    let table = format!("{REVIEWS}[tokens]\nby = \"words\"\n");
    let config = parse(&table, folder.path()).expect("configuration");
    assert!(config.format.needs_job());
    // Before there is a job, rows are counted, and the binding leaves open what the job decides.
    let counted = open(&config, &Wanted::count()).expect("counted");
    let binding = counted.open_binding("reviews", &config.format);
    assert_eq!((binding.kind.as_str(), binding.train_examples), ("text", 2));
    assert_eq!((binding.classes, binding.vocabulary, binding.shape.len()), (0, 0, 0));

    let spec = job(
        "kind = \"text\"\nclass_names = [\"blame\", \"praise\"]\nwords = \"good bad\"",
        "input = { tokens = 4 }\nlayers = [{ embedding = { vocabulary = 4, dimension = 2 } }, \
         \"mean_pool\", { linear = 2 }]",
    );
    assert!(tributary_core::binding::DataNeed::of(&spec).met_by(&binding));
    let data = open(&config, &Wanted::by_job(&spec)).expect("as the job says").train;
    let data = data.expect("rows");
    assert_eq!(tokens(&data), [2, 1, 1, 0, 3, 0, 0, 0]);
    assert_eq!((data.labels(), data.vocabulary()), (Some(vec![1, 0]), 4));

    // A site that has a list of its own must have the job's.
    for (own, part) in [
        ("[\"good\", \"bad\"]", None),
        (
            "[\"good\", \"ugly\"]",
            Some("expected \"bad\" as the job's entry 1, found another, in a list of 2"),
        ),
        ("[\"good\"]", Some("expected \"bad\" as the job's entry 1, found 1 entries")),
    ] {
        let table = format!("{REVIEWS}[tokens]\nby = \"words\"\nvocabulary = {own}\n");
        let opened = folder.open_for(&table, &Wanted::by_job(&spec));
        match part {
            None => assert!(opened.is_ok()),
            Some(part) => says(&message(opened), &[part, "take the list out of [data.tokens]"]),
        }
    }
    let table =
        format!("{REVIEWS}class_names = [\"praise\", \"blame\"]\n[tokens]\nby = \"words\"\n");
    let refused = message(folder.open_for(&table, &Wanted::by_job(&spec)));
    says(&refused, &["another list of classes: expected blame, praise, found praise, blame"]);
}

#[test]
fn a_job_gives_the_constants_to_normalise_by() {
    let folder = Folder::new();
    folder.file("rows.csv", "age,sick\n50,0\n30,1\n");
    let table = "format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"sick\"\nclasses = 2\n";
    let spec = job(
        "kind = \"table\"\nclasses = 2\n[data.normalise]\nmean = 40\ndeviation = [10]",
        "preset = \"logistic_regression\"\ninput = { shape = [1] }",
    );
    let wanted = Wanted::by_job(&spec);
    let data = folder.open_for(table, &wanted).expect("rows").train.expect("rows");
    assert_eq!(numbers(&data), [1.0, -1.0]);
    assert!(!wanted.is_plain(Some(&data)), "what was read for nobody has other values");
    let own = format!("{table}[normalise]\nmean = 41\ndeviation = 10\n");
    let refused = message(folder.open_for(&own, &wanted));
    says(&refused, &["the job's: mean [40.0]", "found mean [41.0]", "take [data.normalise] out"]);
}

#[test]
fn each_file_may_be_one_client_s() {
    let folder = Folder::new();
    folder.file("processed.va.data", "1,0\n2,1\n");
    folder.file("ohio.csv", "3,0\n");
    let table = "format = \"csv\"\nfiles = [\"processed.va.data\", \"ohio.csv\"]\nheader = false\n\
                 label_column = 1\nclasses = 2\nclient_by_file = true\n";
    let opened = folder.open(table).expect("rows");
    assert_eq!(opened.clients, ["ohio", "processed.va"]);
    assert_eq!(opened.train.expect("rows").writers(), Some(vec![1, 1, 0]));
    let both = format!("{table}client_column = 0\n");
    let faults = parse(&both, folder.path()).expect_err("both").to_string();
    says(&faults, &["client_by_file: expected either `client_column` or `client_by_file`"]);
}
