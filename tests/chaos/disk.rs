//! What happens to the repository: versions come, change and go, some of them bad.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::books::{Books, Written};
use super::engine::function;
use super::random::Random;
use super::server::ChaosServer;
use super::support::client::{Answer, Request};
use super::support::eventually;
use super::weather::Fault;

/// The model that nothing happens to.
pub const STEADY: &str = "steady";
/// Another one, whose clients stay until they have an answer, so that all of them can be counted.
pub const COUNTED: &str = "counted";
/// The models that change.
pub const CHANGING: [&str; 2] = ["left", SHORT];
/// The one whose runs are short.
const SHORT: &str = "short";
/// What some version of theirs is called besides its number.
pub const LABEL: &str = "stable";
/// Their versions.
pub const VERSIONS: u64 = 4;

/// What a version's files are like.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Good,
    GoodWithGolden,
    LoadsSlowly,
    /// One engine lies, and a golden request tells which.
    LiesWithGolden,
    /// One engine lies, and nothing tells which.
    Lies,
    WrongGolden,
    BrokenGolden,
    LoadFails,
    LoadPanics,
    CutShort,
}

const KINDS: [Kind; 13] = [
    Kind::Good,
    Kind::Good,
    Kind::GoodWithGolden,
    Kind::GoodWithGolden,
    Kind::LoadsSlowly,
    Kind::LiesWithGolden,
    Kind::LiesWithGolden,
    Kind::Lies,
    Kind::WrongGolden,
    Kind::BrokenGolden,
    Kind::LoadFails,
    Kind::LoadPanics,
    Kind::CutShort,
];

impl Kind {
    fn is_good(self) -> bool {
        match self {
            Kind::Good | Kind::GoodWithGolden | Kind::LoadsSlowly | Kind::LiesWithGolden => true,
            Kind::Lies
            | Kind::WrongGolden
            | Kind::BrokenGolden
            | Kind::LoadFails
            | Kind::LoadPanics
            | Kind::CutShort => false,
        }
    }

    fn file(self, model: &str, generation: i64) -> String {
        // Runs of one model are shared, those of the other end before anybody could join them.
        let takes_us = if model == SHORT { 0 } else { 1000 };
        let mut file = json!({ "generation": generation, "takes_us": takes_us });
        match self {
            Kind::LoadsSlowly => file["load"] = "slow".into(),
            Kind::LoadFails => file["load"] = "fail".into(),
            Kind::LoadPanics => file["load"] = "panic".into(),
            Kind::Lies | Kind::LiesWithGolden => file["lies"] = true.into(),
            _ => {}
        }
        let text = file.to_string();
        match self {
            Kind::CutShort => text[..text.len() / 2].to_owned(),
            _ => text,
        }
    }

    fn golden(self, generation: i64) -> Option<String> {
        let expected = match self {
            Kind::GoodWithGolden | Kind::LiesWithGolden => function(generation, 7),
            Kind::WrongGolden => function(generation, 7) + 1,
            Kind::BrokenGolden => return Some("{\"request\":".to_owned()),
            _ => return None,
        };
        let tensor = |name: &str, element| json!([{ "name": name, "datatype": "INT64", "shape": [1], "data": [element] }]);
        let golden = json!({
            "request": { "inputs": tensor("x", 7) },
            "response": { "outputs": tensor("y", expected) },
        });
        Some(golden.to_string())
    }
}

/// Puts the models into a repository that nothing happens to.
pub fn put_steady(repository: &Path, books: &Books) {
    for model in [STEADY, COUNTED] {
        put(repository, books, (model, 1), Kind::GoodWithGolden);
    }
}

/// A request to it that nothing is wrong with.
pub fn steady_request() -> Request {
    // Too small to meet a fault.
    Request::post(
        &format!("/predict/{STEADY}"),
        json!({ "instances": [1] }).to_string(),
    )
}

/// Puts a version's files in place, whole: beside it first, then by its name.
fn put(repository: &Path, books: &Books, (name, version): (&str, u64), kind: Kind) -> i64 {
    let generation = books.enter(Written {
        model: name.to_owned(),
        version,
        is_good: kind.is_good(),
    });
    let model = repository.join(name);
    let (unfinished, gone) = (model.join(".unfinished"), model.join(".gone"));
    let place = model.join(version.to_string());
    for folder in [&unfinished, &gone] {
        let _ = fs::remove_dir_all(folder);
    }
    fs::create_dir_all(&unfinished).expect("a temporary folder");
    fs::write(unfinished.join("model.onnx"), kind.file(name, generation))
        .expect("a temporary file");
    if let Some(golden) = kind.golden(generation) {
        fs::create_dir(unfinished.join("golden")).expect("a temporary folder");
        fs::write(unfinished.join("golden/a.json"), golden).expect("a temporary file");
    }
    // What was there before, if anything.
    let _ = fs::rename(&place, &gone);
    fs::rename(&unfinished, &place).expect("nothing is in its place");
    let _ = fs::remove_dir_all(&gone);
    generation
}

