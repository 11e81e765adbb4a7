//! What befalls the requests to the store, and when.
//!
//! Faults come in turn, so that a run of some length meets each of them; how many requests lie between them, how often
//! they strike and how long they last is random.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::random::Random;

/// Fewer requests than this lie between two faults: some looks at the store meet one, and some none.
const MOST_BETWEEN: u64 = 80;

/// What stores and networks do on bad days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Status500,
    /// The connection breaks in the middle of the answer.
    CutOff,
    /// The answer pauses in the middle.
    Stall,
    /// Half of the file, as if that were all of it.
    HalfAFile,
    /// As many bytes as there should be, and one of them is another.
    WrongBytes,
    /// Whoever asks is hung up on, for a while.
    Away,
    /// A listing that is whole, to all appearances, and names nothing.
    EmptyListing,
}

/// What a request to the store asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    File,
    /// What is in this folder.
    Folder {
        is_root: bool,
    },
}

impl Fault {
    const ALL: [Fault; 7] = [
        Fault::Status500,
        Fault::HalfAFile,
        Fault::Stall,
        Fault::EmptyListing,
        Fault::WrongBytes,
        Fault::CutOff,
        Fault::Away,
    ];

    fn most_strikes(self) -> u64 {
        match self {
            // More than the server asks again at once.
            Fault::Status500 | Fault::CutOff | Fault::HalfAFile | Fault::WrongBytes => 4,
            Fault::Stall | Fault::Away | Fault::EmptyListing => 1,
        }
    }
}

pub struct Weather {
    random: Random,
    /// No pause is longer.
    longest: Duration,
    is_fair: bool,
    away_until: Option<Instant>,
    turn: usize,
    /// Requests until the next fault.
    between: u64,
    strikes: u64,
    /// Folders of the listing that is being read which are not read yet.
    unread: usize,
    /// Whether all of some listing was read since the last one that was empty.
    was_whole: bool,
    met: BTreeMap<Fault, u64>,
}

impl Weather {
    pub fn fair(random: Random, longest: Duration) -> Weather {
        Weather {
            random,
            longest,
            is_fair: true,
            away_until: None,
            turn: 0,
            between: 0,
            strikes: 1,
            unread: 0,
            was_whole: false,
            met: Fault::ALL.map(|fault| (fault, 0)).into(),
        }
    }

    pub fn worsen(&mut self) {
        self.is_fair = false;
    }

    pub fn clear_up(&mut self) {
        self.is_fair = true;
    }

    pub fn is_fair(&self) -> bool {
        self.is_fair
    }

    /// How often each fault was met.
    pub fn met(&self) -> &BTreeMap<Fault, u64> {
        &self.met
    }

    pub fn pause(&mut self) -> Duration {
        self.longest / (1 << self.random.below(8))
    }

    /// The fault that a request meets, if any.
    pub fn befalls(&mut self, asked: Asked) -> Option<Fault> {
        if self.is_fair {
            return None;
        }
        if self.away_until.is_some_and(|until| Instant::now() < until) {
            return Some(Fault::Away);
        }
        let fault = Fault::ALL[self.turn];
        if self.between > 0 || !self.fits(fault, asked) {
            self.between = self.between.saturating_sub(1);
            return None;
        }
        self.strike(fault);
        Some(fault)
    }

    fn fits(&self, fault: Fault, asked: Asked) -> bool {
        match fault {
            Fault::Status500 | Fault::CutOff | Fault::Stall | Fault::Away => true,
            Fault::HalfAFile | Fault::WrongBytes => asked == Asked::File,
            // Two listings in a row that lack the same are to be believed.
            Fault::EmptyListing => asked != Asked::File && self.was_whole,
        }
    }

    fn strike(&mut self, fault: Fault) {
        *self.met.entry(fault).or_default() += 1;
        match fault {
            Fault::Away => self.away_until = Some(Instant::now() + self.pause()),
            Fault::EmptyListing => self.was_whole = false,
            _ => {}
        }
        self.strikes -= 1;
        if self.strikes == 0 {
            self.turn = (self.turn + 1) % Fault::ALL.len();
            self.between = self.random.below(MOST_BETWEEN);
            self.strikes = 1 + self.random.below(Fault::ALL[self.turn].most_strikes());
        }
    }

    /// A folder was listed as it is, with so many folders in it.
    pub fn listed(&mut self, is_root: bool, folders: usize) {
        let unread = if is_root { 1 } else { self.unread };
        self.unread = (unread + folders).saturating_sub(1);
        // A listing that was emptied ends before all of it was read, and so does one that failed.
        self.was_whole |= unread == 1 && folders == 0;
    }
}
