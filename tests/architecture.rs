//! The structure that `docs/ARCHITECTURE.md` promises, checked on the source: what a layer does not import, where a word
//! does not occur. Behaviour is tested elsewhere.
mod source;

use source::{Source, lines_of, project, sources};
use std::collections::BTreeSet;
use std::fs;

/// Rows of the table in `src/lib.rs`, top first; modules of one row may know each other.
fn layers() -> Vec<Vec<String>> {
    let text = fs::read_to_string(project("src/lib.rs")).expect("src/lib.rs");
    let table = text.split("```").nth(1).expect("the table of layers");
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|line| !line.is_empty());
    let names = |line: &str| -> Vec<String> {
        let names = line.split("  ").next().unwrap_or_default().split(", ");
        names.map(|name| name.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    rows.map(names).collect()
}

#[test]
fn imports_point_downwards() {
    let layers = layers();
    let row_of = |module: &str| layers.iter().position(|row| row.iter().any(|name| name == module));
    let declared: BTreeSet<String> = layers.iter().flatten().cloned().collect();
    let modules: BTreeSet<String> =
        sources().iter().map(Source::module).filter(|name| name != "lib" && name != "main").collect();
    assert_eq!(declared, modules, "src/lib.rs names every module once");

    let mut upward = Vec::new();
    for file in sources().iter().filter(|file| file.module() != "lib" && file.module() != "main") {
        let own = row_of(&file.module()).expect("named in the table");
        for used in file.crate_paths() {
            match row_of(&used) {
                Some(row) if row >= own => {}
                Some(_) => upward.push(format!("{} uses {used}", file.path)),
                None => panic!("{}: crate::{used} is no module", file.path),
            }
        }
    }
    assert!(upward.is_empty(), "imports that point upwards:\n{}", upward.join("\n"));
}

#[test]
fn the_path_parser_sees_every_form() {
    let text = "use crate::{a, b::{c, d}};\nfn f() { crate::e::g(); }\n// crate::no\nconst S: &str = \"crate::no\";\n\
        #[cfg(test)]\nmod tests { use crate::no; }\nuse crate::h;";
    let file = Source::new("src/x/y.rs", text);
    assert_eq!(file.crate_paths().into_iter().collect::<Vec<_>>(), ["a", "b", "e", "h"]);
    assert_eq!(file.module(), "x");
    let quoted =
        Source::new("src/x.rs", "let a = '\"'; f(\"unsafe \\\" \", r#\"unsafe\"#); g::<'a>(); /* unsafe */ unsafe");
    assert_eq!(quoted.code.matches("unsafe").count(), 1);
}

/// Nothing of `words` in the code of the files for which `is_checked` holds; tests and comments may.
fn absent(words: &[&str], why: &str, is_checked: impl Fn(&Source) -> bool) {
    let files: Vec<Source> = sources().into_iter().filter(is_checked).collect();
    assert!(!files.is_empty(), "no file to check: {why}");
    let mut found = Vec::new();
    for file in &files {
        for word in words {
            found.extend(lines_of(&file.code, word).map(|line| format!("{}:{line}: {word}", file.path)));
        }
    }
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

fn is_in(file: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| file.path == *place || file.path.starts_with(&format!("{place}/")))
}

#[test]
fn unsafe_is_in_the_plane_only() {
    absent(&["unsafe"], "unsafe outside src/plane", |file| !is_in(file, &["src/plane"]));
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut silent = Vec::new();
    for file in sources().iter().filter(|file| is_in(file, &["src/plane"])) {
        let text: Vec<&str> = file.text.lines().collect();
        for line in lines_of(&file.code, "unsafe {").chain(lines_of(&file.code, "unsafe impl")) {
            // Just above, in the same item.
            let above = text[line.saturating_sub(7)..line].iter().rev();
            if !above.take_while(|line| !line.starts_with('}')).any(|line| line.contains("SAFETY:")) {
                silent.push(format!("{}:{line}", file.path));
            }
        }
    }
    assert!(silent.is_empty(), "no SAFETY comment above:\n{}", silent.join("\n"));
}

#[test]
fn clocks_are_read_at_the_edge_only() {
    let edge = ["src/plane", "src/services", "src/boot", "src/auth/jwks.rs"];
    absent(&["SystemTime::now", "Instant::now"], "a clock is read", |file| !is_in(file, &edge));
    // The shard asks its plane, which in simulation is virtual; the front door has no plane yet.
    absent(&["os::now", "now()"], "a clock is read", |file| {
        is_in(file, &["src/wire", "src/tls", "src/session", "src/rooms", "src/auth/verify.rs", "src/auth/resume.rs"])
    });
}

#[test]
fn protocols_and_domain_do_no_io() {
    let words = [
        "std::fs",
        "std::os",
        "std::thread",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "monoio::",
        "tokio::",
        "libc::",
        "rusqlite::",
        "socket2::",
        "plane::",
    ];
    absent(&words, "I/O in a sans-IO layer", |file| {
        is_in(file, &["src/wire", "src/tls", "src/session", "src/rooms", "src/base"])
    });
}

#[test]
fn a_shard_takes_no_lock() {
    let words = ["Mutex", "RwLock", "Condvar", ".lock()", "thread::sleep", ".recv()"];
    absent(&words, "something a shard could wait for", |file| {
        is_in(
            file,
            &["src/shard", "src/session", "src/rooms", "src/wire", "src/tls", "src/base", "src/telemetry", "src/plane"],
        )
    });
}

/// So there is no timer object per connection: its deadline is a node of the wheel. Handshakes, which end, may have one.
#[test]
fn the_turn_knows_no_runtime() {
    let hosts = ["src/shard/host.rs", "src/shard/front_door.rs", "src/shard/front_door", "src/plane/host.rs"];
    absent(&["monoio::", "async "], "a runtime in a shard's turn", |file| {
        !is_in(file, &hosts) && !is_in(file, &["src/services"])
    });
    absent(&["tokio::", "axum::"], "tokio outside the services", |file| !is_in(file, &["src/services"]));
}

#[test]
fn storage_is_behind_its_port() {
    absent(&["rusqlite::", "sqlite::"], "a back end is known outside", |file| !is_in(file, &["src/store", "src/boot"]));
    // R-SEC-11: values are bound; a statement is a constant.
    absent(&["format!"], "a statement is put together", |file| {
        is_in(file, &["src/store/sqlite"]) && !is_in(file, &["src/store/sqlite/rows.rs"])
    });
}

#[test]
fn only_the_command_line_prints() {
    let words = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];
    absent(&words, "printed instead of logged", |file| !is_in(file, &["src/boot"]));
}

