//! One source file, taken apart as far as the rules need it: code, string literals, imports and functions.

/// A file of `src/` as the rules see it.
pub struct Source {
    /// Relative to `src/`.
    pub path: String,
    pub text: String,
    /// The text with comments, strings and test code blanked; lines and columns are those of the file.
    pub code: String,
    /// String literals outside of test code, with their lines.
    pub literals: Vec<(usize, String)>,
    /// As `code`, with the test code still there.
    code_with_tests: String,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: &str, text: &str) -> Source {
        let (code_with_tests, literals) = blank(text);
        let code = without_tests(&code_with_tests);
        let is_live = |at: usize| code.as_bytes()[at] == b'"';
        let literals = literals
            .into_iter()
            .filter(|(at, _)| is_live(*at))
            .map(|(at, literal)| (line_of(text, at), literal))
            .collect();
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            literals,
            code_with_tests,
        }
    }

    /// The top-level module that the file belongs to.
    pub fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The rooms that the file names, each with its line: by `crate::` anywhere, by `super::` outside of tests.
    pub fn imported_rooms(&self) -> Vec<(usize, String)> {
        let mut rooms = Vec::new();
        for start in ["crate::", "onnxd::"] {
            for at in words(&self.code_with_tests, start) {
                self.push_heads(&mut rooms, at + start.len());
            }
        }
        let depth = self.path.split('/').count();
        let mut at = 0;
        while let Some(found) = words(&self.code[at..], "super::").next() {
            at += found;
            let mut ups = 0;
            while self.code[at..].starts_with("super::") {
                at += "super::".len();
                ups += 1;
            }
            if ups >= depth {
                self.push_heads(&mut rooms, at);
            }
        }
        rooms.sort();
        rooms.dedup();
        rooms
    }

    /// The first names of the path, or of each path in the braces, that begins at `at`.
    fn push_heads(&self, rooms: &mut Vec<(usize, String)>, at: usize) {
        let line = line_of(&self.text, at);
        let rest = &self.code_with_tests[at..];
        let heads: Vec<&str> = match rest.starts_with('{') {
            true => top_level_items(rest),
            false => vec![rest],
        };
        for head in heads {
            let name: String = head
                .trim_start()
                .chars()
                .take_while(|&c| is_word(c))
                .collect();
            if !name.is_empty() && name != "self" {
                rooms.push((line, name));
            }
        }
    }

    /// A complaint for every place in the code that mentions `what`.
    pub fn mentions(&self, what: &str, complaint: &str) -> Vec<String> {
        let places = self.code.match_indices(what);
        places
            .map(|(at, _)| format!("{}:{}: {complaint}", self.path, line_of(&self.text, at)))
            .collect()
    }

    /// The line, name and length in lines of every function outside of tests.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut functions = Vec::new();
        for at in words(&self.code, "fn ") {
            let rest = &self.code[at..];
            let name: String = rest[3..].chars().take_while(|&c| is_word(c)).collect();
            let Some(body) = rest
                .find(['{', ';'])
                .filter(|&end| rest[end..].starts_with('{'))
            else {
                continue;
            };
            let end = body + closing_brace(&rest[body..]);
            functions.push((line_of(&self.text, at), name, rest[..end].lines().count()));
        }
        functions
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `start` begins a word of its own.
fn words<'a>(code: &'a str, start: &'a str) -> impl Iterator<Item = usize> + 'a {
    let places = code.match_indices(start).map(|(at, _)| at);
    places.filter(|&at| !code[..at].chars().next_back().is_some_and(is_word))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at]
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count()
        + 1
}

/// The index behind the brace that closes the one at the beginning.
fn closing_brace(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The items of a `{…}` list of imports, split at its own commas.
fn top_level_items(group: &str) -> Vec<&str> {
    let inner = &group[1..closing_brace(group).max(2) - 1];
    let mut depth = 0;
    inner
        .split(move |c| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            c == ',' && depth == 0
        })
        .collect()
}

/// Blanks what stands behind `#[cfg(test)]`, up to the end of that item.
fn without_tests(code: &str) -> String {
    let mut live = code.to_owned();
    while let Some(start) = live.find("#[cfg(test)]") {
        let item = live[start..]
            .find(['{', ';'])
            .map_or(live.len(), |at| start + at);
        let end = match live.as_bytes().get(item) {
            Some(b'{') => item + closing_brace(&live[item..]),
            Some(_) => item + 1,
            None => live.len(),
        };
        let blank: String = live[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        live.replace_range(start..end, &blank);
    }
    live
}

/// Blanks comments and the insides of strings and characters; gives the strings with where they begin.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut literals = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if let Some((quote, hashes)) = string_start(text, at) {
            let end = string_end(&rest[quote..], hashes);
            let inner = rest[quote + 1..quote + end].trim_end_matches('#');
            let inner = inner.strip_suffix('"').unwrap_or(inner);
            literals.push((at + quote, inner.to_owned()));
            code.extend_from_slice(&rest.as_bytes()[..quote]);
            code.push(b'"');
            code.extend(rest[quote + 1..quote + end].bytes().map(blank_byte));
            at += quote + end;
            continue;
        } else if let Some(length) = char_length(rest) {
            length
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            code.extend_from_slice(&bytes[at..at + length]);
            at += length;
            continue;
        };
        code.extend(bytes[at..at + length].iter().copied().map(blank_byte));
        at += length;
    }
    let code = String::from_utf8(code).expect("whole characters are kept or blanked");
    (code, literals)
}

fn blank_byte(byte: u8) -> u8 {
    if byte == b'\n' { b'\n' } else { b' ' }
}

/// The length of a block comment, which may hold others.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = &text.as_bytes()[at..];
        if step.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if step.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Whether a string begins here: how far away its quote is, and how many `#` a raw one has.
fn string_start(text: &str, at: usize) -> Option<(usize, Option<usize>)> {
    let rest = &text[at..];
    if rest.starts_with('"') {
        return Some((0, None));
    }
    if text[..at].chars().next_back().is_some_and(is_word) {
        return None;
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let prefix = rest.len() - raw.len() + hashes;
    rest[prefix..]
        .starts_with('"')
        .then_some((prefix, Some(hashes)))
}

/// The length of the string that begins with the quote at the start, its end included.
fn string_end(text: &str, raw_hashes: Option<usize>) -> usize {
    if let Some(hashes) = raw_hashes {
        let end = format!("\"{}", "#".repeat(hashes));
        return text[1..]
            .find(&end)
            .map_or(text.len(), |at| 1 + at + end.len());
    }
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, if one begins here; a lifetime is none.
fn char_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        return inner[2..].find('\'').map(|at| 1 + 2 + at + 1);
    }
    inner[first.len_utf8()..]
        .starts_with('\'')
        .then_some(1 + first.len_utf8() + 1)
}
