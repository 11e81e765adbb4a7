//! The mirror over a store in memory. What goes wrong on the way to real stores is in `tests/remote`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use tempfile::TempDir;

use super::*;
use crate::telemetry::metrics::Metrics;

struct Bench {
    store: Arc<InMemory>,
    folder: TempDir,
    config: RemoteConfig,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            store: Arc::new(InMemory::new()),
            folder: tempfile::tempdir().expect("a temporary folder"),
            config: RemoteConfig {
                url: RemoteUrl::parse("s3://bucket/models").expect("valid"),
                cache_path: None,
                cache_bytes: None,
            },
        }
    }

    /// One that looks once, or when it is asked to.
    fn mirror_on_demand(&self) -> Mirror {
        self.mirror().with_second(SecondListing::AtOnce)
    }

    fn mirror(&self) -> Mirror {
        let places = [self.folder.path().to_owned()];
        let metrics = Metrics::new().remote_repository();
        let mut mirror = Mirror::open(&self.config, &places, metrics).expect("the folder is there");
        mirror.begin().expect("the folder is there");
        let inner: Arc<dyn object_store::ObjectStore> = self.store.clone();
        let store = Store::over(inner, &self.config.url, Transport::default());
        mirror.with_store(store.expect("the address is valid"))
    }

    fn put(&self, name: &str, bytes: &str) {
        let path = object_store::path::Path::parse(format!("models/{name}")).expect("valid");
        let payload = PutPayload::from(bytes.as_bytes().to_vec());
        block_on(self.store.put(&path, payload)).expect("memory takes it");
    }

    fn delete(&self, name: &str) {
        let path = object_store::path::Path::parse(format!("models/{name}")).expect("valid");
        block_on(self.store.delete(&path)).expect("it is there");
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(work)
}

fn seen(mirror: &Mirror) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(root, &path, files),
                false => {
                    let name = path.strip_prefix(root).expect("it is inside");
                    let text = fs::read_to_string(&path).expect("it is readable");
                    files.insert(name.display().to_string(), text);
                }
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(&mirror.folder(), &mirror.folder(), &mut files);
    files
}

#[track_caller]
fn check(mirror: &Mirror, expected: &[(&str, &str)]) {
    let expected = expected
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()));
    assert_eq!(seen(mirror), expected.collect());
}

#[test]
fn the_folder_follows_the_store() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    bench.put("m/labels.txt", "a\nb");
    let mut mirror = bench.mirror();
    assert!(!mirror.folder().exists());
    assert!(mirror.refresh().expect("memory answers").has_changed);
    check(
        &mirror,
        &[("m/1/model.onnx", "one"), ("m/labels.txt", "a\nb")],
    );
    assert!(!mirror.refresh().expect("memory answers").has_changed);
    bench.put("m/2/model.onnx", "two");
    bench.put("m/labels.txt", "c");
    assert!(mirror.refresh().expect("memory answers").has_changed);
    let all = [
        ("m/1/model.onnx", "one"),
        ("m/2/model.onnx", "two"),
        ("m/labels.txt", "c"),
    ];
    check(&mirror, &all);
}

#[test]
fn what_is_removed_goes_with_the_second_look() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    bench.put("m/2/model.onnx", "two");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("memory answers");
    bench.delete("m/2/model.onnx");
    assert!(!mirror.refresh().expect("memory answers").has_changed);
    check(
        &mirror,
        &[("m/1/model.onnx", "one"), ("m/2/model.onnx", "two")],
    );
    assert!(mirror.refresh().expect("memory answers").has_changed);
    check(&mirror, &[("m/1/model.onnx", "one")]);
}

#[test]
fn whoever_asks_learns_at_once_what_is_removed() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    bench.put("m/2/model.onnx", "two");
    let mut mirror = bench.mirror_on_demand();
    mirror.refresh().expect("memory answers");
    bench.delete("m/2/model.onnx");
    assert!(mirror.refresh().expect("memory answers").has_changed);
    check(&mirror, &[("m/1/model.onnx", "one")]);
}

#[test]
fn a_version_never_has_a_file_of_the_one_before() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    bench.put("m/1/golden/a.json", "of one");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("memory answers");
    bench.put("m/1/model.onnx", "another");
    bench.delete("m/1/golden/a.json");
    mirror.refresh().expect("memory answers");
    check(&mirror, &[("m/1/model.onnx", "another")]);
}

#[test]
fn what_comes_back_in_between_was_never_removed() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("memory answers");
    for _ in 0..3 {
        bench.delete("m/1/model.onnx");
        mirror.refresh().expect("memory answers");
        check(&mirror, &[("m/1/model.onnx", "one")]);
        bench.put("m/1/model.onnx", "one");
        mirror.refresh().expect("memory answers");
        check(&mirror, &[("m/1/model.onnx", "one")]);
    }
}

