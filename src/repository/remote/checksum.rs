//! What a store says about an object's bytes, and whether the bytes that came are those.
//!
//! Where it says nothing, our own SHA-256 of what was read still tells whether the cache has kept it.

use crc_fast::CrcAlgorithm;
use hyper::HeaderMap;
use md5::{Digest, Md5};
use ring::digest::{Context, SHA256};

use crate::config::remote_url::StoreKind;

/// A checksum that a store gave with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    Md5(Vec<u8>),
    Crc32c(u32),
    Sha256(Vec<u8>),
}

impl Claim {
    fn name(&self) -> &'static str {
        match self {
            Claim::Md5(_) => "MD5",
            Claim::Crc32c(_) => "CRC32C",
            Claim::Sha256(_) => "SHA-256",
        }
    }
}

/// What the head of a store's answer claims about the object's bytes.
pub fn claims(headers: &HeaderMap, kind: StoreKind, root: &str) -> Vec<Claim> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut claims = Vec::new();
    claims.extend(text("content-md5").and_then(|md5| Some(Claim::Md5(decoded(md5, 16)?))));
    let sha256 = text("x-amz-checksum-sha256").and_then(|sha256| decoded(sha256, 32));
    claims.extend(sha256.map(Claim::Sha256));
    let crc32c = text("x-amz-checksum-crc32c").and_then(|crc32c| decoded(crc32c, 4));
    claims.extend(crc32c.and_then(big_endian).map(Claim::Crc32c));
    for value in headers
        .get_all("x-goog-hash")
        .iter()
        .filter_map(|value| value.to_str().ok())
    {
        claims.extend(value.split(',').filter_map(|hash| google_hash(hash.trim())));
    }
    if kind == StoreKind::S3 && etag_is_md5(headers, root) {
        claims.extend(text("etag").and_then(hexadecimal).map(Claim::Md5));
    }
    claims
}

/// Whether an ETag of the form of an MD5 is one: not where S3 encrypts with a key of KMS or of the customer, nor in
/// the directory buckets of S3 Express, whose ETags are arbitrary.
fn etag_is_md5(headers: &HeaderMap, root: &str) -> bool {
    let is_kms = headers
        .get("x-amz-server-side-encryption")
        .is_some_and(|by| by.as_bytes().starts_with(b"aws:kms"));
    let is_customers = headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    !is_kms && !is_customers && !root.ends_with("--x-s3")
}

fn google_hash(text: &str) -> Option<Claim> {
    match text.split_once('=')? {
        ("md5", value) => Some(Claim::Md5(decoded(value, 16)?)),
        ("crc32c", value) => Some(Claim::Crc32c(big_endian(decoded(value, 4)?)?)),
        _ => None,
    }
}

fn big_endian(bytes: Vec<u8>) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Base64 of so many bytes; a checksum of checksums (`…-3`, of an upload in parts) is none.
fn decoded(text: &str, length: usize) -> Option<Vec<u8>> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .ok()?;
    (bytes.len() == length).then_some(bytes)
}

/// The bytes of an MD5 in quotes; the ETag of an upload in parts has another form.
fn hexadecimal(etag: &str) -> Option<Vec<u8>> {
    let digits = etag.strip_prefix('"')?.strip_suffix('"')?;
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let byte = |position: usize| u8::from_str_radix(&digits[position..position + 2], 16).ok();
    (0..32).step_by(2).map(byte).collect()
}

/// Takes an object's bytes as they come and compares them at the end.
pub struct Check {
    claims: Vec<Claim>,
    sha256: Context,
    md5: Option<Md5>,
    crc32c: Option<crc_fast::Digest>,
}

impl Check {
    pub fn new(claims: Vec<Claim>) -> Check {
        let has = |wanted: fn(&Claim) -> bool| claims.iter().any(wanted);
        let md5 = has(|claim| matches!(claim, Claim::Md5(_))).then(Md5::new);
        let crc32c = has(|claim| matches!(claim, Claim::Crc32c(_)));
        Check {
            sha256: Context::new(&SHA256),
            md5,
            crc32c: crc32c.then(|| crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            claims,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(crc32c) = &mut self.crc32c {
            crc32c.update(bytes);
        }
    }

    /// The SHA-256 of the bytes in hexadecimal, unless they are others than the store says.
    pub fn end(self) -> Result<String, String> {
        let Check {
            claims,
            sha256,
            md5,
            crc32c,
        } = self;
        let sha256 = sha256.finish();
        let md5 = md5.map(|md5| md5.finalize().to_vec());
        let crc32c = crc32c.map(|crc32c| crc32c.finalize());
        let differs = claims.iter().find(|claim| match claim {
            Claim::Md5(claimed) => md5.as_ref() != Some(claimed),
            Claim::Crc32c(claimed) => crc32c != Some(u64::from(*claimed)),
            Claim::Sha256(claimed) => sha256.as_ref() != claimed,
        });
        match differs {
            Some(claim) => Err(format!(
                "the bytes that came have another {} than the store says",
                claim.name()
            )),
            None => Ok(hex(sha256.as_ref())),
        }
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const BYTES: &[u8] = b"hello world";
    const MD5: &str = "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"";
    const SHA256_HEX: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[track_caller]
    fn check(kind: StoreKind, pairs: &[(&'static str, &'static str)], claims_made: usize) {
        let claims = claims(&headers(pairs), kind, "s3://bucket");
        assert_eq!(claims.len(), claims_made, "{pairs:?}");
        let read = |bytes: &[u8]| {
            let mut check = Check::new(claims.clone());
            for piece in bytes.chunks(3) {
                check.update(piece);
            }
            check.end()
        };
        assert_eq!(read(BYTES).as_deref(), Ok(SHA256_HEX), "{pairs:?}");
        assert_eq!(read(b"hello_world").is_err(), claims_made > 0, "{pairs:?}");
    }

    #[test]
    fn what_each_store_claims_is_checked() {
        check(StoreKind::S3, &[("etag", MD5)], 1);
        let sha256 = (
            "x-amz-checksum-sha256",
            "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
        );
        check(StoreKind::S3, &[sha256], 1);
        check(StoreKind::S3, &[("x-amz-checksum-crc32c", "yZRlqg==")], 1);
        check(
            StoreKind::Azure,
            &[("content-md5", "XrY7u+Ae7tCTyyK7j1rNww==")],
            1,
        );
        let both = "crc32c=yZRlqg==,md5=XrY7u+Ae7tCTyyK7j1rNww==";
        check(StoreKind::Gcs, &[("x-goog-hash", both)], 2);
    }

    #[test]
    fn what_only_looks_like_a_claim_is_none() {
        check(
            StoreKind::S3,
            &[("etag", "\"5eb63bbbe01eeed093cb22bb8f5acdc3-2\"")],
            0,
        );
        check(StoreKind::Azure, &[("etag", MD5)], 0);
        let kms = ("x-amz-server-side-encryption", "aws:kms");
        check(
            StoreKind::S3,
            &[("etag", "\"00000000000000000000000000000000\""), kms],
            0,
        );
        check(StoreKind::S3, &[("x-amz-checksum-sha256", "AAAA-3")], 0);
        check(StoreKind::Gcs, &[("x-goog-hash", "md5=")], 0);
    }

    #[test]
    fn nothing_is_claimed_of_express_buckets() {
        let etag = headers(&[("etag", MD5)]);
        assert!(claims(&etag, StoreKind::S3, "s3://fast--use1-az4--x-s3").is_empty());
    }
}
