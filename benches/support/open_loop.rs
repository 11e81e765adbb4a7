//! A load that does not wait for its answers: every request is due at a moment that was fixed before, and its latency
//! counts from then, so that a server which falls behind cannot hide it by slowing its clients.
//!
//! One thread sends everything over many kept-alive connections, each with one request at a time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::Statuses;

/// More connections than this are not opened; what is due then waits for one, and its latency goes on.
const MOST_CONNECTIONS: usize = 2000;
/// How long a client that was refused in a closed loop waits.
const PAUSE: Duration = Duration::from_millis(20);

/// When requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// Each independently of all others.
    Poisson,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "Poisson",
        })
    }
}

impl Arrivals {
    /// The moments of so many a second for this time; the same for the same seed.
    pub fn schedule(self, per_second: f64, time: Duration, mut seed: u64) -> Vec<Duration> {
        let (mut due, mut schedule) = (0.0, Vec::new());
        loop {
            due += match self {
                Arrivals::Constant => 1.0,
                Arrivals::Poisson => -(1.0 - unit(&mut seed)).ln(),
            } / per_second;
            if due >= time.as_secs_f64() {
                return schedule;
            }
            schedule.push(Duration::from_secs_f64(due));
        }
    }
}

/// A number from 0 up to 1 (splitmix64).
fn unit(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    pub statuses: Statuses,
    /// How long each request after the lead-in that was answered with 200 took, from when it was due.
    pub accepted: Vec<Duration>,
    /// The longest that a request was sent after it was due: the load's own lateness.
    pub latest: Duration,
}

/// A server and the one request that it is sent again and again.
pub struct Target<'a> {
    pub address: SocketAddr,
    pub request: &'a [u8],
}

impl Target<'_> {
    /// Sends a request at each of these moments and waits for the answers. What is due before the lead-in is over loads
    /// the server, but no answer to it is counted as accepted.
    pub fn open_loop(&self, schedule: &[Duration], lead_in: Duration) -> Outcome {
        let shared = Rc::new(Shared {
            address: self.address,
            request: self.request.to_vec(),
            idle: RefCell::default(),
            connections: Cell::new(0),
            outcome: RefCell::default(),
        });
        let send_all = async {
            let (start, mut sent) = (Instant::now(), Vec::with_capacity(schedule.len()));
            for due in schedule {
                let (due, counts) = (start + *due, *due >= lead_in);
                // A timer would be late by up to a millisecond.
                while due > Instant::now() {
                    tokio::task::yield_now().await;
                }
                while shared.is_at_its_limit() {
                    tokio::task::yield_now().await;
                }
                sent.push(tokio::task::spawn_local(shared.clone().send(due, counts)));
            }
            for request in sent {
                request.await.expect("a request is answered");
            }
        };
        block_on(send_all);
        shared.outcome.take()
    }

    /// Lets so many clients each send a request whenever it has the last one's answer, for this time; the answers a
    /// second.
    pub fn closed_loop(&self, clients: usize, time: Duration) -> f64 {
        let answered = Rc::new(RefCell::new(0u64));
        let end = Instant::now() + time;
        let run_all = async {
            let client = |_| {
                let (request, address) = (self.request.to_vec(), self.address);
                let answered = answered.clone();
                tokio::task::spawn_local(async move {
                    let mut connection = Connection::open(address).await;
                    while Instant::now() < end {
                        match connection.ask(&request).await {
                            200 => *answered.borrow_mut() += 1,
                            _ => tokio::time::sleep(PAUSE).await,
                        }
                        if connection.ends() {
                            connection = Connection::open(address).await;
                        }
                    }
                })
            };
            let clients: Vec<_> = (0..clients).map(client).collect();
            for client in clients {
                client.await.expect("a client is served");
            }
        };
        block_on(run_all);
        let answered = *answered.borrow();
        answered as f64 / time.as_secs_f64()
    }
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime starts");
    LocalSet::new().block_on(&runtime, work);
}

struct Shared {
    address: SocketAddr,
    request: Vec<u8>,
    idle: RefCell<Vec<Connection>>,
    connections: Cell<usize>,
    outcome: RefCell<Outcome>,
}

impl Shared {
    fn is_at_its_limit(&self) -> bool {
        self.idle.borrow().is_empty() && self.connections.get() >= MOST_CONNECTIONS
    }

    async fn send(self: Rc<Self>, due: Instant, counts: bool) {
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                self.connections.set(self.connections.get() + 1);
                Connection::open(self.address).await
            }
        };
        let late = due.elapsed();
        let status = connection.ask(&self.request).await;
        let took = due.elapsed();
        match connection.ends() {
            true => self.connections.set(self.connections.get() - 1),
            false => self.idle.borrow_mut().push(connection),
        }
        let mut outcome = self.outcome.borrow_mut();
        outcome.latest = outcome.latest.max(late);
        *outcome.statuses.entry(status).or_default() += 1;
        if status == 200 && counts {
            outcome.accepted.push(took);
        }
    }
}

/// One kept-alive connection with one request at a time.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address)
            .await
            .expect("the server takes connections");
        stream
            .set_nodelay(true)
            .expect("a fresh socket takes the option");
        Connection {
            stream,
            answer: Vec::with_capacity(4096),
        }
    }

    /// Sends a whole request, reads the whole answer, and returns its status.
    async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream
            .write_all(request)
            .await
            .expect("the server takes the request");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await;
            assert!(
                read.expect("the server answers") > 0,
                "the whole answer comes"
            );
            if let Some(status) = status_of_whole(&self.answer) {
                return status;
            }
        }
    }

    /// Whether the last answer says that there will be no other.
    fn ends(&self) -> bool {
        let end = self.answer.windows(4).position(|end| end == b"\r\n\r\n");
        let head = end.map_or(&[][..], |end| &self.answer[..end]);
        let close = b"connection: close";
        head.windows(close.len()).any(|line| line == close)
    }
}

/// The status of an answer, once all of it is there.
fn status_of_whole(answer: &[u8]) -> Option<u16> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).expect("a head is text");
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a length is a number"));
    (answer.len() >= head + length).then(|| text[9..12].parse().expect("a status is a number"))
}
