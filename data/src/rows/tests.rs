//! Rows that are right, and files that somebody damaged, mixed up or made up.

use crate::fixture::{Folder, gzip, numbers, says};

const TABLE: &str = "format = \"csv\"\nfile = \"a.csv\"\nclasses = 2\nlabel_column = \"sick\"\n";

fn refusal(bytes: impl AsRef<[u8]>) -> String {
    let folder = Folder::new();
    folder.file("a.csv", bytes);
    folder.refusal(TABLE)
}

#[test]
fn headers_quotes_line_ends_and_compression_do_not_change_rows() {
    let folder = Folder::new();
    let plain = "age,\"the, weight\",sick\n50,70.5,1\n61,80,0\n";
    let other = "\u{feff}age,\"the, weight\",sick\r\n\"50\",70.5,1\r\n61,80,0";
    for bytes in [plain.into(), other.into(), gzip(plain.as_bytes())] {
        let bytes: Vec<u8> = bytes;
        folder.file("a.csv", bytes);
        let data = folder.train(TABLE);
        assert_eq!(numbers(&data), [50.0, 70.5, 61.0, 80.0]);
        assert_eq!((data.labels(), data.shape()), (Some(vec![1, 0]), [2].as_slice()));
    }
}

#[test]
fn a_file_without_a_header_is_named_by_position() {
    let folder = Folder::new();
    folder.file("a.csv", "50;70;1\n61;80;0\n");
    let shared = "format = \"csv\"\nfile = \"a.csv\"\nclasses = 2\nheader = false\n\
                  delimiter = \";\"\n";
    let data = folder.train(&format!("{shared}label_column = 2\nfeatures = [1]\n"));
    assert_eq!(numbers(&data), [70.0, 80.0]);
    let names = "names = [\"age\", \"weight\", \"sick\"]\nlabel_column = \"sick\"\n";
    let data = folder.train(&format!("{shared}{names}"));
    assert_eq!(numbers(&data), [50.0, 70.0, 61.0, 80.0]);
    let message = folder.refusal(&format!("{shared}label_column = 3\n"));
    says(&message, &["a.csv at line 1: expected a column `3`, found 3 columns; name the column"]);
    let message = folder.refusal(&format!("{shared}names = [\"a\"]\nlabel_column = \"a\"\n"));
    says(&message, &["at line 1: expected 1 fields, as `names` has, found 3"]);
}

#[test]
fn a_column_that_is_missing_or_double_is_named() {
    says(
        &refusal("age,ill\n50,1\n"),
        &[
            "a.csv at line 1: expected a column `sick`, found the columns age, ill",
            "name the right",
        ],
    );
    says(&refusal("sick,sick,a\n1,1,1\n"), &["expected one column `sick`, found several"]);
}

#[test]
fn a_value_of_another_type_is_named_with_line_and_column() {
    let message = refusal("age,sick\n50,1\nold,0\n");
    says(&message, &["a.csv at line 3, column `age`: expected a finite number, found \"old\""]);
    let message = refusal("age,sick\ninf,0\n");
    says(&message, &["line 2, column `age`: expected a finite number, found \"inf\"; mend"]);
    let message = refusal("age,sick\nNaN,0\n");
    says(&message, &["line 2, column `age`: expected a value, found \"NaN\"; fill the value"]);
    let message = refusal("age,sick\n50,2\n");
    says(&message, &["line 2, column `sick`: expected a label from 0 to 1, found \"2\"; correct"]);
    let message = refusal("age,sick\n50,\n");
    says(&message, &["line 2, column `sick`: expected a label from 0 to 1, found nothing"]);
}

#[test]
fn lines_that_do_not_fit_are_named() {
    says(
        &refusal(""),
        &["a.csv at line 1: expected a line that names the columns, found an empty"],
    );
    says(&refusal("age,sick\n"), &["a.csv: expected at least one row, found none; check"]);
    says(&refusal("age,sick\n1,0\n1,0,1\n"), &["at line 3: expected 2 fields", "found 3; mend"]);
    says(&refusal(b"age,sick\n\xff,0\n"), &["at line 2: expected text in UTF-8", "save the file"]);
    let cut = gzip(b"age,sick\n50,1\n");
    says(&refusal(&cut[..cut.len() - 12]), &["gzip stream", "fetch or copy the file again"]);
}

#[test]
fn a_line_of_a_gigabyte_is_refused_after_a_few_megabytes() {
    let folder = Folder::new();
    let path = folder.file("a.csv", "age,sick\n50,1\n");
    // Zeros without a line end; the file takes no room on the disk.
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("open");
    file.set_len(1 << 30).expect("sparse");
    let message = folder.refusal(TABLE);
    says(&message, &["a.csv at line 3: expected the end of the line within 4194304 bytes"]);
    says(&message, &["found more; check the delimiter, the quotes and the line ends"]);

    let quoted = format!("age,sick\n\"{}", "\n".repeat(5 << 20));
    says(&refusal(quoted), &["at line 2: expected the end of the line within 4194304 bytes"]);
    let wide = ",".repeat(70_000);
    says(&refusal(wide), &["at line 1: expected the end of the line within 65536 fields"]);

    folder.file("a.jsonl", vec![b' '; 5 << 20]);
    let table = "format = \"jsonl\"\nfile = \"a.jsonl\"\nclasses = 2\nlabel_column = \"l\"\n\
                 features = [\"x\"]\n";
    says(&folder.refusal(table), &["a.jsonl at line 1: expected the end of the line within"]);
}

