//! Whole data sets: tables with holes, texts, clients, held-out rows, and what does not fit a job.

mod by_job;
mod damage;
mod features;
mod streamed;

use tributary_core::spec::data::{DataKind, Target};

use crate::fixture::{Folder, message, numbers, parse, says, tokens};
use crate::normalise::Normalise;
use crate::{Inputs, Targets, Wanted, open};

const ROWS: &str = "site,age,pain,sick\na,50,1,0\nb,?,3,2\na,70,,1\nb,40,2,0\n";

fn table(more: &str) -> String {
    format!("format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"sick\"\n{more}")
}

fn rows() -> Folder {
    let folder = Folder::new();
    folder.file("rows.csv", ROWS);
    folder
}

#[test]
fn missing_values_follow_their_policy() {
    let folder = rows();
    let with = |features: &str| {
        folder.open(&table(&format!("label_above = 0\nfeatures = [{features}]\n"))).expect("rows")
    };
    let flagged = "{ column = \"age\", mean = 50, deviation = 10, missing = \"flag\" }, \
                   { column = \"pain\", categories = [1, 2, 3], missing = \"constant\" }";
    let opened = with(flagged);
    let data = opened.train.as_ref().expect("train");
    assert_eq!(data.shape(), [5]);
    let expected = [
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0, 1.0],
        [2.0, 0.0, 0.0, 0.0, 0.0],
        [-1.0, 0.0, 0.0, 1.0, 0.0],
    ];
    assert_eq!(numbers(data), expected.concat());
    assert_eq!(data.labels(), Some(vec![0, 1, 1, 0]));
    let missing = opened.notes.train.expect("notes").missing;
    assert_eq!(missing, [("age".to_owned(), 1), ("pain".to_owned(), 1)]);

    let opened = with("{ column = \"age\", missing = \"drop\" }");
    assert_eq!(numbers(opened.train.as_ref().expect("train")), [50.0, 70.0, 40.0]);
    assert_eq!(opened.notes.train.expect("notes").dropped_rows, 1);

    let refused = folder.refusal(&table("label_above = 0\nfeatures = [\"age\"]\n"));
    says(&refused, &["rows.csv at line 3, column `age`: expected a value, found \"?\"; fill"]);
    let category = "label_above = 0\nfeatures = [{ column = \"pain\", categories = [1, 2] }]\n";
    let refused = folder.refusal(&table(category));
    says(&refused, &["column `pain`: expected one of the categories 1, 2, found \"3\"; add the"]);
}

#[test]
fn clients_are_numbered_over_all_files_and_one_may_be_kept() {
    let folder = rows();
    folder.file("held.csv", "sick,site,age,pain\n1,c,33,2\n1,a,34,2\n");
    let more = "classes = 3\nfeatures = [\"age\"]\nmissing = \"drop\"\nclient_column = \"site\"\n\
                evaluate_file = \"held.csv\"\n";
    let opened = folder.open(&table(more)).expect("rows");
    assert_eq!(opened.clients, ["a", "b", "c"]);
    let writers = |data: Option<crate::Dataset>| data.expect("data").writers().expect("known");
    assert_eq!(writers(opened.train), [0, 0, 1]);
    assert_eq!(writers(opened.evaluate), [2, 0]);

    let opened = folder.open(&table(&format!("{more}client = \"b\"\n"))).expect("rows");
    assert_eq!(numbers(&opened.train.expect("train")), [40.0]);
    assert!(opened.evaluate.is_none());
    let message = folder.refusal(&table(&format!("{more}client = \"z\"\n")));
    says(
        &message,
        &[
            "another list of clients: expected the client that [data] names, found 3 others; correct",
        ],
    );
}

#[test]
fn rows_or_clients_are_held_out_by_seed() {
    let folder = Folder::new();
    let lines: String = (0..100).map(|row| format!("{},{row},{}\n", row % 5, row % 2)).collect();
    folder.file("rows.csv", format!("site,age,sick\n{lines}"));
    let open = |more: &str| {
        let shared = "classes = 2\nfeatures = [\"age\"]\nclient_column = \"site\"\n";
        let opened = folder.open(&table(&format!("{shared}{more}"))).expect("rows");
        (opened.train.expect("train"), opened.evaluate.expect("held out"))
    };
    let (train, held) = open("validation_fraction = 0.2\nvalidation_seed = 3\n");
    assert_eq!((train.len(), held.len()), (80, 20));
    let (again, _) = open("validation_fraction = 0.2\nvalidation_seed = 3\n");
    assert_eq!(numbers(&train), numbers(&again));
    let (train, held) = open("validation_fraction = 0.2\nvalidation_by = \"clients\"\n");
    let held = held.writers().expect("known");
    assert!(held.iter().all(|client| *client == held[0]) && held.len() == 20);
    assert!(!train.writers().expect("known").contains(&held[0]));
}

