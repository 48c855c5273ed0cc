//! Rooms and commands. Correct: all under one lock, so every member gets everything in one order.
use super::breakage::Outgoing;
use super::connection::frame;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{SystemTime, UNIX_EPOCH};

/// Missed events that a join brings, as in the real server's default.
const RECOVERY_MAX: u64 = 300;

#[derive(Default)]
pub struct Rooms {
    rooms: BTreeMap<String, Room>,
    connections: BTreeMap<u64, Sender<Outgoing>>,
    last_connection: u64,
    last_event: u64,
}

struct Room {
    epoch: String,
    /// Connections that have joined.
    members: Vec<u64>,
    /// `data` of the durable messages; the first is at offset 1.
    stream: Vec<String>,
    /// By the sender's id: result of its ack.
    results: HashMap<String, String>,
}

impl Rooms {
    /// The number by which the connection is known from now on.
    pub fn connected(&mut self, outgoing: Sender<Outgoing>) -> u64 {
        self.last_connection += 1;
        let connection = self.last_connection;
        self.connections.insert(connection, outgoing);
        let now = now_ms();
        self.answer(
            connection,
            "connection_established",
            &format!(
                "{{\"connectionId\":\"conn_{connection:026}\",\"sessionId\":\"sess_{connection:026}\",\"resumeToken\":\"none\",\
                 \"userId\":\"user-{connection}\",\"expiresAt\":{},\"heartbeatMs\":30000,\"timestamp\":{now}}}",
                now + 3_600_000
            ),
        );
        connection
    }

    pub fn disconnected(&mut self, connection: u64) {
        self.connections.remove(&connection);
        self.rooms.values_mut().for_each(|room| room.members.retain(|member| *member != connection));
    }

