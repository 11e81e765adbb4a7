//! Why a store could not be listed or read, in words that hold nothing secret.

use std::error::Error;
use std::fmt;

/// Answers of servers are quoted no longer than this.
const MOST_CHARS: usize = 500;

/// A reason that may be logged and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    pub fn new(reason: impl Into<String>) -> Failure {
        let reason: String = reason.into();
        Failure(reason.chars().take(MOST_CHARS).collect())
    }

    /// What an error of the library says: its innermost words, without the queries of addresses, where Azure's
    /// signatures are, and of an XML answer the code and the message alone.
    pub fn of(error: &(dyn Error + 'static)) -> Failure {
        Failure::new(without_queries(&without_xml(&words(error))))
    }

    pub fn reason(&self) -> &str {
        &self.0
    }

    /// The same about one object.
    pub fn about(&self, name: &str) -> Failure {
        Failure::new(format!("{name}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Errors of the library repeat their sources; one that does not is continued by its source.
fn words(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        source = cause.source();
    }
    words.replace(['\n', '\r'], " ")
}

fn without_xml(text: &str) -> String {
    let Some(start) = text.find("<?xml").or_else(|| text.find("<Error")) else {
        return text.to_owned();
    };
    let (before, xml) = text.split_at(start);
    let part = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim().to_owned())
    };
    let told: Vec<_> = [part("Code"), part("Message")]
        .into_iter()
        .flatten()
        .collect();
    format!("{before}{}", told.join(": ")).trim_end().to_owned()
}

fn without_queries(text: &str) -> String {
    let hidden = |word: &str| match (word.contains("://"), word.split_once('?')) {
        (true, Some((address, _))) => address.to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_in_addresses_are_not_repeated() {
        let error = std::io::Error::other(
            "Error performing GET https://a.blob.core.windows.net/c?comp=list&sig=hunter2 in 3ms - no",
        );
        assert_eq!(
            Failure::of(&error).reason(),
            "Error performing GET https://a.blob.core.windows.net/c in 3ms - no"
        );
    }

    #[test]
    fn of_an_xml_answer_the_code_and_the_message_are_told() {
        let error = std::io::Error::other(
            "status 403: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>It differs</Message><StringToSign>hunter2</StringToSign></Error>",
        );
        assert_eq!(
            Failure::of(&error).reason(),
            "status 403: SignatureDoesNotMatch: It differs"
        );
    }

    #[test]
    fn long_answers_are_cut() {
        assert_eq!(Failure::new("x".repeat(10_000)).reason().len(), MOST_CHARS);
    }
}
