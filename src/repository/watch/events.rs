//! Wakes a watch early: when the file system tells of a change, or when the watch is to end.
//!
//! Events only make a look come sooner. What they say is not believed, and where there are none (network file systems,
//! too many folders for the kernel's limit) the next look comes in its own time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};

/// Ends a watch when it is dropped.
#[derive(Debug)]
pub struct Stopper {
    _held: UnixStream,
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    Time,
    Event,
    End,
}

/// What a watch waits for.
#[derive(Debug)]
pub struct Events {
    ended: UnixStream,
    inotify: Option<File>,
    watched: BTreeSet<i32>,
}

impl Events {
    /// Events, of which there are none until folders are named, and what ends them.
    pub fn new() -> Result<(Events, Stopper)> {
        let unopened = |error| Error::internal("a pair of sockets did not open").with_source(error);
        let (held, ended) = UnixStream::pair().map_err(unopened)?;
        let events = Events {
            ended,
            inotify: inotify::open(),
            watched: BTreeSet::new(),
        };
        Ok((events, Stopper { _held: held }))
    }

    /// Listens in these folders and no others from now on. Says whether some of them are new, where something may have
    /// happened before.
    pub fn listen(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let watched = folders
            .iter()
            .filter_map(|path| inotify::add(inotify, path));
        let watched: BTreeSet<i32> = watched.collect();
        for gone in self.watched.difference(&watched) {
            inotify::remove(inotify, *gone);
        }
        let is_new = !watched.is_subset(&self.watched);
        self.watched = watched;
        is_new
    }

    /// Waits until `until`, an event, or the end.
    pub fn wait(&mut self, until: Instant) -> Woken {
        self.wait_for(until, true)
    }

    /// Waits until `until` or the end.
    pub fn pause(&mut self, until: Instant) -> Woken {
        self.wait_for(until, false)
    }

    fn wait_for(&mut self, until: Instant, heeds_events: bool) -> Woken {
        let left = until.saturating_duration_since(Instant::now());
        let mut awaited = vec![PollFd::new(&self.ended, PollFlags::IN)];
        if let Some(inotify) = self.inotify.as_ref().filter(|_| heeds_events) {
            awaited.push(PollFd::new(inotify, PollFlags::IN));
        }
        let polled = poll(&mut awaited, Some(&timespec(left)));
        let is_woken = |index: usize| {
            let awaited = awaited.get(index);
            awaited.is_some_and(|awaited| !awaited.revents().is_empty())
        };
        let (has_ended, has_event) = (is_woken(0), is_woken(1));
        match polled {
            // A signal came; the caller looks at the clock again.
            Err(_) | Ok(0) => Woken::Time,
            Ok(_) if has_ended => Woken::End,
            Ok(_) if has_event => {
                self.forget_events();
                Woken::Event
            }
            Ok(_) => Woken::Time,
        }
    }

    fn forget_events(&self) {
        let mut buffer = [0; 1 << 14];
        if let Some(mut inotify) = self.inotify.as_ref() {
            // It does not block; the error says that nothing is left.
            while inotify.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    }
}

fn timespec(left: Duration) -> Timespec {
    // Rounded up, so that a wait is not over just before its time.
    let left = left + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

#[cfg(target_os = "linux")]
mod inotify {
    use std::fs::File;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    /// `None` where there is none, or none any more.
    pub fn open() -> Option<File> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        match inotify::init(flags) {
            Ok(inotify) => Some(File::from(inotify)),
            Err(error) => {
                let reason = error.to_string();
                tracing::info!(reason, "no events of files: the repository is only polled");
                None
            }
        }
    }

    /// Every single write is of no interest: a file counts once it is complete.
    pub fn add(inotify: &File, path: &Path) -> Option<i32> {
        let of_interest = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let added = inotify::add_watch(inotify, path, of_interest);
        if let Err(error) = added {
            let (path, reason) = (path.display(), error.to_string());
            tracing::debug!(%path, reason, "no events of this folder: it is polled");
        }
        added.ok()
    }

    /// The folder may be gone, and its watch with it.
    pub fn remove(inotify: &File, watch: i32) {
        let _ = inotify::remove_watch(inotify, watch);
    }
}

#[cfg(not(target_os = "linux"))]
mod inotify {
    use std::fs::File;
    use std::path::Path;

    pub fn open() -> Option<File> {
        None
    }

    pub fn add(_: &File, _: &Path) -> Option<i32> {
        None
    }

    pub fn remove(_: &File, _: i32) {}
}
