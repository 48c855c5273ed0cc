use super::*;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::{User, UserRef};
use crate::ids::Ulid;
use crate::rooms::event::{Event, Snapshot};
use crate::session::encode::{Encoder, Native, Stamp};
use crate::store::port::{EventKind, EventRow, RoomRow, RoomType};
use crate::wire::sse::block_len;
use crate::wire::tape::tests::any_json;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const ENCODER: Encoder<Native> = Encoder { vocabulary: Native, expose_email: false };
const STAMP: Stamp = Stamp { id: Ulid(9), unix_ms: 1_700_000_000_000 };

/// Type, data and id of each event, by the lines of our own writer.
fn read(native: &[u8], class: Option<Class>) -> Vec<(String, Json, Option<String>)> {
    let mut out = Vec::new();
    transcode(native, class, &mut out);
    let mut rest = &out[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (block, after) = rest.split_at(block_len(rest).expect("whole blocks"));
        rest = after;
        let lines: Vec<&str> = str::from_utf8(block).unwrap().trim_end_matches('\n').split('\n').collect();
        let value = |field: &str| lines.iter().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        assert_eq!(lines.len(), 2 + usize::from(value("id").is_some()), "{lines:?}");
        let data = serde_json::from_str(value("data").unwrap()).unwrap();
        events.push((value("event").unwrap().to_owned(), data, value("id").map(str::to_owned)));
    }
    events
}

fn native(event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    ENCODER.event(&mut out, STAMP, "lobby", event);
    out
}

fn data_of(native: &[u8]) -> Json {
    serde_json::from_slice::<Json>(native).unwrap()["data"].clone()
}

fn message(offset: u64, body: &str, detail: Option<&str>) -> EventRow {
    EventRow {
        offset,
        kind: EventKind::Message,
        id: Ulid(offset.into()),
        user_id: "anna".into(),
        user_email: None,
        client_id: Some("c\n\r\"1".into()),
        body: body.into(),
        detail: detail.map(Into::into),
        at_ms: 1234,
    }
}

