//! What a job gives to all sites so that they read their rows alike: class names, a vocabulary,
//! constants to normalise by. It stands in the spec, or all sites' sums give it before round 1; none of it
//! is ever computed from one site's rows.

use toml::Value;

use crate::digest::Digest;
use crate::document::{Section, show};

use super::data::{CLASSES_MAX, DataKind, DataSpec};
use super::features::{self, FeatureSpec};
use super::statistics::Federated;
use crate::statistics::TokenAsk;

/// Tokens before a list's first: padding and whatever the list does not have.
pub const RESERVED_TOKENS: u32 = 2;
/// Greatest magnitude of a constant: far above any measurement, and readable in a message.
pub const NUMBER_MAX: f64 = 1e15;

/// The part of `[data]` that every site reads its rows with.
///
/// ```toml
/// class_names = ["healthy", "ill"]   # labels are these names, in this order
/// words = "the of and to"            # the vocabulary of texts cut in words, between white space
/// alphabet = "ascii"                 # of texts cut in characters: a word, or the characters
/// tokenizer = "sha256:…"             # of texts cut by a tokenizer.json: the one with this digest
/// [data.normalise]                   # (value − mean) ⁄ deviation: one pair, or one a feature
/// mean = 0.1307
/// deviation = 0.3081
/// [[data.features]]                  # a table's columns: see [`features`](super::features)
/// column = "age"
/// ```
///
/// Or `class_names = "federated"`, `words = { federated = true, lowercase = true }`,
/// `alphabet = { federated = true }`, `normalise = "federated"`: then they are none here until the sites'
/// sums gave them ([`JobSpec::with_constants`](super::JobSpec::with_constants)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Constants {
    /// The classes' names in order.
    pub class_names: Option<Vec<String>>,
    /// The words, or characters, of the vocabulary in order; the first is token
    /// [`RESERVED_TOKENS`].
    pub tokens: Option<Vec<String>>,
    /// The digest of the `tokenizer.json` that cuts texts.
    pub tokenizer: Option<Digest>,
    /// What is subtracted, and then divided by: one of each for all values, or one a feature.
    pub normalise: Option<(Vec<f64>, Vec<f64>)>,
    /// The columns of a table, in the order of the model's input; they always stand in the spec.
    pub features: Option<Vec<FeatureSpec>>,
}

/// The printable characters of ASCII and the line end: a common alphabet of 96 characters.
#[must_use]
pub fn ascii_alphabet() -> Vec<String> {
    std::iter::once('\n').chain(' '..='~').map(String::from).collect()
}

impl Constants {
    /// What stands in the spec, and what is left to the sites.
    pub(super) fn read(section: &mut Section) -> (Self, Federated) {
        let tokenizer = read_tokenizer(section);
        let federated = Federated {
            tokens: read_token_ask(section),
            names: is_federated(section, "class_names"),
            normalise: is_federated(section, "normalise"),
        };
        let constants = Self {
            class_names: if federated.names { None } else { read_names(section) },
            tokens: if federated.tokens.is_some() { None } else { read_tokens(section) },
            tokenizer,
            normalise: if federated.normalise { None } else { read_normalise(section) },
            features: features::read(section),
        };
        (constants, federated)
    }

    /// Features are columns of a table, and normalised in one place.
    pub(super) fn check_features(&self, section: &Section, data: &DataSpec, federated: Federated) {
        let Some(features) = &self.features else { return };
        if data.kind != DataKind::Table {
            section.fault("features", "nothing where kind is not \"table\"", "a list");
        }
        let scaled = features.iter().any(|feature| feature.reading.is_scaled());
        if scaled && (self.normalise.is_some() || federated.normalise) {
            let found = "`mean` and `deviation` of `features`, and `normalise` beside them";
            section.fault("normalise", "one set of constants", found);
        }
    }

    /// Features make as many numbers as the model takes.
    pub(super) fn check_width(&self, root: &Section, input: &[usize]) {
        let Some(features) = &self.features else { return };
        let width: usize = features.iter().map(|feature| feature.reading.width()).sum();
        let input: usize = input.iter().product();
        if width != input {
            let expected = format!("{input} numbers, as the model's input");
            root.fault_at("data.features", expected, width.to_string());
        }
    }

    /// Tokens are below this, where a vocabulary is given.
    #[must_use]
    pub fn vocabulary(&self) -> Option<u32> {
        let tokens = self.tokens.as_ref()?;
        Some(u32::try_from(tokens.len()).unwrap_or(u32::MAX).saturating_add(RESERVED_TOKENS))
    }

