use super::*;
use crate::wire::socketio::{Json, Revision};
use crate::wire::tape::tests::any_json;
use proptest::collection::vec;
use proptest::prelude::*;

fn assembled(text: &str, attachments: &[&[u8]]) -> Result<String, Violation> {
    let packet = Packet::parse(Revision::V4, text)?;
    let mut assembly = Assembly::new(text, &packet, 1 << 20);
    for attachment in attachments {
        assembly.add(attachment)?;
    }
    let mut out = Vec::new();
    Json::default().parse(packet.payload, |value| assembly.write(value, &mut out))??;
    Ok(String::from_utf8(out).unwrap())
}

fn split(payload: &str) -> Option<(String, Vec<Vec<u8>>)> {
    let (mut out, mut bytes, mut ends) = (b"kept".to_vec(), vec![7; 3], SmallVec::new());
    if !split_binary(payload.as_bytes(), &mut out, &mut bytes, &mut ends) {
        assert_eq!(out, b"kept");
        return None;
    }
    let mut start = 0;
    let attachments =
        ends.iter().map(|end| bytes[std::mem::replace(&mut start, *end as usize)..*end as usize].to_vec());
    let attachments = attachments.collect();
    Some((String::from_utf8(out.split_off(4)).unwrap(), attachments))
}

/// The example of the protocol's text, and one with several.
#[test]
fn attachments_take_their_places() {
    let text = r#"51-["baz",{"_placeholder":true,"num":0}]"#;
    assert_eq!(assembled(text, &[&[1, 2, 3, 4]]).as_deref(), Ok(r#"["baz",{"$binary":"AQIDBA=="}]"#));
    let text = r#"52-["a",{"x":{"num":1,"_placeholder":true},"y":[{"_placeholder":true,"num":0},{},[]]}, 1.50]"#;
    let expected = r#"["a",{"x":{"$binary":"Ag=="},"y":[{"$binary":"AQ=="},{},[]]},1.5]"#;
    assert_eq!(assembled(text, &[&[1], &[2]]).as_deref(), Ok(expected));
    // One that no place holds is lost, as with the reference; false is no placeholder.
    assert_eq!(assembled(r#"51-["a"]"#, &[&[1]]).as_deref(), Ok(r#"["a"]"#));
    let text = r#"51-["a",{"_placeholder":false,"num":9}]"#;
    assert_eq!(assembled(text, &[&[1]]).as_deref(), Ok(r#"["a",{"_placeholder":false,"num":9}]"#));
}

#[test]
fn wrong_placeholders() {
    for place in ["1", "-1", "\"0\"", "0.5", "null", "1e9", "{}"] {
        let text = format!(r#"51-["a",{{"_placeholder":true,"num":{place}}}]"#);
        assert_eq!(assembled(&text, &[&[1]]), Err(Violation::Placeholder), "{place}");
    }
    assert_eq!(assembled(r#"51-["a",{"_placeholder":true}]"#, &[&[1]]), Err(Violation::Placeholder));
    let twice = r#"51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
    assert_eq!(assembled(twice, &[&[1]]), Err(Violation::Placeholder));
}

#[test]
fn count_and_bytes_are_bounded() {
    let text = r#"52-["a"]"#;
    let packet = Packet::parse(Revision::V4, text).unwrap();
    let mut assembly = Assembly::new(text, &packet, text.len() + 10);
    assert_eq!(assembly.add(&[0; 9]), Ok(false));
    assert_eq!(assembly.add(&[0; 2]), Err(Violation::TooLarge));
    assert_eq!(assembly.add(&[0; 1]), Ok(true));
    assert_eq!(assembly.add(&[]), Err(Violation::UnexpectedBinary));
}

#[test]
fn binary_leaves_as_it_came() {
    let (text, attachments) = split(r#"["a",{"x":{"$binary":"AQIDBA=="}},{"$binary":""}]"#).unwrap();
    assert_eq!(text, r#"["a",{"x":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":1}]"#);
    assert_eq!(attachments, [vec![1, 2, 3, 4], vec![]]);
}

#[test]
fn what_is_no_binary_stays() {
    for text in [
        r#"["a"]"#,
        r#"["a",{"$binary":"???"}]"#,
        r#"["a",{"$binary":"AQ"}]"#,
        r#"["a",{"$binary":"AQ==","x":1}]"#,
        r#"["a",{"$binary":1}]"#,
        r#"["{\"$binary\":\"AQ==\"}"]"#,
        r#"["a",{"$binary":""#,
    ] {
        assert_eq!(split(text), None, "{text}");
    }
    let one = r#"{"$binary":"AQ=="}"#;
    let many = |count: usize| format!("[{}]", vec![one; count].join(","));
    assert_eq!(split(&many(ATTACHMENTS_MAX)).unwrap().1.len(), ATTACHMENTS_MAX);
    assert_eq!(split(&many(ATTACHMENTS_MAX + 1)), None);
}

proptest! {
    /// Into the server and out again, whatever stands around it.
    #[test]
    fn round_trip(first in any_json(), second in any_json(), bytes in vec(vec(any::<u8>(), 0..=100), 1..=3)) {
        let bytes: Vec<&[u8]> = bytes.iter().map(|one| &one[..]).collect();
        let places: Vec<_> = (0..bytes.len()).map(|num| serde_json::json!({"_placeholder": true, "num": num})).collect();
        let payload = serde_json::json!(["name", first, places, {"k": second}]);
        let inside = assembled(&format!("5{}-{payload}", bytes.len()), &bytes);
        let inside = inside.unwrap();
        let whole: serde_json::Value = serde_json::from_str(&inside).unwrap();
        prop_assert_eq!(&whole[1], &payload[1]);
        let (text, attachments) = split(&inside).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), payload);
        prop_assert_eq!(attachments, bytes);
    }

    /// R-SEC-13.
    #[test]
    fn random_bytes_never_panic(bytes in "(\\{\"\\$binary\":\"|AQ==|\"\\}|[a\",]){0,20}") {
        let _ = split(&bytes);
    }
}