    /// Carries out a command; the answer and what follows from it are on their way when it returns.
    pub fn command(&mut self, connection: u64, text: &str) {
        let command: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(kind) = command["type"].as_str() else {
            return self.refuse(connection, &Value::Null, "invalid_format");
        };
        let (id, data) = (&command["id"], &command["data"]);
        let room = data["roomId"].as_str().unwrap_or_default();
        match kind {
            "heartbeat" => self.answer(
                connection,
                "heartbeat_response",
                &format!("{{\"timestamp\":{},\"clientTimestamp\":{}}}", now_ms(), data["timestamp"]),
            ),
            "typing_start" | "typing_stop" | "activity" => {}
            "join_room" if !room.is_empty() => self.join(connection, id, room, &data["recover"]),
            "leave_room" => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.members.retain(|member| *member != connection);
                }
                self.ack(connection, id, "{}");
            }
            "broadcast" | "chat_message" | "send_message" if !self.is_member(connection, room) => {
                self.refuse(connection, id, "not_in_room");
            }
            "broadcast" => self.broadcast(connection, room, data),
            "chat_message" | "send_message" => self.chat(connection, id, room, data),
            _ => self.refuse(connection, id, "unknown_type"),
        }
    }

    fn join(&mut self, connection: u64, id: &Value, name: &str, recover: &Value) {
        let created = self.rooms.len();
        let room = self.rooms.entry(name.to_owned()).or_insert_with(|| Room {
            epoch: format!("EPOCH{created:011}"),
            members: Vec::new(),
            stream: Vec::new(),
            results: HashMap::new(),
        });
        if !room.members.contains(&connection) {
            room.members.push(connection);
        }
        let offset = room.stream.len() as u64;
        let from = recover["offset"]
            .as_u64()
            .filter(|from| *from <= offset && offset - from <= RECOVERY_MAX && recover["epoch"] == room.epoch.as_str());
        let events = match (recover.is_object(), from) {
            (false, _) => "\"recentMessages\":[]".to_owned(),
            (true, None) => "\"recentMessages\":[],\"recovered\":false".to_owned(),
            (true, Some(from)) => {
                let missed = room.stream[from as usize..].iter();
                let missed: Vec<_> =
                    missed.map(|data| format!("{{\"type\":\"chat_message\",\"data\":{data}}}")).collect();
                format!("\"events\":[{}],\"recovered\":true", missed.join(","))
            }
        };
        let (now, online, name) = (now_ms(), room.members.len(), quoted(name));
        let state = format!(
            "{{\"roomId\":{name},\"roomInfo\":{{\"id\":{name},\"name\":{name},\"description\":\"\",\"createdAt\":{now},\
             \"memberCount\":0,\"type\":\"public\",\"slowModeSeconds\":0}},{events},\"users\":[],\"onlineUsers\":[],\
             \"onlineCount\":{online},\"role\":null,\"epoch\":\"{}\",\"offset\":{offset},\"timestamp\":{now}}}",
            room.epoch
        );
        self.ack(connection, id, "{\"role\":null}");
        self.answer(connection, "room_state", &state);
    }

    fn broadcast(&mut self, connection: u64, name: &str, data: &Value) {
        let payload = &data["payload"];
        let event = format!(
            "{{\"roomId\":{},\"userId\":\"user-{connection}\",\"event\":{},\"payload\":{payload},\"timestamp\":{}}}",
            quoted(name),
            data["event"],
            now_ms()
        );
        let except = (data["includeSelf"] != true).then_some(connection);
        self.deliver(name, "broadcast", &event, payload.as_str().unwrap_or_default(), except);
    }

    fn chat(&mut self, connection: u64, id: &Value, name: &str, data: &Value) {
        let client_id = data["clientId"].as_str().or(id.as_str()).unwrap_or_default().to_owned();
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(result) = room.results.get(&client_id) {
            let result = format!("{{{result},\"duplicate\":true}}");
            return self.ack(connection, id, &result);
        }
        let (offset, epoch, now) = (room.stream.len() + 1, &room.epoch, now_ms());
        let message = data["message"].as_str().unwrap_or_default().trim();
        let event = format!(
            "{{\"id\":\"msg_{offset:026}\",\"roomId\":{},\"userId\":\"user-{connection}\",\"message\":{},\
             \"messageType\":\"text\",\"metadata\":{{}},\"timestamp\":{now},\"edited\":false,\"reactions\":{{}},\
             \"reactionCounts\":{{}},\"offset\":{offset},\"epoch\":\"{epoch}\",\"clientId\":{},\"deleted\":false}}",
            quoted(name),
            quoted(message),
            quoted(&client_id)
        );
        let result =
            format!("\"messageId\":\"msg_{offset:026}\",\"offset\":{offset},\"epoch\":\"{epoch}\",\"timestamp\":{now}");
        let answer = format!("{{{result},\"duplicate\":false}}");
        room.results.insert(client_id, result);
        room.stream.push(event.clone());
        self.ack(connection, id, &answer);
        self.deliver(name, "chat_message", &event, message, None);
    }

    /// To every member of a room but one. `text` may hold a stamp; only then may the delivery be broken.
    fn deliver(&mut self, name: &str, kind: &str, data: &str, text: &str, except: Option<u64>) {
        let frame = self.message(kind, data);
        // Room and publisher of the stamp `tl1|room|publisher|…`.
        let publisher: Option<Arc<str>> = text.find("tl1|").and_then(|at| text.get(at..at + 21)).map(Arc::from);
        let Some(room) = self.rooms.get(name) else { return };
        for member in room.members.iter().filter(|member| Some(**member) != except) {
            let Some(outgoing) = self.connections.get(member) else { continue };
            let frame = frame.clone();
            let _ = outgoing.send(match publisher.clone() {
                Some(publisher) => Outgoing::Delivery { publisher, frame },
                None => Outgoing::Answer(frame),
            });
        }
    }

    fn is_member(&self, connection: u64, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|room| room.members.contains(&connection))
    }

    fn ack(&mut self, connection: u64, id: &Value, result: &str) {
        self.answer(connection, "ack", &format!("{{\"requestId\":{id},\"result\":{result}}}"));
    }

    fn refuse(&mut self, connection: u64, id: &Value, code: &str) {
        let data = format!("{{\"code\":\"{code}\",\"message\":\"{code}\",\"retryable\":false,\"requestId\":{id}}}");
        self.answer(connection, "error", &data);
    }

    fn answer(&mut self, connection: u64, kind: &str, data: &str) {
        let frame = self.message(kind, data);
        if let Some(outgoing) = self.connections.get(&connection) {
            let _ = outgoing.send(Outgoing::Answer(frame)); // it may be ending
        }
    }

    fn message(&mut self, kind: &str, data: &str) -> Arc<[u8]> {
        self.last_event += 1;
        let id = self.last_event;
        let text =
            format!("{{\"id\":\"evt_{id:026}\",\"type\":\"{kind}\",\"data\":{data},\"timestamp\":{}}}", now_ms());
        frame(1, text.as_bytes())
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
