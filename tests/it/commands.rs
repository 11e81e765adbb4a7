//! The command line of the real binary: help, exit codes, and the configuration that it prints.

use expect_test::{Expect, expect};

use crate::support::process::{Finished, Onnxd};

#[test]
fn help_says_what_there_is() {
    let mut text = String::new();
    for command in [
        "",
        "serve",
        "inspect",
        "predict",
        "golden",
        "golden record",
        "golden check",
        "health",
        "config",
    ] {
        let arguments = command.split_whitespace().chain(["--help"]);
        text += &format!("> onnxd {command}\n{}\n", Onnxd::new(arguments).run().ok());
    }
    expect![[r#"
        > onnxd 
        Serve ONNX models over HTTP. Without a command: serve

        Usage: onnxd [OPTIONS]
               onnxd <COMMAND>

        Commands:
          serve    Load a model repository and serve it
          inspect  Print what a model takes and gives, which engine would serve it, and an example request
          predict  Run one request against a model, without a server
          golden   Record the requests that a version must answer as before, and check that it does
          health   Ask a running server whether it is ready; exits 0 if so
          config   Print the effective configuration and where each value comes from
          help     Print this message or the help of the given subcommand(s)

        Options:
              --config <FILE>     Configuration file: TOML, YAML or JSON [default: onnxd.toml, if it is there]
              --address <IP>      IP address to listen on
              --port <PORT>       HTTP port; 0 lets the system choose one
              --grpc-port <PORT>  gRPC port; 0 lets the system choose one, `off` serves no gRPC
              --models <PATH>     Model repository: a folder of models, or one .onnx file
          -h, --help              Print help
          -V, --version           Print version

        > onnxd serve
        Load a model repository and serve it

        Usage: onnxd serve [OPTIONS]

        Options:
              --config <FILE>     Configuration file: TOML, YAML or JSON [default: onnxd.toml, if it is there]
              --address <IP>      IP address to listen on
              --port <PORT>       HTTP port; 0 lets the system choose one
              --grpc-port <PORT>  gRPC port; 0 lets the system choose one, `off` serves no gRPC
              --models <PATH>     Model repository: a folder of models, or one .onnx file
          -h, --help              Print help

        > onnxd inspect
        Print what a model takes and gives, which engine would serve it, and an example request

        Usage: onnxd inspect [OPTIONS] <MODEL>

        Arguments:
          <MODEL>  An ONNX file

        Options:
              --json     Print one JSON object
              --engines  Measure every engine, and print what is held of each
              --measure  Measure what rows cost alone and in batches, and print what the server would choose
              --example  Print the example request alone, ready to be sent
          -h, --help     Print help

        > onnxd predict
        Run one request against a model, without a server

        Usage: onnxd predict [OPTIONS] --input <FILE> <MODEL>

        Arguments:
          <MODEL>  An ONNX file

        Options:
              --input <FILE>   The request, in any style that /predict takes; - reads standard input
              --engine <NAME>  The engine to run it on; auto takes the first that may serve [default: inference.engine, which is auto]
              --json           Print the answer as the server would send it
          -h, --help           Print help

        > onnxd golden
        Record the requests that a version must answer as before, and check that it does

        Usage: onnxd golden <COMMAND>

        Commands:
          record  Write golden requests with the answers of an ONNX file, or of a running server
          check   Replay the golden requests beside a model; exits 0 if every version answers as expected
          help    Print this message or the help of the given subcommand(s)

        Options:
          -h, --help  Print help

        > onnxd golden record
        Write golden requests with the answers of an ONNX file, or of a running server

        Usage: onnxd golden record [OPTIONS] [ONNX_FILE]

        Arguments:
          [ONNX_FILE]  An ONNX file, to be run on the engine that would serve it first

        Options:
              --url <URL>                  A running server, such as http://127.0.0.1:8000
              --model <MODEL>              The server's model
              --version <VERSION>          The model's version [default: the one that the server means without it]
              --requests <FILE_OR_FOLDER>  Requests in any JSON style that /predict takes, or golden requests: a file of one or several, or a folder of such files
              --made-up <N>                Make up so many requests [default: 4, where no requests are given]
              --out <FOLDER>               Where to write them [default: the folder golden beside a file that is called model.onnx]
              --force                      Overwrite golden requests of the same names
          -h, --help                       Print help

        > onnxd golden check
        Replay the golden requests beside a model; exits 0 if every version answers as expected

        Usage: onnxd golden check <MODEL_FOLDER>

        Arguments:
          <MODEL_FOLDER>  A model's folder: with model.onnx, or with version folders

        Options:
          -h, --help  Print help

        > onnxd health
        Ask a running server whether it is ready; exits 0 if so

        Usage: onnxd health [OPTIONS] [URL]

        Arguments:
          [URL]  What to ask [default: /health/ready on this machine, at the configured port]

        Options:
              --config <FILE>     Configuration file: TOML, YAML or JSON [default: onnxd.toml, if it is there]
              --address <IP>      IP address to listen on
              --port <PORT>       HTTP port; 0 lets the system choose one
              --grpc-port <PORT>  gRPC port; 0 lets the system choose one, `off` serves no gRPC
              --models <PATH>     Model repository: a folder of models, or one .onnx file
          -h, --help              Print help

        > onnxd config
        Print the effective configuration and where each value comes from

        Usage: onnxd config [OPTIONS]

        Options:
              --config <FILE>     Configuration file: TOML, YAML or JSON [default: onnxd.toml, if it is there]
              --address <IP>      IP address to listen on
              --port <PORT>       HTTP port; 0 lets the system choose one
              --grpc-port <PORT>  gRPC port; 0 lets the system choose one, `off` serves no gRPC
              --models <PATH>     Model repository: a folder of models, or one .onnx file
          -h, --help              Print help

    "#]].assert_eq(&text);
}

#[test]
fn version_is_the_packages() {
    let expected = format!("onnxd {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(Onnxd::new(["--version"]).run().ok(), expected);
}

#[test]
fn an_unknown_flag_or_command_is_named() {
    for arguments in [
        ["serve", "--colour"],
        ["paint", "iris"],
        ["inspect", "--models"],
    ] {
        let finished = Onnxd::new(arguments).run();
        assert_ne!(finished.code, Some(0));
        let named = arguments
            .iter()
            .any(|argument| finished.stderr.contains(argument));
        assert!(named, "{finished:?}");
    }
}

#[track_caller]
fn check_refused(finished: &Finished, expected: &Expect) {
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(64), ""),
        "{finished:?}"
    );
    expected.assert_eq(&finished.stderr);
}

#[test]
fn bad_settings_are_all_told_and_exit_64() {
    let run = |command| {
        Onnxd::new([command, "--port", "web", "--address", "here"])
            .file(
                "onnxd.toml",
                "[log]\nformat = \"xml\"\n[server]\ncolour = \"red\"",
            )
            .with("ONNXD_LIMITS__JSON_DEPTH", "1000")
            .with("ONNXD_SERVER_PORT", "1")
            .with("MODEL_VERSION", "latest")
            .run()
    };
    let serve = run("serve");
    check_refused(
        &serve,
        &expect![[r#"
            onnxd: the configuration is not valid:
              unknown key server.colour (onnxd.toml)
              unknown key server_port (environment variable ONNXD_SERVER_PORT); did you mean server.port (ONNXD_SERVER__PORT)?
              server.address: expected an IP address such as 0.0.0.0, got 'here' (flag --address)
              server.port: expected a port from 0 to 65535, got 'web' (flag --port)
              limits.json_depth: expected a whole number from 2 to 100, got '1000' (environment variable ONNXD_LIMITS__JSON_DEPTH)
              models.version: expected a version such as 2 or v2, got 'latest' (environment variable MODEL_VERSION)
              log.format: expected auto, pretty or json, got 'xml' (onnxd.toml)
        "#]],
    );
    for command in ["config", "health"] {
        let other = run(command);
        assert_eq!((other.code, other.stderr), (Some(64), serve.stderr.clone()));
    }
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let finished = Onnxd::new(["--config", "nowhere.toml"]).run();
    check_refused(
        &finished,
        &expect![[r#"
            onnxd: the configuration is not valid:
              configuration file "nowhere.toml" not found
        "#]],
    );
}

#[test]
fn the_configuration_is_printed_as_a_file_that_gives_the_same() {
    let values = |text: &str| {
        let values = text
            .lines()
            .map(|line| line.split("  # ").next().unwrap_or_default().to_owned());
        values.collect::<Vec<_>>()
    };
    let printed = Onnxd::new([
        "config",
        "--port",
        "5000",
        "--models",
        "my \"models\"\\here",
    ])
    .with(
        "ONNXD_SERVER__CORS_ORIGINS",
        "https://a.example,https://b.example",
    )
    .with("ONNXD_SERVER__ADMIN_ADDRESS", "127.0.0.1:9000")
    .with("ONNXD_SERVER__HEALTH_ROUTE", "/healthz")
    .with("ONNXD_SERVER__PREDICT_ROUTE", "/score")
    .with("ONNXD_LIMITS__BODY_BYTES", "1MiB")
    .with("ONNXD_REPOSITORY__REQUIRE_ALL", "false")
    .with("MODEL_VERSION", "v2")
    .with("RUST_LOG", "info,onnxd=debug")
    .run();
    let again = Onnxd::new(["config"])
        .file("onnxd.toml", printed.ok())
        .run();
    assert_eq!(values(again.ok()), values(printed.ok()));
    let has_no_value = |line: &str| line.starts_with("# ") && line.ends_with(" = \"\"  # default");
    let from_elsewhere: Vec<_> = again
        .stdout
        .lines()
        .filter(|line| line.contains("  # ") && !line.ends_with("  # onnxd.toml"))
        .filter(|line| !has_no_value(line))
        .collect();
    assert_eq!(from_elsewhere, [""; 0], "all but what has no value");
}

#[test]
fn numbers_with_leading_zeros_survive_as_well() {
    let printed = Onnxd::new(["config", "--port", "08000"])
        .with("MODEL_VERSION", "007")
        .run();
    let again = Onnxd::new(["config"])
        .file("onnxd.toml", printed.ok())
        .run();
    again.ok();
}

#[test]
fn the_configuration_says_where_each_value_comes_from() {
    let printed = Onnxd::new(["config", "--port", "5000"])
        .file("onnxd.toml", "[log]\nformat = \"json\"")
        .with("ONNXD_INFERENCE__THREADS", "2")
        .with("MODEL_VERSION", "2")
        .run();
    for line in [
        "port = 5000  # flag --port",
        "format = \"json\"  # onnxd.toml",
        "threads = 2  # environment variable ONNXD_INFERENCE__THREADS",
        "version = 2  # environment variable MODEL_VERSION",
        "queue_rows = 1024  # default",
        "# default = \"\"  # default",
    ] {
        assert!(
            printed.ok().lines().any(|found| found == line),
            "{line}: {}",
            printed.stdout
        );
    }
}
