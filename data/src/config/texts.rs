//! How texts become tokens, and files of running text.
//!
//! ```toml
//! format = "tsv"                    # rows: "csv", "jsonl", "parquet" too; or "text"
//! file = "train.tsv.gz"
//! text_column = "sentence"
//! label_column = "label"            # without it each next token is predicted
//! steps = 64                        # as the job's shape where this is not given
//! [data.tokens]
//! by = "words"                      # vocabulary or vocabulary_file, lowercase
//! by = "characters"                 # alphabet = "ascii" or its characters, or alphabet_file
//! by = "tokenizer"                  # file = "tokenizer.json"
//! ```

use std::path::Path;

use tributary_core::document::Section;
use tributary_core::spec::constants::ascii_alphabet;

use super::{Format, keys};
use crate::text::STEPS_MAX;
use crate::token::{TokenConfig, TokenList};

#[derive(Debug, Clone, Copy)]
enum By {
    Characters,
    Words,
    Tokenizer,
}

pub(super) fn read_running(section: &mut Section, base: &Path) -> Option<Format> {
    let parts = keys::files(section, base);
    let (tokens, steps) = read_tokens(section, base);
    Some(Format::Text { parts, tokens: tokens?, steps })
}

/// `[data.tokens]` and `steps`.
pub(super) fn read_tokens(
    section: &mut Section,
    base: &Path,
) -> (Option<TokenConfig>, Option<usize>) {
    let steps = section.has("steps").then(|| section.count("steps", 1..=STEPS_MAX, None) as usize);
    let mut inner = section.section("tokens");
    let words =
        [("characters", By::Characters), ("words", By::Words), ("tokenizer", By::Tokenizer)];
    let tokens = match inner.choice("by", &words, None) {
        Some(By::Characters) => Some(TokenConfig::Characters(read_alphabet(&mut inner, base))),
        Some(By::Words) => {
            let lowercase = inner.boolean("lowercase", Some(true));
            let given = keys::strings(&mut inner, "vocabulary");
            let file = inner.optional_text("vocabulary_file");
            let list = one_of(&inner, "vocabulary", given, file, base);
            Some(TokenConfig::Words { list, lowercase })
        }
        Some(By::Tokenizer) => {
            let file = inner.text("file", None);
            (!file.is_empty()).then(|| TokenConfig::Tokenizer(base.join(file)))
        }
        None => None,
    };
    inner.finish();
    (tokens, steps)
}

/// `alphabet` is `"ascii"`, or all the characters themselves.
fn read_alphabet(section: &mut Section, base: &Path) -> TokenList {
    let given = section.optional_text("alphabet").map(|text| {
        if text == "ascii" { ascii_alphabet() } else { text.chars().map(String::from).collect() }
    });
    let file = section.optional_text("alphabet_file");
    one_of(section, "alphabet", given, file, base)
}

fn one_of(
    section: &Section,
    key: &str,
    given: Option<Vec<String>>,
    file: Option<String>,
    base: &Path,
) -> TokenList {
    match (given, file) {
        (Some(_), Some(_)) => {
            section.fault(key, format!("either `{key}` or `{key}_file`"), "both");
            TokenList::Job
        }
        (Some(list), None) => TokenList::Given(list),
        (None, Some(file)) => TokenList::File(base.join(file)),
        (None, None) => TokenList::Job,
    }
}
