//! Proves the house rules on the sources themselves: imports point down, and what only one room may know stays there.
//!
//! The floors are those of `src/lib.rs`. Comments and strings are blanked before a rule looks at the code, so that
//! talk about a thing is never taken for the thing.

#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use source::Source;

/// Every room with its floor, bottom-up. A room imports from lower floors and from itself.
const FLOORS: [(&str, u8); 18] = [
    ("allocator", 0),
    ("error", 0),
    ("config", 1),
    ("in_flight", 1),
    ("tensor", 1),
    ("oip", 2),
    ("shutdown", 2),
    ("telemetry", 2),
    ("engine", 3),
    ("repository", 3),
    ("serving", 4),
    ("exchange", 5),
    ("service", 5),
    ("grpc", 6),
    ("http", 6),
    ("server", 7),
    ("cli", 8),
    ("main", 9),
];

/// Longer files and functions are told, not failed.
const LONG_FILE_LINES: usize = 300;
const LONG_FUNCTION_LINES: usize = 60;

type Rule = fn(&Source) -> Vec<String>;

const RULES: [Rule; 6] = [
    imports_point_down,
    every_file_has_a_header,
    metric_names_have_one_place,
    the_environment_is_read_in_one_place,
    engines_stay_in_their_folders,
    nothing_is_unwrapped,
];

fn floor(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

fn imports_point_down(source: &Source) -> Vec<String> {
    let own = source.room();
    if own == "lib" {
        return Vec::new();
    }
    let Some(own_floor) = floor(own) else {
        return vec![format!(
            "{}: room '{own}' is not in the table of floors",
            source.path
        )];
    };
    let is_allowed =
        |room: &str| room == own || floor(room).is_some_and(|target| target < own_floor);
    source
        .imported_rooms()
        .into_iter()
        .filter(|(_, room)| !is_allowed(room))
        .map(|(line, room)| match floor(&room) {
            Some(target) => format!(
                "{}:{line}: floor {own_floor} imports '{room}' of floor {target}",
                source.path
            ),
            None => format!("{}:{line}: imports '{room}', which is no room", source.path),
        })
        .collect()
}

fn every_file_has_a_header(source: &Source) -> Vec<String> {
    match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![format!(
            "{}:1: expected a //! header that says what the file is",
            source.path
        )],
    }
}

fn metric_names_have_one_place(source: &Source) -> Vec<String> {
    if source.path == "telemetry/metrics.rs" {
        return Vec::new();
    }
    let is_name =
        |literal: &String| literal.starts_with("onnxd_") || literal.starts_with("process_");
    let names = source.literals.iter().filter(|(_, text)| is_name(text));
    names
        .map(|(line, text)| {
            format!(
                "{}:{line}: metric name \"{text}\" outside of telemetry/metrics.rs",
                source.path
            )
        })
        .collect()
}

fn the_environment_is_read_in_one_place(source: &Source) -> Vec<String> {
    match source.path.as_str() {
        "config/load.rs" => Vec::new(),
        _ => source.mentions(
            "env::var",
            "reads the environment, as only config/load.rs may",
        ),
    }
}

/// What an engine's crate is called in code, and the only folder that may name it.
const ENGINES: [(&str, &str); 3] = [
    ("tract_onnx", "engine/tract"),
    ("rten_tensor", "engine/rten"),
    ("use ort::", "engine/onnxruntime"),
];

fn engines_stay_in_their_folders(source: &Source) -> Vec<String> {
    let foreign = ENGINES
        .iter()
        .filter(|(_, folder)| !source.path.starts_with(folder));
    foreign
        .flat_map(|(name, folder)| {
            source.mentions(name, &format!("names an engine outside of {folder}"))
        })
        .collect()
}

fn nothing_is_unwrapped(source: &Source) -> Vec<String> {
    source.mentions(".unwrap()", "unwraps; say with expect why it holds")
}

fn violations(source: &Source) -> Vec<String> {
    RULES.iter().flat_map(|rule| rule(source)).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find_rust_files(&root, &mut files);
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(&root).expect("it was found there");
        let text = fs::read_to_string(file).expect("sources are readable text");
        Source::new(&path.to_string_lossy(), &text)
    };
    files.iter().map(read).collect()
}