    /// How many classes have names.
    #[must_use]
    pub fn classes(&self) -> Option<u32> {
        let names = self.class_names.as_ref()?;
        Some(u32::try_from(names.len()).unwrap_or(u32::MAX))
    }
}

/// Whether nothing comes twice.
#[must_use]
pub fn distinct<T: Ord>(list: &[T]) -> bool {
    let mut sorted: Vec<&T> = list.iter().collect();
    sorted.sort();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// Whether a key is left to the sites' sums; it is taken then.
fn is_federated(section: &mut Section, key: &str) -> bool {
    let federated = section.peek(key).and_then(Value::as_str) == Some("federated");
    if federated {
        let _ = section.take(key);
    }
    federated
}

/// `words` or `alphabet` as a table: an alphabet could be any text.
fn read_token_ask(section: &mut Section) -> Option<TokenAsk> {
    let key = ["words", "alphabet"]
        .into_iter()
        .find(|key| section.peek(key).is_some_and(|value| value.is_table()))?;
    let words = key == "words";
    let mut inner = section.optional_section(key)?;
    let federated = inner.boolean("federated", Some(false));
    if !federated {
        inner.fault("federated", "true, or a text with the tokens themselves", "false");
    }
    let lowercase = words && inner.boolean("lowercase", Some(true));
    inner.finish();
    let other = if words { "alphabet" } else { "words" };
    if section.has(other) {
        section.fault(other, "either `words` or `alphabet`", "both");
        let _ = section.take(other);
    }
    Some(if words { TokenAsk::Words { lowercase } } else { TokenAsk::Characters })
}

fn read_names(section: &mut Section) -> Option<Vec<String>> {
    let list = section.optional_list("class_names")?;
    let mut names = Vec::with_capacity(list.len());
    for (path, value) in list {
        match value {
            Value::String(name) => names.push(name),
            other => section.fault_at(path, "a name in quotes", show(&other)),
        }
    }
    if !(2..=CLASSES_MAX as usize).contains(&names.len()) || !distinct(&names) {
        let expected = format!("2 to {CLASSES_MAX} different names");
        section.fault("class_names", expected, format!("a list of {}", names.len()));
        return None;
    }
    Some(names)
}

fn read_tokens(section: &mut Section) -> Option<Vec<String>> {
    let words = section.optional_text("words");
    let alphabet = section.optional_text("alphabet");
    let (key, list): (_, Vec<String>) = match (words, alphabet) {
        (Some(_), Some(_)) => {
            section.fault("alphabet", "either `words` or `alphabet`", "both");
            return None;
        }
        (Some(words), None) => ("words", words.split_whitespace().map(str::to_owned).collect()),
        (None, Some(text)) if text == "ascii" => ("alphabet", ascii_alphabet()),
        (None, Some(text)) => ("alphabet", text.chars().map(String::from).collect()),
        (None, None) => return None,
    };
    if list.is_empty() || !distinct(&list) {
        section.fault(key, "a list without repetitions", format!("{} entries", list.len()));
        return None;
    }
    Some(list)
}

/// A tokeniser has its vocabulary: a list beside it would be another one.
fn read_tokenizer(section: &mut Section) -> Option<Digest> {
    let digest = section.optional_parsed("tokenizer")?;
    if section.has("words") || section.has("alphabet") {
        section.fault("tokenizer", "one of `words`, `alphabet` and `tokenizer`", "two");
    }
    Some(digest)
}

fn read_normalise(section: &mut Section) -> Option<(Vec<f64>, Vec<f64>)> {
    let mut inner = section.optional_section("normalise")?;
    let (mean, deviation) = (numbers(&mut inner, "mean"), numbers(&mut inner, "deviation"));
    if deviation.iter().flatten().any(|value| *value == 0.0) {
        inner.fault("deviation", "numbers other than 0", "a 0");
    }
    inner.finish();
    Some((mean?, deviation?))
}

/// A finite number, or a list of them.
fn numbers(section: &mut Section, key: &str) -> Option<Vec<f64>> {
    let expected = "a number, or one for each feature or channel";
    let list = match section.take(key) {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(Value::Array(_)) | None => {
            section.fault(key, expected, "nothing");
            return None;
        }
        Some(one) => vec![one],
    };
    let mut found = Vec::with_capacity(list.len());
    for value in list {
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        match number.filter(|number| number.abs() <= NUMBER_MAX) {
            Some(number) => found.push(number),
            None => section.fault(key, expected, show(&value)),
        }
    }
    Some(found)
}
