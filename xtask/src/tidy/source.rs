//! A Rust file taken apart just enough for the checks: code without comments and literals, the
//! literals, which lines are tests, and where functions begin and end. No full parser.

/// One Rust file.
#[derive(Debug)]
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    /// The lines as written.
    pub lines: Vec<String>,
    /// The lines with comments and the insides of literals blanked.
    pub code: Vec<String>,
    /// String literals, with the line that each begins on, counted from 1.
    pub strings: Vec<(usize, String)>,
    /// For each line, whether it belongs to tests.
    pub is_test: Vec<bool>,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line with `fn`, counted from 1.
    pub line: usize,
    /// From the line with `fn` to the closing brace, both counted.
    pub length: usize,
}

impl Source {
    /// Takes a file apart.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let (code, strings) = Lexer::new(text).run();
        let code: Vec<String> = code.lines().map(str::to_owned).collect();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let is_test = test_lines(path, &code);
        Self { path: path.to_owned(), lines, code, strings, is_test }
    }

    /// Lines of code (blanked), with their number, that are no tests.
    pub fn own_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.iter().zip(&self.is_test).enumerate();
        lines.filter(|(_, (_, test))| !**test).map(|(at, (line, _))| (at + 1, line.as_str()))
    }

    /// Lines as written that are no tests.
    #[must_use]
    pub fn own_length(&self) -> usize {
        self.is_test.iter().filter(|test| !**test).count()
    }

    /// Whether a line, counted from 1, belongs to tests.
    #[must_use]
    pub fn is_test_line(&self, line: usize) -> bool {
        self.is_test.get(line.wrapping_sub(1)).copied().unwrap_or(false)
    }

    /// Every function that has a body.
    #[must_use]
    pub fn functions(&self) -> Vec<Function> {
        let flat = Flat::new(&self.code);
        let mut found = Vec::new();
        for (at, word) in flat.words() {
            if word != "fn" {
                continue;
            }
            let after = flat.chars[at + 2..].iter().skip_while(|c| c.is_whitespace());
            let name: String = after.take_while(|c| is_word(**c)).collect();
            if name.is_empty() {
                continue; // a function pointer's type
            }
            if let Some(end) = flat.body_end(at) {
                let line = flat.line[at];
                found.push(Function { name, line, length: flat.line[end] - line + 1 });
            }
        }
        found
    }
}

/// The words of a line of code.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn test_lines(path: &str, code: &[String]) -> Vec<bool> {
    let is_test_name = |part: &str| matches!(part, "tests" | "tests.rs" | "benches");
    if path.split('/').any(is_test_name) {
        return vec![true; code.len()];
    }
    let mut marked = vec![false; code.len()];
    let flat = Flat::new(code);
    for (number, line) in code.iter().enumerate() {
        let Some(column) = line.find("#[cfg(test)]") else { continue };
        let past = column + "#[cfg(test)]".len();
        let from = flat.start[number] + line[..past].chars().count();
        let end = flat.body_end(from).map_or(number, |end| flat.line[end] - 1);
        marked[number..=end].fill(true);
    }
    marked
}

/// The code as one run of characters, each with its line.
struct Flat {
    chars: Vec<char>,
    /// Counted from 1.
    line: Vec<usize>,
    /// Where each line starts.
    start: Vec<usize>,
}

impl Flat {
    fn new(code: &[String]) -> Self {
        let mut flat = Self { chars: Vec::new(), line: Vec::new(), start: Vec::new() };
        for (number, text) in code.iter().enumerate() {
            flat.start.push(flat.chars.len());
            for c in text.chars().chain(['\n']) {
                flat.chars.push(c);
                flat.line.push(number + 1);
            }
        }
        flat
    }

