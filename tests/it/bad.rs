//! The corpus of bad requests: each is refused with its status and a message that helps, and harms nothing after it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::client::Request;
use crate::support::in_repository;
use crate::support::samples::samples;

/// A row of the corpus's table.
struct Row {
    file: String,
    status: u16,
    says: String,
}

fn table(folder: &Path) -> Vec<Row> {
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("the table is there");
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.splitn(3, " | ").collect();
        let [file, status, says] = cells.try_into().ok()?;
        Some(Row {
            file: file.to_owned(),
            status: status.parse().ok()?,
            says: says.trim_end_matches(" |").to_owned(),
        })
    });
    rows.collect()
}

fn request(file: &[u8]) -> Request {
    let end = file.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = file.split_at(end.expect("an empty line ends the head"));
    let head = std::str::from_utf8(head).expect("the head is text");
    let mut lines = head.lines();
    let first = lines.next().and_then(|line| line.split_once(' '));
    let (method, path) = first.expect("method and path");
    assert_eq!(method, "POST");
    lines.fold(Request::post(path, &body[2..]), |request, line| {
        let (name, value) = line.split_once(':').expect("a header");
        request.with(name, value.trim())
    })
}

#[test]
fn every_bad_request_is_refused_and_the_next_good_one_answered() {
    let folder = in_repository("tests/data/bad");
    let rows = table(&folder);
    let listed: BTreeSet<_> = rows
        .iter()
        .map(|row| format!("{}.http", row.file))
        .collect();
    let files = std::fs::read_dir(&folder).expect("the folder is in the repository");
    let files = files.map(|file| {
        file.expect("a file")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let files: BTreeSet<_> = files.filter(|file| file != "README.md").collect();
    assert_eq!(files, listed, "the table lists every file");
    let mut wrong = Vec::new();
    for Row { file, status, says } in rows {
        let bytes = std::fs::read(folder.join(format!("{file}.http"))).expect("it is listed");
        let answer = samples().ask(&request(&bytes));
        let message = answer.error();
        if answer.status != status || !message.contains(&says) {
            wrong.push(format!("{file}: {} {message}", answer.status));
        }
        let good = samples().post("/predict/rows", r#"{"instances": [[1,2]]}"#);
        assert_eq!(good.status, 200, "after {file}: {}", good.text());
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
