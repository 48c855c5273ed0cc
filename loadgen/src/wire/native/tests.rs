use super::*;
use crate::stamp::Stamp;
use crate::wire::{Dialect, frame::TEXT, recovered_events};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tungstenite::protocol::frame::FrameHeader;

const STAMP: Stamp = Stamp { room: 7, publisher: 1, number: 42, intended_ns: 5_000_000_000 };

/// Recorded messages as the documentation prints them, without the white space that it adds.
fn compact(text: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    let keep = |c: &char| {
        let keep = is_string || !c.is_whitespace();
        (is_string, is_escaped) = match (*c, is_escaped) {
            ('"', false) => (!is_string, false),
            ('\\', false) => (is_string, true),
            _ => (is_string, false),
        };
        keep
    };
    text.chars().filter(keep).collect()
}

/// All messages of the server in the documentation, by type; the first of each.
fn recorded(kind: &str) -> String {
    let document = include_str!("../../../../docs/PROTOCOL.md");
    let blocks = document.split("```json\n").skip(1).filter_map(|block| block.split("```").next()).map(compact);
    let is_it = |message: &String| {
        let json: Json = serde_json::from_str(message).expect("the documentation's JSON");
        json["type"] == kind && json["id"].as_str().is_some_and(|id| id.starts_with("evt_"))
    };
    blocks.into_iter().find(is_it).unwrap_or_else(|| panic!("no recorded {kind}"))
}

fn read(text: &str) -> Incoming<'_> {
    Dialect::Native.read(TEXT, text.as_bytes())
}

fn stamp_text(stamp: Stamp) -> String {
    String::from_utf8(stamp.to_text().to_vec()).unwrap()
}

#[test]
fn recorded_messages_are_known() {
    assert_eq!(read(&recorded("connection_established")), Incoming::Ready);
    assert_eq!(read(&recorded("server_closing")), Incoming::ServerClosing);
    let answer = recorded("heartbeat_response");
    assert_eq!(read(&answer), Incoming::HeartbeatAnswer { intended_ns: 1_700_000_000_000 });
    let error = Incoming::Refused { code: "rate_limited", stamp: None, request: None, retry_after_ms: Some(5417) };
    assert_eq!(read(&recorded("error")), error);
    let state = recorded("room_state");
    let expected = Incoming::RoomState {
        room: "lobby",
        recovered: None,
        epoch: "BWVWB22S4MV24GZ8",
        offset: 0,
        body: state.as_bytes(),
    };
    assert_eq!(read(&state), expected);
    for other in ["user_joined", "user_left", "typing_indicator", "room_occupancy", "member_added", "token_expiring"] {
        assert_eq!(read(&recorded(other)), Incoming::Other, "{other}");
    }
    // Without a stamp they are nobody's deliveries.
    for other in ["broadcast", "chat_message", "ack"] {
        assert_eq!(read(&recorded(other)), Incoming::Other, "{other}");
    }
}