#[test]
fn a_start_brings_back_the_cache_and_the_first_look_settles_what_is_gone() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    bench.put("n/1/model.onnx", "n");
    bench.mirror().refresh().expect("memory answers");
    bench.delete("n/1/model.onnx");
    let mut mirror = bench.mirror_on_demand();
    check(
        &mirror,
        &[("m/1/model.onnx", "one"), ("n/1/model.onnx", "n")],
    );
    mirror.refresh().expect("memory answers");
    check(&mirror, &[("m/1/model.onnx", "one")]);
}

#[test]
fn a_broken_copy_is_noticed_and_fetched_anew() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    bench.put("m/2/model.onnx", "two");
    let mirror = bench.mirror();
    let mut first = mirror;
    first.refresh().expect("memory answers");
    let broken = first.folder().join("m/2/model.onnx");
    // As a disk would: the same length, other bytes, and whoever else links to it sees them too.
    let mut permissions = fs::metadata(&broken).expect("it is there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(&broken, permissions).expect("it is ours");
    fs::write(&broken, "tvo").expect("it is ours");
    drop(first);
    let mut mirror = bench.mirror();
    check(&mirror, &[("m/1/model.onnx", "one")]);
    mirror.refresh().expect("memory answers");
    check(
        &mirror,
        &[("m/1/model.onnx", "one"), ("m/2/model.onnx", "two")],
    );
}

#[test]
fn two_servers_on_one_folder_keep_out_of_each_others_way() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    let (mut first, mut second) = (bench.mirror(), bench.mirror());
    assert_ne!(first.folder(), second.folder());
    first.refresh().expect("memory answers");
    bench.put("m/1/model.onnx", "two");
    second.refresh().expect("memory answers");
    check(&first, &[("m/1/model.onnx", "one")]);
    check(&second, &[("m/1/model.onnx", "two")]);
}

#[test]
fn names_that_lead_elsewhere_and_folders_that_are_objects_are_passed_over() {
    let bench = Bench::new();
    bench.put("m", "");
    bench.put("m/1", "");
    bench.put("m/1/model.onnx", "one");
    bench.put("m/1/back\\slash", "x");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("memory answers");
    check(&mirror, &[("m/1/model.onnx", "one")]);
}

#[test]
fn more_than_the_cache_may_take_is_not_fetched() {
    let mut bench = Bench::new();
    bench.config.cache_bytes = Some(4);
    bench.put("m/1/model.onnx", "one");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("it fits");
    bench.put("m/2/model.onnx", "two");
    let problems = mirror.refresh().expect("the store answers").problems;
    assert!(
        problems["m"].contains("repository.cache_bytes"),
        "{problems:?}"
    );
    check(&mirror, &[("m/1/model.onnx", "one")]);
}

#[test]
fn what_is_gone_makes_room_for_what_is_new() {
    let mut bench = Bench::new();
    bench.config.cache_bytes = Some(4);
    bench.put("m/1/model.onnx", "one");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("it fits");
    bench.delete("m/1/model.onnx");
    bench.put("m/2/model.onnx", "two");
    for _ in 0..3 {
        mirror.refresh().expect("the store answers");
    }
    check(&mirror, &[("m/2/model.onnx", "two")]);
}

#[test]
fn what_a_process_that_died_has_left_takes_no_room() {
    let bench = Bench::new();
    bench.put("m/1/model.onnx", "one");
    let mut first = bench.mirror();
    first.refresh().expect("memory answers");
    let blobs = first.folder().with_file_name("blobs");
    fs::write(blobs.join("left"), "half").expect("it is ours");
    drop(first);
    let _second = bench.mirror();
    assert_eq!(fs::read_dir(blobs).expect("it is there").count(), 1);
}

#[test]
fn nothing_is_left_that_nobody_needs() {
    let bench = Bench::new();
    let mut mirror = bench.mirror();
    for text in ["a", "b", "c"] {
        bench.put("m/1/model.onnx", text);
        mirror.refresh().expect("memory answers");
    }
    let cache = mirror.folder().parent().expect("it is inside").to_owned();
    for (folder, expected) in [("blobs", 1), ("models", 1), ("halves", 0)] {
        let entries = fs::read_dir(cache.join(folder)).expect("it is there");
        assert_eq!(entries.count(), expected, "{folder}");
    }
}

#[test]
fn an_address_of_one_file_mirrors_that_file() {
    let mut bench = Bench::new();
    bench.config.url = RemoteUrl::parse("s3://bucket/models/squeeze.onnx").expect("valid");
    bench.put("squeeze.onnx", "s");
    bench.put("other.onnx", "o");
    let mut mirror = bench.mirror();
    mirror.refresh().expect("memory answers");
    check(&mirror, &[("squeeze.onnx", "s")]);
}