#[test]
fn json_lines_are_rows() {
    let folder = Folder::new();
    let table = "format = \"jsonl\"\nfile = \"a.jsonl\"\nclasses = 2\nlabel_column = \"l\"\n";
    folder.file("a.jsonl", "{\"x\": 1.5, \"l\": true}\n\n{\"l\": 0, \"y\": \"z\", \"x\": \"2\"}\n");
    let named = format!("{table}features = [\"x\"]\n");
    let data = folder.train(&named);
    assert_eq!((numbers(&data), data.labels()), (vec![1.5, 2.0], Some(vec![1, 0])));
    says(&folder.refusal(table), &["a.jsonl: expected columns in a fixed order", "`features`"]);
    let position = format!("{table}features = [0]\n");
    says(&folder.refusal(&position), &["expected columns by name", "found the position 0"]);
    folder.file("a.jsonl", "{\"l\": 1}\n");
    says(&folder.refusal(&named), &["at line 1, column `x`: expected a value, found nothing"]);
    folder.file("a.jsonl", "{\"l\": 1, \"x\": [1]}\n");
    says(&folder.refusal(&named), &["column `x`: expected a number", "found a list or an object"]);
    folder.file("a.jsonl", "{\"l\": 1, \"x\": 1}\n{\"l\": 1, ");
    says(&folder.refusal(&named), &["a.jsonl at line 2: expected one JSON object", "EOF"]);
    folder.file("a.jsonl", "[1]\n");
    says(&folder.refusal(&named), &["at line 1: expected a JSON object, found \"[1]\""]);
    folder.file("a.jsonl", "");
    says(&folder.refusal(&named), &["expected a JSON object, found an empty file"]);
}

#[cfg(feature = "parquet")]
mod parquet {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::fixture::{Folder, gzip, numbers, says};

    const TABLE: &str = "format = \"parquet\"\nfile = \"a.parquet\"\nclass_names = [\"no\", \"yes\"]\n\
                         label_column = \"sick\"\n";

    /// Ages (the second is missing), weights, answers.
    fn bytes() -> Vec<u8> {
        let schema = "message rows { OPTIONAL INT64 age; REQUIRED DOUBLE weight; \
                      REQUIRED BYTE_ARRAY sick (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).expect("schema"));
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).expect("writer");
        let mut group = writer.next_row_group().expect("group");
        let mut column = group.next_column().expect("column").expect("age");
        column.typed::<Int64Type>().write_batch(&[50], Some(&[1, 0]), None).expect("ages");
        column.close().expect("close");
        let mut column = group.next_column().expect("column").expect("weight");
        column.typed::<DoubleType>().write_batch(&[70.5, 80.0], None, None).expect("weights");
        column.close().expect("close");
        let mut column = group.next_column().expect("column").expect("sick");
        let answers = ["yes", "no"].map(ByteArray::from);
        column.typed::<ByteArrayType>().write_batch(&answers, None, None).expect("answers");
        column.close().expect("close");
        group.close().expect("close");
        writer.into_inner().expect("bytes")
    }

    #[test]
    fn rows_read_plain_and_compressed() {
        let folder = Folder::new();
        for bytes in [bytes(), gzip(&bytes())] {
            folder.file("a.parquet", bytes);
            let table = format!("{TABLE}missing = \"constant\"\nfill = -1\n");
            let opened = folder.open(&table).expect("rows");
            let data = opened.train.expect("train");
            assert_eq!(numbers(&data), [50.0, 70.5, -1.0, 80.0]);
            assert_eq!(data.labels(), Some(vec![1, 0]));
            let notes = opened.notes.train.expect("notes");
            assert_eq!(notes.missing, [("age".to_owned(), 1)]);
        }
    }

    #[test]
    fn another_schema_another_type_and_damage_are_named() {
        let folder = Folder::new();
        folder.file("a.parquet", bytes());
        let message = folder.refusal(TABLE);
        says(&message, &["a.parquet at row 1, column `age`: expected a value, found nothing"]);
        let other = TABLE.replace("sick", "ill");
        let message = folder.refusal(&other);
        says(
            &message,
            &["a.parquet: expected a column `ill`, found the columns age, weight, sick"],
        );
        let texts = format!("{TABLE}features = [\"sick\"]\n").replace("= \"sick\"", "= \"weight\"");
        let message = folder.refusal(&texts);
        says(&message, &["row 0, column `sick`: expected a finite number, found \"yes\""]);

        folder.file("a.parquet", "age,sick\n1,2\n");
        says(&folder.refusal(TABLE), &["at byte 0: expected a parquet file", "found 61 67 65 2c"]);
        folder.file("a.parquet", "");
        says(&folder.refusal(TABLE), &["at byte 0: expected a parquet file", "an empty file"]);
        let whole = bytes();
        folder.file("a.parquet", &whole[..whole.len() - 20]);
        says(
            &folder.refusal(TABLE),
            &["a.parquet: expected a sound parquet file", "fetch or copy"],
        );
    }

    #[test]
    fn no_flipped_byte_brings_the_client_down() {
        let folder = Folder::new();
        let whole = bytes();
        for at in (0..whole.len()).step_by(3) {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            folder.file("a.parquet", broken);
            // Any answer will do, as long as there is one.
            let _ = folder.open(&format!("{TABLE}missing = \"drop\"\n"));
        }
    }
}
