//! A chat in the terminal, which survives whatever happens to the server.
//!
//! ```sh
//! cargo run --release -- serve --dev
//! TOKEN=$(target/release/throng token --user carol) cargo run -p throng-client --example chat -- carol lobby
//! ```
use std::io::BufRead;
use throng_client::{ChatMessage, Client, Event, Events, Options};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let user = arguments.next().unwrap_or_else(|| "carol".to_owned());
    let room = arguments.next().unwrap_or_else(|| "lobby".to_owned());
    let url = std::env::var("THRONG_URL").unwrap_or_else(|_| "ws://127.0.0.1:8080/ws".to_owned());
    let token = std::env::var("TOKEN").map_err(|_| "set TOKEN to the output of `throng token --user carol`")?;

    let (client, events) = Client::new(Options::new(url))?;
    tokio::spawn(show(events));
    client.connect(&user, token).await?;
    client.join_room(&room).await?;

    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        // Not awaited here: while the server is away, messages wait, and so need not the user.
        let stored = client.chat_message(&room, &line);
        tokio::spawn(async move {
            match stored.await {
                Ok(result) => eprintln!("[stored at offset {}]", result.offset),
                Err(error) => eprintln!("[not sent: {error}]"),
            }
        });
    }
    client.disconnect().await;
    Ok(())
}

async fn show(mut events: Events) {
    while let Some(event) = events.next().await {
        match event {
            // A snapshot replaces what is shown.
            Event::RoomState(state) => state.recent_messages.iter().flatten().for_each(print),
            Event::ChatMessage(message) => print(&message),
            Event::UserJoined(user) => eprintln!("[{} is here]", user.user_id),
            Event::UserLeft(user) => eprintln!("[{} has left]", user.user_id),
            Event::State(change) => match (change.retry_in, change.why) {
                (Some(wait), Some(why)) => eprintln!("[{:?} in {} ms: {why}]", change.state, wait.as_millis()),
                _ => eprintln!("[{:?}]", change.state),
            },
            Event::Stopped { code, reason, .. } => eprintln!("[stopped: {code} {reason}]"),
            Event::Error(error) => eprintln!("[{error}]"),
            _ => {}
        }
    }
}

fn print(message: &ChatMessage) {
    println!("{}: {}", message.user_id, message.message);
}

/// Standard input, read by a thread of its own: it cannot be waited for otherwise.
fn lines() -> mpsc::Receiver<String> {
    let (give, take) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if give.blocking_send(line).is_err() {
                return;
            }
        }
    });
    take
}
