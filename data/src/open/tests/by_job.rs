//! Rows that a job says how to read, counted before there is a job, and refused where site and job
//! say different things.

use tributary_core::binding::DataNeed;
use tributary_core::spec::JobSpec;
use tributary_core::spec::data::DataKind;

use crate::fixture::{Folder, message, numbers, parse, says, tokens};
use crate::{Dataset, Opened, Wanted, open};

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
    let binding = counted.open_bindings("reviews", &config.format).remove(0);
    assert_eq!((binding.kind.as_str(), binding.train_examples), ("text", 2));
    assert_eq!((binding.classes, binding.vocabulary, binding.shape.len()), (0, 0, 0));

    let spec = job(
        "kind = \"text\"\nclass_names = [\"blame\", \"praise\"]\nwords = \"good bad\"",
        "input = { tokens = 4 }\nlayers = [{ embedding = { vocabulary = 4, dimension = 2 } }, \
         \"mean_pool\", { linear = 2 }]",
    );
    assert!(DataNeed::of(&spec).met_by(&binding));
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
        (
            "[\"good\"]",
            Some("expected \"bad\" as the job's entry 1, found another, in a list of 1"),
        ),
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
    says(
        &refused,
        &["another list of classes: expected blame, praise, found another list, of 2 names"],
    );
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
    let opened = folder.open_for(table, &wanted).expect("rows");
    assert_eq!(numbers(opened.train.as_ref().expect("rows")), [1.0, -1.0]);
    assert!(!wanted.is_plain(&opened), "what was read for nobody has other values");
    let plain = Wanted { normalise: None, ..wanted.clone() };
    assert!(plain.is_plain(&opened));
    // The rows to score count too, and what the rows are.
    let narrow = Dataset::from_f32(vec![1.0, 2.0], vec![0], &[2], 2).expect("a row");
    assert!(!plain.is_plain(&Opened { evaluate: Some(narrow), ..opened.clone() }));
    assert!(!plain.is_plain(&Opened { kind: DataKind::Series, ..opened }));
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

#[test]
fn windows_of_a_length_that_the_job_decides_are_counted_at_most() {
    let folder = Folder::new();
    folder.file("play.txt", "abcabcabca");
    let table = "format = \"text\"\nfile = \"play.txt\"\nvalidation_fraction = 0.5\n[tokens]\n\
                 by = \"characters\"\n";
    let config = parse(table, folder.path()).expect("configuration");
    assert!(config.format.needs_job());
    let counted = open(&config, &Wanted::count()).expect("counted");
    let binding = counted.open_bindings("play", &config.format).remove(0);
    assert_eq!((binding.train_examples, binding.evaluate_examples), (9, 9));
    let spec = job(
        "kind = \"text\"\nalphabet = \"abc\"",
        "input = { tokens = 4 }\nlayers = [{ embedding = { vocabulary = 5, dimension = 2 } }, \
         { linear = 5 }]",
    );
    assert!(DataNeed::of(&spec).met_by(&binding));
    let opened = open(&config, &Wanted::by_job(&spec)).expect("as the job says");
    let rows = |data: Option<Dataset>| data.expect("rows").len() as u64;
    assert_eq!(rows(opened.train) + rows(opened.evaluate), 3);
}

#[test]
fn recordings_serve_a_job_on_series_and_one_on_pictures() {
    let folder = Folder::new();
    let table = "format = \"wav\"\nfolder = \"f\"\nclasses = 2\nsample_rate = 8000\nmels = 4\n\
                 steps = 3\n";
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 8,
        sample_format: hound::SampleFormat::Int,
    };
    std::fs::create_dir_all(folder.path().join("f/0")).expect("folder");
    let mut writer = hound::WavWriter::create(folder.path().join("f/0/a.wav"), spec).expect("wav");
    (0..400).for_each(|at| writer.write_sample(at % 50).expect("sample"));
    writer.finalize().expect("written");
    let config = parse(table, folder.path()).expect("configuration");
    assert!(config.format.needs_job(), "the layout is the job's");
    let counted = open(&config, &Wanted::count()).expect("counted");
    let bindings = counted.open_bindings("words", &config.format);
    let kinds: Vec<&str> = bindings.iter().map(|binding| binding.kind.as_str()).collect();
    assert_eq!(kinds, ["series", "image"]);
    let spec = job(
        "kind = \"image\"\nclasses = 2",
        "preset = \"logistic_regression\"\ninput = { shape = [1, 4, 3] }",
    );
    assert!(bindings.iter().any(|binding| DataNeed::of(&spec).met_by(binding)));
    assert!(open(&config, &Wanted::by_job(&spec)).is_ok());
}

#[test]
fn two_files_of_one_name_are_not_one_client() {
    let folder = Folder::new();
    folder.file("a/ward.csv", "1,0\n");
    folder.file("b/ward.csv", "2,1\n");
    let table = "format = \"csv\"\nfiles = [\"a/ward.csv\", \"b/ward.csv\"]\nheader = false\n\
                 label_column = 1\nclasses = 2\nclient_by_file = true\n";
    let refused = folder.refusal(table);
    says(&refused, &["b/ward.csv: expected another name than that of", "a/ward.csv", "rename one"]);
    let text = "format = \"text\"\nfiles = [\"a/ward.csv\", \"b/ward.csv\"]\nsteps = 2\n[tokens]\n\
                by = \"characters\"\nalphabet = \"ascii\"\n";
    says(&folder.refusal(text), &["b/ward.csv: expected another name"]);
}

#[test]
fn one_client_s_rows_need_clients_in_every_part() {
    let folder = Folder::new();
    let record = |label: u8| [vec![label], vec![0; 3072]].concat();
    folder.file("train.bin", [record(1), record(2)].concat());
    folder.file("test.bin", record(3));
    folder.file("who.csv", "name\nzoe\nann\n");
    let table = "format = \"cifar\"\nfile = \"train.bin\"\ngroup_file = \"who.csv\"\n\
                 evaluate_file = \"test.bin\"\nclient = \"ann\"\n";
    let refused = folder.refusal(table);
    says(&refused, &["rows to evaluate on", "found rows of unknown clients", "`client` out"]);
}

#[test]
fn without_a_list_the_first_file_s_order_is_every_file_s() {
    let folder = Folder::new();
    folder.file("train.csv", "age,weight,sick\n50,70,1\n");
    folder.file("held.csv", "sick,weight,age\n0,80,60\n");
    let table = "format = \"csv\"\nfile = \"train.csv\"\nevaluate_file = \"held.csv\"\n\
                 label_column = \"sick\"\nclasses = 2\n";
    let opened = folder.open(table).expect("rows");
    assert_eq!(numbers(&opened.train.expect("rows")), [50.0, 70.0]);
    assert_eq!(numbers(&opened.evaluate.expect("rows")), [60.0, 80.0]);
}

#[test]
fn what_a_site_decides_alone_is_told() {
    let folder = Folder::new();
    let table = "format = \"csv\"\nfile = \"a.csv\"\nlabel_column = \"sick\"\n";
    let silent = job(
        "kind = \"table\"\nclasses = 2",
        "preset = \"logistic_regression\"\ninput = { shape = [1] }",
    );
    let own = |table: &str| {
        let config = parse(table, folder.path()).expect("configuration");
        config.decides(&Wanted::by_job(&silent))
    };
    assert_eq!(own(table), ["the order of the columns, as there are no `features`"]);
    assert!(own(&format!("{table}features = [\"age\"]\n")).is_empty());
}
