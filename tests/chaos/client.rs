//! A client: it sends what it likes, leaves when it likes, and checks every answer that it gets.

use serde_json::{Value, json};

use super::books::Books;
use super::disk::{CHANGING, COUNTED, LABEL, STEADY, VERSIONS};
use super::engine::{LEAST_SENT, function, is_poison};
use super::random::Random;
use super::server::{BODY_BYTES, ChaosServer, QUEUE_ROWS};
use super::support::client::{Answer, Connection, Request};

/// So many connections at once are a burst.
const BURST: usize = 24;

pub struct Client<'a> {
    server: &'a ChaosServer,
    books: &'a Books,
    random: Random,
    /// Kept over requests: an answer too many would be taken for the next one's.
    connection: Option<Connection>,
}

/// A request and what may come of it.
struct Sent {
    model: &'static str,
    version: Asked,
    rows: Vec<i64>,
    kind: Kind,
    request: Request,
}

/// Which version a request names.
#[derive(Debug, Clone, Copy)]
enum Asked {
    None,
    Number(u64),
    /// By the label that moves between versions.
    Labelled,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Sound,
    /// One of its rows breaks the engine.
    Poisoned,
    /// It may be too late.
    Hurried,
    /// It has more rows than may wait.
    TooManyRows,
    /// Its body is too large.
    TooLarge,
    Malformed,
}

impl<'a> Client<'a> {
    pub fn new(server: &'a ChaosServer, books: &'a Books, random: Random) -> Client<'a> {
        Client {
            server,
            books,
            random,
            connection: None,
        }
    }

    /// One request, or many at once.
    pub fn act(&mut self) {
        match self.random.below(40) {
            0 => self.burst(),
            1..4 => self.leave(),
            _ => self.ask(),
        }
    }

    fn ask(&mut self) {
        let model = self.model();
        let sent = self.make(model);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open(),
        };
        connection.send(&sent.request);
        let answer = connection.answer();
        if answer.header("connection") != Some("close") && sent.kind != Kind::TooLarge {
            self.connection = Some(connection);
        }
        self.check(&sent, &answer);
    }

    fn open(&self) -> Connection {
        Connection::open(self.server.address).expect("the server accepts")
    }

    fn burst(&mut self) {
        let mut asked = Vec::new();
        for _ in 0..BURST {
            let model = self.model();
            let sent = self.make(model);
            let mut connection = self.open();
            connection.send(&sent.request);
            asked.push((sent, connection));
        }
        for (sent, mut connection) in asked {
            let answer = connection.answer();
            self.check(&sent, &answer);
        }
    }

    /// Goes away before the answer.
    fn leave(&mut self) {
        let model = match self.model() {
            COUNTED => STEADY,
            model => model,
        };
        let sent = self.make(model);
        let mut connection = self.open();
        connection.send(&sent.request);
        if self.random.one_in(2) {
            std::thread::sleep(std::time::Duration::from_micros(self.random.below(3000)));
        }
        self.books.unsure(sent.model);
    }

    fn model(&mut self) -> &'static str {
        match self.random.below(4) {
            0 => STEADY,
            1 => COUNTED,
            _ => self.random.pick(&CHANGING),
        }
    }

    fn make(&mut self, model: &'static str) -> Sent {
        let version = match (model, self.random.below(6)) {
            (STEADY | COUNTED, 0 | 1) => Asked::Number(1),
            (STEADY | COUNTED, _) => Asked::None,
            (_, 0 | 1) => Asked::Number(1 + self.random.below(VERSIONS)),
            (_, 2) => Asked::Labelled,
            _ => Asked::None,
        };
        let kind = match self.random.below(30) {
            0 => Kind::Poisoned,
            1 | 2 => Kind::Hurried,
            3 => Kind::TooManyRows,
            // Nobody knows for which model it was refused.
            4 if model != COUNTED => Kind::TooLarge,
            5 => Kind::Malformed,
            _ => Kind::Sound,
        };
        let count = match kind {
            Kind::TooManyRows => QUEUE_ROWS as u64 + 1 + self.random.below(20),
            _ if self.random.one_in(4) => 1 + self.random.below(QUEUE_ROWS as u64 / 2),
            _ => 1,
        };
        let mut rows: Vec<i64> = (0..count).map(|_| self.row()).collect();
        if kind == Kind::Poisoned {
            let at = self.random.below(count) as usize;
            rows[at] -= rows[at].rem_euclid(1000) - 13;
        }
        let request = self.request(model, version, &rows, kind);
        Sent {
            model,
            version,
            rows,
            kind,
            request,
        }
    }

    /// A number that nobody else sends, and no poison.
    fn row(&mut self) -> i64 {
        loop {
            let row = LEAST_SENT + 1000 + (self.random.next() >> 20) as i64;
            if !is_poison(row) {
                return row;
            }
        }
    }

    fn request(&mut self, model: &str, version: Asked, rows: &[i64], kind: Kind) -> Request {
        let versioned = |path: String, before: &str| match version {
            Asked::Number(version) => format!("{path}{before}{version}"),
            Asked::Labelled => format!("{path}{before}{LABEL}"),
            Asked::None => path,
        };
        let mut parameters = json!({});
        if kind == Kind::Hurried {
            parameters["timeout"] = (1 + self.random.below(3000)).into();
        }
        if self.random.one_in(4) {
            parameters["priority"] = self.random.below(3).into();
        }
        let (path, mut body) = match kind == Kind::Hurried || self.random.one_in(2) {
            true => (
                format!(
                    "{}/infer",
                    versioned(format!("/v2/models/{model}"), "/versions/")
                ),
                json!({
                    "inputs": [{ "name": "x", "datatype": "INT64", "shape": [rows.len()], "data": rows }],
                    "parameters": parameters,
                }),
            ),
            false => (
                versioned(format!("/predict/{model}"), "/"),
                json!({ "inputs": { "x": rows } }),
            ),
        };
        match kind {
            Kind::Malformed => {
                let wrong = [json!([1.5]), json!("x"), json!([[1], [2, 3]]), json!(null)];
                let at = self.random.below(wrong.len() as u64) as usize;
                body["inputs"] = wrong[at].clone();
            }
            Kind::TooLarge => body["id"] = "x".repeat(BODY_BYTES).into(),
            _ => {}
        }
        Request::post(&path, body.to_string())
    }

    fn check(&self, sent: &Sent, answer: &Answer) {
        let Sent { model, kind, .. } = sent;
        match (kind, answer.status) {
            // It may have been refused before anybody asked which model it is for.
            (Kind::TooLarge, _) => self.books.unsure(model),
            (_, 503) => {
                self.books.unsure(model);
                self.books.saw(model, 503);
            }
            (_, status) => self.books.saw(model, status),
        }
        if *kind == Kind::Sound {
            self.books.saw_of_sound(answer.status);
        }
        let wrong = match answer.status {
            200 => wrong_answer(sent, &answer.json(), self.books),
            _ => wrong_error(sent, answer),
        };
        if let Some(wrong) = wrong {
            let (path, text) = (sent.request.parts().1, answer.text());
            self.books.violation(format!(
                "{wrong}: {path} of {} rows ({kind:?}) was answered with {}: {}",
                sent.rows.len(),
                answer.status,
                text.chars().take(400).collect::<String>()
            ));
        }
    }
}

