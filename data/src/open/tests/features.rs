//! A table's columns as a job lists them, under the names that they have at a site.

use tributary_core::spec::JobSpec;

use crate::fixture::{Folder, message, numbers, parse, says};
use crate::{Wanted, open};

fn job(data: &str, input: usize) -> JobSpec {
    let text = format!(
        "[job]\nname = \"j\"\nrounds = 1\n[data]\nkind = \"table\"\nclasses = 2\n{data}\n[model]\n\
         preset = \"logistic_regression\"\ninput = {{ shape = [{input}] }}\n[train]\n\
         batch_size = 1\noptimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n"
    );
    JobSpec::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
}

const LIST: &str = "features = [{ column = \"age\", mean = 50, deviation = 10 }, \
                    { column = \"pain\", categories = [\"dull\", \"sharp\"] }]";
const TABLE: &str = "format = \"csv\"\nfile = \"a.csv\"\nlabel_column = \"sick\"\nclasses = 2\n";

/// The columns in another order, under other names, with one that no job lists.
fn site() -> Folder {
    let folder = Folder::new();
    folder.file("a.csv", "schmerz,ward,sick,alter\nsharp,3,1,60\ndull,4,0,40\n");
    folder
}

#[test]
fn a_job_lists_columns_and_a_site_says_what_it_calls_them() {
    let folder = site();
    let spec = job(LIST, 3);
    let table = format!("{TABLE}rename = {{ age = \"alter\", pain = \"schmerz\" }}\n");
    let config = parse(&table, folder.path()).expect("configuration");
    assert!(config.format.needs_job(), "no column is a feature without a job");
    let opened = open(&config, &Wanted::by_job(&spec)).expect("as the job says");
    assert_eq!(numbers(&opened.train.expect("rows")), [1.0, 0.0, 1.0, -1.0, 1.0, 0.0]);
    assert!(config.decides(&Wanted::by_job(&spec)).is_empty());

    // Without a header a column has a position.
    folder.file("a.csv", "sharp,3,1,60\ndull,4,0,40\n");
    let table = "format = \"csv\"\nfile = \"a.csv\"\nheader = false\nlabel_column = 2\n\
                 classes = 2\nrename = { age = 3, pain = 0 }\n";
    let opened = folder.open_for(table, &Wanted::by_job(&spec)).expect("as the job says");
    assert_eq!(numbers(&opened.train.expect("rows")), [1.0, 0.0, 1.0, -1.0, 1.0, 0.0]);
}

#[test]
fn columns_that_a_site_does_not_have_are_refused_by_the_job_s_names() {
    let folder = site();
    let wanted = Wanted::by_job(&job(LIST, 3));
    let refused = folder.open_for(&format!("{TABLE}rename = {{ age = \"alter\" }}\n"), &wanted);
    assert!(refused.as_ref().expect_err("refused").is_unfit());
    let told = refused.expect_err("refused").difference().expect("a difference").to_string();
    says(&told, &["set of columns", "expected one for the job's \"pain\"", "`rename` of [data]"]);
    assert!(!told.contains("schmerz") && !told.contains("a.csv"), "it leaves the site: {told}");
}

#[test]
fn a_site_s_own_list_must_be_the_job_s() {
    let folder = Folder::new();
    folder.file("a.csv", "age,pain,sick\n60,sharp,1\n40,dull,0\n");
    let wanted = Wanted::by_job(&job(LIST, 3));
    let opened = folder.open_for(&format!("{TABLE}{LIST}\n"), &wanted).expect("the same list");
    assert_eq!(numbers(&opened.train.expect("rows")), [1.0, 0.0, 1.0, -1.0, 1.0, 0.0]);
    for (own, found) in [
        ("[{ column = \"age\", mean = 51, deviation = 10 }]", "found that column read otherwise"),
        ("[\"pain\", \"age\"]", "found another column"),
        ("[{ column = \"age\", mean = 50, deviation = 10 }]", "found the end of the site's list"),
    ] {
        let refused = message(folder.open_for(&format!("{TABLE}features = {own}\n"), &wanted));
        says(&refused, &["another list of features: expected the job's feature", found]);
        says(&refused, &["take `features` out of [data]"]);
    }
}

#[test]
fn a_job_that_lists_nothing_is_refused_where_the_site_leaves_it_the_list() {
    let folder = site();
    let silent = job("", 3);
    for own in ["features = \"job\"\n", "rename = { age = \"alter\", pain = \"schmerz\" }\n"] {
        let refused = folder.open_for(&format!("{TABLE}{own}"), &Wanted::by_job(&silent));
        assert!(refused.as_ref().expect_err("refused").is_unfit());
        let refused = message(refused);
        says(&refused, &["expected the columns that the job reads", "no `features` in the job"]);
        // Its rows are counted all the same, so that the site is there for jobs that do list them.
        let counted = folder.open_for(&format!("{TABLE}{own}"), &Wanted::count()).expect("counted");
        assert_eq!(counted.train.expect("rows").len(), 2);
    }
}

#[test]
fn what_all_sites_must_share_is_not_taken_from_one_of_them() {
    let folder = Folder::new();
    folder.file("a.csv", "age,sick\n60,yes\n40,no\n");
    let table = "format = \"csv\"\nfile = \"a.csv\"\nlabel_column = \"sick\"\n";
    let names = format!("{table}class_names = [\"no\", \"yes\"]\n");
    let scaled = "features = [{ column = \"age\", mean = 50, deviation = 10 }]\n";
    let constants = format!("{table}[normalise]\nmean = 1\ndeviation = 2\n");
    let silent = Wanted::by_job(&job("", 1));
    for (own, found) in [
        (names.clone(), "the order of `class_names`"),
        (format!("{table}{scaled}"), "`mean` and `deviation` of `features`"),
        (constants, "constants in [data.normalise]"),
    ] {
        let refused = folder.open_for(&own, &silent);
        assert!(refused.as_ref().expect_err("refused").is_unfit());
        says(&message(refused), &["the job, which says nothing of it", found, "state"]);
        assert!(
            parse(&own, folder.path()).expect("sound").check_shared(&Wanted::default()).is_ok()
        );
    }
    // A job that says the same has them from there.
    let spoken = "[data.normalise]\nmean = 1\ndeviation = 2\n";
    let both = Wanted::by_job(&job(spoken, 1));
    folder.file("a.csv", "age,sick\n61,1\n41,0\n");
    let own = format!("{table}classes = 2\n[normalise]\nmean = 1\ndeviation = 2\n");
    let opened = folder.open_for(&own, &both).expect("the same constants");
    assert_eq!(numbers(&opened.train.expect("rows")), [30.0, 20.0]);
}

#[test]
fn faults_of_a_rename_are_named() {
    let folder = site();
    for (own, part) in [
        ("rename = [\"age\"]\n", "rename: expected a table: the job's name = the column here"),
        ("rename = { age = \"a\", pain = \"a\" }\n", "expected a column that no other name has"),
        ("features = \"all\"\n", "features"),
    ] {
        let faults = parse(&format!("{TABLE}{own}"), folder.path()).expect_err("a fault");
        says(&faults.to_string(), &[part]);
    }
}
