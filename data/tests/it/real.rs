//! The six data sets of the examples, where `TRIBUTARY_DATA` names their folder: the figures are
//! those that their publishers state.

use std::path::Path;

use tributary_core::document::read_document;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::Pool;
use tributary_data::prepare::{
    PlayOptions, RecordingOptions, plays::read_roles, prepare_plays, prepare_recordings,
};
use tributary_data::{Inputs, Opened, SourceConfig, Wanted, open, sums};
use tributary_testing::data_dir;

fn read(table: &str, base: &Path) -> Opened {
    let config = read_document(table, 1 << 20, |root| SourceConfig::read(root, base));
    let config = config.expect("configuration").expect("configuration");
    open(&config, &Wanted::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn digits_are_of_their_writers() {
    let Some(data) = data_dir() else { return };
    let table = "format = \"idx\"\nclasses = 10\nimages = \"t10k-images-idx3-ubyte.gz\"\n\
                 labels = \"t10k-labels-idx1-ubyte.gz\"\n\
                 group_file = \"qmnist-test-labels-idx2-int.gz\"\n";
    let opened = read(table, &data.join("mnist"));
    assert_eq!(opened.clients.len(), 297);
    let train = opened.train.expect("train");
    assert_eq!((train.len(), train.shape()), (10_000, [1, 28, 28].as_slice()));
}

#[test]
fn movements_are_series_of_their_subjects() {
    let Some(data) = data_dir() else { return };
    let table = "format = \"npy\"\ninputs = \"train_x.npy.gz\"\nlabels = \"train_labels.csv\"\n\
                 evaluate_inputs = \"test_x.npy.gz\"\nevaluate_labels = \"test_labels.csv\"\n\
                 classes = 6\nfirst_label = 1\nlabel_column = \"activity\"\n\
                 client_column = \"subject\"\n";
    let opened = read(table, &data.join("uci-har"));
    let (train, evaluate) = (opened.train.as_ref().expect("train"), opened.evaluate.as_ref());
    assert_eq!((train.len(), train.shape()), (2400, [128, 9].as_slice()));
    assert_eq!(evaluate.expect("evaluate").len(), 950);
    let summary = opened.summary().expect("summary");
    assert_eq!(summary.kind.expect("kind").word(), "series");
    let part = |part: &Option<tributary_data::summary::PartSummary>| {
        let part = part.as_ref().expect("part");
        assert!(part.absent_classes().is_empty());
        part.clients
    };
    assert_eq!((part(&summary.train), part(&summary.evaluate)), (Some(21), Some(9)));
}

const HEART: &str = "format = \"csv\"\nheader = false\nlabel_above = 0\nlabel_column = \"num\"\n\
    names = [\"age\", \"sex\", \"cp\", \"trestbps\", \"chol\", \"fbs\", \"restecg\", \"thalach\", \
    \"exang\", \"oldpeak\", \"slope\", \"ca\", \"thal\", \"num\"]\n";
/// Hospitals with their rows, their sick, their missing cells, and the rows that are left when
/// slope, ca and thal and then all rows with a missing cell are left out.
const HOSPITALS: [(&str, usize, u64, u64, usize); 4] = [
    ("cleveland", 303, 139, 6, 303),
    ("hungarian", 294, 106, 782, 261),
    ("switzerland", 123, 115, 273, 46),
    ("va", 200, 149, 698, 130),
];

#[test]
fn hearts_of_four_hospitals_have_their_published_counts() {
    let Some(data) = data_dir() else { return };
    for (hospital, rows, sick, missing, complete) in HOSPITALS {
        let head = format!("{HEART}file = \"processed.{hospital}.data\"\n");
        let opened = read(&format!("{head}missing = \"flag\"\n"), &data.join("heart-disease"));
        let train = opened.train.as_ref().expect("train");
        assert_eq!((train.len(), train.shape()), (rows, [26].as_slice()), "{hospital}");
        let notes = opened.notes.train.as_ref().expect("notes");
        assert_eq!(notes.missing.iter().map(|(_, count)| count).sum::<u64>(), missing);
        assert_eq!(sums::class_counts(train).expect("classes"), [rows as u64 - sick, sick]);

        let ten = "missing = \"drop\"\nfeatures = [\"age\", \"sex\", \
                   { column = \"cp\", categories = [1, 2, 3, 4] }, \"trestbps\", \"chol\", \"fbs\", \
                   { column = \"restecg\", categories = [0, 1, 2] }, \"thalach\", \"exang\", \
                   \"oldpeak\"]\n";
        let opened = read(&format!("{head}{ten}"), &data.join("heart-disease"));
        let train = opened.train.expect("train");
        assert_eq!((train.len(), train.shape()), (complete, [15].as_slice()), "{hospital}");
    }
}

/// What the four hospitals' sums give is what their rows to train on, put together, have: 740 rows
/// without those that are held out.
#[test]
fn the_hospitals_sums_are_those_of_all_their_rows_to_train_on() {
    let Some(data) = data_dir() else { return };
    let folder = data.join("heart-disease");
    let spec = JobSpec::parse(
        "[job]\nname = \"hearts\"\nrounds = 1\n[data]\nkind = \"table\"\nclasses = 2\n\
         normalise = \"federated\"\n[model]\npreset = \"logistic_regression\"\n\
         input = { shape = [15] }\n[train]\nbatch_size = 16\n\
         optimizer = { kind = \"sgd\", learning_rate = 0.05 }\n[cohort]\n",
    );
    let spec = spec.unwrap_or_else(|faults| panic!("{faults}"));
    let ten = "missing = \"drop\"\nvalidation_fraction = 0.3\nvalidation_seed = 1\n\
               features = [\"age\", \"sex\", { column = \"cp\", categories = [1, 2, 3, 4] }, \
               \"trestbps\", \"chol\", \"fbs\", { column = \"restecg\", categories = [0, 1, 2] }, \
               \"thalach\", \"exang\", \"oldpeak\"]\n";
    let mut pool = Pool::default();
    let mut ages: Vec<f64> = Vec::new();
    for (hospital, .., complete) in HOSPITALS {
        let table = format!("{HEART}file = \"processed.{hospital}.data\"\n{ten}");
        let config = read_document(&table, 1 << 20, |root| SourceConfig::read(root, &folder));
        let config = config.expect("good").expect("a configuration");
        let sums = sums::site_sums(&config, &spec).expect("sums");
        let train = read(&table, &folder).train.expect("train");
        assert_eq!(sums.rows as usize, train.len());
        assert!(sums.rows < complete as u64, "{hospital}: held-out rows do not count");
        let rows = train.gather(&(0..train.len()).collect::<Vec<_>>()).expect("rows");
        let Inputs::Floats(values) = rows.inputs else { panic!("numbers") };
        ages.extend(values.chunks(15).map(|row| f64::from(row[0])));
        pool.merge(&sums).expect("they add up");
    }
    let (means, deviations) =
        pool.constants(&spec).expect("constants").normalise.expect("asked for");
    let mean = ages.iter().sum::<f64>() / ages.len() as f64;
    let square = |age: &f64| (age - mean) * (age - mean);
    let deviation = (ages.iter().map(square).sum::<f64>() / ages.len() as f64).sqrt();
    assert!((means[0] - mean).abs() < 1e-6 && (deviations[0] - deviation).abs() < 1e-6);
    assert_eq!((&means[2..6], &deviations[2..6]), (&[0.0; 4][..], &[1.0; 4][..]), "categories");
}

#[test]
fn film_reviews_are_texts_of_two_classes() {
    let Some(data) = data_dir() else { return };
    let table = "format = \"tsv\"\nfile = \"train.tsv.gz\"\nevaluate_files = [\"dev.tsv.gz\", \
                 \"test-labeled.tsv.gz\"]\ntext_column = \"sentence\"\nlabel_column = \"label\"\n\
                 classes = 2\nsteps = 64\n[tokens]\nby = \"words\"\n\
                 vocabulary = [\"the\", \"a\", \"of\", \"film\", \"movie\", \"not\"]\n";
    let opened = read(table, &data.join("sst2"));
    let counts = |data: &Option<tributary_data::Dataset>| {
        sums::class_counts(data.as_ref().expect("rows")).expect("classes")
    };
    assert_eq!(counts(&opened.train), [29_780, 37_569]);
    assert_eq!(counts(&opened.evaluate), [428 + 917, 444 + 904]);
}

#[test]
fn spoken_digits_are_steps_of_their_speakers() {
    let Some(data) = data_dir() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let pattern = "{label}_{client}_{index}".parse().expect("pattern");
    let options = RecordingOptions { pattern, evaluate_below: 5 };
    let archive = data.join("fsdd/recordings.tar.gz");
    let prepared = prepare_recordings(&archive, folder.path(), &options).expect("recordings");
    assert_eq!((prepared.train_rows, prepared.evaluate_rows, prepared.clients), (2700, 300, 6));
    let table = "format = \"wav\"\nindex = \"train.csv\"\nevaluate_index = \"evaluate.csv\"\n\
                 client_column = \"client\"\nclasses = 10\nsample_rate = 8000\nsteps = 64\n\
                 mels = 40\n";
    let opened = read(table, folder.path());
    assert_eq!(opened.clients, ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]);
    let summary = opened.summary().expect("summary");
    let train = summary.train.expect("train");
    assert_eq!((train.rows, train.shape), (2700, Some(vec![64, 40])));
    assert_eq!(train.class_counts, [270; 10]);
    // The shortest recording has 1,148 samples: 1 + (1148 − 200) ⁄ 80 steps.
    assert!(train.lengths.expect("lengths").0 >= 12);
    let (least, most) = train.range.expect("range");
    assert!(least >= -23.1 && most < 12.0, "{least} to {most}");
}

#[test]
fn plays_are_characters_of_their_roles() {
    let Some(data) = data_dir() else { return };
    let archive = data.join("shakespeare/plays.tar.gz");
    let (roles, _) = read_roles(&archive).expect("plays");
    let of = |least: usize| roles.values().filter(|role| role.speeches >= least).count();
    // 1,367 and 1,133 where five plays' speeches of nobody (an empty SPEAKER) count as roles too.
    assert_eq!((of(1), of(2)), (1362, 1132));
    let folder = tempfile::tempdir().expect("folder");
    let options = PlayOptions::default();
    let prepared = prepare_plays(&archive, folder.path(), &options).expect("plays");
    assert_eq!(prepared.clients, 1132);
    let table = "format = \"jsonl\"\nfile = \"train.jsonl\"\nevaluate_file = \"evaluate.jsonl\"\n\
                 text_column = \"text\"\nclient_column = \"client\"\nsteps = 80\n[tokens]\n\
                 by = \"characters\"\nalphabet = \"ascii\"\n";
    let opened = read(table, folder.path());
    assert_eq!(opened.clients.len(), 1132);
    let train = opened.train.as_ref().expect("train");
    assert_eq!((train.shape(), train.vocabulary()), ([80].as_slice(), 98));
    assert_eq!(opened.notes.train.as_ref().expect("notes").unknown_tokens, 0);

    let running = "format = \"text\"\nfile = \"tinyshakespeare.txt.gz\"\nsteps = 80\n\
                   validation_fraction = 0.1\n[tokens]\nby = \"characters\"\nalphabet = \"ascii\"\n";
    let opened = read(running, &data.join("shakespeare"));
    let (train, held) = (opened.train.expect("train"), opened.evaluate.expect("held out"));
    assert_eq!(train.len() + held.len(), (1_115_394_usize - 1).div_ceil(80));
}
