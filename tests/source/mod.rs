//! Source files as text, without what is no code.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub struct Source {
    /// From the project's folder.
    pub path: String,
    pub text: String,
    /// The text without comments, contents of strings, and `#[cfg(test)]` items; of the same number of lines.
    pub code: String,
    /// The whole file is part of the tests.
    pub is_test: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = without_tests(&without_comments(text));
        Source { path: path.into(), text: text.into(), code, is_test: false }
    }

    /// The top-level module, `lib` or `main` for the roots.
    pub fn module(&self) -> String {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    }

    /// First segments of all `crate::` paths.
    pub fn crate_paths(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for rest in self.code.split("crate::").skip(1) {
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_names(group)),
                None => _ = found.insert(identifier(rest)),
            }
        }
        found.retain(|name| !name.is_empty());
        found
    }
}

/// Files under `src`; what is compiled for tests only has no code.
pub fn sources() -> Vec<Source> {
    let mut files: Vec<Source> = read("src");
    let test_files: Vec<String> = files.iter().flat_map(test_modules).collect();
    for file in &mut files {
        let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if test_files.iter().any(|test| stem == test || stem.starts_with(&format!("{test}/"))) {
            file.is_test = true;
            file.code.clear();
        }
    }
    files
}

/// Files under `tests`.
pub fn tests() -> Vec<Source> {
    read("tests")
}

/// Numbers of the lines that hold this word. A word that begins or ends with a letter is no part of a longer one.
pub fn lines_of<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let has = move |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let is_longer_before = is_letter(word.chars().next()) && is_letter(line[..at].chars().last());
            let is_longer_behind = is_letter(word.chars().last()) && is_letter(line[at + word.len()..].chars().next());
            !is_longer_before && !is_longer_behind
        })
    };
    code.lines().enumerate().filter(move |(_, line)| has(line)).map(|(at, _)| at + 1)
}

fn read(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(project(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                files.push(Source::new(&path, &fs::read_to_string(project(&path)).expect("text")));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Paths, without `.rs`, of the modules that a file declares under `#[cfg(test)]`.
fn test_modules(file: &Source) -> Vec<String> {
    let plain = without_comments(&file.text);
    let stem = file.path.trim_end_matches(".rs");
    let folder = match stem.strip_suffix("/mod").or(stem.strip_suffix("/lib")) {
        Some(folder) => folder,
        None => stem,
    };
    let items = plain.split("#[cfg(test)]").skip(1);
    let names = items.filter_map(|item| {
        let item = item.trim_start();
        let item = item
            .strip_prefix("pub")
            .map_or(item, |rest| rest.trim_start_matches("(super)").trim_start_matches("(crate)"));
        let name = item.trim_start().strip_prefix("mod ")?;
        name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').starts_with(';').then(|| identifier(name))
    });
    names.map(|name| format!("{folder}/{name}")).collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Names directly inside a group, behind its `{`.
fn group_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut is_start) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                names.push(identifier(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

/// Comments and the contents of strings become spaces.
fn without_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let blank = |out: &mut [u8], from: usize, to: usize| {
        out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + find(rest, b"*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = raw_string(rest, at.checked_sub(1).map(|before| bytes[before])) {
            at + len
        } else if rest[0] == b'"' {
            at + string(rest)
        } else if rest[0] == b'\'' {
            // A character, or the start of a lifetime.
            let escaped = rest.get(1) == Some(&b'\\');
            let first = text[at + 1..].chars().next().map_or(0, char::len_utf8);
            match (escaped, rest.get(1 + first)) {
                (true, _) => at + 2 + rest[2..].iter().skip(1).position(|byte| *byte == b'\'').map_or(0, |end| end + 2),
                (false, Some(b'\'')) => at + 2 + first,
                _ => at,
            }
        } else {
            at
        };
        if end > at {
            blank(&mut out, at, end.min(bytes.len()));
            at = end;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    String::from_utf8(out).expect("whole characters became spaces")
}

/// Length of a string literal.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of `r"…"`, `r#"…"#` and so on.
fn raw_string(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if rest[0] != b'r' || before.is_some_and(|byte| byte.is_ascii_alphanumeric() && byte != b'b' || byte == b'_') {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let start = 2 + hashes;
    Some(find(&rest[start..], &end).map_or(rest.len(), |found| start + found + end.len()))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Items behind `#[cfg(test)]` become empty lines. Expects that comments and strings are gone.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let (mut depth, mut end) = (0, out.len());
        for (at, c) in out[start..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => end = start + at + 1,
                _ => continue,
            }
            if c == '}' && depth == 0 {
                end = start + at + 1;
            }
            if end < out.len() {
                break;
            }
        }
        let lines: String = out[start..end].chars().filter(|c| *c == '\n').collect();
        out.replace_range(start..end, &lines);
    }
    out
}
