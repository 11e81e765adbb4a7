//! Reads one object into the cache, or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::{Attribute, GetResult};
use tokio::time::{Instant, timeout_at};

use super::cache::Cache;
use super::checksum::{Check, claims};
use super::failure::Failure;
use super::index::{Entry, Identity};
use super::names::FileName;
use super::store::Store;
use super::transport::AnswerHead;

/// What every object is given, however small.
const LEAST_TIME: Duration = Duration::from_secs(60);
/// What comes slower than this in the long run is given up, so that no sender can hold the others up for ever.
const LEAST_BYTES_PER_SECOND: u64 = 16 << 10;

/// Reads an object and keeps it if its bytes are those that the store says it has. `half` is where they go meanwhile.
pub async fn download(
    store: &Store,
    cache: &Cache,
    name: &FileName,
    listed: &Identity,
    half: &Path,
) -> Result<Entry, Failure> {
    let read = store.get(name, listed).await?;
    if let Some(encoding) = read.attributes.get(&Attribute::ContentEncoding)
        && !matches!(encoding.as_ref(), "" | "identity")
    {
        let encoding = encoding.as_ref();
        return Err(Failure::new(format!(
            "it is stored with Content-Encoding {encoding}; store it as it is"
        )));
    }
    let head = read.extensions.get::<AnswerHead>();
    let claims =
        head.map(|AnswerHead(headers)| claims(headers, store.url().kind(), store.url().root()));
    let check = Check::new(claims.unwrap_or_default());
    let sha256 = write(read, check, listed.size, half).await?;
    let entry = Entry {
        identity: listed.clone(),
        sha256,
    };
    cache.keep(half, name, &entry).map_err(of_disk)?;
    Ok(entry)
}

async fn write(
    read: GetResult,
    mut check: Check,
    size: u64,
    half: &Path,
) -> Result<String, Failure> {
    let deadline = Instant::now() + LEAST_TIME + Duration::from_secs(size / LEAST_BYTES_PER_SECOND);
    let mut file = File::create(half).map_err(of_disk)?;
    let mut length = 0;
    let mut pieces = read.into_stream();
    loop {
        let piece = timeout_at(deadline, pieces.try_next()).await;
        let piece = piece.map_err(|_| Failure::new("it came too slowly"))?;
        let Some(piece) = piece.map_err(|error| Failure::of(&error))? else {
            break;
        };
        length += piece.len() as u64;
        if length > size {
            break;
        }
        check.update(&piece);
        file.write_all(&piece).map_err(of_disk)?;
    }
    if length != size {
        return Err(Failure::new(format!("{length} bytes came of {size}")));
    }
    let sha256 = check.end().map_err(Failure::new)?;
    file.sync_all().map_err(of_disk)?;
    Ok(sha256)
}

fn of_disk(error: io::Error) -> Failure {
    Failure::new(format!("the cache cannot be written: {error}"))
}
