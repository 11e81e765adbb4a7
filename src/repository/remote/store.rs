//! The store that an address means: how it is reached, listed and read.
//!
//! Credentials come from where each cloud's own tools have them, which the library knows: `AWS_…`, `GOOGLE_…` and
//! `AZURE_…` in the environment, or the metadata service of the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt,
    RetryConfig,
};

use super::failure::Failure;
use super::index::Identity;
use super::names::FileName;
use super::transport::Transport;
use crate::config::remote_url::{RemoteUrl, StoreKind};

/// More are no repository of models.
pub const MOST_OBJECTS: usize = 100_000;
/// Folders of a WebDAV server that are looked into.
const MOST_FOLDERS: usize = 10_000;

/// What a store says it holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub files: BTreeMap<FileName, Identity>,
    /// What cannot be mirrored, and why.
    pub passed_over: Vec<String>,
}

/// A store and the place of the repository in it.
#[derive(Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    url: RemoteUrl,
    prefix: Path,
    transport: Transport,
}

impl Store {
    /// The store that an address means. Nothing is asked of it yet.
    pub fn open(url: &RemoteUrl, transport: Transport) -> Result<Store, Failure> {
        let inner = match url.kind() {
            StoreKind::S3 => {
                let builder = AmazonS3Builder::from_env().with_url(with_slash(url));
                let builder = builder.with_http_connector(transport.clone());
                builder.with_retry(retries()).build().map(arc)
            }
            StoreKind::Gcs => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(with_slash(url));
                let builder = builder.with_http_connector(transport.clone());
                builder.with_retry(retries()).build().map(arc)
            }
            StoreKind::Azure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(with_slash(url));
                let builder = builder.with_http_connector(transport.clone());
                builder.with_retry(retries()).build().map(arc)
            }
            StoreKind::Http => {
                // Whoever writes http:// means it.
                let options = ClientOptions::new().with_allow_http(true);
                let builder = HttpBuilder::new().with_url(url.root());
                let builder = builder.with_http_connector(transport.clone());
                let builder = builder.with_client_options(options);
                builder.with_retry(retries()).build().map(arc)
            }
        };
        let inner = inner.map_err(|error| Failure::of(&error))?;
        Store::over(inner, url, transport)
    }

    /// The same over any store, such as one in memory.
    pub fn over(
        inner: Arc<dyn ObjectStore>,
        url: &RemoteUrl,
        transport: Transport,
    ) -> Result<Store, Failure> {
        let prefix = match url.kind() {
            StoreKind::Http => Path::from_url_path(url.prefix()),
            _ => Path::parse(url.prefix()),
        };
        let prefix = prefix.map_err(|error| Failure::new(error.to_string()))?;
        Ok(Store {
            inner,
            url: url.clone(),
            prefix,
            transport,
        })
    }

    pub fn url(&self) -> &RemoteUrl {
        &self.url
    }

    /// Everything below the address, or an error where any part of it could not be read.
    pub async fn list(&self) -> Result<Listing, Failure> {
        self.transport.take_passed_over();
        let objects = match (self.url.model_file(), self.url.kind()) {
            (Some(_), _) => vec![self.inner.head(&self.prefix).await.map_err(of_store)?],
            (None, StoreKind::Http) => self.walk().await?,
            (None, _) => self.list_all().await?,
        };
        let mut listing = Listing::default();
        for name in self.transport.take_passed_over() {
            listing
                .passed_over
                .push(shown(&name, "the name is no path"));
        }
        for object in objects {
            let Some(name) = self.name_of(&object.location) else {
                continue;
            };
            match FileName::parse(&name) {
                Ok(name) => {
                    listing.files.insert(name, Identity::of(&object));
                }
                Err(reason) => listing.passed_over.push(shown(&name, reason)),
            }
        }
        listing.drop_folder_markers();
        listing.passed_over.sort();
        Ok(listing)
    }

    async fn list_all(&self) -> Result<Vec<ObjectMeta>, Failure> {
        let mut objects = Vec::new();
        let mut found = self.inner.list(Some(&self.prefix));
        while let Some(object) = found.try_next().await.map_err(of_store)? {
            objects.push(object);
            bounded(objects.len(), MOST_OBJECTS, "objects")?;
        }
        Ok(objects)
    }

    /// Folder by folder, since servers may answer for all at once with less than all.
    async fn walk(&self) -> Result<Vec<ObjectMeta>, Failure> {
        let mut objects = Vec::new();
        let mut folders = vec![self.prefix.clone()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            seen += 1;
            bounded(seen, MOST_FOLDERS, "folders")?;
            let prefix = (!folder.is_root()).then_some(&folder);
            let found = self.inner.list_with_delimiter(prefix).await;
            let found = found.map_err(of_store)?;
            let is_inside = |path: &Path| *path != folder && path.prefix_matches(&folder);
            folders.extend(found.common_prefixes.into_iter().filter(is_inside));
            objects.extend(found.objects);
            bounded(objects.len(), MOST_OBJECTS, "objects")?;
        }
        Ok(objects)
    }

    fn name_of(&self, location: &Path) -> Option<String> {
        if let Some(name) = self.url.model_file() {
            return Some(name.to_owned());
        }
        let location = location.as_ref();
        if self.prefix.is_root() {
            return Some(location.to_owned());
        }
        let below = location.strip_prefix(self.prefix.as_ref())?;
        below.strip_prefix('/').map(str::to_owned)
    }

    /// Begins to read one object, which must still be the one that was listed.
    pub async fn get(&self, name: &FileName, listed: &Identity) -> Result<GetResult, Failure> {
        let path = match self.url.model_file() {
            Some(_) => self.prefix.clone(),
            None => Path::parse(format!("{}/{name}", self.prefix))
                .map_err(|error| Failure::new(error.to_string()))?,
        };
        // WebDAV servers are free in how they write ETags, so theirs are only compared.
        let if_match = match self.url.kind() {
            StoreKind::Http => None,
            _ => listed.strong_etag(),
        };
        let options = GetOptions {
            if_match,
            ..GetOptions::default()
        };
        let read = self
            .inner
            .get_opts(&path, options)
            .await
            .map_err(of_store)?;
        match listed.is_same_object(&Identity::of(&read.meta)) {
            true => Ok(read),
            false => Err(Failure::new("it changed after it was listed")),
        }
    }
}

impl Listing {
    /// A file that stands where a folder is: stores have such empty objects to show folders.
    fn drop_folder_markers(&mut self) {
        let mut folders = std::collections::BTreeSet::new();
        for name in self.files.keys() {
            folders.extend(name.folders().map(str::to_owned));
        }
        let passed_over = &mut self.passed_over;
        self.files.retain(|name, identity| {
            let is_folder = folders.contains(name.as_str());
            if is_folder && identity.size > 0 {
                passed_over.push(shown(name.as_str(), "there is a folder of the same name"));
            }
            !is_folder
        });
    }
}

fn bounded(count: usize, most: usize, what: &str) -> Result<(), Failure> {
    match count > most {
        true => Err(Failure::new(format!(
            "the repository has more than {most} {what}"
        ))),
        false => Ok(()),
    }
}

fn shown(name: &str, reason: &str) -> String {
    let short: String = name.chars().take(200).collect();
    format!("{short:?} ({reason})")
}

fn with_slash(url: &RemoteUrl) -> String {
    format!("{}/{}", url.root(), url.prefix())
}

fn arc(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

fn of_store(error: object_store::Error) -> Failure {
    Failure::of(&error)
}

/// What a hiccup needs; a store that is away is tried again by the mirror, with more patience.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(60),
    }
}