#[test]
fn a_class_that_a_site_lacks_is_allowed_and_reported() {
    let folder = rows();
    let more = "classes = 5\nfeatures = [\"age\"]\nmissing = \"drop\"\nclient_column = \"site\"\n";
    let opened = folder.open(&table(more)).expect("rows");
    let summary = opened.summary().expect("summary");
    let train = summary.train.as_ref().expect("train");
    assert_eq!(train.class_counts, [2, 1, 0, 0, 0]);
    assert_eq!(train.absent_classes(), [2, 3, 4]);
    let text = summary.to_string();
    let expected = "kind          table\ntrain\n  rows        3\n  shape       [1]\n  \
                    target      5 classes\n  classes     0: 2  1: 1  2: 0  3: 0  4: 0\n  \
                    no rows of  2, 3, 4 (other sites may have them)\n  clients     2\n  \
                    range       40 to 70\n  missing     age: 1\n  \
                    left out    rows with a missing value: 1\nevaluate\n  rows        none\n";
    assert_eq!(text, expected);
    let binding = opened.binding("hearts");
    assert_eq!((binding.kind.as_str(), binding.classes, binding.shape), ("table", 5, vec![1]));
    assert_eq!((binding.train_examples, binding.evaluate_examples), (3, 0));
}

#[test]
fn a_file_that_changed_since_is_told() {
    let folder = rows();
    let more = "classes = 5\nfeatures = [\"age\"]\nmissing = \"drop\"\n";
    let opened = folder.open(&table(more)).expect("rows");
    opened.verify().expect("unchanged");
    folder.file("rows.csv", format!("{ROWS}a,1,1,1\n"));
    says(&message(opened.verify()), &["rows.csv changed while it was read: expected"]);
}

#[test]
fn numbers_to_predict_come_from_columns() {
    let folder = Folder::new();
    folder.file("rows.csv", "a,b,c\n1,2,3\n4,5,6\n");
    let data = folder.train("format = \"csv\"\nfile = \"rows.csv\"\ntarget_columns = [\"c\", 0]\n");
    assert_eq!((data.width(), numbers(&data)), (2, vec![2.0, 5.0]));
    assert_eq!(data.gather(&[1]).expect("row").targets, Targets::Values(vec![6.0, 4.0]));
}

#[test]
fn what_does_not_fit_the_job_is_told_before_a_round() {
    let folder = rows();
    let more = "classes = 3\nfeatures = [\"age\"]\nmissing = \"drop\"\n";
    let config = parse(&table(more), folder.path()).expect("configuration");
    let refused = |wanted: Wanted| message(open(&config, &wanted));
    let wanted = Wanted { shape: Some(vec![4]), ..Wanted::default() };
    says(&refused(wanted), &["another shape: expected [4], found [1]; check the columns"]);
    let wanted = Wanted { kind: Some(DataKind::Image), ..Wanted::default() };
    says(&refused(wanted), &["another kind: expected image, found table; bind another"]);
    let wanted = Wanted { target: Some(Target::Classes(2)), ..Wanted::default() };
    says(&refused(wanted), &["another number of classes: expected 2, found 3"]);
    let wanted = Wanted { target: Some(Target::Values(1)), ..Wanted::default() };
    says(&refused(wanted), &["another target: expected 1 targets, found 3 classes"]);

    let unnamed = table("features = [\"age\"]\nmissing = \"drop\"\n");
    says(&folder.refusal(&unnamed), &["labels of no known classes; give `classes`"]);
    let wanted = Wanted {
        target: Some(Target::Classes(3)),
        normalise: Some(Normalise { mean: vec![40.0], deviation: vec![10.0] }),
        ..Wanted::default()
    };
    let opened = folder.open_for(&unnamed, &wanted).expect("the job says");
    assert_eq!(numbers(&opened.train.expect("train")), [1.0, 3.0, 0.0]);
}

#[test]
fn the_job_s_class_names_are_every_site_s() {
    let folder = rows();
    let table = "format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"site\"\n\
                 features = [\"sick\"]\n";
    let names = |names: [&str; 2]| Some(names.map(str::to_owned).to_vec());
    let wanted = Wanted { class_names: names(["b", "a"]), ..Wanted::default() };
    let opened = folder.open_for(table, &wanted).expect("classes by name");
    assert_eq!(opened.train.expect("train").labels(), Some(vec![1, 0, 1, 0]));
    let wanted = Wanted { class_names: names(["b", "c"]), ..Wanted::default() };
    let refused = message(folder.open_for(table, &wanted));
    says(&refused, &["column `site`: expected one of the classes \"b\", \"c\", found \"a\""]);
}

