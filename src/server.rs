//! The composition root: builds everything from a configuration, binds, runs, and drains.

mod ports;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::ports::{Core, Listeners, Ports};
use crate::config::load::cache_folders;
use crate::config::{Config, LibraryPath, RepositoryConfig, RepositoryMode};
use crate::engine::{Engines, STACK_BYTES};
use crate::error::{Error, Result};
use crate::in_flight::RequestBudget;
use crate::repository::remote::{Mirror, Pace, Remote, Status};
use crate::repository::store::{Local, Source};
use crate::repository::watch::{Stopper, Watch};
use crate::service::repository::ModelControl;
use crate::service::statistics::triton_counts;
use crate::service::{Service, ServiceSettings};
use crate::serving::board::Board;
use crate::serving::budget::ComputeBudget;
use crate::serving::choosing::{Chooser, Intervals};
use crate::serving::deployment::Machinery;
use crate::serving::knobs::Defaults;
use crate::serving::memory::Ledger;
use crate::serving::orders::{self, Order};
use crate::serving::reconcile::Reconciler;
use crate::serving::registry::Registry;
use crate::serving::trial::Trial;
use crate::shutdown::{self, Phase, ShutdownControl, Stop};
use crate::telemetry::cgroup::Cgroup;
use crate::telemetry::logging::milliseconds;
use crate::telemetry::metrics::Metrics;

/// How often the CPU's use is read.
const CPU_SAMPLE: Duration = Duration::from_secs(1);
/// How long the last answers may take to leave, and the models to be dropped, once everything else is over.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// A server that is bound and not yet running.
pub struct Server {
    ports: Ports,
    reconciler: Reconciler,
    orders: Receiver<Order>,
    /// How often to look for changes, where that is wanted at all.
    watch: Option<Option<Duration>>,
    metrics: Metrics,
    registry: Arc<Registry>,
    onnxruntime: LibraryPath,
    intervals: Intervals,
    control: ShutdownControl,
    drain_delay: Duration,
    request_timeout: Duration,
}

impl Server {
    /// Builds the server on the engines of this machine and binds its address.
    pub async fn build(config: Config, metrics: Metrics) -> Result<Server> {
        let engines = Engines::of_machine(&config.inference.onnxruntime, metrics.plan_cache());
        Server::build_with(config, engines, metrics).await
    }

    /// Builds the server on engines of the caller's.
    pub async fn build_with(config: Config, engines: Engines, metrics: Metrics) -> Result<Server> {
        let Config {
            server,
            limits,
            bodies_in_flight_bytes,
            repository,
            models,
            inference,
            metrics: shown,
            log: _,
        } = config;
        let source = Origin::of(&repository, &metrics)?;
        let listeners = Listeners::bind(&server)?;
        let registry = Arc::new(Registry::default());
        if shown.triton_aliases {
            let registry = Arc::downgrade(&registry);
            metrics.export_as_triton(move || match registry.upgrade() {
                Some(registry) => triton_counts(&registry),
                None => Vec::new(),
            });
        }
        let (control, shutdown) = shutdown::channel();
        let settings = ServiceSettings {
            request_timeout: server.request_timeout,
            require_all: repository.require_all,
            mode: repository.mode,
        };
        let mut service = Service::new(registry.clone(), shutdown.clone(), settings);
        if let Some(status) = &source.remote {
            service = service.with_remote(status.clone());
        }
        let (orders, taken) = orders::channel();
        if repository.mode == RepositoryMode::Explicit {
            let admin_only = server.admin_address.is_some();
            service = service.with_control(ModelControl { orders, admin_only });
        }
        // At least one body must fit.
        let most = bodies_in_flight_bytes.unwrap_or_else(quarter_of_memory);
        let most = most.max(limits.body_bytes);
        let in_flight = RequestBudget::new(most);
        let memory = share_memory(&metrics, &in_flight, most);
        let core = Core {
            service,
            metrics: metrics.clone(),
            shutdown,
            limits,
            in_flight,
        };
        let ports = Ports::new(listeners, &core, &server)?;
        let async_threads = tokio::runtime::Handle::current().metrics().num_workers();
        let budget = Arc::new(ComputeBudget::new(
            inference_threads(inference.threads),
            async_threads,
        ));
        let defaults = Defaults::new(&inference, quarter_of_memory());
        let machinery = Machinery {
            engines,
            engine_rules: inference.engines,
            metrics: metrics.clone(),
            budget,
            memory,
            defaults,
            load_timeout: inference.load_timeout,
            trial: None,
        };
        let reconciler = Reconciler {
            source: source.source,
            models,
            board: Board::new(registry.clone(), metrics.clone()),
            machinery,
            registry: registry.clone(),
        };
        let (drain_delay, request_timeout) = (server.drain_delay, server.request_timeout);
        Ok(Server {
            ports,
            reconciler,
            orders: taken,
            watch: source.watch,
            metrics,
            registry,
            onnxruntime: inference.onnxruntime,
            intervals: Intervals::default(),
            control,
            drain_delay,
            request_timeout,
        })
    }

