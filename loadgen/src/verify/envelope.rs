//! The native protocol once more, from its description (docs/PROTOCOL.md) and by a JSON library: nothing here comes from `wire`
//! or from the server, so that a mistake in one of them is not repeated.
use crate::scenario::Kind;
use crate::stamp::Stamp;
use serde_json::{Map, Value, json};

/// What the server said.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Established,
    /// `is_duplicate` is there for messages only.
    Ack {
        request: String,
        is_duplicate: Option<bool>,
    },
    Error {
        request: Option<String>,
        code: String,
    },
    RoomState {
        room: String,
        epoch: String,
        offset: u64,
    },
    Live {
        room: String,
        stamp: Stamp,
    },
    Durable {
        room: String,
        stamp: Stamp,
        offset: u64,
        epoch: String,
    },
    HeartbeatAnswer {
        client_timestamp: u64,
    },
    /// Types that a client has to bear without knowing them.
    Other,
}

/// Reads one message. An error tells what the description forbids.
pub fn read(text: &str) -> Result<Event, String> {
    let message: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object ({error}): {}", start(text)))?;
    let fault = |what: &str| format!("{what}: {}", start(text));
    let id = message.get("id").and_then(Value::as_str).ok_or_else(|| fault("no id"))?;
    if !id.starts_with("evt_") || !message.get("timestamp").is_some_and(Value::is_u64) {
        return Err(fault("an id that is no event's, or no timestamp"));
    }
    let kind = message.get("type").and_then(Value::as_str).ok_or_else(|| fault("no type"))?;
    let data = message.get("data").and_then(Value::as_object).ok_or_else(|| fault("no data"))?;
    let text_of = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| fault(key));
    let number_of = |key: &str| data.get(key).and_then(Value::as_u64).ok_or_else(|| fault(key));
    let stamp_of = |text: Option<&Value>| {
        text.and_then(Value::as_str).and_then(|text| Stamp::parse(text.as_bytes())).ok_or_else(|| fault("no stamp"))
    };
    Ok(match kind {
        "connection_established" => Event::Established,
        "ack" => {
            let result = data.get("result").and_then(Value::as_object).ok_or_else(|| fault("no result"))?;
            Event::Ack {
                request: text_of("requestId")?,
                is_duplicate: result.get("duplicate").and_then(Value::as_bool),
            }
        }
        "error" => Event::Error { request: text_of("requestId").ok(), code: text_of("code")? },
        "room_state" => {
            Event::RoomState { room: text_of("roomId")?, epoch: text_of("epoch")?, offset: number_of("offset")? }
        }
        "broadcast" => {
            let payload = data.get("payload").ok_or_else(|| fault("no payload"))?;
            Event::Live { room: text_of("roomId")?, stamp: stamp_of(payload.get("mark"))? }
        }
        "chat_message" => {
            let stamp = stamp_of(data.get("message"))?;
            if stamp_of(data.get("clientId"))? != stamp {
                return Err(fault("the clientId is another message's"));
            }
            Event::Durable { room: text_of("roomId")?, stamp, offset: number_of("offset")?, epoch: text_of("epoch")? }
        }
        "heartbeat_response" => Event::HeartbeatAnswer { client_timestamp: number_of("clientTimestamp")? },
        _ => Event::Other,
    })
}

pub fn join(id: &str, room: &str) -> String {
    json!({"id": id, "type": "join_room", "data": {"roomId": room}}).to_string()
}

/// The server echoes whatever integer the client calls its time.
pub fn heartbeat(id: &str, client_timestamp: u64) -> String {
    json!({"id": id, "type": "heartbeat", "data": {"timestamp": client_timestamp}}).to_string()
}

/// A message of a traffic line. A durable one has its stamp as its id, so that a repeat would be known as one.
pub fn message(kind: Kind, room: &str, stamp: Stamp, payload_bytes: u32, include_self: bool) -> String {
    let mark = mark(stamp);
    let padding = "y".repeat((payload_bytes as usize).saturating_sub(mark.len()));
    match kind {
        Kind::Live => json!({"id": "live", "type": "broadcast", "data": {
            "roomId": room, "event": "load", "payload": {"mark": mark, "padding": padding}, "includeSelf": include_self}}),
        Kind::Durable => {
            let text = format!("{mark}{padding}");
            json!({"id": mark, "type": "chat_message", "data": {"roomId": room, "message": text}})
        }
        Kind::Typing => json!({"id": "typing", "type": "typing_start", "data": {"roomId": room}}),
        Kind::Activity => json!({"id": "activity", "type": "activity", "data": {}}),
    }
    .to_string()
}