#[test]
fn labels_that_are_words_never_fit_a_job_that_has_no_names() {
    let folder = rows();
    folder.file("t.tsv", "text\tlabel\nGood film!\tgood\nbad\tbad\n");
    folder.file("p/ill/1.png", "read after the folders");
    folder.file("p/index.csv", "file,label\nill/1.png,ill\n");
    let wanted = Wanted { target: Some(Target::Classes(2)), ..Wanted::default() };
    let refused = |table: &str| folder.open_for(table, &wanted).expect_err("refused");
    for table in [
        "format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"site\"\nfeatures = [\"sick\"]\n",
        "format = \"tsv\"\nfile = \"t.tsv\"\ntext_column = \"text\"\nlabel_column = \"label\"\n\
         steps = 4\n[tokens]\nby = \"characters\"\nalphabet = \"ascii\"\n",
        "format = \"images\"\nfolder = \"p\"\nsize = [1, 1]\nchannels = 1\n",
        "format = \"images\"\nindex = \"p/index.csv\"\npath_column = \"file\"\n\
         label_column = \"label\"\nsize = [1, 1]\nchannels = 1\n",
    ] {
        let error = refused(table);
        assert!(error.is_unfit(), "{table}: {error}");
        let parts = ["whole numbers from 0 to 1", "found words; state `class_names` in the job's"];
        says(&error.to_string(), &parts);
    }
    // One word among numbers is a mistake of its row, which may be mended.
    folder.file("rows.csv", "site,sick\n0,1\nb,0\n");
    let error = refused(
        "format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"site\"\nfeatures = [\"sick\"]\n",
    );
    assert!(!error.is_unfit());
    says(&error.to_string(), &["line 3, column `site`: expected a label from 0 to 1, found \"b\""]);
}

const WORDS: &str =
    "\nsteps = 4\n[tokens]\nby = \"words\"\nvocabulary = [\"good\", \"bad\", \"!\"]\n";

#[test]
fn texts_with_classes_are_cut_and_padded() {
    let folder = Folder::new();
    folder.file("t.tsv", "text\tlabel\nGood film!\t1\n\"bad\" bad bad bad bad\t0\n");
    let head = "format = \"tsv\"\nfile = \"t.tsv\"\ntext_column = \"text\"\n";
    let opened = folder.open(&format!("{head}label_column = \"label\"\nclasses = 2{WORDS}"));
    let opened = opened.expect("texts");
    let data = opened.train.as_ref().expect("train");
    assert_eq!(tokens(data), [2, 1, 4, 0, 1, 3, 1, 3]);
    assert_eq!((data.labels(), data.vocabulary()), (Some(vec![1, 0]), 5));
    let notes = opened.notes.train.as_ref().expect("notes");
    assert_eq!((notes.cut_rows, notes.unknown_tokens), (1, 3));

    folder.file("t.tsv", "text\tlabel\n \t1\n");
    let message = folder.refusal(&format!("{head}label_column = \"label\"\nclasses = 2{WORDS}"));
    says(&message, &["t.tsv at line 2, column `text`: expected at least one token, found \" \""]);
}

#[test]
fn running_text_is_cut_in_windows_that_predict_every_token_once() {
    let folder = Folder::new();
    folder.file("one.txt", "abcabca");
    folder.file("two.txt", "cab");
    let table = "format = \"text\"\nfiles = [\"one.txt\", \"two.txt\"]\nsteps = 3\n[tokens]\n\
                 by = \"characters\"\nalphabet = \"abc\"\n";
    let opened = folder.open(table).expect("texts");
    assert_eq!(opened.clients, ["one.txt", "two.txt"]);
    let data = opened.train.expect("train");
    let batch = data.gather(&[0, 1, 2]).expect("windows");
    assert_eq!(batch.inputs, Inputs::Tokens(vec![2, 3, 4, 2, 3, 4, 4, 2, 0]));
    let no = crate::NO_TOKEN;
    assert_eq!(batch.targets, Targets::Tokens(vec![3, 4, 2, 3, 4, 2, 2, 3, no]));
    assert_eq!(data.writers(), Some(vec![0, 0, 1]));

    // A job with a larger vocabulary has room to spare; one with a smaller has none.
    let config = parse(table, folder.path()).expect("configuration");
    let wanted = |vocabulary| Wanted { vocabulary: Some(vocabulary), ..Wanted::default() };
    let roomy = open(&config, &wanted(98)).expect("roomy").train.expect("train");
    assert_eq!(roomy.vocabulary(), 98);
    says(&message(open(&config, &wanted(4))), &["expected tokens below 4, found 5 tokens"]);
    folder.file("one.txt", "");
    says(&folder.refusal(table), &["one.txt at byte 0: expected a file with bytes, found none"]);
}

#[test]
fn a_group_file_says_whose_rows_they_are() {
    let folder = Folder::new();
    let record = |label: u8| [vec![label], vec![0; 3072]].concat();
    folder.file("batch.bin", [record(1), record(2)].concat());
    folder.file("who.csv", "name\nzoe\nann\n");
    let table = "format = \"cifar\"\nfile = \"batch.bin\"\ngroup_file = \"who.csv\"\n";
    let opened = folder.open(table).expect("pictures");
    assert_eq!(opened.clients, ["ann", "zoe"]);
    assert_eq!(opened.train.expect("train").writers(), Some(vec![1, 0]));
    folder.file("who.csv", "name\nzoe\n");
    says(&folder.refusal(table), &["who.csv has 1 rows, but", "batch.bin has 2; name two files"]);
}
