//! A model's scores for people: what one looks at first depends on what it predicts.

use tributary_proto::v1;

use crate::table::{Align, Table, ratio};

/// Classes that are listed one by one; JSON has all.
const CLASSES_SHOWN: usize = 32;

/// The two scores that one looks at first: of classes accuracy and macro-F1, of tokens perplexity and
/// accuracy, of numbers RMSE and R².
pub(crate) fn headline(metrics: &v1::Metrics) -> [(&'static str, f64); 2] {
    match (metrics.rmse, metrics.r2, metrics.perplexity) {
        (Some(rmse), Some(r2), _) => [("RMSE", rmse), ("R²", r2)],
        (_, _, Some(perplexity)) => [("perplexity", perplexity), ("accuracy", metrics.accuracy)],
        _ => [("accuracy", metrics.accuracy), ("macro-F1", metrics.macro_f1)],
    }
}

/// The two as a table's headings, where some scores are at hand; those of classes where none are yet.
pub(crate) fn headings<'a>(
    scores: impl IntoIterator<Item = Option<&'a v1::Metrics>>,
) -> [&'static str; 2] {
    let first = scores.into_iter().flatten().next();
    match first.map(|metrics| headline(metrics)[0].0) {
        Some("RMSE") => ["RMSE", "R²"],
        Some("perplexity") => ["PERPLEXITY", "ACCURACY"],
        _ => ["ACCURACY", "MACRO-F1"],
    }
}

/// Loss and headline in one line; dashes before there are any.
pub(crate) fn line(metrics: Option<&v1::Metrics>) -> String {
    let loss = ratio(metrics.map(|metrics| metrics.loss));
    let Some(metrics) = metrics else { return format!("loss {loss}") };
    let [first, second] = headline(metrics).map(|(name, value)| format!("{name} {value:.4}"));
    format!("loss {loss}  {first}  {second}")
}

/// All that is known of held-out rows, in one sentence.
pub(crate) fn sentence(metrics: &v1::Metrics) -> String {
    let mut parts: Vec<String> =
        headline(metrics).iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    parts.extend(metrics.mae.map(|mae| format!("MAE {mae:.4}")));
    parts.extend(metrics.auc.map(|auc| format!("AUC {auc:.4}")));
    parts.push(format!("loss {:.4}", metrics.loss));
    parts.join(", ")
}

/// The scores of each class, by name where it has one, and their means; none where no classes are
/// predicted or listed.
pub(crate) fn by_class(metrics: &v1::Metrics, names: &[String]) -> Option<String> {
    if metrics.classes.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        ("CLASS", Align::Left),
        ("EXAMPLES", Align::Right),
        ("PRECISION", Align::Right),
        ("RECALL", Align::Right),
        ("F1", Align::Right),
    ]);
    let mut row = |name: String, examples: u64, scores: [f64; 3]| {
        let scores = scores.map(|score| ratio(Some(score)));
        table.row([name, examples.to_string()].into_iter().chain(scores).collect());
    };
    for (at, class) in metrics.classes.iter().enumerate().take(CLASSES_SHOWN) {
        let name = names.get(at).cloned().unwrap_or_else(|| at.to_string());
        row(name, class.support, [class.precision, class.recall, class.f1]);
    }
    let m = metrics;
    row("macro".to_owned(), m.examples, [m.macro_precision, m.macro_recall, m.macro_f1]);
    row(
        "weighted".to_owned(),
        m.examples,
        [m.weighted_precision, m.weighted_recall, m.weighted_f1],
    );
    // One label and one prediction an example: all three are the share that is right.
    row("micro".to_owned(), m.examples, [m.accuracy; 3]);
    let more = match metrics.classes.len().saturating_sub(CLASSES_SHOWN) {
        0 => String::new(),
        more => format!("\n{more} more classes are in --output json"),
    };
    Some(table.render() + &more)
}

#[cfg(test)]
mod tests {
    use tributary_proto::v1;

    use super::{by_class, headings, headline, line, sentence};

    fn of_classes() -> v1::Metrics {
        let class = v1::ClassMetrics { support: 2, precision: 1.0, recall: 0.5, f1: 2.0 / 3.0 };
        v1::Metrics {
            accuracy: 0.5,
            macro_f1: 0.25,
            examples: 4,
            classes: vec![class; 40],
            ..Default::default()
        }
    }

    #[test]
    fn what_is_predicted_says_what_is_shown() {
        let numbers = v1::Metrics {
            rmse: Some(2.0),
            mae: Some(1.5),
            r2: Some(0.75),
            loss: 4.0,
            ..Default::default()
        };
        assert_eq!(headline(&numbers), [("RMSE", 2.0), ("R²", 0.75)]);
        assert_eq!(sentence(&numbers), "RMSE 2.0000, R² 0.7500, MAE 1.5000, loss 4.0000");
        let tokens = v1::Metrics { perplexity: Some(9.5), accuracy: 0.5, ..Default::default() };
        assert_eq!(headings([None, Some(&tokens)]), ["PERPLEXITY", "ACCURACY"]);
        assert_eq!(headings([Some(&numbers)]), ["RMSE", "R²"]);
        assert_eq!(headings([None]), ["ACCURACY", "MACRO-F1"]);
        assert_eq!(line(Some(&of_classes())), "loss 0.0000  accuracy 0.5000  macro-F1 0.2500");
        assert_eq!(line(None), "loss –");
        assert!(by_class(&numbers, &[]).is_none());
    }

    #[test]
    fn classes_are_listed_with_their_means_up_to_a_number() {
        let names = ["ill".to_owned()];
        let table = by_class(&of_classes(), &names).expect("classes");
        assert!(table.contains("ill              2     1.0000"), "{table}");
        assert!(table.contains("31               2     1.0000  0.5000  0.6667"), "{table}");
        assert!(table.contains("micro            4     0.5000  0.5000  0.5000"), "{table}");
        assert!(table.ends_with("8 more classes are in --output json"), "{table}");
    }
}
