//! Everything at once under random faults: every request gets exactly one right answer or one documented error.
//!
//! A server in this process serves models whose answers only their own input and their own file can give, while engines
//! panic, fail and lie, versions come, change and go on disk, some of them bad, and clients burst, leave, hurry and write
//! nonsense. Its models are in a folder, and then in a store whose answers are cut off, late, damaged, empty or not there.
//! At the end what is in the repository is what is served, nothing is in flight, the metrics add up with what the clients
//! saw, and the server ends.
//!
//! `ONNXD_CHAOS_SECONDS` says for how long (3 unless it is set), `ONNXD_CHAOS_SEED` repeats a run as far as threads allow.

#[path = "chaos/books.rs"]
mod books;
#[path = "chaos/client.rs"]
mod client;
#[path = "chaos/disk.rs"]
mod disk;
#[path = "chaos/engine.rs"]
mod engine;
#[path = "chaos/random.rs"]
mod random;
#[path = "chaos/server.rs"]
mod server;
#[path = "chaos/store.rs"]
mod store;
#[path = "chaos/support.rs"]
mod support;
#[path = "chaos/weather.rs"]
mod weather;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use books::Books;
use client::Client;
use disk::Disk;
use random::Random;
use server::{ChaosServer, Place};
use weather::Fault;

/// How long it lasts where nobody says otherwise: long enough to see that all of it works.
const SECONDS: u64 = 3;
/// Clients that are at it at the same time.
const CLIENTS: u64 = 12;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a whole number"))
}

fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is past 1970").as_millis() as u64
}

#[test]
fn every_request_gets_one_right_answer_or_one_documented_error() {
    let seed = variable("ONNXD_CHAOS_SEED").unwrap_or_else(seed_of_the_clock);
    let seconds = variable("ONNXD_CHAOS_SECONDS").unwrap_or(SECONDS);
    println!("ONNXD_CHAOS_SEED={seed} ONNXD_CHAOS_SECONDS={seconds}");
    let part = Duration::from_secs(seconds) / 4;
    let mut met = BTreeMap::<Fault, u64>::new();
    for mode in ["explicit", "watch"] {
        round(Random::new(seed), mode, Place::Folder, part);
        let store = Place::Store {
            longest_fault: part / 4,
        };
        for (fault, times) in round(Random::new(seed), mode, store, part) {
            *met.entry(fault).or_default() += times;
        }
    }
    println!("the store's faults: {met:?}");
    let is_unmet = met.values().any(|times| *times == 0);
    assert!(seconds < 60 || !is_unmet, "some fault was never met");
}

/// Everything at once for so long, on a server of its own. It gives how often each fault of a store was met.
fn round(
    mut random: Random,
    mode: &'static str,
    place: Place,
    duration: Duration,
) -> BTreeMap<Fault, u64> {
    let books = Arc::new(Books::default());
    let server = ChaosServer::start(&books, random.split(), mode, place);
    let store = server.store.as_ref();
    if let Some(store) = store {
        store.weather().worsen();
    }
    let is_over = AtomicBool::new(false);
    let until = Instant::now() + duration;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = Client::new(&server, &books, random.split());
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    client.act();
                }
            });
        }
        let mut disk = Disk::new(&server, &books, random.split());
        let is_over_for_disk = &is_over;
        scope.spawn(move || {
            while !is_over_for_disk.load(Ordering::Relaxed) {
                disk.act();
            }
        });
        while Instant::now() < until && books.violations().is_empty() {
            thread::sleep(Duration::from_millis(50));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let met = store.map(|store| {
        let mut weather = store.weather();
        weather.clear_up();
        weather.met().clone()
    });
    let told = books.summary();
    println!("{mode}, {place:?}: {told}");
    let check = || {
        let violations = books.violations();
        assert!(violations.is_empty(), "{mode}, {place:?}: {violations:#?}");
    };
    check();
    Disk::new(&server, &books, random.split()).settle();
    check();
    server.check_the_mirror();
    server.check_the_end(&books);
    books.check_that_the_sound_are_spared();
    books.check_that_all_was_seen(duration);
    met.unwrap_or_default()
}
