//! The example, as it stands in `examples/`, against the real server, which is killed and started again.
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use support::{Reader, Server, until};

/// target/debug/deps/example-… → target/debug/examples/chat, which cargo builds with the tests.
fn program() -> std::path::PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.ancestors().nth(2).expect("a profile's folder").join("examples/chat")
}

#[tokio::test]
async fn the_example_chats_and_survives_a_restart_of_the_server() {
    let server = Server::start(&[]);
    let mut program = Command::new(program());
    program.env("THRONG_URL", server.url()).env("TOKEN", server.token("carol")).arg("carol").arg("lobby");
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = program.spawn().expect("the example");
    let printed = Arc::new(Mutex::new(String::new()));
    let streams: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(program.stdout.take().expect("piped")), Box::new(program.stderr.take().expect("piped"))];
    for stream in streams {
        let printed = printed.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                *printed.lock().unwrap() += &(line + "\n");
            }
        });
    }
    let has = |text: &str| printed.lock().unwrap().contains(text);
    let mut keyboard = program.stdin.take().expect("piped");
    writeln!(keyboard, "Hello from the example").expect("a pipe");
    until("it has sent", || has("carol: Hello from the example") && has("stored at offset 1")).await;
    server.kill().await;
    until("it notices", || has("Reconnecting")).await;
    writeln!(keyboard, "Written while the server is gone").expect("a pipe");
    server.start_again().await;
    let anna = Reader::straight("anna", &server, &["lobby"]).await;
    until("it is heard", || anna.texts("lobby").len() == 2).await;
    anna.say("lobby", "Welcome back").await.expect("an ack");
    until("it hears", || has("anna: Welcome back")).await;
    drop(keyboard);
    let status = program.wait().expect("its end");
    let printed = printed.lock().unwrap();
    assert!(status.success(), "{printed}");
    assert_eq!(printed.matches("carol: Hello from the example").count(), 1, "{printed}");
    assert_eq!(printed.matches("carol: Written while").count(), 1, "{printed}");
}
