use super::*;
use crate::limits::{SOCKETIO_CONNECT_BYTES_MAX, SOCKETIO_CONNECTS_MAX};
use crate::session::command::Command;
use crate::session::decode::{Scratch, decode};
use crate::wire::engineio::{Packet, Revision};
use crate::wire::envelope::Parser;
use crate::wire::socketio::Violation;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn settings() -> Settings {
    Settings {
        namespaces: ["/", "/admin"].map(Into::into).into(),
        ping_interval_ms: 25_000,
        ping_timeout_ms: 20_000,
        connect_timeout_ms: 45_000,
        packet_bytes_max: 1_000,
        app_events: false,
    }
}

/// A client and what became of its packets, as lines.
struct Client {
    settings: Settings,
    tools: Tools,
    session: Session,
    out: Output,
    now_ms: u64,
}

impl Client {
    fn new(revision: Revision, settings: Settings) -> Client {
        let session = Session::new(&settings, revision, 0);
        Client { settings, tools: Tools::default(), session, out: Output::default(), now_ms: 0 }
    }

    /// Signed in to `/`.
    fn connected() -> Client {
        Client::connected_with(settings())
    }

    fn connected_with(settings: Settings) -> Client {
        let mut client = Client::new(Revision::V4, settings);
        assert_eq!(client.says("40"), ["connect / - - -"]);
        client.session.connected(&client.settings, 0, &mut client.out);
        client.lines();
        client
    }

    fn receives(&mut self, packet: Packet<'_>) -> Vec<String> {
        self.session.receive(&self.settings, &mut self.tools, self.now_ms, packet, &mut self.out);
        self.lines()
    }

    fn says(&mut self, text: &str) -> Vec<String> {
        self.receives(Packet::from_text(text).unwrap())
    }

    fn binary(&mut self, bytes: &[u8]) -> Vec<String> {
        self.receives(Packet::Binary(bytes))
    }

    fn at(&mut self, now_ms: u64) -> Vec<String> {
        self.now_ms = now_ms;
        self.session.expire(&self.settings, now_ms, &mut self.out);
        self.lines()
    }

    fn lines(&mut self) -> Vec<String> {
        let actions = self.out.take_actions();
        let name = |namespace: &Namespace| self.settings.name(*namespace).to_owned();
        let lines = actions.iter().map(|action| match action {
            Action::Connect { namespace, auth } => {
                let text = |range: &Option<std::ops::Range<usize>>| match range {
                    Some(range) => self.out.text(range).to_owned(),
                    None => "-".into(),
                };
                let [token, pid, offset] = [&auth.token, &auth.pid, &auth.offset].map(text);
                format!("connect {} {token} {pid} {offset}", name(namespace))
            }
            Action::Command { namespace, message } => {
                format!("command {} {}", name(namespace), self.out.text(message))
            }
            Action::Disconnect { namespace } => format!("disconnect {}", name(namespace)),
            Action::Send { packet } => format!("send {}", self.out.text(packet)),
            Action::Close { why } => format!("close {why:?}"),
        });
        let lines = lines.collect();
        self.out.give_back(actions);
        lines
    }
}

fn violation(violation: Violation) -> [String; 1] {
    [format!("close Violation({violation:?})")]
}

