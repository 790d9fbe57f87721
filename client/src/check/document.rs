//! What `check` knows of a data set as JSON, and a binding as a line for people.

use serde_json::{Value, json};
use tributary_core::binding::Binding;
use tributary_core::statistics::SiteSums;
use tributary_data::config::Left;
use tributary_data::summary::{PartSummary, Summary};

use super::{Checked, Known};

/// One data set.
pub(super) fn of(checked: &Checked<'_>) -> Value {
    let mut document = json!({ "name": checked.set.name, "decided_here": checked.warnings });
    let (key, value) = match &checked.known {
        Known::Refused(reason) => ("refused", json!(reason)),
        Known::Sums(sums) => ("sums", of_sums(sums)),
        Known::Rows(rows, offered) => {
            document["offered"] = json!(offered);
            ("rows", of_summary(rows))
        }
    };
    document[key] = value;
    document
}

fn of_summary(summary: &Summary) -> Value {
    let Summary { kind, train, evaluate, left, labels, tokens } = summary;
    let labels = labels.as_ref();
    json!({
        "kind": kind.map(|kind| kind.word()),
        "train": train.as_ref().map(|part| of_part(part, *left)),
        "evaluate": evaluate.as_ref().map(|part| of_part(part, *left)),
        "left_to_job": left.words(),
        "labels_as_written": labels.map(|found| &found.names),
        "labels_beyond": labels.map(|found| found.more),
        "different_tokens": tokens,
    })
}

fn of_part(part: &PartSummary, left: Left) -> Value {
    let notes = part.notes.as_ref();
    let missing = notes.filter(|_| part.read_features).map(|notes| {
        notes.missing.iter().map(|(column, count)| json!({ "column": column, "values": count }))
    });
    json!({
        "rows": part.rows,
        "rows_at_most": part.at_most,
        "shape": part.shape,
        "target": part.target.map(|target| target.phrase()),
        "class_counts": (!part.class_counts.is_empty()).then_some(&part.class_counts),
        "vocabulary": (part.vocabulary > 0).then_some(part.vocabulary),
        "clients": part.clients,
        "range": part.range,
        "lengths": part.lengths,
        "missing": missing.map(Iterator::collect::<Vec<Value>>),
        "rows_left_out": notes.map(|notes| notes.dropped_rows),
        "rows_cut": notes.filter(|_| !left.sizes).map(|notes| notes.cut_rows),
        "unknown_tokens": notes.filter(|_| !left.tokens).map(|notes| notes.unknown_tokens),
        "files_skipped": notes.map(|notes| notes.skipped_files),
    })
}

fn of_sums(sums: &SiteSums) -> Value {
    let features = sums.features.iter().map(|feature| {
        json!({
            "values": feature.count,
            "mean": feature.mean(),
            "deviation": feature.deviation(),
            "left_out": feature.left_out,
        })
    });
    json!({
        "rows": sums.rows,
        "features": features.collect::<Vec<_>>(),
        "tokens": sums.tokens.len(),
        "token_occurrences_left_out": sums.left_out,
        "class_names": sums.names,
    })
}

/// What a coordinator would hear, and nothing else of the data.
pub(super) fn line(binding: &Binding) -> String {
    let mut parts = vec![format!("{:?}", binding.name), binding.kind.clone()];
    let counts = [
        (u64::from(binding.classes), "classes"),
        (u64::from(binding.targets), "targets"),
        (u64::from(binding.vocabulary), "tokens"),
    ];
    let known = counts.into_iter().filter(|(count, _)| *count > 0);
    parts.extend(known.map(|(count, what)| format!("{count} {what}")));
    if !binding.shape.is_empty() {
        parts.push(format!("shape {:?}", binding.shape));
    }
    parts.push(format!("{} rows to train on", binding.train_examples));
    parts.push(format!("{} to score", binding.evaluate_examples));
    parts.join(", ")
}
