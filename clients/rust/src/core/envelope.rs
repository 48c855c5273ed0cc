//! The frames of the protocol (R-ENV-1): one JSON object each, `{id, type, data, timestamp}`.
use serde_json::{Map, Value};

/// `ws.max_message_bytes` of the server: a longer message ends the connection with 1009.
pub const MESSAGE_BYTES_MAX: usize = 65_536;

/// Characters of ids and types (R-ENV-1).
pub(super) const NAME_CHARS_MAX: usize = 64;

pub(super) struct Frame {
    pub kind: String,
    pub data: Map<String, Value>,
}

/// A command as it goes out; `data` is JSON already.
pub(super) fn encode(id: &str, kind: &str, data: &str, unix_ms: u64) -> String {
    // `Value`'s text of a string is JSON, and cannot fail.
    let (id, kind) = (Value::from(id), Value::from(kind));
    format!(r#"{{"id":{id},"type":{kind},"data":{data},"timestamp":{unix_ms}}}"#)
}

/// Says why it is no envelope.
pub(super) fn decode(text: &str) -> Result<Frame, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(mut fields) = value else { return Err("no object".to_owned()) };
    let Some(Value::String(kind)) = fields.remove("type") else { return Err("no type".to_owned()) };
    let data = match fields.remove("data") {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    Ok(Frame { kind, data })
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_is_json_whatever_the_id() {
        let text = encode("a\"\\\n", "chat_message", r#"{"message":"ä"}"#, 7);
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected =
            serde_json::json!({"id": "a\"\\\n", "type": "chat_message", "data": {"message": "ä"}, "timestamp": 7});
        assert_eq!(value, expected);
    }

    #[test]
    fn names_have_1_to_64_characters() {
        let names = ["", "a", &"ä".repeat(64), &"ä".repeat(65)].map(is_name);
        assert_eq!(names, [false, true, true, false]);
    }
}
