//! Whom the server believes to be a store: the certificate authorities of the machine, read once.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as they do for OpenSSL.

use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// TLS 1.2 and 1.3 to servers that the machine's authorities vouch for.
pub fn config() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    CONFIG.get_or_init(of_machine).clone()
}

fn of_machine() -> ClientConfig {
    let found = rustls_native_certs::load_native_certs();
    for problem in &found.errors {
        tracing::warn!(%problem, "certificate authorities cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        tracing::warn!(
            "no certificate authorities were found, so no store can be reached by https; name them in SSL_CERT_FILE"
        );
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