/// All files below a folder, but for those that are being put together.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), PathBuf::from(entry.file_name()));
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        match path.is_dir() {
            true => files.extend(
                self::files(&path)
                    .into_iter()
                    .map(|(below, bytes)| (name.join(below), bytes)),
            ),
            false => files.extend(fs::read(&path).ok().map(|bytes| (name, bytes))),
        }
    }
    files
}

/// Whoever changes the repository.
pub struct Disk<'a> {
    server: &'a ChaosServer,
    books: &'a Books,
    random: Random,
}

impl<'a> Disk<'a> {
    pub fn new(server: &'a ChaosServer, books: &'a Books, random: Random) -> Disk<'a> {
        Disk {
            server,
            books,
            random,
        }
    }

    /// One change, and where the server does not watch, an order that tells it.
    pub fn act(&mut self) {
        let repository = self.server.repository();
        let model = self.random.pick(&CHANGING);
        let version = 1 + self.random.below(VERSIONS);
        match self.random.below(10) {
            0..6 => {
                let kind = self.random.pick(&KINDS);
                let _ = put(repository, self.books, (model, version), kind);
            }
            6 => drop(fs::remove_dir_all(
                repository.join(model).join(version.to_string()),
            )),
            7 => drop(fs::remove_dir_all(repository.join(model))),
            at => {
                let policy = if at == 8 { "\"all\"" } else { "{ latest = 2 }" };
                let labels = format!("version_labels = {{ {LABEL} = {version} }}");
                self.put_manifest(model, &format!("versions = {policy}\n{labels}\n"));
            }
        }
        if !self.server.is_watching {
            let verb = if self.random.one_in(8) {
                "unload"
            } else {
                "load"
            };
            self.order(verb, model);
        }
        self.check_ready();
        // Whoever watches waits until files are left alone.
        let is_left_alone = self.server.is_watching && self.random.one_in(3);
        let pause = if is_left_alone { 1500 } else { 10 };
        thread::sleep(Duration::from_millis(pause + self.random.below(60)));
    }

    /// Puts one last good version into every model; it is what they answer with in the end.
    pub fn settle(&mut self) {
        let last = VERSIONS + 1;
        for model in CHANGING {
            let repository = self.server.repository();
            let generation = put(repository, self.books, (model, last), Kind::GoodWithGolden);
            self.put_manifest(model, "versions = { latest = 1 }\n");
            if !self.server.is_watching {
                self.order("load", model);
            }
            eventually("the last good version answers", || {
                let answer = self.ask_default(model);
                answer.status == 200 && answer.json()["outputs"]["generation"][0] == generation
            });
        }
    }

    /// What has become ready stays so, whatever is in the repository and whether it can be read.
    fn check_ready(&self) {
        let answer = self.server.ask(&Request::get("/health/ready"));
        if answer.status != 200 {
            self.books
                .violation(format!("not ready: {}", answer.text()));
        }
    }

    /// Asks what is too small to meet a fault, beside what clients count.
    fn ask_default(&self, model: &str) -> Answer {
        self.books.unsure(model);
        let request = json!({ "inputs": { "x": [1] } }).to_string();
        self.server
            .ask(&Request::post(&format!("/predict/{model}"), request))
    }

    /// After one of these the server cannot know what there is.
    fn empty_listings(&self) -> u64 {
        let store = self.server.store.as_ref();
        store.map_or(0, |store| store.weather().met()[&Fault::EmptyListing])
    }

    fn put_manifest(&self, model: &str, text: &str) {
        let folder = self.server.repository().join(model);
        if folder.is_dir() {
            fs::write(folder.join("model.toml"), text).expect("a temporary file");
        }
    }

    /// What was loaded is what is on disk, which nobody else changes.
    fn check_that_it_took_effect(&self, model: &str) {
        let answer = self.ask_default(model);
        if answer.status == 429 {
            return;
        }
        let told = answer.json();
        let version = told["model_version"].as_str().unwrap_or("none");
        let file = self.server.repository().join(model).join(version);
        let file = fs::read_to_string(file.join("model.onnx")).unwrap_or_default();
        let file: Value = serde_json::from_str(&file).unwrap_or_default();
        let generation = &told["outputs"]["generation"][0];
        if answer.status != 200 || file["generation"] != *generation {
            let text = answer.text();
            self.books.violation(format!(
                "{model} was loaded as {file} and answers {}: {text}",
                answer.status
            ));
        }
    }

    fn order(&self, verb: &str, model: &str) {
        let path = format!("/v2/repository/models/{model}/{verb}");
        let before = self.empty_listings();
        let answer = self.server.ask(&Request::post(&path, "{}"));
        let was_told_all = self.empty_listings() == before;
        let is_documented = match answer.status {
            200 if verb == "load" && was_told_all => {
                self.check_that_it_took_effect(model);
                answer.json() == Value::Object(Default::default())
            }
            200 => answer.json() == Value::Object(Default::default()),
            404 | 501 | 503 => !answer.error().is_empty(),
            504 => answer.error().contains("takes longer than a request may"),
            _ => false,
        };
        if !is_documented {
            let text = answer.text();
            self.books.violation(format!(
                "{path} was answered with {}: {text}",
                answer.status
            ));
        }
    }
}
