//! Texts cut in tokens.

use tributary_core::spec::constants::ascii_alphabet;

use super::{TokenConfig, TokenList, Tokens, words_of};
use crate::Wanted;
use crate::fixture::{Folder, message, says};

fn cut(config: &TokenConfig, text: &str) -> (Vec<u32>, u64) {
    let tokens = Tokens::open(config, &Wanted::default()).expect("tokens");
    tokens.cut(text).expect("cut")
}

#[test]
fn words_stand_between_white_space_and_marks_alone() {
    let words: Vec<&str> = words_of(" it's well-made, (really)\n…ok").collect();
    assert_eq!(words, ["it's", "well-made", ",", "(", "really", ")", "…", "ok"]);
}

#[test]
fn lists_come_from_the_site_a_file_or_the_job() {
    let folder = Folder::new();
    let file = folder.file("words.txt", "good\r\n\nbad\n");
    let words = |list| TokenConfig::Words { list, lowercase: true };
    assert_eq!(cut(&words(TokenList::File(file)), "Bad good ugly"), (vec![3, 2, 1], 1));
    let given = TokenList::Given(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]);
    assert_eq!(cut(&TokenConfig::Characters(given), "abz"), (vec![2, 3, 1], 1));
    let job = words(TokenList::Job);
    let refused = message(Tokens::open(&job, &Wanted::default()));
    says(&refused, &["another list of tokens", "give `alphabet`, `vocabulary`"]);
    let wanted = Wanted { tokens: Some(vec!["ugly".to_owned()]), ..Wanted::default() };
    let tokens = Tokens::open(&job, &wanted).expect("the job's words");
    assert_eq!((tokens.vocabulary(), tokens.cut("ugly bad")), (3, Ok((vec![2, 1], 1))));
    assert_eq!(ascii_alphabet().len(), 96);
}

#[cfg(feature = "tokenizers")]
#[test]
fn a_tokenizer_json_cuts_as_it_says() {
    let folder = Folder::new();
    let json = "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": {\"type\": \"Lowercase\"}, \
                \"pre_tokenizer\": {\"type\": \"Whitespace\"}, \"truncation\": {\"max_length\": 1, \
                \"strategy\": \"LongestFirst\", \"stride\": 0, \"direction\": \"Right\"}, \
                \"model\": {\"type\": \"WordLevel\", \
                \"vocab\": {\"<unk>\": 0, \"good\": 1, \"film\": 7}, \"unk_token\": \"<unk>\"}}";
    let file = folder.file("tokenizer.json", json);
    let config = TokenConfig::Tokenizer(file);
    assert_eq!(cut(&config, "Good old film"), (vec![1, 0, 7], 1));
    let tokens = Tokens::open(&config, &Wanted::default()).expect("tokens");
    assert_eq!(tokens.vocabulary(), 8);
    folder.file("tokenizer.json", "{\"model\": 3}");
    let refused = message(Tokens::open(&config, &Wanted::default()));
    says(&refused, &["tokenizer.json: expected a tokenizer.json, found", "fetch the tokenizer"]);
    folder.file("tokenizer.json", "");
    let refused = message(Tokens::open(&config, &Wanted::default()));
    says(&refused, &["at byte 0: expected a file with bytes"]);
}
