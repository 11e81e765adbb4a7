//! The address of a repository that is not a folder of this machine, checked and fit to be shown.
//!
//! Credentials never travel in it, so that it may stand in logs and in `/health`: what could carry one is refused,
//! and the refusal does not repeat it.

use std::fmt;

/// The spellings of each kind of store, as other tools write them.
const SCHEMES: [(&str, StoreKind); 10] = [
    ("s3", StoreKind::S3),
    ("s3a", StoreKind::S3),
    ("gs", StoreKind::Gcs),
    ("az", StoreKind::Azure),
    ("azure", StoreKind::Azure),
    ("adl", StoreKind::Azure),
    ("abfs", StoreKind::Azure),
    ("abfss", StoreKind::Azure),
    ("http", StoreKind::Http),
    ("https", StoreKind::Http),
];

/// Which protocol a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    S3,
    Gcs,
    Azure,
    /// WebDAV.
    Http,
}

/// A checked address: `scheme://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    kind: StoreKind,
    /// The scheme and what stands before the path: the bucket, the container, or the server.
    root: String,
    /// What stands after it, without slashes at its ends.
    prefix: String,
}

impl RemoteUrl {
    /// Whether a setting means an address and no path.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads an address; the error says what is wrong, and repeats nothing of it that could be secret.
    pub fn parse(text: &str) -> Result<RemoteUrl, String> {
        let (scheme, rest) = text.split_once("://").ok_or("expected scheme://…")?;
        let scheme = scheme.to_ascii_lowercase();
        let (_, kind) = SCHEMES
            .iter()
            .find(|(name, _)| *name == scheme)
            .ok_or_else(|| format!("expected one of {}, got {scheme}://", schemes()))?;
        let (root, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let hint = "credentials come from the environment";
        match root.split_once('@') {
            // Azure's `container@account.host` is no name and password.
            Some((container, _)) if *kind != StoreKind::Azure || container.contains(':') => {
                return Err(format!(
                    "a user or a password in the URL is refused: {hint}"
                ));
            }
            _ => {}
        }
        if rest.contains('?') {
            return Err(format!(
                "a query such as a signature in the URL is refused: {hint}"
            ));
        }
        if rest.contains('#') || rest.chars().any(char::is_control) {
            return Err("'#' and control characters in the URL are refused".to_owned());
        }
        if root.is_empty() {
            return Err("the bucket or the host is missing".to_owned());
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty()
            && prefix
                .split('/')
                .any(|part| matches!(part, "" | "." | ".."))
        {
            return Err("empty parts, '.' and '..' in the URL's path are refused".to_owned());
        }
        Ok(RemoteUrl {
            kind: *kind,
            root: format!("{scheme}://{root}"),
            prefix: prefix.to_owned(),
        })
    }

    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The address of the bucket, the container or the server.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The path of the repository in it; empty for all of it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the one model's file that the address means, if it means no folder.
    pub fn model_file(&self) -> Option<&str> {
        let name = self.prefix.rsplit('/').next()?;
        name.ends_with(".onnx").then_some(name)
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.root)?;
        match self.prefix.is_empty() {
            true => Ok(()),
            false => write!(out, "/{}", self.prefix),
        }
    }
}

fn schemes() -> String {
    let names: Vec<_> = SCHEMES
        .iter()
        .map(|(name, _)| format!("{name}://"))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_read() {
        #[track_caller]
        fn check(text: &str, kind: StoreKind, root: &str, prefix: &str) {
            let url = RemoteUrl::parse(text).expect("it is valid");
            assert_eq!(
                (url.kind(), url.root(), url.prefix()),
                (kind, root, prefix),
                "{text}"
            );
        }
        check(
            "s3://bucket/models/",
            StoreKind::S3,
            "s3://bucket",
            "models",
        );
        check("S3A://bucket", StoreKind::S3, "s3a://bucket", "");
        check("gs://bucket/a/b", StoreKind::Gcs, "gs://bucket", "a/b");
        check("az://container/m", StoreKind::Azure, "az://container", "m");
        check(
            "abfss://models@account.dfs.core.windows.net/prod",
            StoreKind::Azure,
            "abfss://models@account.dfs.core.windows.net",
            "prod",
        );
        check(
            "https://models.example:8443/dav/",
            StoreKind::Http,
            "https://models.example:8443",
            "dav",
        );
    }

    #[test]
    fn one_file_is_told_from_a_folder() {
        let file = RemoteUrl::parse("s3://bucket/a/squeeze.onnx").expect("valid");
        assert_eq!(file.model_file(), Some("squeeze.onnx"));
        let folder = RemoteUrl::parse("s3://bucket/a").expect("valid");
        assert_eq!(folder.model_file(), None);
    }

    #[test]
    fn what_may_hold_a_secret_is_refused_and_not_repeated() {
        for text in [
            "https://user:hunter2@host/models",
            "https://hunter2@host/models",
            "s3://key:hunter2@bucket/models",
            "az://user:hunter2@container/models",
            "https://host/models?sig=hunter2",
            "az://container?hunter2",
            "https://host/models#hunter2",
        ] {
            let problem = RemoteUrl::parse(text).expect_err("it is refused");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_store_is_refused() {
        for text in [
            "ftp://host/x",
            "s3:///models",
            "s3://",
            "s3://b/../x",
            "s3://b/a//x",
        ] {
            RemoteUrl::parse(text).expect_err(text);
        }
    }
}
