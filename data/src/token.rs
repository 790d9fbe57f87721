//! Texts as tokens: by characters of an alphabet, by words of a vocabulary, or by a `tokenizer.json`.
//!
//! Alphabets and vocabularies are given, never learned from a site's texts. By characters and by
//! words, token 0 is padding, 1 is whatever the list does not have, and the list begins at 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tributary_core::digest::Digest;
use tributary_core::spec::constants::RESERVED_TOKENS;

use super::file::{SiteFile, Stamp, malformed};
use super::{DataError, Place, Wanted};

/// Token of padding.
pub const PADDING: u32 = 0;
/// Token of what a vocabulary does not have.
pub const UNKNOWN: u32 = 1;
/// Tokens before a list's first.
pub const RESERVED: u32 = RESERVED_TOKENS;
/// Largest file of a vocabulary or tokeniser: today's largest is about 35 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// How texts become tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenConfig {
    /// One token a character of this list.
    Characters(TokenList),
    /// One token a word; words stand between white space, punctuation alone.
    Words {
        /// The words.
        list: TokenList,
        /// Whether upper case is made lower case first.
        lowercase: bool,
    },
    /// As a `tokenizer.json` says.
    Tokenizer(PathBuf),
}

/// Where a list of tokens comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenList {
    /// Stated.
    Given(Vec<String>),
    /// A file: one word a line, or all characters one behind the other.
    File(PathBuf),
    /// The job states it.
    Job,
}

/// A text in tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) tokens: Vec<u32>,
    /// How many of them are unknown.
    pub(crate) unknown: u64,
    /// How many at the end are no words of the text but close it, as BERT's `[SEP]` does.
    pub(crate) ending: usize,
}

impl Cut {
    /// The first tokens where there are more than `most`, with what closes the text; whether there were.
    pub(crate) fn shorten(&mut self, most: usize) -> bool {
        let length = self.tokens.len();
        if length <= most {
            return false;
        }
        let ending = self.ending.min(most);
        self.tokens.copy_within(length - ending.., most - ending);
        self.tokens.truncate(most);
        true
    }
}

/// Cuts texts in tokens.
pub(crate) struct Tokens {
    cutter: Cutter,
    vocabulary: u32,
    /// The digest of the `tokenizer.json`, where there is one.
    tokenizer: Option<Digest>,
    pub(crate) stamps: Vec<Stamp>,
}

enum Cutter {
    Characters(BTreeMap<char, u32>),
    Words {
        words: BTreeMap<String, u32>,
        lowercase: bool,
    },
    #[cfg(feature = "tokenizers")]
    Tokenizer {
        tokenizer: Box<tokenizers::Tokenizer>,
        unknown: Option<u32>,
    },
}

impl Tokens {
    /// Opens what the configuration names. A job whose vocabulary is larger has room to spare.
    pub(crate) fn open(config: &TokenConfig, wanted: &Wanted) -> Result<Self, DataError> {
        let mut tokens = Self::open_own(config, wanted.tokens.as_deref())?;
        tokens.agree_with(wanted.tokenizer)?;
        match wanted.vocabulary {
            Some(wanted) if wanted < tokens.vocabulary => Err(DataError::Unfit {
                what: "vocabulary",
                expected: format!("tokens below {wanted}"),
                found: format!("{} tokens", tokens.vocabulary),
                advice: "give the job's vocabulary, alphabet or tokenizer.json".into(),
            }),
            Some(wanted) => {
                tokens.vocabulary = wanted;
                Ok(tokens)
            }
            None => Ok(tokens),
        }
    }

