//! What does loading new versions cost the requests that another model answers meanwhile: more than its CPU time?
//!
//! The real binary serves iris to four connections in a closed loop, and beside it a recurrent network of some millions of
//! weights, of which a new version is put into the watched repository as soon as the last one serves. Three rounds of three
//! phases that take turns, so that what slows the machine slows all of them: calm; new versions without a pause; and no
//! new version, but a process that burns as much CPU as the loads of that round took. What a load takes of the CPU is
//! measured first, without requests, in the server and in the process that tries the model out. Load and server share the
//! machine. No request may fail. There is no peer: the third phase is what reloading could cost at best.
//!
//! `cargo bench --bench reload`

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::onnx::Recurrent;
use support::{IRIS_BODY, LoadPlan, Process, get, median, pause, post};

const CONNECTIONS: usize = 4;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(10);
/// Loads without requests, from which it is known what one takes.
const LOADS_ALONE: u64 = 3;
const LARGE: Recurrent = Recurrent {
    steps: 32,
    features: 256,
    hidden: 512,
    classes: 10,
};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "burn") {
        let cores = arguments[at + 1].parse().expect("a number of cores");
        return burn(cores);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut repository = Repository::new(folder.path());
    let onnxd = Process::onnxd_with(folder.path(), &[("ONNXD_REPOSITORY__POLL_MS", "100")]);
    let before = onnxd.cpu_seconds();
    for _ in 0..LOADS_ALONE {
        repository.put_next();
        repository.wait_until_served(&onnxd);
    }
    let cpu_of_a_load = (onnxd.cpu_seconds() - before) / LOADS_ALONE as f64;
    let request = post("/predict/iris", IRIS_BODY);
    let rate = || {
        let plan = LoadPlan {
            address: onnxd.address,
            request: &request,
            connections: CONNECTIONS,
            interval: Duration::ZERO,
            time: TIME,
        };
        let answers = plan.run();
        assert!(answers.keys().eq([&200]), "none fails: {answers:?}");
        answers[&200] as f64 / TIME.as_secs_f64()
    };
    let (mut calm, mut reloading, mut burning, mut loads) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        calm.push(rate());
        let first = repository.version;
        reloading.push(repository.keep_changing(&onnxd, &rate));
        let loaded = (repository.version - first) as f64;
        loads.push(loaded);
        let burner = Burner::start(loaded * cpu_of_a_load / TIME.as_secs_f64());
        burning.push(rate());
        drop(burner);
    }
    let ratio = |these: &[f64], those: &[f64]| {
        let ratios = these.iter().zip(those).map(|(this, that)| this / that);
        median(ratios.collect())
    };
    let seconds = TIME.as_secs();
    println!("a load takes            {cpu_of_a_load:>8.2} s of CPU");
    println!("loads in {seconds} s           {:>8.0}", median(loads));
    println!(
        "calm                    {:>8.0} requests/s",
        median(calm.clone())
    );
    println!(
        "while versions load     {:>8.0} requests/s",
        median(reloading.clone())
    );
    println!(
        "while as much is burnt  {:>8.0} requests/s",
        median(burning.clone())
    );
    println!("loading of calm         {:>8.3}", ratio(&reloading, &calm));
    println!("burning of calm         {:>8.3}", ratio(&burning, &calm));
    println!(
        "loading of burning      {:>8.3}",
        ratio(&reloading, &burning)
    );
}

/// The models, one of which is changed again and again.
struct Repository {
    folder: PathBuf,
    file: Vec<u8>,
    version: u64,
}

impl Repository {
    fn new(folder: &Path) -> Repository {
        let iris = folder.join("iris");
        fs::create_dir(&iris).expect("a temporary folder");
        fs::copy("models/iris/2/model.onnx", iris.join("model.onnx")).expect("iris is bundled");
        let mut repository = Repository {
            folder: folder.join("large"),
            file: LARGE.file(),
            version: 0,
        };
        repository.put_next();
        repository
    }

    fn put_next(&mut self) {
        self.version += 1;
        let folder = self.folder.join(self.version.to_string());
        fs::create_dir_all(&folder).expect("a temporary folder");
        let half = folder.join("model.onnx.half");
        fs::write(&half, &self.file).expect("there is space");
        fs::rename(half, folder.join("model.onnx")).expect("a file can be renamed");
    }

    fn is_served(&self, onnxd: &Process) -> bool {
        let served = format!("\"versions\":[\"{}\"]", self.version);
        get(onnxd.address, "/v2/models/large").contains(&served)
    }

    fn wait_until_served(&self, onnxd: &Process) {
        let give_up = Instant::now() + Duration::from_secs(120);
        while !self.is_served(onnxd) {
            assert!(
                Instant::now() < give_up,
                "version {} is not served",
                self.version
            );
            pause(Duration::from_millis(20));
        }
    }

    /// Puts one version after the other, while `measure` runs.
    fn keep_changing(&mut self, onnxd: &Process, measure: &(impl Fn() -> f64 + Sync)) -> f64 {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    self.put_next();
                    self.wait_until_served(onnxd);
                }
            });
            let measured = measure();
            is_over.store(true, Ordering::Relaxed);
            changing.join().expect("every version was served");
            measured
        })
    }
}

/// Burns CPU beside the server until it is dropped.
struct Burner(Child);

impl Burner {
    fn start(cores: f64) -> Burner {
        let own = std::env::current_exe().expect("a running program has a path");
        let cores = cores.to_string();
        let child = Command::new(own).args(["burn", &cores]).spawn();
        Burner(child.expect("the bench starts itself"))
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        // It is ours, and has nothing to finish.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Works for so many cores in slices of 10 ms, until it is killed.
fn burn(cores: f64) {
    let threads = cores.ceil().max(1.0);
    let slice = Duration::from_millis(10);
    let busy = slice.mul_f64((cores / threads).min(1.0));
    std::thread::scope(|scope| {
        for _ in 0..threads as usize {
            scope.spawn(|| {
                loop {
                    let began = Instant::now();
                    while began.elapsed() < busy {
                        std::hint::spin_loop();
                    }
                    pause(slice.saturating_sub(began.elapsed()));
                }
            });
        }
    });
}
