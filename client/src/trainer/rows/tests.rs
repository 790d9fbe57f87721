//! Files that change while a client runs.

use std::path::Path;

use tributary_core::spec::JobSpec;

use super::{Rows, TrainerError};
use crate::config::ClientConfig;

const SITE: &str = "coordinator = \"http://127.0.0.1:7443\"\nname = \"site-a\"\n[data]\n\
                    format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"sick\"\nclasses = 2\n";

fn job(more: &str) -> JobSpec {
    let text = format!(
        "[job]\nname = \"j\"\nrounds = 1\n[data]\nkind = \"table\"\nclasses = 2\n{more}[model]\n\
         preset = \"logistic_regression\"\ninput = {{ shape = [1] }}\n[train]\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n"
    );
    JobSpec::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn write(folder: &Path, rows: &str) {
    std::fs::write(folder.join("rows.csv"), format!("age,sick\n{rows}")).expect("written");
}

fn unable(result: Result<impl Sized, TrainerError>) -> String {
    match result.err().expect("refused") {
        TrainerError::Unable(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_changes_is_read_again_before_the_next_task() {
    let folder = tempfile::tempdir().expect("folder");
    write(folder.path(), "50,1\n61,0\n");
    let config = ClientConfig::parse(SITE, folder.path()).expect("sound");
    let (bindings, rows) = Rows::open(&config.data[0]).expect("rows");
    assert_eq!(bindings[0].train_examples, 2);
    let plain = job("");
    let first = rows.of(&plain).expect("rows");
    assert!(std::sync::Arc::ptr_eq(&first, &rows.of(&plain).expect("rows")), "read once");

    // Fewer rows are the site's business.
    write(folder.path(), "50,1\n");
    let count = |spec| rows.of(spec).expect("rows").train.as_ref().expect("rows").len();
    assert_eq!(count(&plain), 1);
    // More than were announced would be refused round after round.
    write(folder.path(), "50,1\n61,0\n70,1\n");
    let refused = unable(rows.of(&plain));
    assert!(refused.contains("at most 2 rows to train on and 0 to score"), "{refused}");
    assert!(refused.contains("found 3 and 0; restart the client"), "{refused}");
    let other = job("[data.normalise]\nmean = 50\ndeviation = 10\n");
    assert!(unable(rows.of(&other)).contains("restart the client"), "for every job");

    // A file that is broken now serves no task, and serves again when it is mended.
    write(folder.path(), "fifty,1\n");
    assert!(unable(rows.of(&plain)).contains("cannot be read now"));
    write(folder.path(), "50,1\n61,0\n");
    assert_eq!((count(&plain), count(&other)), (2, 2));
}

#[test]
fn labels_that_are_words_are_refused_for_good_where_the_job_has_no_names() {
    let folder = tempfile::tempdir().expect("folder");
    write(folder.path(), "50,tuberculosis\n61,well\n");
    let site = SITE.replace("classes = 2\n", "");
    let config = ClientConfig::parse(&site, folder.path()).expect("sound");
    let (_, rows) = Rows::open(&config.data[0]).expect("counted");
    let refused = match rows.of(&job("")).expect_err("refused") {
        TrainerError::Unfit(reason) => reason,
        other => panic!("asked again every round: {other:?}"),
    };
    let advice = "state `class_names` in the job's [data]";
    assert!(refused.contains("found words") && refused.contains(advice), "{refused}");
    assert!(!refused.contains("tuberculosis"), "the site's words stay there: {refused}");
    let named = job("class_names = [\"tuberculosis\", \"well\"]\n");
    assert_eq!(rows.of(&named).expect("rows").train.as_ref().expect("rows").len(), 2);
}
