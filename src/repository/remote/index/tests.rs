//! Courses of events, some told and many made up.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> FileName {
    FileName::parse(text).expect("valid")
}

/// The state of an object is a number here, and so are its bytes.
fn identity(state: u8) -> Identity {
    Identity {
        size: u64::from(state),
        etag: Some(format!("\"{state}\"")),
        modified_ms: 0,
    }
}

fn listing(files: &[(&str, u8)]) -> Listing {
    let files = files
        .iter()
        .map(|(file, state)| (name(file), identity(*state)));
    Listing {
        files: files.collect(),
        passed_over: Vec::new(),
    }
}

fn files(files: &[(&str, u8)]) -> Files {
    let entry = |state: u8| Entry {
        identity: identity(state),
        sha256: state.to_string(),
    };
    let files = files
        .iter()
        .map(|(file, state)| (name(file), entry(*state)));
    files.collect()
}

#[test]
fn only_what_is_new_or_changed_is_fetched() {
    let listing = listing(&[
        ("m/1/model.onnx", 1),
        ("m/2/model.onnx", 9),
        ("m/3/model.onnx", 3),
    ]);
    let published = files(&[("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
    let fetch = to_fetch(&listing, &published, &Files::new());
    let fetch: Vec<_> = fetch.keys().map(FileName::as_str).collect();
    assert_eq!(fetch, ["m/2/model.onnx", "m/3/model.onnx"]);
}

#[test]
fn a_version_that_is_not_whole_stays_as_it_was_and_the_others_go_on() {
    let listing = listing(&[("m/1/a", 9), ("m/1/model.onnx", 9), ("m/2/model.onnx", 2)]);
    let published = files(&[("m/1/a", 1), ("m/1/model.onnx", 1)]);
    let fetched = files(&[("m/1/model.onnx", 9), ("m/2/model.onnx", 2)]);
    let next = publish([&listing; 2], &published, &fetched);
    let expected = files(&[("m/1/a", 1), ("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
    assert_eq!(next.files, expected);
    assert_eq!(
        next.incomplete,
        BTreeSet::from([Unit::Version("m".into(), "1".into())])
    );
}

#[test]
fn without_its_own_files_nothing_of_a_model_changes() {
    let listing = listing(&[("m/model.toml", 9), ("m/2/model.onnx", 2)]);
    let fetched = files(&[("m/2/model.onnx", 2)]);
    let next = publish([&listing; 2], &Files::new(), &fetched);
    assert!(next.files.is_empty());
}

#[test]
fn what_one_listing_lacks_stays_as_it_was() {
    let published = files(&[("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
    let whole = listing(&[("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
    let short = listing(&[("m/2/model.onnx", 2)]);
    let after = |last_two| publish(last_two, &published, &Files::new()).files;
    assert_eq!(after([&whole, &short]), published);
    assert_eq!(after([&short, &whole]), published);
    assert_eq!(after([&short, &short]), files(&[("m/2/model.onnx", 2)]));
}

#[test]
fn a_version_is_not_seen_without_what_one_listing_lacks() {
    let fetched = files(&[("m/1/golden/a.json", 1), ("m/1/model.onnx", 1)]);
    let whole = listing(&[("m/1/golden/a.json", 1), ("m/1/model.onnx", 1)]);
    let short = listing(&[("m/1/model.onnx", 1)]);
    let after = |last_two| publish(last_two, &Files::new(), &fetched).files;
    assert_eq!(after([&whole, &short]), Files::new());
    assert_eq!(after([&short, &whole]), Files::new());
    assert_eq!(after([&whole, &whole]), fetched);
}

#[test]
fn a_file_that_became_a_folder_makes_way() {
    let published = files(&[("m/1", 1), ("m/model.onnx", 1)]);
    let listing = listing(&[("m/1/model.onnx", 2), ("m/model.onnx", 1)]);
    let fetched = files(&[("m/1/model.onnx", 2)]);
    let next = publish([&listing; 2], &published, &fetched);
    assert_eq!(
        next.files,
        files(&[("m/1/model.onnx", 2), ("m/model.onnx", 1)])
    );
}

#[test]
fn the_same_etag_is_known_in_each_way_to_write_it() {
    let written = |etag: Option<&str>, modified_ms| Identity {
        size: 1,
        etag: etag.map(str::to_owned),
        modified_ms,
    };
    let listed = written(Some("\"a\""), 1500);
    assert!(listed.is_same_object(&written(Some("a"), 0)));
    assert!(listed.is_same_object(&written(Some("W/\"a\""), 0)));
    assert!(!listed.is_same_object(&written(Some("\"b\""), 1500)));
    assert!(listed.is_same_object(&written(None, 1000)));
    assert!(!listed.is_same_object(&written(None, 2000)));
    assert_eq!(written(Some("W/\"a\""), 0).strong_etag(), None);
    assert_eq!(
        written(Some("a"), 0).strong_etag().as_deref(),
        Some("\"a\"")
    );
}

const NAMES: [&str; 8] = [
    "m/1/model.onnx",
    "m/1/model.onnx.data",
    "m/2/model.onnx",
    "m/model.toml",
    "n/model.onnx",
    "n/labels.txt",
    "repository.toml",
    "train/x",
];

fn some_files() -> impl Strategy<Value = Vec<(&'static str, u8)>> {
    proptest::collection::vec(proptest::option::of(1u8..4), NAMES.len()).prop_map(|states| {
        let named = NAMES.iter().zip(states);
        named
            .filter_map(|(name, state)| Some((*name, state?)))
            .collect()
    })
}

proptest! {
    /// Whatever was listed and fetched: of each unit all is as two listings have it, or all is as it was.
    #[test]
    fn no_unit_is_ever_a_mixture(before in some_files(), listed in some_files(), old in some_files(), new in some_files(), agree in any::<bool>()) {
        let before = listing(if agree { &listed } else { &before });
        let (listing, published, fetched) = (listing(&listed), files(&old), files(&new));
        let next = publish([&before, &listing], &published, &fetched);
        let units: BTreeSet<Unit> = NAMES.iter().map(|text| Unit::of(&name(text))).collect();
        let [before, wanted] = [&before, &listing].map(units::wanted);
        let has = |files: &Files| -> Vec<(FileName, Identity)> {
            files.iter().map(|(name, entry)| (name.clone(), entry.identity.clone())).collect()
        };
        for unit in units {
            let of = |files: Vec<(FileName, Identity)>| -> Vec<_> {
                files.into_iter().filter(|(name, _)| Unit::of(name) == unit).collect()
            };
            let said = |wanted: &BTreeMap<&FileName, &Identity>| {
                of(wanted.iter().map(|(name, identity)| ((*name).clone(), (*identity).clone())).collect())
            };
            let now = of(has(&next.files));
            let is_listed = now == said(&wanted) && now == said(&before);
            prop_assert!(is_listed || now == of(has(&published)), "{unit}: {next:?}");
        }
        for (name, entry) in &next.files {
            let is_known = published.get(name) == Some(entry) || fetched.get(name) == Some(entry);
            prop_assert!(is_known, "{name} comes from nowhere");
        }
    }

    /// Once everything planned is fetched, what is published is what is listed.
    #[test]
    fn what_is_planned_suffices(listed in some_files(), old in some_files()) {
        let (listing, published) = (listing(&listed), files(&old));
        let fetch = to_fetch(&listing, &published, &Files::new());
        let fetched: Files = fetch.into_iter().map(|(name, identity)| {
            let sha256 = identity.size.to_string();
            (name, Entry { identity, sha256 })
        }).collect();
        let next = publish([&listing; 2], &published, &fetched);
        prop_assert!(next.incomplete.is_empty());
        let now: BTreeMap<_, _> = next.files.iter().map(|(name, entry)| (name, &entry.identity)).collect();
        prop_assert_eq!(now, units::wanted(&listing));
    }
}
