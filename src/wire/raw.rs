//! Cuts JSON that is known to be valid without parsing it: the elements of an array, the members of an object.
//!
//! For bytes that were checked or written here. On anything else the cuts mean nothing, but nothing fails.
use std::ops::Range;

/// The elements of the array that `json` is, as ranges of it, without blanks around them. Nothing if it is no array.
pub fn elements(json: &[u8]) -> Elements<'_> {
    let at = blanks(json, 0);
    Elements { json, at: if json.get(at) == Some(&b'[') { at + 1 } else { json.len() } }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    json: &'a [u8],
    at: usize,
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = blanks(self.json, self.at);
        if matches!(self.json.get(start), None | Some(b']')) {
            self.at = self.json.len();
            return None;
        }
        let end = value_end(self.json, start);
        let after = blanks(self.json, end);
        // Past the comma; at a bracket the next call ends.
        self.at = if self.json.get(after) == Some(&b',') { after + 1 } else { self.json.len() };
        Some(start..end)
    }
}

/// The members of the object that `json` is: key (with its quotes) and value. Nothing if it is no object.
pub fn members(json: &[u8]) -> Members<'_> {
    let at = blanks(json, 0);
    Members { json, at: if json.get(at) == Some(&b'{') { at + 1 } else { json.len() } }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    json: &'a [u8],
    at: usize,
}

impl Iterator for Members<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<(Range<usize>, Range<usize>)> {
        let start = blanks(self.json, self.at);
        if self.json.get(start) != Some(&b'"') {
            self.at = self.json.len();
            return None;
        }
        let key = start..string_end(self.json, start);
        let colon = blanks(self.json, key.end);
        let start = blanks(self.json, colon + 1).min(self.json.len());
        let value = start..value_end(self.json, start);
        let after = blanks(self.json, value.end);
        self.at = if self.json.get(after) == Some(&b',') { after + 1 } else { self.json.len() };
        Some((key, value))
    }
}

/// Where the value that starts at `start` ends.
pub fn value_end(json: &[u8], start: usize) -> usize {
    match json.get(start) {
        Some(b'"') => string_end(json, start),
        Some(b'[' | b'{') => {
            let (mut at, mut depth) = (start, 0_usize);
            while let Some(byte) = json.get(at) {
                match byte {
                    b'"' => {
                        at = string_end(json, at);
                        continue;
                    }
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at
        }
        _ => {
            let rest = &json[start.min(json.len())..];
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
            start + rest.iter().position(ends).unwrap_or(rest.len())
        }
    }
}

/// Behind the closing quote of the string whose opening quote stands at `start`.
pub fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        // The backslash and what it escapes.
        at += 2;
    }
    json.len().max(start)
}

fn blanks(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tape::tests::any_json;
    use proptest::prelude::*;

    fn cut(json: &str) -> Vec<&str> {
        elements(json.as_bytes()).map(|range| &json[range]).collect()
    }

    #[test]
    fn elements_are_what_stands_between_the_commas() {
        for (json, expected) in [
            ("[]", &[][..]),
            (" [ ] ", &[]),
            ("{}", &[]),
            ("", &[]),
            ("[1]", &["1"]),
            (" [ 1 , -2.5e3,true ]", &["1", "-2.5e3", "true"]),
            (r#"["a,]","\"]\\",[1,[2]],{"k":"}"}]"#, &[r#""a,]""#, r#""\"]\\""#, "[1,[2]]", r#"{"k":"}"}"#]),
        ] {
            assert_eq!(cut(json), expected, "{json}");
        }
    }

    #[test]
    fn members_are_keys_and_values() {
        let json = r#" { "a" : 1 , "b\"":{"x":[]},"c":"}" } "#;
        let cut: Vec<_> = members(json.as_bytes()).map(|(key, value)| (&json[key], &json[value])).collect();
        assert_eq!(cut, [(r#""a""#, "1"), (r#""b\"""#, r#"{"x":[]}"#), (r#""c""#, r#""}""#)]);
        assert_eq!(members(b"{}").count() + members(b"[1]").count() + members(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(values in proptest::collection::vec(any_json(), 0..5), is_pretty: bool) {
            let text =
                if is_pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) }.unwrap();
            let parsed: Vec<serde_json::Value> =
                cut(&text).into_iter().map(|element| serde_json::from_str(element).unwrap()).collect();
            prop_assert_eq!(parsed, values);
        }

        /// R-SEC-13.
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, like in "[\\[\\]{}\",\\\\ a0]{0,30}", start in 0_usize..40) {
            for bytes in [&bytes, like.as_bytes()] {
                for range in elements(bytes) {
                    prop_assert!(range.start <= range.end && range.end <= bytes.len());
                }
                for (key, value) in members(bytes) {
                    prop_assert!(key.start <= key.end && key.end <= value.start);
                    prop_assert!(value.start <= value.end && value.end <= bytes.len());
                }
                let _ = value_end(bytes, start);
            }
        }
    }
}
