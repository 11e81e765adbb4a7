//! A repository in an object store or behind WebDAV, mirrored into a folder; everything after the mirror is what is
//! done with any folder.
//!
//! `store` lists and reads, over `transport`, which checks each `page` of a listing; `download` reads one object and
//! `checksum` its bytes; `index` and `units` decide, without I/O, what is fetched and what may be seen; `cache` keeps
//! the files and switches the folder over; `mirror` is the whole of it, `source` when it looks, and `status` what others may know.

mod backoff;
mod cache;
mod checksum;
mod download;
mod failure;
mod index;
mod mirror;
mod names;
mod page;
mod source;
mod status;
mod store;
mod transport;
mod units;

pub use mirror::{Mirror, Refreshed};
pub use source::{Pace, Remote};
pub use status::{Reach, State, Status};
