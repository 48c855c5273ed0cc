//! A client that keeps what an application would show, and checks that it is told the truth.
use super::{Server, until};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use throng_client::{Ack, ChatMessage, ChatResult, Client, Error, Event, Options, State, Token};

/// The back-off as it is, but never long.
pub fn quick(options: &mut Options) {
    options.random = Some(Box::new(|| 0.02));
}

#[derive(Default)]
pub struct Seen {
    /// Room → its messages, as shown.
    pub shown: HashMap<String, Vec<ChatMessage>>,
    pub recovered: Vec<bool>,
    pub errors: Vec<String>,
    pub states: Vec<State>,
    pub stops: Vec<(u16, String, bool)>,
    /// `retry_max` of `server_closing`, milliseconds.
    pub closings: Vec<u128>,
    /// Ids of durable commands that were settled, and whether well.
    pub settled: Vec<(String, bool)>,
    expects_snapshot: HashSet<String>,
    /// What was wrong.
    pub wrong: Vec<String>,
}

pub struct Reader {
    pub user: String,
    pub client: Client,
    seen: Arc<Mutex<Seen>>,
}

impl Reader {
    pub fn new(user: &str, url: &str, change: impl FnOnce(&mut Options)) -> Reader {
        let mut options = Options::new(url);
        change(&mut options);
        let (client, mut events) = Client::new(options).expect("a client");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let own = seen.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                own.lock().unwrap_or_else(PoisonError::into_inner).take(event);
            }
        });
        Reader { user: user.to_owned(), client, seen }
    }

    /// Connected and in these rooms, with their snapshots.
    pub async fn enter(self, token: impl Into<Token>, rooms: &[&str]) -> Reader {
        self.client.connect(&self.user, token).await.expect("a connection");
        for room in rooms {
            self.client.join_room(room).await.expect("a room");
            until(format!("{} is in {room}", self.user), || self.seen().shown.contains_key(*room)).await;
        }
        self
    }

    /// By a straight line.
    pub async fn straight(user: &str, server: &Server, rooms: &[&str]) -> Reader {
        Reader::new(user, &server.url(), quick).enter(server.token(user), rooms).await
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn say(&self, room: &str, text: &str) -> Ack<ChatResult> {
        self.client.chat_message(room, text)
    }

    pub fn texts(&self, room: &str) -> Vec<String> {
        self.seen().shown.get(room).into_iter().flatten().map(|message| message.message.clone()).collect()
    }

    pub fn offsets(&self, room: &str) -> Vec<u64> {
        self.seen().shown.get(room).into_iter().flatten().map(|message| message.offset).collect()
    }

    /// Shows exactly these, sooner or later.
    pub async fn shows(&self, room: &str, texts: &[&str]) {
        let what = format!("{} shows {texts:?}", self.user);
        until(what, || self.texts(room).len() >= texts.len()).await;
        assert_eq!(self.texts(room), texts, "{}", self.user);
        self.was_told_the_truth();
    }

    pub fn was_told_the_truth(&self) {
        assert_eq!(self.seen().wrong, Vec::<String>::new(), "{}", self.user);
    }

    /// Everything that the server has of a room.
    pub async fn history(&self, room: &str) -> Vec<ChatMessage> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            messages: Vec<ChatMessage>,
            has_more: bool,
        }
        let mut all: Vec<ChatMessage> = Vec::new();
        loop {
            let after = all.last().map_or(0, |message| message.offset);
            let data = serde_json::json!({"roomId": room, "after": after, "limit": 100});
            let page: Result<Page, Error> = self.client.send_message("get_history", data).of().await;
            let page = page.expect("a page");
            all.extend(page.messages);
            if !page.has_more {
                return all;
            }
        }
    }
}

impl Seen {
    fn take(&mut self, event: Event) {
        match event {
            Event::RoomState(state) if state.recovered != Some(true) => {
                self.expects_snapshot.remove(&state.room_id);
                self.shown.insert(state.room_id, state.recent_messages.unwrap_or_default());
            }
            Event::ChatMessage(message) => self.show(*message),
            Event::Recovered { room_id, recovered } => {
                self.recovered.push(recovered);
                if !recovered {
                    self.expects_snapshot.insert(room_id);
                }
            }
            Event::Error(error) => self.errors.push(error.to_string()),
            Event::State(change) => self.states.push(change.state),
            Event::Stopped { code, reason, is_token_needed } => self.stops.push((code, reason, is_token_needed)),
            Event::ServerClosing { retry_max, .. } => self.closings.push(retry_max.as_millis()),
            Event::Settled { id, result, .. } => self.settled.push((id, result.is_ok())),
            Event::Unknown { kind, .. } => self.wrong.push(format!("unknown event {kind}")),
            _ => {}
        }
    }

    fn show(&mut self, message: ChatMessage) {
        if self.expects_snapshot.contains(&message.room_id) {
            self.wrong.push(format!("offset {} between a failed recovery and its snapshot", message.offset));
        }
        let Some(list) = self.shown.get_mut(&message.room_id) else {
            return self.wrong.push(format!("offset {} before the snapshot", message.offset));
        };
        let last = list.last().map_or(0, |message| message.offset);
        // Members' events take offsets, too, but there are none in these rooms' life but the joining of their writers.
        if message.offset <= last {
            self.wrong.push(format!("offset {} behind {last}", message.offset));
        }
        list.push(message);
    }
}