    fn open_own(config: &TokenConfig, given: Option<&[String]>) -> Result<Self, DataError> {
        match config {
            TokenConfig::Characters(list) => {
                let (list, stamps) = read_list(list, given, false)?;
                let mut characters = BTreeMap::new();
                for text in &list {
                    for character in text.chars() {
                        let next = RESERVED + characters.len() as u32;
                        characters.entry(character).or_insert(next);
                    }
                }
                let vocabulary = RESERVED + characters.len() as u32;
                let cutter = Cutter::Characters(characters);
                Ok(Self { cutter, vocabulary, tokenizer: None, stamps })
            }
            TokenConfig::Words { list, lowercase } => {
                let (list, stamps) = read_list(list, given, true)?;
                let mut words = BTreeMap::new();
                for word in list {
                    let next = RESERVED + words.len() as u32;
                    words.entry(word).or_insert(next);
                }
                let vocabulary = RESERVED + words.len() as u32;
                let cutter = Cutter::Words { words, lowercase: *lowercase };
                Ok(Self { cutter, vocabulary, tokenizer: None, stamps })
            }
            TokenConfig::Tokenizer(path) => open_tokenizer(path),
        }
    }

    /// Whether they are cut by the job's own tokeniser, where it names one.
    fn agree_with(&self, wanted: Option<Digest>) -> Result<(), DataError> {
        let Some(wanted) = wanted.filter(|wanted| self.tokenizer != Some(*wanted)) else {
            return Ok(());
        };
        Err(DataError::Unfit {
            what: "tokeniser",
            expected: format!("the tokenizer.json of {wanted}"),
            found: self.tokenizer.map_or_else(|| "a list".to_owned(), |own| own.to_string()),
            advice: "take the job's tokenizer.json: `by = \"tokenizer\"` and its `file` in \
                     [data.tokens]"
                .into(),
        })
    }

    /// Tokens are below this.
    pub(crate) fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// Where a running text may be cut so that its pieces have the same tokens: behind the last place
    /// in `bytes` that allows it; 0 where none does, as in the eyes of a `tokenizer.json`.
    pub(crate) fn last_cut(&self, bytes: &[u8]) -> usize {
        match &self.cutter {
            Cutter::Characters(_) => match std::str::from_utf8(bytes) {
                // A character that is not whole yet; whatever else is wrong is told by the reader.
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Ok(_) | Err(_) => bytes.len(),
            },
            // No byte of a longer character is white space of ASCII.
            Cutter::Words { .. } => {
                bytes.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1)
            }
            #[cfg(feature = "tokenizers")]
            Cutter::Tokenizer { .. } => 0,
        }
    }

    /// A text in tokens.
    pub(crate) fn cut(&self, text: &str) -> Result<Cut, String> {
        let tokens: Vec<u32> = match &self.cutter {
            Cutter::Characters(known) => {
                text.chars().map(|c| known.get(&c).copied().unwrap_or(UNKNOWN)).collect()
            }
            Cutter::Words { words, lowercase } => {
                let lowered;
                let text = if *lowercase {
                    lowered = text.to_lowercase();
                    &lowered
                } else {
                    text
                };
                words_of(text).map(|word| words.get(word).copied().unwrap_or(UNKNOWN)).collect()
            }
            #[cfg(feature = "tokenizers")]
            Cutter::Tokenizer { tokenizer, unknown } => {
                let encoding = tokenizer.encode(text, true).map_err(|error| error.to_string())?;
                let ids = encoding.get_ids().to_vec();
                let strange = ids.iter().filter(|&&id| Some(id) == *unknown).count();
                let special = encoding.get_special_tokens_mask();
                let ending = special.iter().rev().take_while(|&&mark| mark == 1).count();
                return Ok(Cut { tokens: ids, unknown: strange as u64, ending });
            }
        };
        let unknown = tokens.iter().filter(|&&token| token == UNKNOWN).count();
        Ok(Cut { tokens, unknown: unknown as u64, ending: 0 })
    }
}

/// Words: what stands between white space, each mark of punctuation alone.
pub(crate) fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|chunk| {
        let mut rest = chunk;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let mark = |c: char| !c.is_alphanumeric() && c != '\'' && c != '-';
            let end =
                if mark(first) { first.len_utf8() } else { rest.find(mark).unwrap_or(rest.len()) };
            let (word, after) = rest.split_at(end);
            rest = after;
            Some(word)
        })
    })
}

