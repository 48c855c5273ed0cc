//! `docs/PROTOCOL.md` is complete and true: names and tables are the source's, and every example is what a client may send
//! or a server does send.
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use throng::base::close::CloseCode;
use throng::base::refusal::{Code, Refusal};
use throng::session::decode::{Scratch, decode};
use throng::wire::envelope::{PADDING_BYTES, Parser};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn document() -> String {
    fs::read_to_string(project("docs/PROTOCOL.md")).expect("docs/PROTOCOL.md")
}

/// Rows of the table behind a marker, without its head.
fn table(marker: &str) -> Vec<String> {
    let text = document();
    let body = text.split(&format!("<!-- {marker}:")).nth(1).and_then(|rest| rest.split("<!-- end").next());
    let rows = body.unwrap_or_else(|| panic!("no table {marker}")).lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(str::to_owned).collect()
}

/// Texts between quotes in one function of a source file.
fn quoted(path: &str, from: &str, to: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(project(path)).expect("source");
    let body = text.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap_or_else(|| panic!("{from}"));
    body.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names of commands, as the decoder knows them. A name that it does not know would be `unknown_type`, so none is missed.
fn commands() -> BTreeSet<String> {
    let text = fs::read_to_string(project("src/session/decode.rs")).expect("source");
    let arms =
        text.split("match envelope.kind() {").nth(1).and_then(|rest| rest.split("_ => Err").next()).expect("arms");
    let names =
        arms.lines().filter_map(|line| line.trim().split_once(" => ")).flat_map(|(names, _)| names.split(" | "));
    names.filter_map(|name| name.strip_prefix('"')?.strip_suffix('"')).map(str::to_owned).collect()
}

fn events() -> BTreeSet<String> {
    let mut names = quoted("src/session/encode.rs", "match kind {", "\n        }");
    names.extend(["ack".to_owned(), "error".to_owned()]);
    names
}

#[test]
fn the_table_of_errors_is_the_sources() {
    let yes_no = |is_retryable| if is_retryable { "yes" } else { "no" };
    let row = |code: &Code| format!("| `{}` | {} | {} |", code.as_str(), code.text(), yes_no(code.is_retryable()));
    assert_eq!(table("errors"), Code::ALL.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn the_table_of_close_codes_is_the_sources() {
    let rows = table("close codes");
    assert_eq!(rows.len(), CloseCode::ALL.len());
    for (row, code) in rows.iter().zip(CloseCode::ALL) {
        let reason = if code.reason().is_empty() { "–" } else { code.reason() };
        assert!(row.starts_with(&format!("| {} | {reason} | ", code.number())), "{row}");
        // The band says what the client does.
        let action = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let expected: &[&str] = match code.number() {
            1011 | 4100..=4199 => &["back off"],
            4001..=4004 => &["get a"],
            1000..=1010 | 4005..=4099 => &["stop"],
            _ => &["wait a random time", "as 4200"],
        };
        assert!(expected.iter().any(|start| action.starts_with(start)), "{row}");
    }
}

#[test]
fn every_name_has_its_place() {
    let (text, commands, events) = (document(), commands(), events());
    assert!(commands.len() >= 20 && events.len() >= 18, "{commands:?} {events:?}");
    let headings: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    for name in commands.iter().chain(&events).filter(|name| *name != "send_message") {
        assert!(headings.contains(name.as_str()), "no section for {name}");
    }
    assert!(text.contains("`send_message`"));
    for heading in headings {
        assert!(commands.contains(heading) || events.contains(heading), "the source does not know {heading}");
    }
}

#[test]
fn examples_are_real_messages() {
    let (text, commands, events) = (document(), commands(), events());
    let (mut sent, mut received) = (BTreeSet::new(), BTreeSet::new());
    for block in text.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
        let message: Json = serde_json::from_str(block).unwrap_or_else(|error| panic!("{error} in {block}"));
        let kind = message["type"].as_str().unwrap_or_else(|| panic!("no type: {block}")).to_owned();
        if message["id"].as_str().is_some_and(|id| id.starts_with("evt_")) {
            assert!(events.contains(&kind), "{kind}");
            assert!(message["timestamp"].is_u64() && message["data"].is_object(), "{block}");
            if kind == "error" {
                let code = Code::ALL.iter().find(|code| message["data"]["code"] == code.as_str()).expect("a code");
                assert_eq!(message["data"]["message"], code.text());
                assert_eq!(message["data"]["retryable"], code.is_retryable());
            }
            received.insert(kind);
        } else {
            assert_eq!(decoded(block), Ok(()), "{block}");
            sent.insert(kind);
        }
    }
    let without = |names: &BTreeSet<String>, shown: &BTreeSet<String>| -> Vec<String> {
        names.difference(shown).filter(|name| *name != "send_message").cloned().collect()
    };
    assert_eq!(without(&commands, &sent), Vec::<String>::new(), "commands without an example");
    assert_eq!(without(&events, &received), Vec::<String>::new(), "events without an example");
}

/// As the server would take it.
fn decoded(message: &str) -> Result<(), Refusal> {
    let mut bytes = message.as_bytes().to_vec();
    let len = bytes.len();
    bytes.resize(len + PADDING_BYTES, 0);
    let (mut parser, mut scratch) = (Parser::new(), Scratch::default());
    let envelope = parser.parse(&mut bytes, len)?;
    decode(&envelope, &mut scratch).map(|_| ())
}

#[test]
fn a_wrong_example_would_be_noticed() {
    assert_eq!(decoded(r#"{"id": "1", "type": "dance"}"#), Err(Refusal::new(Code::UnknownType)));
    assert_eq!(decoded(r#"{"id": "1", "type": "join_room", "data": {}}"#), Err(Refusal::field("roomId")));
}