/// What is wrong with an answer: every row must be what its own input gives in the file of the version that answered.
fn wrong_answer(sent: &Sent, answer: &Value, books: &Books) -> Option<String> {
    if matches!(sent.kind, Kind::Poisoned | Kind::TooLarge | Kind::Malformed) {
        return Some("it cannot have run".to_owned());
    }
    let output = |name: &str| -> Option<Vec<i64>> {
        let outputs = &answer["outputs"];
        let list = match outputs.as_array() {
            Some(tensors) => &tensors.iter().find(|tensor| tensor["name"] == name)?["data"],
            None => &outputs[name],
        };
        list.as_array()?.iter().map(Value::as_i64).collect()
    };
    let (Some(y), Some(generations)) = (output("y"), output("generation")) else {
        return Some("an output is missing".to_owned());
    };
    if y.len() != sent.rows.len() || generations.len() != sent.rows.len() {
        return Some("it has another number of rows".to_owned());
    }
    let generation = generations[0];
    if generations.iter().any(|other| *other != generation) {
        return Some("its rows come from several files".to_owned());
    }
    let Some(written) = books.written(generation) else {
        return Some("it comes from a file that nobody wrote".to_owned());
    };
    let version = written.version.to_string();
    if answer["model_name"] != sent.model
        || written.model != sent.model
        || answer["model_version"] != version.as_str()
        || matches!(sent.version, Asked::Number(asked) if asked != written.version)
    {
        return Some(format!("it comes from another version: {written:?}"));
    }
    if !written.is_good {
        return Some(format!("a bad file answered: {written:?}"));
    }
    let expected: Vec<_> = sent.rows.iter().map(|x| function(generation, *x)).collect();
    (y != expected).then(|| format!("expected {expected:?}"))
}

/// What is wrong with an error: only some can come of a request, each in its own words.
fn wrong_error(sent: &Sent, answer: &Answer) -> Option<String> {
    let Sent { model, kind, .. } = sent;
    let message = answer.error();
    let may_be_missing = CHANGING.contains(model);
    let is_documented = match answer.status {
        400 => *kind == Kind::Malformed,
        404 => {
            may_be_missing && (message.contains("model '") || message.contains("has no version"))
        }
        413 => matches!(kind, Kind::TooLarge | Kind::TooManyRows),
        // Where there is no place, nobody reads what is malformed.
        429 => *kind != Kind::TooLarge && answer.header("retry-after").is_some(),
        500 => {
            !matches!(kind, Kind::Malformed | Kind::TooLarge)
                && message.starts_with("the model failed while running")
        }
        501 | 503 => may_be_missing && is_of_a_model(&message),

        504 => *kind == Kind::Hurried && message.contains("deadline"),
        _ => false,
    };
    (!is_documented).then(|| "this error is not documented".to_owned())
}

/// Why a model that is there cannot answer.
fn is_of_a_model(message: &str) -> bool {
    let reasons = [
        "is being loaded; try again",
        "is not served: ",
        "failed to load: ",
        "is being unloaded",
        "cannot be loaded: ",
    ];
    message.starts_with("model '") && reasons.iter().any(|reason| message.contains(reason))
}
