//! Members and elements of JSON that our own encoder wrote, as they stand: no tree, no copy, nothing decoded.
//!
//! It is compact (no white space outside of strings) and well-formed. Of anything else nothing is promised but an end.

/// The members of an object: key, without quotes, and raw value.
pub struct Members<'a>(&'a [u8]);

impl<'a> Members<'a> {
    /// `object` begins with `{`.
    pub fn of(object: &'a [u8]) -> Members<'a> {
        Members(object.get(1..).unwrap_or_default())
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.strip_prefix(b",").unwrap_or(self.0);
        let (key, rest) = rest.split_at(value_len(rest)?);
        let key = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let rest = rest.strip_prefix(b":")?;
        let (value, rest) = rest.split_at(value_len(rest)?);
        self.0 = rest;
        Some((key, value))
    }
}

/// The elements of an array, raw.
pub struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// `array` begins with `[`.
    pub fn of(array: &'a [u8]) -> Elements<'a> {
        Elements(array.get(1..).unwrap_or_default())
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(b",").unwrap_or(self.0);
        let (value, rest) = rest.split_at(value_len(rest)?);
        self.0 = rest;
        Some(value)
    }
}

/// The content of a raw string that holds no escape: names and ids of ours.
pub fn plain(value: &[u8]) -> Option<&[u8]> {
    let content = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    memchr::memchr(b'\\', content).is_none().then_some(content)
}

/// A raw integer.
pub fn integer(value: &[u8]) -> Option<u64> {
    str::from_utf8(value).ok()?.parse().ok()
}

/// Length of the value at the start of `json`; none if there is none, or not all of it.
fn value_len(json: &[u8]) -> Option<usize> {
    match json.first()? {
        b'"' => string_len(json),
        b'{' | b'[' => nested_len(json),
        b'}' | b']' => None,
        _ => Some(json.iter().position(|byte| b",}]".contains(byte)).unwrap_or(json.len())).filter(|len| *len > 0),
    }
}

fn string_len(json: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn nested_len(json: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        match *json.get(at)? {
            b'"' => {
                at += string_len(&json[at..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tape::tests::any_json;
    use proptest::prelude::*;

    fn members(object: &str) -> Vec<(&str, &str)> {
        let text = |bytes| str::from_utf8(bytes).unwrap();
        Members::of(object.as_bytes()).map(|(key, value)| (text(key), text(value))).collect()
    }

    #[test]
    fn values_of_every_kind_are_told_apart() {
        let object = r#"{"a":1,"b":"x\"y\\","c":{"d":"}"},"e":[1,[2],"]"],"f":null,"g":-1.5e3}"#;
        let expected = [
            ("a", "1"),
            ("b", r#""x\"y\\""#),
            ("c", r#"{"d":"}"}"#),
            ("e", r#"[1,[2],"]"]"#),
            ("f", "null"),
            ("g", "-1.5e3"),
        ];
        assert_eq!(members(object), expected);
        assert_eq!(Elements::of(br#"[1,[2],"]"]"#).collect::<Vec<_>>(), [&b"1"[..], b"[2]", br#""]""#]);
        assert_eq!((members("{}"), Elements::of(b"[]").count()), (vec![], 0));
    }

    #[test]
    fn plain_values() {
        assert_eq!(
            (plain(br#""ab""#), plain(br#""a\"b""#), plain(b"1"), plain(b"\"")),
            (Some(&b"ab"[..]), None, None, None)
        );
        assert_eq!((integer(b"12"), integer(b"-1"), integer(b"\"1\"")), (Some(12), None, None));
    }

    proptest! {
        #[test]
        fn reads_what_serde_reads(values in prop::collection::btree_map("[a-z]{1,4}", any_json(), 0..5)) {
            let text = serde_json::to_string(&values).unwrap();
            let read: std::collections::BTreeMap<String, serde_json::Value> = members(&text)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), serde_json::from_str(value).unwrap()))
                .collect();
            prop_assert_eq!(read, values.clone());
            let list = serde_json::to_string(&values.values().collect::<Vec<_>>()).unwrap();
            let read: Vec<serde_json::Value> =
                Elements::of(list.as_bytes()).map(|value| serde_json::from_slice(value).unwrap()).collect();
            prop_assert_eq!(read, values.into_values().collect::<Vec<_>>());
        }

        #[test]
        fn anything_comes_to_an_end(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\a1".to_vec()), 0..40)) {
            prop_assert!(Members::of(&bytes).count() + Elements::of(&bytes).count() <= 2 * bytes.len());
        }
    }
}
