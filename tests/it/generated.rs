//! The committed code of the gRPC face is what its `.proto` says. `UPDATE=1 cargo test --test it generated` writes it
//! anew.

use std::fs;
use std::path::Path;

use protox::Compiler;

use crate::support::in_repository;

const HEADER: &str = "//! Generated from `inference.proto`; `tests/it/generated.rs` says how.\n\n";

fn compiled(with_comments: bool) -> Compiler {
    let mut compiler = Compiler::new([in_repository("src/grpc")]).expect("the folder is there");
    compiler.include_source_info(with_comments);
    let file = in_repository("src/grpc/inference.proto");
    compiler.open_file(file).expect("the file is well formed");
    compiler
}

fn generated_code() -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .codec_path("crate::grpc::codec::InferenceCodec")
        .out_dir(folder.path())
        .compile_fds(compiled(true).file_descriptor_set())
        .expect("the file has a meaning");
    let code = fs::read_to_string(folder.path().join("inference.rs"));
    format!("{HEADER}{}", code.expect("it was just written"))
}

#[track_caller]
fn check(path: &str, generated: &[u8]) {
    let path = in_repository(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, generated).expect("the sources can be written");
    }
    let is_current = fs::read(&path).is_ok_and(|committed| committed == generated);
    assert!(is_current, "{} is not current", name(&path));
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[test]
fn generated_code_is_current() {
    check("src/grpc/inference.rs", generated_code().as_bytes());
}

#[test]
fn generated_descriptors_are_current() {
    let descriptors = compiled(false).encode_file_descriptor_set();
    check("src/grpc/inference.fds", &descriptors);
}