fn find_rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("source folders are readable") {
        let path = entry.expect("source folders are readable").path();
        if path.is_dir() {
            find_rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources();
    assert!(
        sources.len() > 40,
        "only {} files were found",
        sources.len()
    );
    let imports = sources.iter().map(|source| source.imported_rooms().len());
    assert!(imports.sum::<usize>() > 100, "hardly an import was seen");
    let found: Vec<_> = sources.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn lib_declares_every_room_bottom_up() {
    let sources = sources();
    let lib = sources
        .iter()
        .find(|source| source.path == "lib.rs")
        .expect("there is a lib.rs");
    let declared: Vec<_> = lib
        .code
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let floors: Vec<_> = declared
        .iter()
        .map(|room| floor(room).unwrap_or_else(|| panic!("room '{room}' has no floor")))
        .collect();
    assert!(floors.is_sorted(), "{declared:?} stand on {floors:?}");
    // All rooms but the binary's own.
    assert_eq!(declared.len(), FLOORS.len() - 1);
}

#[test]
fn a_planted_violation_is_found() {
    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        let found = violations(&Source::new(path, &format!("//! A file.\n{text}")));
        assert_eq!(found, expected, "{path}: {text}");
    }
    let upwards = ["error.rs:2: floor 0 imports 'http' of floor 6"];
    check("error.rs", "use crate::http::App;", &upwards);
    check("error.rs", "fn f() -> crate::http::App {}", &upwards);
    check("error.rs", "use super::http::App;", &upwards);
    check(
        "error.rs",
        "use crate::{\n    http::{self, App},\n};",
        &upwards,
    );
    check(
        "oip/request.rs",
        "use crate::{error, telemetry::metrics};",
        &["oip/request.rs:2: floor 2 imports 'telemetry' of floor 2"],
    );
    check(
        "oip/request.rs",
        "use super::super::shutdown;",
        &["oip/request.rs:2: floor 2 imports 'shutdown' of floor 2"],
    );
    check(
        "oip/request.rs",
        "use crate::nowhere::X;",
        &["oip/request.rs:2: imports 'nowhere', which is no room"],
    );
    check(
        "cellar.rs",
        "",
        &["cellar.rs: room 'cellar' is not in the table of floors"],
    );
    check(
        "http/v2.rs",
        "const NAME: &str = \"onnxd_requests\";",
        &["http/v2.rs:2: metric name \"onnxd_requests\" outside of telemetry/metrics.rs"],
    );
    check(
        "server.rs",
        "fn f() { std::env::var(\"PORT\"); }",
        &["server.rs:2: reads the environment, as only config/load.rs may"],
    );
    check(
        "server.rs",
        "use tract_onnx::prelude::*;",
        &["server.rs:2: names an engine outside of engine/tract"],
    );
    check(
        "server.rs",
        "fn f() { g()\n    .unwrap() }",
        &["server.rs:3: unwraps; say with expect why it holds"],
    );
    assert_eq!(violations(&Source::new("error.rs", "fn f() {}")).len(), 1);
}

#[test]
fn what_only_looks_like_a_violation_passes() {
    #[track_caller]
    fn check(path: &str, text: &str) {
        let found = violations(&Source::new(path, &format!("//! A file.\n{text}")));
        assert_eq!(found, [""; 0], "{path}: {text}");
    }
    check(
        "error.rs",
        "// use crate::http::App;\n/* x.unwrap() /* y */ */",
    );
    check(
        "error.rs",
        "const A: &str = \"crate::http \\\" x.unwrap()\";",
    );
    check(
        "error.rs",
        "const A: &str = r#\"\" crate::http\"#; const B: char = '\"';",
    );
    check("http/v2.rs", "use super::App;\nuse crate::error::Error;");
    check(
        "server.rs",
        "const V: &str = env!(\"X\"); fn f<'a>(x: &'a str) {}",
    );
    check(
        "error.rs",
        "#[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { g().unwrap() }\n}",
    );
}

#[test]
fn long_files_and_functions_are_told() {
    let mut notes = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LONG_FILE_LINES {
            notes.push(format!("{} has {lines} lines", source.path));
        }
        for (line, name, lines) in source.functions() {
            if lines > LONG_FUNCTION_LINES {
                notes.push(format!(
                    "{}:{line}: fn {name} has {lines} lines",
                    source.path
                ));
            }
        }
    }
    // Past the test harness, which shows what print macros write only for failures.
    let mut stderr = std::io::stderr().lock();
    for note in notes {
        writeln!(stderr, "note: {note}").expect("standard error is open");
    }
}