    fn words(&self) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut before = false;
        for (at, c) in self.chars.iter().enumerate() {
            match (is_word(*c), before, found.last_mut()) {
                (true, true, Some((_, word))) => word.push(*c),
                (true, ..) => found.push((at, c.to_string())),
                _ => {}
            }
            before = is_word(*c);
        }
        found
    }

    /// The closing brace of the item that begins at `from`; its semicolon's place is no body.
    fn body_end(&self, from: usize) -> Option<usize> {
        let (mut nested, mut braces) = (0_usize, 0_usize);
        for (at, c) in self.chars.iter().enumerate().skip(from) {
            match c {
                '(' | '[' => nested += 1,
                ')' | ']' => nested = nested.saturating_sub(1),
                ';' if nested == 0 && braces == 0 => return None,
                '{' => braces += 1,
                '}' => {
                    braces = braces.saturating_sub(1);
                    if braces == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Blanks comments and the insides of literals, keeping every line where it is.
struct Lexer<'a> {
    rest: &'a str,
    code: String,
    strings: Vec<(usize, String)>,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, code: String::with_capacity(text.len()), strings: Vec::new(), line: 1 }
    }

    fn run(mut self) -> (String, Vec<(usize, String)>) {
        while let Some(c) = self.rest.chars().next() {
            let inside_word = self.code.chars().next_back().is_some_and(is_word);
            if self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.blank(end);
            } else if self.rest.starts_with("/*") {
                let end = comment_end(self.rest);
                self.blank(end);
            } else if let Some((prefix, end)) = literal(self.rest, inside_word) {
                let (line, text) = (self.line, self.rest[prefix..end].to_owned());
                self.keep(prefix);
                self.blank(end - prefix);
                self.strings.push((line, text));
            } else if let Some(end) = character(self.rest) {
                self.blank(end);
            } else {
                self.keep(c.len_utf8());
            }
        }
        (self.code, self.strings)
    }

    fn keep(&mut self, bytes: usize) {
        self.take(bytes, |c| c);
    }

    fn blank(&mut self, bytes: usize) {
        self.take(bytes, |_| ' ');
    }

    fn take(&mut self, bytes: usize, shown: impl Fn(char) -> char) {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            self.code.push(if c == '\n' { c } else { shown(c) });
            self.line += usize::from(c == '\n');
        }
        self.rest = rest;
    }
}

/// Where a block comment ends; such comments nest.
fn comment_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// A string literal at the start of the text: the length of `r##` and the like, and its end.
fn literal(text: &str, inside_word: bool) -> Option<(usize, usize)> {
    let letters = text.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    let raw = text[..letters].ends_with('r');
    let hashes = text[letters..].find(|c| c != '#')?;
    let prefix = letters + hashes;
    let usable = letters <= 2 && (letters == 0 || !inside_word) && (raw || hashes == 0);
    if !usable || !text[prefix..].starts_with('"') {
        return None;
    }
    let body = &text[prefix + 1..];
    let length = if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        body.find(&close).map(|end| end + close.len())
    } else {
        let mut escaped = false;
        let close = body.char_indices().find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        close.map(|(end, _)| end + 1)
    };
    Some((prefix, length.map_or(text.len(), |length| prefix + 1 + length)))
}

/// A character literal at the start of the text (a lifetime is none): its end.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        let escaped = 1 + body[1..].chars().next().map_or(0, char::len_utf8);
        return body[escaped..].find('\'').map(|end| 1 + escaped + end + 1);
    }
    let width = first.len_utf8();
    body[width..].starts_with('\'').then_some(1 + width + 1)
}

#[cfg(test)]
mod tests {
    use super::{Function, Source, words};

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"tonic // \\\" x\"; // tonic\n/* tonic /* a */\ntonic */ let b = r#\"sqlx \"q\" \"#;\nlet c: &'static str = b\"tonic\"; let d = '\"'; let e = '\\''; tonic();\n";
        let source = Source::new("a.rs", text);
        let named: Vec<usize> = source
            .own_code()
            .filter(|(_, line)| words(line).any(|word| matches!(word, "tonic" | "sqlx")))
            .map(|(line, _)| line)
            .collect();
        assert_eq!(named, [4]);
        assert_eq!(source.code.len(), source.lines.len());
        assert_eq!(source.strings[1], (3, "\"sqlx \"q\" \"#".to_owned()));
        assert!(source.code[3].contains("'static"));
    }

    #[test]
    fn test_parts_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { if x { y } }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
        let source = Source::new("src/a.rs", text);
        let own: Vec<usize> = source.own_code().map(|(line, _)| line).collect();
        assert_eq!(own, [1, 6, 8, 9]);
        assert_eq!(Source::new("src/a/tests.rs", text).own_length(), 0);
        assert_eq!(Source::new("tests/it/a.rs", text).own_length(), 0);
    }

    #[test]
    fn functions_have_a_length() {
        let text = "trait T {\n    fn none(&self) -> [u8; 4];\n    fn one(a: fn(u8)) -> [u8; 4] {\n        match a { _ => {} }\n    }\n}\n";
        let found = Source::new("a.rs", text).functions();
        assert_eq!(found, [Function { name: "one".to_owned(), line: 3, length: 3 }]);
    }
}