fn read_list(
    list: &TokenList,
    given: Option<&[String]>,
    by_line: bool,
) -> Result<(Vec<String>, Vec<Stamp>), DataError> {
    match list {
        TokenList::Given(list) => agree(list.clone(), given).map(|list| (list, Vec::new())),
        TokenList::Job => {
            given.map(|list| (list.to_vec(), Vec::new())).ok_or_else(|| DataError::Unfit {
                what: "list of tokens",
                expected: "a vocabulary or alphabet from the job".to_owned(),
                found: "none".to_owned(),
                advice: "give `alphabet`, `vocabulary` or their files in [data.tokens]".into(),
            })
        }
        TokenList::File(path) => {
            let (bytes, stamp) = SiteFile::read_whole(path, FILE_BYTES_MAX)?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let place = Place::Byte(error.utf8_error().valid_up_to() as u64);
                let advice = "save the file as UTF-8";
                malformed(path, place, "text in UTF-8", "other bytes", advice)
            })?;
            let list = if by_line {
                let words = text.lines().map(str::trim).filter(|word| !word.is_empty());
                words.map(str::to_owned).collect()
            } else {
                text.chars().map(String::from).collect()
            };
            Ok((agree(list, given)?, vec![stamp]))
        }
    }
}

/// A site's own list, where the job has none or the same.
fn agree(own: Vec<String>, given: Option<&[String]>) -> Result<Vec<String>, DataError> {
    let Some(given) = given.filter(|given| *given != own) else { return Ok(own) };
    let at = own.iter().zip(given).position(|(own, given)| own != given);
    let at = at.unwrap_or(own.len().min(given.len()));
    let entry = |list: &[String]| {
        list.get(at).map_or_else(|| format!("{} entries", list.len()), |token| format!("{token:?}"))
    };
    Err(DataError::Unfit {
        what: "list of tokens",
        expected: format!("{} as the job's entry {at}", entry(given)),
        // The site's own words stay with the site.
        found: format!("another, in a list of {} entries", own.len()),
        advice: "take the list out of [data.tokens], so that the job's is used".into(),
    })
}

#[cfg(not(feature = "tokenizers"))]
fn open_tokenizer(_: &Path) -> Result<Tokens, DataError> {
    Err(DataError::NotBuilt { format: "a tokenizer.json", feature: "tokenizers" })
}

#[cfg(feature = "tokenizers")]
fn open_tokenizer(path: &Path) -> Result<Tokens, DataError> {
    use std::panic::catch_unwind;
    let (bytes, stamp) = SiteFile::read_whole(path, FILE_BYTES_MAX)?;
    let unsound = |found: String| {
        let advice = "fetch the tokenizer.json of the model again";
        malformed(path, Place::Whole, "a tokenizer.json", found, advice)
    };
    // The reader is not ours: a panic of it is this file's error.
    let mut tokenizer = catch_unwind(|| tokenizers::Tokenizer::from_bytes(&bytes))
        .map_err(|_| unsound("a file that stopped its reader".to_owned()))?
        .map_err(|error| unsound(error.to_string()))?;
    // Padding and cutting are the data set's work, the same for every tokeniser.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| unsound(error.to_string()))?;
    let largest = tokenizer.get_vocab(true).into_values().max();
    let vocabulary = largest.map_or(0, |id| id.saturating_add(1));
    let unknown = ["[UNK]", "<unk>", "<|unk|>"].iter().find_map(|name| tokenizer.token_to_id(name));
    let cutter = Cutter::Tokenizer { tokenizer: Box::new(tokenizer), unknown };
    let tokenizer = Some(Digest::of(&bytes));
    Ok(Tokens { cutter, vocabulary, tokenizer, stamps: vec![stamp] })
}

#[cfg(test)]
mod tests;