/// A stamp as the text that travels.
pub fn mark(stamp: Stamp) -> String {
    stamp.to_text().map(char::from).iter().collect()
}

/// The stamp of a request's id, if it is a durable message's.
pub fn stamp_of_request(request: &str) -> Option<Stamp> {
    Stamp::parse(request.as_bytes())
}

fn start(text: &str) -> String {
    const SHOWN: usize = 200;
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { room: 1, publisher: 2, number: 3, intended_ns: 4 };

    #[test]
    fn recorded_messages_are_understood() {
        let mark = mark(STAMP);
        for (text, event) in [
            (
                r#"{"id":"evt_1","type":"ack","data":{"requestId":"c-1","result":{"role":"member"}},"timestamp":1}"#
                    .into(),
                Event::Ack { request: "c-1".into(), is_duplicate: None },
            ),
            (
                r#"{"id":"evt_1","type":"error","data":{"code":"rate_limited","requestId":null},"timestamp":1}"#.into(),
                Event::Error { request: None, code: "rate_limited".into() },
            ),
            (
                r#"{"id":"evt_1","type":"room_state","data":{"roomId":"r","epoch":"E","offset":7},"timestamp":1}"#
                    .into(),
                Event::RoomState { room: "r".into(), epoch: "E".into(), offset: 7 },
            ),
            (
                format!(
                    r#"{{"id":"evt_1","type":"broadcast","data":{{"roomId":"r","payload":{{"mark":"{mark}"}}}},"timestamp":1}}"#
                ),
                Event::Live { room: "r".into(), stamp: STAMP },
            ),
            (
                format!(
                    r#"{{"id":"evt_1","type":"chat_message","data":{{"roomId":"r","message":"{mark}yy","clientId":"{mark}",
                       "offset":1,"epoch":"E"}},"timestamp":1}}"#
                ),
                Event::Durable { room: "r".into(), stamp: STAMP, offset: 1, epoch: "E".into() },
            ),
            (r#"{"id":"evt_1","type":"brand_new","data":{},"timestamp":1}"#.into(), Event::Other),
        ] {
            assert_eq!(read(&text), Ok(event), "{text}");
        }
    }

    #[test]
    fn what_the_description_forbids_is_told() {
        for (text, part) in [
            ("[1]", "not a JSON object"),
            (r#"{"type":"ack","data":{},"timestamp":1}"#, "no id"),
            (r#"{"id":"evt_1","type":"ack","data":{}}"#, "timestamp"),
            (r#"{"id":"evt_1","type":"ack","timestamp":1}"#, "no data"),
            (r#"{"id":"evt_1","type":"ack","data":{"requestId":"a"},"timestamp":1}"#, "no result"),
            (r#"{"id":"evt_1","type":"broadcast","data":{"roomId":"r","payload":{}},"timestamp":1}"#, "no stamp"),
        ] {
            let fault = read(text).expect_err(text);
            assert!(fault.contains(part) && fault.ends_with(text), "{fault}");
        }
    }

    #[test]
    fn messages_are_padded_to_their_size() {
        let text = |kind| -> Value { serde_json::from_str(&message(kind, "r", STAMP, 60, false)).expect("JSON") };
        let durable = text(Kind::Durable);
        assert_eq!(durable["data"]["message"].as_str().map(str::len), Some(60));
        assert_eq!(stamp_of_request(durable["id"].as_str().expect("an id")), Some(STAMP));
        let live = text(Kind::Live);
        let payload = &live["data"]["payload"];
        assert_eq!(payload["mark"].as_str().map(str::len), Some(Stamp::BYTES));
        assert_eq!(payload["padding"].as_str().map(str::len), Some(60 - Stamp::BYTES));
        assert_eq!(live["data"]["includeSelf"], false);
    }
}
