//! A site's sums are those of the rows that it would train on.

use tributary_core::spec::JobSpec;
use tributary_core::statistics::{NumericSums, SiteSums};

use super::{
    TokenCounts, class_counts, features::feature_sums, label_counts, site_sums, token_counts,
};
use crate::fixture::{Folder, message, parse, says};
use crate::{DataError, Dataset, Wanted, open};

fn spec(data: &str, model: &str) -> JobSpec {
    let text = format!(
        "[job]\nname = \"sums\"\nrounds = 1\n[model]\n{model}\n[data]\n{data}\n\
         [train]\nbatch_size = 1\noptimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n[cohort]\n"
    );
    JobSpec::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn table(features: usize, more: &str) -> JobSpec {
    spec(
        &format!("kind = \"table\"\nclasses = 2\nnormalise = \"federated\"\n{more}"),
        &format!("input = {{ shape = [{features}] }}\nlayers = [{{ linear = 2 }}]"),
    )
}

fn sums(folder: &Folder, config: &str, spec: &JobSpec) -> Result<SiteSums, DataError> {
    let sums = site_sums(&parse(config, folder.path()).expect("configuration"), spec)?;
    let asked = spec.statistics.as_ref().expect("asked").asked;
    sums.check(&asked).unwrap_or_else(|fault| panic!("{fault}"));
    Ok(sums)
}

fn numbers(values: &[f64]) -> NumericSums {
    let mut sums = NumericSums::default();
    values.iter().for_each(|&value| sums.add(value));
    sums
}

const HEARTS: &str = "format = \"csv\"\nfile = \"t.csv\"\nclasses = 2\nlabel_column = \"sick\"\n";

#[test]
fn a_table_s_sums_have_the_model_s_width_and_leave_out_what_is_no_measurement() {
    let folder = Folder::new();
    folder.file("t.csv", "age,pain,rate,sick\n50,1,9,0\n?,2,8,1\n70,3,?,1\n");
    let features = "missing = \"flag\"\nfill = 5\nfeatures = [\"age\", \
                    { column = \"pain\", categories = [1, 2, 3], missing = \"error\" }, \
                    { column = \"rate\", missing = \"constant\", fill = 7 }]\n";
    let found = sums(&folder, &format!("{HEARTS}{features}"), &table(6, "")).expect("sums");
    let gap = |values: &[f64]| NumericSums { left_out: 1, ..numbers(values) };
    let none = NumericSums::default();
    // The age and its flag, three categories, the rate; what fills a gap is not summed.
    assert_eq!(found.features, [gap(&[50.0, 70.0]), none, none, none, none, gap(&[9.0, 8.0])]);
    assert_eq!(found.rows, 3);

    // Where no features are listed all other columns are plain numbers.
    let plain = format!("{HEARTS}missing = \"constant\"\n");
    let found = sums(&folder, &plain, &table(3, "")).expect("sums");
    assert_eq!(found.features, [gap(&[50.0, 70.0]), numbers(&[1.0, 2.0, 3.0]), gap(&[9.0, 8.0])]);
    // A row that is left out of training is left out here.
    let found = sums(&folder, &format!("{HEARTS}missing = \"drop\"\n"), &table(3, ""));
    assert_eq!(found.expect("sums").features[0], numbers(&[50.0]));
    says(
        &message(sums(&folder, &plain, &table(4, ""))),
        &["number of features: expected 4, found 3"],
    );
}

#[test]
fn constants_of_the_site_s_own_are_refused() {
    let folder = Folder::new();
    folder.file("t.csv", "age,sick\n50,0\n70,1\n");
    for own in [
        "features = [{ column = \"age\", mean = 9, deviation = 2 }]\n",
        "[normalise]\nmean = 1\ndeviation = 2\n",
    ] {
        let refused = message(sums(&folder, &format!("{HEARTS}{own}"), &table(1, "")));
        says(&refused, &["another normalisation", "take `normalise`, `mean` and `deviation` out"]);
    }
}

#[test]
fn held_out_rows_and_other_clients_rows_do_not_count() {
    let folder = Folder::new();
    let row = |at: u32| format!("{at},{},{}\n", at % 2, if at < 40 { "a" } else { "b" });
    let rows: String = (0..50).map(row).collect();
    folder.file("t.csv", format!("x,sick,site\n{rows}"));
    let config = format!(
        "{HEARTS}client_column = \"site\"\nclient = \"a\"\nvalidation_fraction = 0.25\n\
         validation_seed = 3\n"
    );
    let found = sums(&folder, &config, &table(1, "")).expect("sums");
    let train = folder.open_for(&config, &Wanted::default()).expect("data").train.expect("rows");
    assert_eq!((found.rows, train.len()), (30, 30));
    assert_eq!(found.features, feature_sums(&train).expect("sums"));
    assert!(found.features[0] != numbers(&(0..40).map(f64::from).collect::<Vec<_>>()));
}

#[test]
fn class_names_are_those_of_the_rows_to_train_on() {
    let folder = Folder::new();
    folder.file("t.csv", "x,mood\n1, well\n2,ill\n3,ill\n4,well\n");
    let config = "format = \"csv\"\nfile = \"t.csv\"\nlabel_column = \"mood\"\n";
    let spec = table(1, "class_names = \"federated\"");
    let found = sums(&folder, config, &spec).expect("sums");
    assert_eq!(found.names, ["ill", "well"]);
    let numbered = message(sums(&folder, &format!("{config}classes = 2\n"), &spec));
    says(&numbered, &["labels by name", "take `classes`"]);
}

const TEXTS: &str = "format = \"tsv\"\nfile = \"t.tsv\"\ntext_column = \"text\"\n\
                     label_column = \"mood\"\n[tokens]\nby = \"words\"\n";

fn words(more: &str) -> JobSpec {
    spec(
        &format!(
            "kind = \"text\"\nclasses = 2\nclass_names = \"federated\"\nvocabulary = 9\n\
             words = {{ federated = true{more} }}"
        ),
        "input = { tokens = 4 }\nlayers = [{ embedding = { vocabulary = 9, dimension = 4 } }, \
         { lstm = { hidden = 3, return = \"last_step\" } }, { linear = 2 }]",
    )
}

#[test]
fn words_are_counted_as_the_model_would_read_them() {
    let folder = Folder::new();
    folder.file("t.tsv", "text\tmood\nGood film , good cast\tgood\nbad film\tbad\n");
    let found = sums(&folder, TEXTS, &words("")).expect("sums");
    let tokens: Vec<(&str, u64)> = found.tokens.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    // The fifth word of the first text is behind the model's four steps.
    assert_eq!(tokens, [(",", 1), ("bad", 1), ("film", 2), ("good", 2)]);
    assert_eq!((found.rows, &found.names[..]), (2, &["bad".to_owned(), "good".to_owned()][..]));
    let cased = message(sums(&folder, TEXTS, &words(", lowercase = false")));
    says(&cased, &["lowercase = false", "cut texts in [data.tokens] as the job does"]);
    let own = message(sums(&folder, &format!("{TEXTS}vocabulary = [\"film\"]\n"), &words("")));
    says(&own, &["list of tokens"]);
}

#[test]
fn characters_of_running_text_are_counted_once() {
    let folder = Folder::new();
    folder.file("t.txt", "abcabcabc");
    let config = "format = \"text\"\nfile = \"t.txt\"\nsteps = 2\n[tokens]\nby = \"characters\"\n";
    let spec = spec(
        "kind = \"text\"\nvocabulary = 9\nalphabet = { federated = true }",
        "preset = \"char_lstm\"\ninput = { tokens = 2 }",
    );
    let found = sums(&folder, config, &spec).expect("sums");
    let tokens: Vec<(&str, u64)> = found.tokens.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    // Windows share a token; all but the text's first are predicted, each once.
    assert_eq!(tokens, [("a", 2), ("b", 3), ("c", 3)]);
}

#[test]
fn channels_and_steps_without_padding_are_summed() {
    let pictures = Dataset::from_u8(vec![255, 255, 0, 0], vec![0], &[2, 1, 2], 2).expect("data");
    let channels = feature_sums(&pictures).expect("sums");
    assert_eq!((channels[0].mean(), channels[1].mean()), (Some(1.0), Some(0.0)));
    let series = Dataset::from_f32(vec![1.0, 2.0, 3.0, 4.0, 0.0, 0.0], vec![0], &[3, 2], 2);
    let series = series.and_then(|data| data.with_lengths(vec![2])).expect("data");
    assert_eq!(feature_sums(&series).expect("sums"), [numbers(&[1.0, 3.0]), numbers(&[2.0, 4.0])]);
    let texts = Dataset::for_next_token(&[vec![1, 2]], 1, 3).expect("texts");
    says(&message(feature_sums(&texts)), &["tokens of texts"]);
    says(&message(class_counts(&texts)), &["expected classes to count, found none"]);
}

#[test]
fn words_and_labels_are_listed_before_anybody_agreed_on_them() {
    let folder = Folder::new();
    folder.file("t.tsv", "text\tmood\nGood film\tgood\nbad film\tbad\nno film\t\n");
    let config = parse(TEXTS, folder.path()).expect("configuration");
    let listed = token_counts(&config).expect("words").into_tokens();
    assert_eq!(listed, ["bad", "film", "good", "no"]);
    let labels = label_counts(&config).expect("labels");
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("", 1), ("bad", 1), ("good", 1)]);
    let table = "format = \"idx\"\nclasses = 2\nimages = \"i\"\nlabels = \"l\"\n";
    let config = parse(table, folder.path()).expect("configuration");
    says(&message(token_counts(&config)), &["expected texts to count, found none; name a format"]);
    says(&message(label_counts(&config)), &["expected labels in a column, found none"]);
    let mut characters = TokenCounts::default();
    characters.add_characters("äbä");
    assert_eq!(characters.iter().collect::<Vec<_>>(), [("b", 1), ("ä", 2)]);
}

