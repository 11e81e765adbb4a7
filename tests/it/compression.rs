//! Answers are compressed where it pays, with what the client takes.