#[test]
fn files_hold_one_idea() {
    const LINES_MAX: usize = 600;
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|file| !file.is_test)
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn nothing_is_half_done() {
    let words = ["todo!", "unimplemented!", concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[ign", "ore")];
    let mut found = Vec::new();
    for file in sources().iter().chain(&source::tests()) {
        for word in words {
            found.extend(lines_of(&file.text, word).map(|line| format!("{}:{line}: {word}", file.path)));
        }
    }
    // This file names the macros.
    found.retain(|place| !place.starts_with("tests/architecture.rs"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A drop that has a name is counted somewhere: a reason that nobody counts is a promise that nobody keeps.
#[test]
fn every_reason_to_drop_is_counted() {
    let labels = fs::read_to_string(project("src/telemetry/labels.rs")).expect("labels");
    let list =
        labels.split("DropReason \"reason\" {").nth(1).and_then(|rest| rest.split('}').next()).expect("the list");
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 5, "{names:?}");
    let code: String =
        sources().into_iter().filter(|file| file.module() != "telemetry").map(|file| file.code).collect();
    let silent: Vec<_> = names.iter().filter(|name| !code.contains(&format!("DropReason::{name}"))).collect();
    assert!(silent.is_empty(), "never counted: {silent:?}");
}

#[test]
fn the_document_points_to_tests_that_exist() {
    let text = fs::read_to_string(project("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let section = text.split("\n## Invariants").nth(1).expect("a section of invariants");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut count = 0;
    for point in section.lines().filter(|line| line.starts_with("| **")) {
        let mut tests = point.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains(".rs::")).peekable();
        assert!(tests.peek().is_some(), "an invariant without a test: {point}");
        for test in tests {
            let (path, name) = test.split_once("::").expect("path::test");
            let code = fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(code.contains(&format!("fn {name}(")), "{path} has no test {name}");
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} invariants have tests");
    for module in layers().concat() {
        assert!(text.contains(&format!("`{module}")), "docs/ARCHITECTURE.md does not name {module}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    let folder = fs::read_dir(project("docs")).expect("docs");
    documents.extend(folder.map(|entry| format!("docs/{}", entry.expect("entry").file_name().to_string_lossy())));
    for document in documents.iter().filter(|name| name.ends_with(".md")) {
        let text = fs::read_to_string(project(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            if path.contains("://") {
                continue;
            }
            let from = project(document);
            let to = if path.is_empty() { from } else { from.parent().expect("a folder").join(path) };
            assert!(to.exists(), "{document}: {target} does not exist");
            if !anchor.is_empty() {
                let there = fs::read_to_string(&to).expect("text");
                let is_there = there.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
                assert!(is_there, "{document}: no heading for {target}");
            }
        }
    }
}

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Records without an assert of their own beside them.
#[test]
fn the_user_record_is_as_small_as_documented() {
    assert!(size_of::<throng::base::user::User>() <= 64);
}
