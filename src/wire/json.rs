//! Writes JSON by hand into a byte vector: no tree, no allocation of its own, nothing that can fail.
//!
//! The shape is fixed by the code that calls it, so objects and arrays are closures: whatever is opened is
//! closed, and commas fall where they belong. Keys are constants of ours and are written as they are.
use std::io::Write;

/// Appends `text` as a JSON string. Escapes what RFC 8259 section 7 demands: quotes, backslashes and
/// U+0000 to U+001F; everything else goes out as it is.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends a decimal number.
pub fn integer(out: &mut Vec<u8>, mut value: u64) {
    // 2^64 − 1 has 20 digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a signed decimal number.
pub fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    integer(out, value.unsigned_abs());
}

/// Appends the shortest text that reads back as the same number; `null` for what JSON cannot say.
pub fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        write!(out, "{value:?}").expect("a vector takes every write");
    } else {
        out.extend_from_slice(b"null");
    }
}

pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends `{…}`.
#[inline]
pub fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    write(&mut Object { out: &mut *out, is_first: true });
    out.push(b'}');
}

/// Appends `[…]`.
#[inline]
pub fn array(out: &mut Vec<u8>, write: impl FnOnce(&mut Array<'_>)) {
    out.push(b'[');
    write(&mut Array { out: &mut *out, is_first: true });
    out.push(b']');
}

/// An object being written. A key must need no escaping.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl Object<'_> {
    pub fn str(&mut self, key: &str, value: &str) -> &mut Self {
        string(self.key(key), value);
        self
    }

    /// Two pieces that need no escaping, for ids with a prefix.
    pub fn plain(&mut self, key: &str, prefix: &str, rest: &str) -> &mut Self {
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(rest.as_bytes());
        out.push(b'"');
        self
    }

    pub fn opt_str(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.str(key, value),
            None => self,
        }
    }

    pub fn num(&mut self, key: &str, value: u64) -> &mut Self {
        integer(self.key(key), value);
        self
    }

    pub fn opt_num(&mut self, key: &str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.num(key, value),
            None => self,
        }
    }

    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        boolean(self.key(key), value);
        self
    }

    pub fn null(&mut self, key: &str) -> &mut Self {
        self.raw(key, "null")
    }

    /// `json` must be one JSON value; it goes out unchecked.
    pub fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key).extend_from_slice(json.as_bytes());
        self
    }

    #[inline]
    pub fn object(&mut self, key: &str, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        object(self.key(key), write);
        self
    }

    #[inline]
    pub fn array(&mut self, key: &str, write: impl FnOnce(&mut Array<'_>)) -> &mut Self {
        array(self.key(key), write);
        self
    }

    /// Adds the members of `json`, which must be the text of one object; it goes out unchecked.
    pub fn splice(&mut self, json: &str) -> &mut Self {
        let members = json.trim().strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or("").trim();
        if !members.is_empty() {
            self.comma();
            self.out.extend_from_slice(members.as_bytes());
        }
        self
    }

    /// Writes the key; whoever calls it must append one JSON value to what it returns.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
    }
}

/// An array being written.
pub struct Array<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl Array<'_> {
    pub fn str(&mut self, value: &str) -> &mut Self {
        string(self.item(), value);
        self
    }

    /// `json` must be one JSON value; it goes out unchecked.
    pub fn raw(&mut self, json: &[u8]) -> &mut Self {
        self.item().extend_from_slice(json);
        self
    }

    #[inline]
    pub fn object(&mut self, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        object(self.item(), write);
        self
    }

    /// Whoever calls it must append one JSON value to what it returns.
    pub fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        self.out
    }
}

/// Copies clean spans whole and escapes what lies between them.
fn escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = find_escape(rest) {
        let (clean, dirty) = rest.split_at(at);
        out.extend_from_slice(clean);
        match dirty[0] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(control >> 4), usize::from(control & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            }
        }
        rest = &dirty[1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte stands that cannot go out as it is.
fn find_escape(bytes: &[u8]) -> Option<usize> {
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let found = escape_mask(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let needs_escape = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    chunks.remainder().iter().position(needs_escape).map(|index| at + index)
}

/// Eight bytes at once: the top bit of each byte that needs an escape. A borrow may set bits *above* a true one as
/// well, never below it, so the lowest bit is exact, and that is the one asked for.
fn escape_mask(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero_bytes(word ^ (ONES * b'"' as u64));
    let backslash = zero_bytes(word ^ (ONES * b'\\' as u64));
    (control | quote | backslash) & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(out: &[u8]) -> serde_json::Value {
        serde_json::from_slice(out).expect("valid JSON")
    }

    #[test]
    fn objects_nest_and_put_their_commas() {
        let mut out = Vec::new();
        object(&mut out, |o| {
            o.str("text", "a\"b").num("count", 7).bool("is", true).null("none").raw("raw", "[1,2]");
            o.opt_str("absent", None).opt_num("absent", None).opt_str("some", Some("x")).opt_num("number", Some(0));
            o.object("empty", |_| {}).object("inner", |o| _ = o.plain("id", "msg_", "01"));
            o.array("list", |a| _ = a.str("x").raw(b"null").object(|o| _ = o.num("n", 1))).array("none_in", |_| {});
        });
        let expected = json!({"text": "a\"b", "count": 7, "is": true, "none": null, "raw": [1, 2], "some": "x",
            "number": 0, "empty": {}, "inner": {"id": "msg_01"}, "list": ["x", null, {"n": 1}], "none_in": []});
        assert_eq!(read(&out), expected);
    }

    #[test]
    fn spliced_members_stand_beside_the_others() {
        for (detail, expected) in [
            (r#"{"role":"member","x":{"y":1}}"#, json!({"a": 1, "role": "member", "x": {"y": 1}, "b": 2})),
            ("{}", json!({"a": 1, "b": 2})),
            (" { } ", json!({"a": 1, "b": 2})),
            ("[1]", json!({"a": 1, "b": 2})),
        ] {
            let mut out = Vec::new();
            object(&mut out, |o| _ = o.num("a", 1).splice(detail).num("b", 2));
            assert_eq!(read(&out), expected);
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_word() {
        for code in (0..=0x7f_u8).chain([0x80, 0xff]) {
            for place in 0..17 {
                let mut text = "x".repeat(17);
                text.replace_range(place..place + 1, char::from(code).encode_utf8(&mut [0; 4]));
                let mut out = Vec::new();
                string(&mut out, &text);
                assert_eq!(read(&out), json!(text));
            }
        }
    }

    #[test]
    fn numbers_at_their_ends() {
        for value in [0, 9, 10, 99, 100, u64::MAX] {
            let mut out = Vec::new();
            integer(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        for value in [0, -1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            signed(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        let mut out = Vec::new();
        float(&mut out, f64::NAN);
        assert_eq!(out, b"null");
    }

    proptest! {
        #[test]
        fn any_string_reads_back(text: String) {
            let mut out = Vec::new();
            string(&mut out, &text);
            prop_assert_eq!(read(&out), json!(text));
        }

        /// Against the standard library: serde_json rounds some floats by a digit unless told otherwise.
        #[test]
        fn any_finite_float_reads_back(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let mut out = Vec::new();
            float(&mut out, value);
            prop_assert!(read(&out).is_f64());
            prop_assert_eq!(str::from_utf8(&out).unwrap().parse(), Ok(value));
        }

        #[test]
        fn the_word_at_a_time_search_finds_the_first(bytes: Vec<u8>) {
            let naive = bytes.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\');
            prop_assert_eq!(find_escape(&bytes), naive);
        }
    }
}