#[test]
fn a_client_connects_and_leaves() {
    let mut client = Client::new(Revision::V4, settings());
    let auth = r#"40{"token":"a\"b","pid":"p","offset":"o","more":[1]}"#;
    assert_eq!(client.says(auth), ["connect / a\"b p o"]);
    assert!(!client.session.is_connected(0));
    client.session.connected(&client.settings, 0, &mut client.out);
    assert!(client.session.is_connected(0) && client.lines().is_empty());
    // Fields of other types are absent.
    assert_eq!(client.says(r#"40/admin,{"token":1,"pid":null,"offset":{}}"#), ["connect /admin - - -"]);
    assert_eq!(client.session.namespaces().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(client.says("41"), ["disconnect /"]);
    // While it is still being signed in.
    assert_eq!(client.says("41/admin,"), ["disconnect /admin"]);
    client.session.connected(&client.settings, 1, &mut client.out);
    assert_eq!(client.session.namespaces().count(), 0);
    assert_eq!(client.says("40"), ["connect / - - -"]);
    assert_eq!(client.says("1"), ["close Client"]);
    assert!(client.says("2").is_empty() && client.at(1_000_000).is_empty(), "it is over");
}

#[test]
fn an_unknown_namespace_is_refused_by_name() {
    let mut client = Client::new(Revision::V4, settings());
    assert_eq!(client.says("40/x,"), [r#"send 44/x,{"message":"Invalid namespace"}"#]);
    assert_eq!(client.says("40/admin?token=1,"), [r#"send 44/admin?token=1,{"message":"Invalid namespace"}"#]);
    assert_eq!(client.says("40/admin,"), ["connect /admin - - -"]);
}

/// Revision 3: the client is in `/` unasked, and queries of namespaces are stripped.
#[test]
fn old_clients() {
    let mut client = Client::new(Revision::V3, settings());
    client.session.open(&client.settings, &mut client.out);
    assert_eq!(client.lines(), ["connect / - - -"]);
    assert!(client.says("40").is_empty(), "it asks all the same");
    client.session.connected(&client.settings, 0, &mut client.out);
    assert_eq!(client.says("40/admin?x=1,"), ["connect /admin - - -"]);
    assert_eq!(client.says("40/x?y=1,"), [r#"send 44/x,"Invalid namespace""#]);
    assert_eq!(client.says(r#"427["activity",{}]"#).len(), 2);
    let mut nowhere = Client::new(Revision::V3, Settings { namespaces: ["/admin".into()].into(), ..settings() });
    nowhere.session.open(&nowhere.settings, &mut nowhere.out);
    assert_eq!(nowhere.lines(), [r#"send 44"Invalid namespace""#]);
    let mut new = Client::new(Revision::V4, settings());
    new.session.open(&new.settings, &mut new.out);
    assert!(new.lines().is_empty());
}

#[test]
fn every_violation_closes() {
    let mut seen = std::collections::HashSet::new();
    let mut expect = |client: &mut Client, packets: &[&str], expected: Violation| {
        let (last, first) = packets.split_last().unwrap();
        first.iter().for_each(|packet| {
            let lines = client.says(packet);
            assert!(!lines.iter().any(|line| line.starts_with("close")), "{packet}: {lines:?}");
        });
        assert_eq!(client.says(last), violation(expected), "{packets:?}");
        assert!(client.says("40").is_empty(), "nothing after it counts");
        seen.insert(expected);
    };
    for (packets, expected) in [
        (&["4"][..], Violation::Type),
        (&["49"], Violation::Type),
        (&["45[]"], Violation::Attachments),
        (&[r#"4511-["a"]"#], Violation::Attachments),
        (&[r#"429007199254740992["a"]"#], Violation::AckId),
        (&["42"], Violation::Payload),
        (&["42[]"], Violation::Payload),
        (&["42{}"], Violation::Payload),
        (&["42[null]"], Violation::Payload),
        (&["437{}"], Violation::Payload),
        (&["437"], Violation::Payload),
        (&["41{}"], Violation::Payload),
        (&["40/admin,[]"], Violation::Payload),
        (&["40/admin,\"x\""], Violation::Payload),
        (&["42[\"a\""], Violation::Json),
        (&["42x"], Violation::Json),
        (&[r#"42["connect"]"#], Violation::ReservedEvent),
        (&[r#"42["disconnecting",1]"#], Violation::ReservedEvent),
        (&[r#"451-["a"]"#, r#"42["a"]"#], Violation::TextInBinary),
        (&[r#"451-["a"]"#, "40/admin,"], Violation::TextInBinary),
        (&["40"], Violation::AlreadyConnected),
        (&["40/admin,", "40/admin,"], Violation::AlreadyConnected),
        (&["42/admin,[\"a\"]"], Violation::NotConnected),
        (&["42/x,[\"a\"]"], Violation::NotConnected),
        (&["451-/admin,[\"a\"]"], Violation::NotConnected),
        (&["41/admin,"], Violation::NotConnected),
        (&["40/admin,", "42/admin,[\"a\"]"], Violation::NotConnected),
        (&["41", "42[\"a\"]"], Violation::NotConnected),
        (&["44{}"], Violation::ClientError),
        (&["44/x,\"no\""], Violation::ClientError),
    ] {
        expect(&mut Client::connected(), packets, expected);
    }
    let deep = format!("42[\"a\",{}{}]", "[".repeat(40), "]".repeat(40));
    expect(&mut Client::connected(), &[&deep], Violation::Depth);
    let long = format!("40/{},", "x".repeat(300));
    expect(&mut Client::connected(), &[&long], Violation::Namespace);
    let large = format!("42[\"a\",\"{}\"]", "x".repeat(1_000));
    expect(&mut Client::connected(), &[&large], Violation::TooLarge);
    let connect = |len: usize| format!("40/admin,{{\"x\":\"{}\"}}", "x".repeat(len - 8));
    expect(&mut Client::connected(), &[&connect(SOCKETIO_CONNECT_BYTES_MAX + 1)], Violation::TooLarge);
    assert_eq!(Client::connected().says(&connect(SOCKETIO_CONNECT_BYTES_MAX)).len(), 1);
    let packets: Vec<&str> = std::iter::repeat_n("40/x,", SOCKETIO_CONNECTS_MAX as usize + 1).collect();
    expect(&mut Client::new(Revision::V4, settings()), &packets, Violation::TooManyConnects);

    let mut binary = Client::connected();
    assert_eq!(binary.binary(b"x"), violation(Violation::UnexpectedBinary));
    let mut binary = Client::connected();
    assert!(binary.says(r#"451-["a",{"_placeholder":true,"num":1}]"#).is_empty());
    assert_eq!(binary.binary(b"x"), violation(Violation::Placeholder));
    let mut binary = Client::connected();
    assert!(binary.says(r#"452-["a"]"#).is_empty() && binary.binary(&[0; 980]).is_empty());
    assert_eq!(binary.binary(&[0; 20]), violation(Violation::TooLarge));
    seen.extend([Violation::UnexpectedBinary, Violation::Placeholder]);
    assert_eq!(seen.len(), Violation::ALL.len(), "each is tested");
}

/// The server ended the namespace; what the client sent before it knew is no violation.
#[test]
fn packets_that_crossed_the_servers_disconnect_are_dropped() {
    let mut client = Client::connected();
    client.session.ended(0);
    assert!(client.says(r#"42["activity"]"#).is_empty());
    assert!(client.says(r#"451-["a"]"#).is_empty() && client.binary(b"x").is_empty());
    assert!(client.says("41").is_empty());
    assert_eq!(client.says("40"), ["connect / - - -"]);
    client.session.ended(0);
    assert_eq!(client.says("40"), ["connect / - - -"], "after it was not let in");
}

#[test]
fn events_become_native_messages() {
    let mut client = Client::connected();
    for (packet, message) in [
        (
            r#"42["send_message",{"roomId":"r","message":"hi"}]"#,
            r#"{"id":"~","type":"send_message","data":{"roomId":"r","message":"hi"}}"#,
        ),
        // As it came, numbers and blanks and all.
        (r#"4212[ "chat_message" , {"n": 1.50} , 2 ]"#, r#"{"id":"~12","type":"chat_message","data":{"n": 1.50}}"#),
        (r#"420["get_presence"]"#, r#"{"id":"~0","type":"get_presence","data":{}}"#),
        (r#"42["broadcast",{"roomId":"r"}]"#, r#"{"id":"~","type":"broadcast","data":{"roomId":"r"}}"#),
        (r#"425["broadcast",{"roomId":"r"}]"#, r#"{"id":"~5","type":"broadcast","data":{"ack":true,"roomId":"r"}}"#),
        (r#"425["broadcast",{ }]"#, r#"{"id":"~5","type":"broadcast","data":{"ack":true }}"#),
        (r#"425["broadcast",7]"#, r#"{"id":"~5","type":"broadcast","data":7}"#),
        // What does not exist is for the decoder to say.
        (r#"42["da\"nce",1]"#, r#"{"id":"~","type":"da\"nce","data":1}"#),
        (r#"421["join","r"]"#, r#"{"id":"~1","type":"join","data":"r"}"#),
        ("42[7,{}]", r#"{"id":"~","type":"7","data":{}}"#),
        (r#"42[""]"#, r#"{"id":"~","type":"","data":{}}"#),
    ] {
        assert_eq!(client.says(packet), [format!("command / {message}")], "{packet}");
    }
}

/// R-ENV-2: these have no ack of their own, but a callback is due one (R-SIO-2).
#[test]
fn who_waits_for_an_ack_that_does_not_exist_gets_one_at_once() {
    let mut client = Client::connected();
    for kind in ["heartbeat", "activity", "typing_start", "typing_stop", "answer"] {
        let lines = client.says(&format!(r#"423["{kind}",{{"roomId":"r"}}]"#));
        let command = format!(r#"command / {{"id":"~","type":"{kind}","data":{{"roomId":"r"}}}}"#);
        assert_eq!(lines, [command.clone(), r#"send 433[{"ok":true,"result":{}}]"#.into()]);
        assert_eq!(client.says(&format!(r#"42["{kind}",{{"roomId":"r"}}]"#)), [command]);
    }
}

#[test]
fn attachments_travel_inside() {
    let mut client = Client::connected();
    let packet = r#"452-9["send_message",{"roomId":"r","metadata":{"a":{"_placeholder":true,"num":1}}},{"_placeholder":true,"num":0}]"#;
    assert!(client.says(packet).is_empty());
    // Heartbeats may come between.
    assert!(client.binary(b"x").is_empty() && client.says("3").is_empty());
    let message = r#"{"id":"~9","type":"send_message","data":{"roomId":"r","metadata":{"a":{"$binary":"eXo="}}}}"#;
    assert_eq!(client.binary(b"yz"), [format!("command / {message}")]);
    assert_eq!(client.says(r#"450-["activity",{}]"#).len(), 1);
}

fn app() -> Client {
    Client::connected_with(Settings { app_events: true, ..settings() })
}

#[test]
fn with_app_events_everyone_is_in_the_room_of_the_namespace() {
    let settings = Settings { app_events: true, ..settings() };
    let mut client = Client::new(Revision::V4, settings);
    client.says("40/admin,");
    client.session.connected(&client.settings, 1, &mut client.out);
    let join = r#"command /admin {"id":"~","type":"join_room","data":{"roomId":"ns:admin"}}"#;
    assert_eq!(client.lines(), [join]);
    let mut client = app();
    client.session.ended(0);
    client.says("40");
    client.session.connected(&client.settings, 0, &mut client.out);
    assert_eq!(client.lines(), [r#"command / {"id":"~","type":"join_room","data":{"roomId":"ns:"}}"#]);
    assert!(["ns:", "ns:admin"].into_iter().all(crate::ids::is_room_id));
}

#[test]
fn app_events_are_relayed() {
    let mut client = app();
    for (packet, data) in [
        (
            r#"42["moved",1,"two",{"x":[]}]"#,
            json!({"roomId": "ns:", "event": "moved", "payload": [1, "two", {"x": []}]}),
        ),
        (r#"42["moved"]"#, json!({"roomId": "ns:", "event": "moved", "payload": []})),
        (
            r#"42["moved",{"roomId":"game","x":1},2]"#,
            json!({"roomId": "game", "event": "moved", "payload": [{"roomId": "game", "x": 1}, 2]}),
        ),
        (r#"42["moved",{"roomId":5}]"#, json!({"roomId": "ns:", "event": "moved", "payload": [{"roomId": 5}]})),
        (r#"42["a\nb",null]"#, json!({"roomId": "ns:", "event": "a\nb", "payload": [null]})),
        (r#"421["moved"]"#, json!({"roomId": "ns:", "event": "moved", "payload": [], "ack": true})),
        ("42[7]", json!({"roomId": "ns:", "event": "7", "payload": []})),
    ] {
        let lines = client.says(packet);
        let [line] = &lines[..] else { panic!("{packet}: {lines:?}") };
        let message: Json = serde_json::from_str(line.strip_prefix("command / ").unwrap()).unwrap();
        assert_eq!((&message["type"], &message["data"]), (&json!("broadcast"), &data), "{packet}");
        assert_eq!(message["id"], json!(if packet.starts_with("421") { "~1" } else { "~" }));
    }
    assert!(client.says(r#"451-["shot",{"_placeholder":true,"num":0}]"#).is_empty());
    let data = r#"{"roomId":"ns:","event":"shot","payload":[{"$binary":"eA=="}]}"#;
    assert_eq!(client.binary(b"x"), [format!(r#"command / {{"id":"~","type":"broadcast","data":{data}}}"#)]);
    // Commands stay commands.
    assert_eq!(client.says(r#"42["leave_room",{}]"#), [r#"command / {"id":"~","type":"leave_room","data":{}}"#]);
}

#[test]
fn join_and_leave_for_short() {
    let mut client = app();
    for (packet, message) in [
        (r#"421["join","game"]"#, r#"{"id":"~1","type":"join_room","data":{"roomId":"game"}}"#),
        (r#"42["join",{"roomId":"game"}]"#, r#"{"id":"~","type":"join_room","data":{"roomId":"game"}}"#),
        (r#"42["leave","game"]"#, r#"{"id":"~","type":"leave_room","data":{"roomId":"game"}}"#),
        (r#"42["leave"]"#, r#"{"id":"~","type":"leave_room","data":{}}"#),
    ] {
        assert_eq!(client.says(packet), [format!("command / {message}")]);
    }
}

#[test]
fn the_server_pings_in_revision_4() {
    let mut client = Client::connected();
    assert_eq!(client.session.deadline_ms(), 25_000);
    assert!(client.at(24_999).is_empty());
    assert_eq!(client.at(25_000), ["send 2"]);
    assert_eq!(client.session.deadline_ms(), 45_000);
    client.now_ms = 30_000;
    assert!(client.says("3").is_empty());
    assert_eq!(client.session.deadline_ms(), 55_000);
    assert_eq!(client.at(55_000), ["send 2"]);
    // Other packets are no pong.
    client.says(r#"42["activity"]"#);
    assert!(client.at(74_999).is_empty());
    assert_eq!(client.at(75_000), ["close PingTimeout"]);
    assert_eq!(Client::connected().says("2"), ["close HeartbeatDirection"]);
}

#[test]
fn the_client_pings_in_revision_3() {
    let mut client = Client::new(Revision::V3, settings());
    client.session.open(&client.settings, &mut client.out);
    client.session.connected(&client.settings, 0, &mut client.out);
    client.lines();
    assert_eq!(client.session.deadline_ms(), 45_000);
    client.now_ms = 25_000;
    assert_eq!(client.says("2"), ["send 3"]);
    assert_eq!(client.says("2probe"), ["send 3probe"]);
    assert!(client.at(69_999).is_empty());
    assert_eq!(client.at(70_000), ["close PingTimeout"]);
    assert_eq!(Client::new(Revision::V3, settings()).says("3"), ["close HeartbeatDirection"]);
}

#[test]
fn without_a_namespace_it_ends() {
    let long = Settings { ping_interval_ms: 100_000, ..settings() };
    let mut client = Client::new(Revision::V4, long.clone());
    client.says("40/x,");
    client.says("40");
    assert_eq!(client.session.deadline_ms(), 45_000);
    assert!(client.at(44_999).is_empty());
    assert_eq!(client.at(45_000), ["close ConnectTimeout"], "being signed in is not in");
    let mut client = Client::connected_with(long);
    assert_eq!(client.session.deadline_ms(), 100_000);
    client.says("41");
    assert!(client.at(45_000).is_empty(), "once is enough");
}

/// R-SIO-2: the id of the ack is the question's; whether there is such a question is for its room to say.
#[test]
fn acks_become_answers() {
    for mut client in [Client::connected(), app()] {
        for (packet, payload) in [
            ("43259[]", "null"),
            (r#"43259[{"a":1},2]"#, r#"{"a":1}"#),
            ("43259[null]", "null"),
            (r#"43259[ "x" ]"#, r#""x""#),
        ] {
            let data = format!(r#"{{"askId":259,"payload":{payload}}}"#);
            let message = format!(r#"command / {{"id":"~","type":"answer","data":{data}}}"#);
            assert_eq!(client.says(packet), [message], "{packet}");
        }
        assert!(client.says("43[]").is_empty(), "an ack of nothing");
        assert!(client.says(r#"461-2[{"_placeholder":true,"num":0}]"#).is_empty());
        let data = r#"{"askId":2,"payload":{"$binary":"AQ=="}}"#;
        assert_eq!(client.binary(&[1]), [format!(r#"command / {{"id":"~","type":"answer","data":{data}}}"#)]);
    }
}

#[test]
fn events_are_asked_with_their_own_names_and_arguments() {
    let mut client = app();
    for (packet, data) in [
        (r#"421["ask","vote"]"#, r#"{"roomId":"ns:","event":"vote","payload":[]}"#),
        (
            r#"421["ask","vote",{"roomId":"game"},2]"#,
            r#"{"roomId":"game","event":"vote","payload":[{"roomId":"game"},2]}"#,
        ),
        // As the native protocol has it.
        (r#"421["ask",{"roomId":"game","event":"vote"}]"#, r#"{"roomId":"game","event":"vote"}"#),
        (r#"421["ask"]"#, "{}"),
    ] {
        assert_eq!(client.says(packet), [format!(r#"command / {{"id":"~1","type":"ask","data":{data}}}"#)]);
    }
    // A name that applications have long had.
    let data = r#"{"roomId":"ns:","event":"answer","payload":[{"askId":1}]}"#;
    let message = format!(r#"command / {{"id":"~","type":"broadcast","data":{data}}}"#);
    assert_eq!(client.says(r#"42["answer",{"askId":1}]"#), [message]);
    let mut plain = Client::connected();
    let message = r#"command / {"id":"~1","type":"ask","data":"vote"}"#;
    assert_eq!(plain.says(r#"421["ask","vote",{"roomId":"game"}]"#), [message]);
    let message = r#"command / {"id":"~","type":"answer","data":{"askId":1}}"#;
    assert_eq!(plain.says(r#"42["answer",{"askId":1}]"#), [message]);
}

#[test]
fn what_may_be_recovered() {
    assert!(Close::Client.is_recoverable() && Close::PingTimeout.is_recoverable());
    for why in [Close::ConnectTimeout, Close::HeartbeatDirection, Close::Violation(Violation::Json)] {
        assert!(!why.is_recoverable());
    }
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 56, "{}", size_of::<Session>());
}

/// The message goes to the parser of native ones where it lies.
#[test]
fn messages_have_slack_behind_them() {
    let mut client = Client::connected();
    let packet = Packet::Text(r#"2["typing_start",{"roomId":"r"}]"#);
    client.session.receive(&client.settings, &mut client.tools, 0, packet, &mut client.out);
    let actions = client.out.take_actions();
    let [Action::Command { message, .. }] = &actions[..] else { panic!("{actions:?}") };
    let (padded, len) = client.out.message(message);
    let mut parser = Parser::new();
    let envelope = parser.parse(padded, len).unwrap();
    assert!(matches!(decode(&envelope, &mut Scratch::default()), Ok(Command::Room { room: "r", .. })));
}

proptest! {
    /// R-SEC-13, and: whatever comes, at most one Close, and nothing behind it; commands are envelopes.
    #[test]
    fn any_packets(
        texts in proptest::collection::vec(
            prop_oneof![
                "[0-6]{1,2}[0-9]{0,2}-?(/admin,)?[0-9]{0,2}.{0,20}",
                r#"(40|41|42|42/admin,|421|43|451-|461-1)(\[|"a"|"send_message"|,|\{"roomId":"x"\}|\]|\{|\}|"join"){0,6}"#,
                r#"(42|427)\["(a|join|activity|broadcast|x\\n)"(,(1|"s"|\{"a":\[\]\}|null|\{"roomId":"r"\})){0,3}\]"#,
            ],
            0..12,
        ),
        app_events: bool,
        is_v3: bool,
        connects in proptest::collection::vec(0_usize..12, 0..4),
    ) {
        let revision = if is_v3 { Revision::V3 } else { Revision::V4 };
        let mut client = Client::new(revision, Settings { app_events, ..settings() });
        client.session.open(&client.settings, &mut client.out);
        let mut closed = 0;
        for (index, text) in texts.iter().enumerate() {
            if connects.contains(&index) {
                client.session.connected(&client.settings, 0, &mut client.out);
            }
            let mut lines = match Packet::from_text(text) {
                Ok(packet) => client.receives(packet),
                Err(_) => client.binary(text.as_bytes()),
            };
            lines.extend(client.binary(b"x"));
            for line in lines {
                prop_assert_eq!(closed, 0);
                closed += usize::from(line.starts_with("close"));
                if let Some(message) = line.strip_prefix("command / ") {
                    let message: Json = serde_json::from_str(message).unwrap();
                    prop_assert!(message["id"].as_str().unwrap().starts_with('~'));
                    prop_assert!(message["type"].is_string() && message.get("data").is_some());
                }
            }
        }
    }
}
