//! What a frame of the server is about, and whose it is.
use super::{Core, LinkId};
use crate::error::{Error, ServerError};
use serde_json::{Map, Value};

impl Core {
    pub(super) fn received(&mut self, link: LinkId, kind: &str, mut data: Map<String, Value>) {
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        match kind {
            "ack" => {
                let id = text(data.remove("requestId"));
                let result =
                    data.remove("result").filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new()));
                return self.answered(link, &id, Ok(result));
            }
            "error" => {
                let error = Error::Server(ServerError::read(&data));
                return self.answered(link, &text(data.remove("requestId")), Err(error));
            }
            "connection_established" => {
                self.dispatch(kind, data.clone());
                return self.established(link, &data);
            }
            _ => {}
        }
        // A migration's new connection has nothing more to say before it takes over.
        if self.connection.link.as_ref().map(|link| link.id) != Some(link) {
            return;
        }
        match kind {
            "room_state" => return self.room_state(data),
            "room_closed" => return self.room_closed(data),
            "server_closing" => self.server_closing(&data),
            "token_expiring" => self.token_expiring(),
            "migrate" => self.migrate(&data),
            _ => return self.room_event(kind, data),
        }
        self.dispatch(kind, data);
    }

    fn answered(&mut self, link: LinkId, id: &str, answer: Result<Value, Error>) {
        if let Some(answer) = self.connection_answered(link, id, answer) {
            self.command_answered(id, answer);
        }
    }
}
