//! `onnxd golden`: records the requests that a version must answer as before, and checks that it does.

mod check;
mod record;
mod requests;
mod target;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Settings, finish};

/// Record the requests that a version must answer as before, and check that it does.
#[derive(Debug, Args)]
pub struct Golden {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write golden requests with the answers of an ONNX file, or of a running server
    Record(record::Record),
    /// Replay the golden requests beside a model; exits 0 if every version answers as expected
    Check(check::Check),
}

impl Golden {
    /// Carries the command out, by the settings of the process.
    pub fn run(self) -> ExitCode {
        let config = match Settings::default().load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        finish(match self.command {
            Command::Record(command) => command.run(&config),
            Command::Check(command) => command.run(&config),
        })
    }
}