#[test]
fn sites_that_share_files_have_the_sums_of_their_own_rows() {
    let folder = Folder::new();
    folder.file("t.csv", "age,sick\n50,0\n?,1\n70,1\n20,0\n90,1\n30,0\n");
    let text = format!("{HEARTS}missing = \"drop\"\nvalidation_fraction = 0.4\n");
    let (config, spec) = (parse(&text, folder.path()).expect("configuration"), table(1, ""));
    let opened = config.open_as_written(&spec).expect("rows to deal");
    let (train, held) = (opened.train.expect("train"), opened.evaluate.expect("held out"));
    assert_eq!((train.len(), held.len()), (3, 2), "of five without a gap");
    let (first, rest) = (train.subset(&[1]).expect("row"), train.subset(&[0, 2]).expect("rows"));
    let sums = |rows: &Dataset| site_sums(&config.only(Some(rows), None), &spec).expect("sums");
    let (first, rest, all) = (sums(&first), sums(&rest), site_sums(&config, &spec).expect("sums"));
    assert_eq!((first.rows, rest.rows, all.rows), (1, 2, 3));
    assert_eq!(first.features[0].merged(&rest.features[0]), Some(all.features[0]));
    // Whoever only scores has nothing to train on, and the held-out rows as they are.
    let scored = open(&config.only(None, Some(&held)), &Wanted::default()).expect("rows");
    assert!(scored.train.is_none());
    let whole = open(&config, &Wanted::default()).expect("rows").evaluate.expect("held out");
    let values = |rows: &Dataset| crate::fixture::numbers(rows);
    assert_eq!(values(&scored.evaluate.expect("held out")), values(&whole));
    // A file that has become shorter than a place in it is told.
    folder.file("t.csv", "age,sick\n50,0\n70,1\n");
    let message = message(open(&config.only(None, Some(&held)), &Wanted::default()));
    says(&message, &["expected an example below 2"]);
}
