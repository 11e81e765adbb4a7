//! The command line: one command a file, and the rules that all share for settings, output and exit codes.

mod client;
pub mod config;
mod examination;
pub mod golden;
pub mod health;
pub mod inspect;
pub mod predict;
pub mod serve;
pub mod try_load;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::allocator;
use crate::config::Config;
use crate::config::load::Sources;
use crate::serving::trial;
use crate::telemetry::process;

/// The configuration is not valid (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Serve ONNX models over HTTP. Without a command: serve.
#[derive(Debug, Parser)]
#[command(name = "onnxd", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a model repository and serve it
    Serve(Settings),
    /// Print what a model takes and gives, which engine would serve it, and an example request
    Inspect(inspect::Inspect),
    /// Run one request against a model, without a server
    Predict(predict::Predict),
    /// Record the requests that a version must answer as before, and check that it does
    Golden(golden::Golden),
    /// Ask a running server whether it is ready; exits 0 if so
    Health(health::Health),
    /// Print the effective configuration and where each value comes from
    Config(Settings),
    #[command(name = trial::COMMAND, hide = true)]
    TryLoad(try_load::TryLoad),
}

/// The settings that have a flag; all others come from the file or the environment.
#[derive(Debug, Default, Args)]
pub struct Settings {
    /// Configuration file: TOML, YAML or JSON [default: onnxd.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// IP address to listen on
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// HTTP port; 0 lets the system choose one
    #[arg(long)]
    port: Option<String>,
    /// gRPC port; 0 lets the system choose one, `off` serves no gRPC
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<String>,
    /// Model repository: a folder of models, or one .onnx file
    #[arg(long, value_name = "PATH")]
    models: Option<String>,
}

impl Settings {
    fn sources(self) -> Sources {
        let Settings {
            config,
            address,
            port,
            grpc_port,
            models,
        } = self;
        let flags = [
            ("server.address", address),
            ("server.port", port),
            ("server.grpc_port", grpc_port),
            ("repository.path", models),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        Sources::of_process(config, flags.collect())
    }

    /// The checked configuration, or the exit code after every problem was printed.
    fn load(self) -> Result<Config, ExitCode> {
        Config::load(&self.sources()).map_err(|problems| report_problems(&problems))
    }
}

/// How much of the memory that there is the large allocations may take, in tenths; the rest is for small ones.
const LARGE_TENTHS: usize = 9;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    allocator::keep_little();
    let memory = process::total_bytes().and_then(|bytes| usize::try_from(bytes).ok());
    if let Some(bytes) = memory {
        allocator::set_limit(bytes / 10 * LARGE_TENTHS);
    }
    let CommandLine { command, settings } = CommandLine::parse();
    match command.unwrap_or(Command::Serve(settings)) {
        Command::Serve(settings) => serve::run(settings),
        Command::Inspect(command) => command.run(),
        Command::Predict(command) => command.run(),
        Command::Golden(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Config(settings) => config::run(settings),
        Command::TryLoad(command) => command.run(),
    }
}

fn report_problems(problems: &[String]) -> ExitCode {
    eprintln!("onnxd: the configuration is not valid:");
    for problem in problems {
        eprintln!("  {problem}");
    }
    ExitCode::from(EXIT_USAGE)
}

/// Ends a command with what went wrong.
fn finish(result: crate::error::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onnxd: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}