#[test]
fn recorded_messages_with_our_marks() {
    let live = recorded("broadcast").replace(r#"{"x":3,"y":4}"#, &format!("\"{}....\"", stamp_text(STAMP)));
    assert_eq!(read(&live), Incoming::Live(STAMP));
    let ours = |message: String| message.replace("Hello, Bob", &format!("{}...", stamp_text(STAMP)));
    let chat = ours(recorded("chat_message")).replace("m-1", &stamp_text(STAMP));
    assert_eq!(read(&chat), Incoming::Durable { stamp: STAMP, offset: 1, epoch: "BWVWB22S4MV24GZ8" });

    let ack = recorded("ack").replace("c-1", "j19");
    assert_eq!(read(&ack), Incoming::Joined { request: 19 });
    let result = r#"{"messageId":"msg_1","offset":1,"epoch":"BW","timestamp":17,"duplicate":false}"#;
    let ack = ack.replace("j19", &stamp_text(STAMP)).replace(r#"{"role":"member"}"#, result);
    assert_eq!(read(&ack), Incoming::Acked { stamp: STAMP, is_duplicate: false });
    let repeat = ack.replace(":false", ":true");
    assert_eq!(read(&repeat), Incoming::Acked { stamp: STAMP, is_duplicate: true });
}

#[test]
fn errors_say_what_was_refused() {
    let refused = |id: &str| {
        let text = recorded("error").replace("\"c-26\"", id).replace(r#""retryAfterMs":5417,"#, "");
        match read(&text) {
            Incoming::Refused { code: "rate_limited", stamp, request, retry_after_ms: None } => (stamp, request),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&format!("\"{}\"", stamp_text(STAMP))), (Some(STAMP), None));
    assert_eq!(refused("\"j3\""), (None, Some(3)));
    assert_eq!(refused("\"v7.1.42\""), (Some(Stamp { intended_ns: 0, ..STAMP }), None));
    assert_eq!(refused("\"h\""), (None, None));
    assert_eq!(refused("null"), (None, None));
}

/// Keys in the server's order, which `serde_json` would not keep.
fn state(list: &str, items: &[String], recovered: Option<bool>) -> String {
    let recovered = recovered.map(|recovered| format!("\"recovered\":{recovered},")).unwrap_or_default();
    let (before, after) = recorded("room_state").split_once(r#""recentMessages":[],"#).map(own).expect("the list");
    let after = after.replace(r#""offset":0"#, r#""offset":12"#);
    format!(r#"{before}"{list}":[{}],{recovered}{after}"#, items.join(","))
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.into(), b.into())
}

fn recorded_chat(number: u32, offset: u64) -> String {
    let message = recorded("chat_message").replace("Hello, Bob", &stamp_text(Stamp { number, ..STAMP }));
    let message = message.replace(r#""offset":1,"#, &format!(r#""offset":{offset},"#));
    let (_, data) = message.split_once(r#""data":"#).expect("data");
    data.rsplit_once(r#","timestamp""#).expect("the envelope's time").0.to_string()
}

#[test]
fn a_snapshot_is_no_delivery() {
    let recent = [recorded_chat(5, 11), recorded_chat(6, 12)];
    for recovered in [None, Some(false)] {
        let text = state("recentMessages", &recent, recovered);
        let Incoming::RoomState { room: "lobby", epoch, offset: 12, recovered: found, body } = read(&text) else {
            panic!("{text}")
        };
        assert_eq!((epoch, found), ("BWVWB22S4MV24GZ8", recovered));
        recovered_events(body, |stamp, _| panic!("{stamp:?} is old"));
    }
}

#[test]
fn recovered_events_come_in_order_and_others_are_passed_over() {
    let change = r#"{"type":"member_added","data":{"roomId":"lobby","offset":11,"epoch":"x","role":"member"}}"#;
    let event = |number, offset| format!(r#"{{"type":"chat_message","data":{}}}"#, recorded_chat(number, offset));
    let strange = event(0, 9).replace("tl1|", "Hi, ");
    let text = state("events", &[strange, event(5, 10), change.into(), event(6, 12)], Some(true));
    serde_json::from_str::<Json>(&text).expect("valid JSON");
    let Incoming::RoomState { recovered: Some(true), offset: 12, body, .. } = read(&text) else { panic!("{text}") };
    let mut events = Vec::new();
    recovered_events(body, |stamp, offset| events.push((stamp.number, offset)));
    assert_eq!(events, [(5, 10), (6, 12)]);
    let empty = state("events", &[], Some(true));
    recovered_events(empty.as_bytes(), |stamp, _| panic!("{stamp:?}"));
}

#[test]
fn words_inside_texts_are_no_keys() {
    let trap = r#"\"recovered\":true \"events\":[ \"epoch\":\"no\" \"offset\":99 \"type\":\"error\""#;
    let recent = [recorded_chat(5, 11).replace("tl1|", trap)];
    let text = state("recentMessages", &recent, None);
    serde_json::from_str::<Json>(&text).expect("valid JSON");
    match read(&text) {
        Incoming::RoomState { recovered: None, offset: 12, epoch: "BWVWB22S4MV24GZ8", body, .. } => {
            recovered_events(body, |stamp, _| panic!("{stamp:?}"));
        }
        other => panic!("{other:?}"),
    }
    let live = recorded("broadcast").replace("cursor", trap);
    assert_eq!(read(&live), Incoming::Other);
}

#[test]
fn types_are_found_behind_ids_of_any_length() {
    for id in ["", "evt_01J00000000000000000000000000000001", "e"] {
        let text = format!(r#"{{"id":"{id}","type":"broadcast","data":{{"payload":"{}"}}}}"#, stamp_text(STAMP));
        assert_eq!(read(&text), Incoming::Live(STAMP));
    }
    assert_eq!(read(r#"{"id":"x","data":{}}"#), Incoming::Other);
    assert_eq!(read(r#"{"id":"x","type":"broadcast"#), Incoming::Other);
    assert_eq!(Dialect::Native.read(2, recorded("server_closing").as_bytes()), Incoming::Other);
}

/// The JSON of a command, taken out of its frame by another implementation.
fn written(command: &Command<'_>) -> Json {
    let mut out = Vec::new();
    Dialect::Native.write(command, &mut out);
    let mut cursor = std::io::Cursor::new(&out[..]);
    let (header, length) = FrameHeader::parse(&mut cursor).unwrap().expect("a header");
    let (at, mask) = (cursor.position() as usize, header.mask.expect("masked"));
    assert_eq!(out.len(), at + length as usize);
    let payload: Vec<u8> = out[at..].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    serde_json::from_slice(&payload).expect("valid JSON")
}

#[test]
fn commands_are_those_of_the_documentation() {
    let join = Command::Join { room: "lobby", request: 3, recover: Some(("BWVWB22S4MV24GZ8", 9)) };
    let recover = json!({"epoch": "BWVWB22S4MV24GZ8", "offset": 9});
    let data = json!({"roomId": "lobby", "recover": recover});
    assert_eq!(written(&join), json!({"id": "j3", "type": "join_room", "data": data}));
    let join = Command::Join { room: "lobby", request: 3, recover: None };
    assert_eq!(written(&join), json!({"id": "j3", "type": "join_room", "data": {"roomId": "lobby"}}));
    let typing = json!({"id": "t", "type": "typing_start", "data": {"roomId": "lobby"}});
    assert_eq!(written(&Command::Typing { room: "lobby" }), typing);
    assert_eq!(written(&Command::Activity), json!({"id": "a", "type": "activity", "data": {}}));
    for silent in [Command::Hello { token: None }, Command::Reply(Reply::Alive)] {
        let mut out = Vec::new();
        Dialect::Native.write(&silent, &mut out);
        assert!(out.is_empty(), "{silent:?}");
    }
}

prop_compose! {
    fn stamps()(room: u32, publisher: u32, number: u32, intended_ns: u64) -> Stamp {
        Stamp { room, publisher, number, intended_ns }
    }
}

proptest! {
    #[test]
    fn what_is_sent_is_read_again(stamp in stamps(), bytes in 0_u32..3000, include_self: bool, room in "[a-z0-9.:-]{1,40}") {
        let sent = written(&Command::Live { room: &room, stamp, payload_bytes: bytes, include_self });
        let data = &sent["data"];
        let payload = data["payload"].as_str().unwrap();
        prop_assert_eq!(payload.len(), Stamp::BYTES.max(bytes as usize));
        prop_assert!(payload.starts_with(&stamp_text(stamp)));
        prop_assert_eq!((&data["roomId"], data["includeSelf"] == true), (&json!(room), include_self));
        let id = sent["id"].as_str().unwrap();
        prop_assert!((1..=64).contains(&id.len()));
        let delivered = format!(
            r#"{{"id":"evt_01M867TFMHKMQZZ8D5PSYCX34Z","type":"broadcast","data":{{"roomId":"{room}","userId":"u","event":"move","payload":"{payload}","timestamp":1}},"timestamp":1}}"#
        );
        prop_assert_eq!(read(&delivered), Incoming::Live(stamp));

        let sent = written(&Command::Durable { room: &room, stamp, text_bytes: bytes });
        prop_assert_eq!(&sent["id"], &json!(stamp_text(stamp)));
        let text = sent["data"]["message"].as_str().unwrap();
        prop_assert_eq!(text.trim(), text);
        prop_assert_eq!(text.len(), Stamp::BYTES.max(bytes as usize));
        let delivered = format!(
            r#"{{"id":"e","type":"chat_message","data":{{"id":"msg_1","roomId":"{room}","message":"{text}","offset":{bytes},"epoch":"e"}}}}"#
        );
        prop_assert_eq!(read(&delivered), Incoming::Durable { stamp, offset: bytes.into(), epoch: "e" });
    }

    #[test]
    fn heartbeats_bring_their_time_back(intended_ns in 0_u64..1 << 53) {
        let sent = written(&Command::Heartbeat { intended_ns });
        prop_assert_eq!(&sent, &json!({"id": "h", "type": "heartbeat", "data": {"timestamp": intended_ns}}));
        let text = recorded("heartbeat_response").replace("1700000000000", &intended_ns.to_string());
        prop_assert_eq!(read(&text), Incoming::HeartbeatAnswer { intended_ns });
    }
}