    /// The same server, which tries models out with this program before it loads them: onnxd itself.
    pub fn with_trial(mut self, program: PathBuf) -> Server {
        self.reconciler.machinery.trial = Some(Trial::new(program, self.onnxruntime.clone()));
        self
    }

    /// The same server, which measures its models at other times.
    pub fn with_intervals(self, intervals: Intervals) -> Server {
        Server { intervals, ..self }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.ports.http.address
    }

    /// The address that it listens on for gRPC, unless that is off.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.ports.grpc.as_ref().map(|port| port.address)
    }

    /// Where health, metrics and control are, if they have an address of their own.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.ports.admin.as_ref().map(|admin| admin.address)
    }

    /// The engines that models may run on.
    pub fn engines(&self) -> &Engines {
        &self.reconciler.machinery.engines
    }

    /// The folder or file that the models come from.
    pub fn repository(&self) -> &Path {
        self.reconciler.source.path()
    }

    /// Loads the models and serves until `stop` resolves, then drains. When it returns, every answer has been sent.
    pub async fn run_until(self, stop: impl Future<Output = Stop>) -> Result<()> {
        let Server {
            ports,
            reconciler,
            orders,
            watch,
            metrics,
            registry,
            intervals,
            control,
            ..
        } = self;
        let mut serving = tokio::spawn(ports.serve());
        let sampler = tokio::spawn(sample_cpu(metrics.clone()));
        let chooser = Chooser::new(&registry, reconciler.machinery.clone(), intervals);
        let watching = start_loader(reconciler, orders, watch)?;
        let chooser = chooser.until(control.watch());
        let (ended, chooser_ended) = oneshot::channel::<()>();
        spawn_thread("chooser", move || {
            chooser.run();
            drop(ended);
        })?;
        let stop = tokio::select! {
            stop = stop => stop,
            // Without it the process would live on and answer nobody; its end lets an orchestrator restart it.
            _ = &mut serving => return Err(Error::internal("the listener ended by itself")),
        };
        // Nothing new is loaded into a server that goes.
        drop(watching);
        let times = DrainTimes {
            delay: stop.drain_delay(self.drain_delay),
            requests: self.request_timeout,
        };
        drain(&control, serving, times).await;
        sampler.abort();
        unload(registry, chooser_ended).await
    }
}

/// Where the models come from.
struct Origin {
    source: Arc<dyn Source>,
    /// How a remote one is.
    remote: Option<Status>,
    /// How often to look for changes, where that is wanted at all.
    watch: Option<Option<Duration>>,
}

impl Origin {
    fn of(repository: &RepositoryConfig, metrics: &Metrics) -> Result<Origin> {
        let is_watched = repository.mode == RepositoryMode::Watch;
        let Some(config) = &repository.remote else {
            return Ok(Origin {
                source: Arc::new(Local::new(repository.path.clone())),
                remote: None,
                watch: is_watched.then_some(repository.poll),
            });
        };
        let mirror = Mirror::open(config, &cache_folders(), metrics.remote_repository())?;
        tracing::info!(url = %config.url, folder = %mirror.folder().display(), "the models are mirrored");
        let pace = match is_watched {
            true => Pace::Every(repository.poll),
            false => Pace::OnDemand,
        };
        let remote = Remote::new(mirror, pace);
        let status = remote.status();
        Ok(Origin {
            source: Arc::new(remote),
            remote: Some(status),
            // It knows itself when to look at the store.
            watch: is_watched.then_some(None),
        })
    }
}