fn change(offset: u64) -> EventRow {
    let detail = Some(r#"{"userId":"bob","role":"member","addedBy":"anna"}"#.into());
    EventRow { kind: EventKind::MemberAdded, client_id: None, body: "".into(), detail, ..message(offset, "", None) }
}

fn room(last_offset: u64) -> RoomRow {
    RoomRow {
        pk: 1,
        id: "lobby".into(),
        kind: RoomType::Public,
        name: "\"epoch\":\"X\",\"offset\":7".into(),
        description: "".into(),
        created_at_ms: 99,
        slow_mode_s: 0,
        epoch: "EPOCH1".into(),
        last_offset,
        member_count: 2,
    }
}

fn snapshot_of(row: &RoomRow, recovered: Option<bool>, events: &[EventRow], recent: &[EventRow]) -> Vec<u8> {
    let snapshot = Snapshot {
        row,
        recovered,
        events: events.iter().collect(),
        recent: recent.iter().collect(),
        online: Vec::new(),
        online_count: 0,
        role: None,
        offset: row.last_offset,
        timestamp_ms: 5,
    };
    native(&Event::Snapshot(&snapshot))
}

#[test]
fn a_durable_event_carries_the_position_behind_it() {
    for row in [message(42, "hi \n there", Some(r#"{"offset":1,"epoch":"no","x":"\"offset\":2"}"#)), change(42)] {
        let native = native(&Event::Durable { epoch: "EPOCH1", row: &row });
        let kind = serde_json::from_slice::<Json>(&native).unwrap()["type"].as_str().unwrap().to_owned();
        assert_eq!(read(&native, Some(Class::Durable)), [(kind, data_of(&native), Some("EPOCH1:42".into()))]);
    }
}

#[test]
fn live_events_and_answers_carry_none() {
    let user = UserRef::new(User::new("anna", None));
    let payload = r#"{"offset":3,"epoch":"E","roomId":"x"}"#;
    let live = native(&Event::Broadcast { user: &user, event: "e", payload, timestamp_ms: 1 });
    assert_eq!(read(&live, Some(Class::Live)), [("broadcast".into(), data_of(&live), None)]);
    let closed = native(&Event::Closed { reason: "removed" });
    assert_eq!(read(&closed, None), [("room_closed".into(), data_of(&closed), None)]);
    let mut ack = Vec::new();
    ENCODER.token_expiring(&mut ack, STAMP, 9);
    assert_eq!(read(&ack, None), [("token_expiring".into(), json!({"expiresAt": 9}), None)]);
}

#[test]
fn a_snapshot_carries_its_position() {
    let recent = [message(6, "\"events\":[1]", None), message(7, "b", None)];
    for recovered in [None, Some(false)] {
        let native = snapshot_of(&room(7), recovered, &[], &recent);
        assert_eq!(read(&native, None), [("room_state".into(), data_of(&native), Some("EPOCH1:7".into()))]);
    }
}

/// R-REC-1 by events: all that was missed, in order, each with its id, and the snapshot before them with the position before them.
#[test]
fn what_was_missed_comes_as_events() {
    let missed = [message(5, "]}{[\"", Some(r#"{"a":[{"b":"]"}]}"#)), change(6), message(7, "c", None)];
    let native = snapshot_of(&room(7), Some(true), &missed, &[]);
    let whole = data_of(&native);
    let events = read(&native, None);
    let mut shown = whole.clone();
    shown["events"] = json!([]);
    assert_eq!(events[0], ("room_state".into(), shown, Some("EPOCH1:4".into())));
    let expected = whole["events"].as_array().unwrap().iter().zip(5..).map(|(event, offset): (&Json, u64)| {
        (event["type"].as_str().unwrap().to_owned(), event["data"].clone(), Some(format!("EPOCH1:{offset}")))
    });
    assert_eq!(events[1..], expected.collect::<Vec<_>>());
    let nothing = snapshot_of(&room(7), Some(true), &[], &[]);
    assert_eq!(read(&nothing, None), [("room_state".into(), data_of(&nothing), Some("EPOCH1:7".into()))]);
}

#[test]
fn refusals_tell_whether_a_retry_may_help() {
    for code in Code::ALL {
        let mut error = Vec::new();
        ENCODER.error(&mut error, STAMP, Some("\"retryable\":true"), None, &Refusal::new(*code));
        assert_eq!(is_retryable_error(&error), code.is_retryable(), "{code:?}");
    }
    let live = native(&Event::Closed { reason: "\"retryable\":true" });
    assert!(!is_retryable_error(&live) && !is_retryable_error(b"") && !is_retryable_error(b"{}"));
}

#[test]
fn what_is_no_native_message_becomes_nothing() {
    for other in [&b""[..], b"{}", b"{\"id\":\"\"", b"data: x\n\n"] {
        assert_eq!(read(other, Some(Class::Durable)), []);
    }
}

proptest! {
    /// Whatever text and JSON people send, an event is one block whose data says what the native message says.
    #[test]
    fn any_content_survives(body in any::<String>(), metadata in any_json(), offset in 1u64..1 << 53) {
        let metadata = json!({"m": metadata}).to_string();
        let row = message(offset, &body, Some(&metadata));
        let native = native(&Event::Durable { epoch: "E9", row: &row });
        let id = Some(format!("E9:{offset}"));
        prop_assert_eq!(read(&native, Some(Class::Durable)), [("chat_message".to_owned(), data_of(&native), id)]);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), is_state in any::<bool>()) {
        let head = if is_state { &br#"{"id":"e","type":"room_state","data":{"events":["#[..] } else { b"" };
        let tail = if is_state { &br#"]},"timestamp":1}"#[..] } else { b"" };
        for class in [None, Some(Class::Durable), Some(Class::Live)] {
            transcode(&[head, &bytes, tail].concat(), class, &mut Vec::new());
        }
    }
}
