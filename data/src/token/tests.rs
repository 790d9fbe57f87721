//! Texts cut in tokens.

use tributary_core::digest::Digest;
use tributary_core::spec::constants::ascii_alphabet;

use super::{Cut, TokenConfig, TokenList, Tokens, words_of};
use crate::Wanted;
use crate::fixture::{Folder, message, says};

fn cut(config: &TokenConfig, text: &str) -> (Vec<u32>, u64) {
    let tokens = Tokens::open(config, &Wanted::default()).expect("tokens");
    let Cut { tokens, unknown, .. } = tokens.cut(text).expect("cut");
    (tokens, unknown)
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
    let cut = tokens.cut("ugly bad").expect("cut");
    assert_eq!((tokens.vocabulary(), cut.tokens, cut.unknown), (3, vec![2, 1], 1));
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

#[cfg(feature = "tokenizers")]
#[test]
fn a_text_that_is_cut_short_keeps_what_closes_it() {
    let folder = Folder::new();
    let special = |id: u32, text: &str| {
        format!(
            "{{\"id\": {id}, \"content\": \"{text}\", \"single_word\": false, \"lstrip\": false, \
             \"rstrip\": false, \"normalized\": false, \"special\": true}}"
        )
    };
    let json = format!(
        "{{\"version\": \"1.0\", \"added_tokens\": [{}, {}], \
         \"pre_tokenizer\": {{\"type\": \"Whitespace\"}}, \
         \"post_processor\": {{\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 3], \
         \"cls\": [\"[CLS]\", 2]}}, \"model\": {{\"type\": \"WordLevel\", \"unk_token\": \"[UNK]\", \
         \"vocab\": {{\"[UNK]\": 0, \"good\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"film\": 4}}}}}}",
        special(2, "[CLS]"),
        special(3, "[SEP]")
    );
    let config = TokenConfig::Tokenizer(folder.file("tokenizer.json", &json));
    let tokens = Tokens::open(&config, &Wanted::default()).expect("tokens");
    let shortened = |most: usize| {
        let mut cut = tokens.cut("good film good film").expect("cut");
        (cut.shorten(most), cut.tokens)
    };
    assert_eq!(shortened(6), (false, vec![2, 1, 4, 1, 4, 3]));
    assert_eq!(shortened(4), (true, vec![2, 1, 4, 3]));
    assert_eq!(shortened(1), (true, vec![3]));

    let digest = Digest::of(json.as_bytes());
    let wanted = |digest| Wanted { tokenizer: Some(digest), ..Wanted::default() };
    assert!(Tokens::open(&config, &wanted(digest)).is_ok());
    let other = Digest::of(b"another");
    let refused = message(Tokens::open(&config, &wanted(other)));
    says(&refused, &[&other.to_string(), &digest.to_string(), "take the job's tokenizer.json"]);
    let list = TokenConfig::Characters(TokenList::Given(vec!["a".to_owned()]));
    let refused = message(Tokens::open(&list, &wanted(digest)));
    says(&refused, &["found a list"]);
}