/// Starts to load models. What is watched is watched until what this gives is dropped.
fn start_loader(
    reconciler: Reconciler,
    orders: Receiver<Order>,
    watch: Option<Option<Duration>>,
) -> Result<Option<Stopper>> {
    let Some(interval) = watch else {
        spawn_thread("loader", move || {
            reconciler.run(&orders);
            reconciler.carry_out(orders);
        })?;
        return Ok(None);
    };
    let (watch, stopper) = Watch::new(reconciler.source.clone(), interval)?;
    spawn_thread("loader", move || {
        if let Err(error) = reconciler.follow(watch) {
            tracing::error!(reason = error.chain(), "no model is loaded any more");
        }
    })?;
    Ok(Some(stopper))
}

/// How long each step of a termination may take.
struct DrainTimes {
    delay: Duration,
    requests: Duration,
}

/// The steps of a termination, in the order that `docs/ARCHITECTURE.md` gives reasons for.
async fn drain(control: &ShutdownControl, mut serving: JoinHandle<()>, times: DrainTimes) {
    let DrainTimes { delay, requests } = times;
    tracing::info!(
        delay_ms = milliseconds(delay),
        "draining: not ready any more, still serving"
    );
    control.advance(Phase::Draining);
    tokio::time::sleep(delay).await;
    tracing::info!("closing: finishing requests in flight");
    control.advance(Phase::Closing);
    tokio::select! {
        _ = &mut serving => return,
        () = tokio::time::sleep(requests) => {
            tracing::warn!("ending: requests are still in flight, they are answered with 503");
            control.advance(Phase::Ending);
            if tokio::time::timeout(LAST_GRACE, &mut serving).await.is_ok() {
                return;
            }
            tracing::warn!("connections are still open and are cut off");
        }
    }
    serving.abort();
}

/// Drops the models, whose workers are joined; an engine that does not return is left behind.
async fn unload(registry: Arc<Registry>, chooser_ended: oneshot::Receiver<()>) -> Result<()> {
    // It ends with its current run; an error is its end.
    if tokio::time::timeout(LAST_GRACE, chooser_ended)
        .await
        .is_err()
    {
        tracing::warn!("an engine is still being measured and is left behind");
    }
    let (done, dropped) = oneshot::channel();
    spawn_thread("unloader", move || {
        registry.update(|table| table.models.clear());
        // Nobody waits any more if the grace was too short.
        let _ = done.send(());
    })?;
    if tokio::time::timeout(LAST_GRACE, dropped).await.is_err() {
        tracing::warn!("a model is still running and is left behind");
    }
    tracing::info!("stopped");
    Ok(())
}

/// A thread of its own: the async runtime would wait for it at its end.
fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work);
    spawned
        .map(|_| ())
        .map_err(|error| Error::internal("a thread did not start").with_source(error))
}

async fn sample_cpu(metrics: Metrics) {
    let mut ticks = tokio::time::interval(CPU_SAMPLE);
    loop {
        ticks.tick().await;
        metrics.sample_cpu(Instant::now());
    }
}

/// The ledger of the memory, in which the requests have their part, shown by the metrics.
fn share_memory(metrics: &Metrics, in_flight: &RequestBudget, most: usize) -> Arc<Ledger> {
    let taken = {
        let in_flight = in_flight.clone();
        move || in_flight.taken()
    };
    metrics.show_in_flight(taken.clone(), most);
    let memory = Ledger::of_machine(most as u64, Box::new(move || taken() as u64));
    let (read, free) = (memory.clone(), memory.clone());
    metrics.show_memory(move || read.readings(), move || free.free_bytes());
    memory
}

/// A quarter of what the control group may take.
fn quarter_of_memory() -> usize {
    let limit = Cgroup::of_process()
        .as_ref()
        .and_then(Cgroup::memory_limit_bytes)
        .and_then(|bytes| usize::try_from(bytes).ok());
    limit.map_or(1 << 30, |bytes| bytes / 4)
}

/// As many threads as were asked for, else as the CPU quota gives, rounded up, else as there are CPUs.
pub fn inference_threads(configured: Option<usize>) -> usize {
    let quota = Cgroup::of_process()
        .as_ref()
        .and_then(Cgroup::cpu_quota_cores);
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
    configured.unwrap_or_else(|| quota.map_or(cpus, |cores| (cores.ceil() as usize).max(1)))
}
