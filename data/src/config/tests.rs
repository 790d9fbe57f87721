//! `[data]` tables: each format's, and all faults at once.

use std::path::Path;

use tributary_core::spec::data::DataKind;

use super::{Format, SourceConfig};
use crate::fixture::parse;
use crate::label::LabelMap;
use crate::listing::Listing;
use crate::rows::RowFormat;
use crate::token::{TokenConfig, TokenList};

fn read(table: &str) -> SourceConfig {
    parse(table, Path::new("site")).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(table: &str) -> String {
    parse(table, Path::new("site")).expect_err("faults").to_string()
}

#[test]
fn every_format_reads_with_paths_from_its_folder() {
    let config = read("format = \"idx\"\nclasses = 10\nimages = \"i\"\nlabels = \"l\"\n");
    let Format::Idx { parts, classes, .. } = &config.format else { panic!("{config:?}") };
    assert_eq!(*classes, 10);
    assert_eq!(parts.train.as_ref().expect("train").images, Path::new("site/i"));
    assert!(parts.evaluate.is_none() && config.format.kind() == Some(DataKind::Image));

    let config =
        read("format = \"images\"\nfolder = \"f\"\nclass_names = [\"a\", \"b\"]\nsize = 8\n");
    let Format::Images { parts, labels, size, .. } = config.format else { panic!("images") };
    assert_eq!(parts.train, Some(Listing::Folder("site/f".into())));
    assert_eq!((labels.classes(), size), (2, Some((8, 8))));

    let config = read("format = \"parquet\"\nfiles = [\"a\", \"b\"]\nlabel_column = \"y\"\n");
    let Format::Table { rows, columns, .. } = config.format else { panic!("table") };
    assert_eq!((rows, columns.features), (RowFormat::Parquet, None));

    let config = read("format = \"text\"\nfile = \"t\"\n[tokens]\nby = \"characters\"\n");
    let Format::Text { tokens, .. } = config.format else { panic!("text") };
    assert_eq!(tokens, TokenConfig::Characters(TokenList::Job));

    let table = "format = \"npz\"\nfile = \"a.npz\"\ninputs = \"x\"\nlabels = \"y\"\nclasses = 3\n\
                 evaluate_file = \"b.npz\"\nfirst_label = 1\n[normalise]\nmean = 1\ndeviation = 2\n";
    let config = read(table);
    assert_eq!(config.normalise.expect("constants").deviation, [2.0]);
    let Format::Arrays { parts, .. } = config.format else { panic!("arrays") };
    let evaluate = parts.evaluate.expect("the same entries of the other file").inputs;
    assert_eq!(
        (evaluate.file.as_path(), evaluate.entry.as_deref()),
        (Path::new("site/b.npz"), Some("x"))
    );

    let table = "format = \"wav\"\nindex = \"i.csv\"\nsample_rate = 8000\nclasses = 10\n";
    let Format::Wav(config) = read(table).format else { panic!("wav") };
    assert_eq!(
        (config.mel.high_hz, config.labels),
        (4000.0, LabelMap::Numbers { classes: 10, first: 0 })
    );
}

#[test]
fn all_faults_come_at_once() {
    let table = "format = \"csv\"\nfile = \"a\"\nfiles = [\"b\"]\nlabel_column = \"y\"\nclasses = 1\n\
                 delimiter = \"x\"\nvalidation_fraction = 2.0\nfeature = 1\nlable_column = 1\n\
                 features = [{ column = \"c\", categories = [1, 1] }, { colum = 2 }, true]\n";
    let faults = faults(table);
    for part in [
        "file: expected either `file` or `files`, found both",
        "classes: expected an integer from 2",
        "delimiter: expected one of \",\"",
        "validation_fraction: expected a number from 0 to 0.9, found 2",
        "features[0].categories: expected 1 to 4096 different categories, found a list of 2",
        "features[1].column: expected a column",
        "features[1].colum: expected a known key (did you mean `column`?)",
        "features[2]: expected a column: a name in quotes",
        "feature: expected a known key (did you mean `features`?)",
    ] {
        assert!(faults.contains(part), "{part:?} is missing in {faults}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (table, part) in [
        ("format = \"zip\"\n", "format: expected one of \"idx\", \"cifar\", \"images\""),
        ("format = \"idx\"\nclasses = 2\n", "images: expected a file to train on"),
        ("format = \"idx\"\nclasses = 2\nimages = \"i\"\n", "labels: expected the labels of i"),
        ("format = \"csv\"\nfile = \"a\"\n", "label_column: expected a column"),
        (
            "format = \"cifar\"\nfile = \"a\"\nevaluate_file = \"b\"\nvalidation_fraction = 0.1\n",
            "validation_fraction: expected either a fraction or files to evaluate on, found both",
        ),
        (
            "format = \"images\"\nfolder = \"a\"\nindex = \"b\"\n",
            "folder: expected either `folder` or `index`, found both",
        ),
        (
            "format = \"npy\"\ninputs = \"a\"\n",
            "labels: expected `labels` or `targets`, found nothing",
        ),
        (
            "format = \"csv\"\nfile = \"a\"\nlabel_column = 1\ntarget_columns = [2]\n",
            "target_columns: expected either `label_column` or `target_columns`, found both",
        ),
        (
            "format = \"wav\"\nfolder = \"a\"\nsample_rate = 8000\nhigh_hz = 5000\n",
            "high_hz: expected a number from 0 to 4000, found 5000",
        ),
        (
            "format = \"text\"\nfile = \"a\"\n[tokens]\nby = \"words\"\nvocabulary = [\"a\"]\n\
             vocabulary_file = \"v\"\n",
            "tokens.vocabulary: expected either `vocabulary` or `vocabulary_file`, found both",
        ),
    ] {
        let faults = faults(table);
        assert!(faults.contains(part), "{part:?} is missing in {faults}");
    }
}

#[test]
fn every_table_of_the_page_on_data_reads() {
    let page = include_str!("../../../docs/data.md");
    let mut formats = Vec::new();
    for table in page.split("```toml\n").skip(1).map(|rest| rest.split("```").next()) {
        let table = table.expect("a block that ends");
        // The name is the client's key, beside those of the format.
        let lines = table.lines().filter(|line| !line.starts_with("name = "));
        let table: String = lines.map(|line| format!("{line}\n")).collect();
        let _ = read(&table);
        formats.extend(
            table.lines().find_map(|line| line.strip_prefix("format = ")).map(str::to_owned),
        );
    }
    formats.sort();
    formats.dedup();
    // TSV, CSV, Parquet, JSON lines; all eleven words of the key.
    assert_eq!(formats.len(), super::WORDS.len(), "{formats:?}");
}
