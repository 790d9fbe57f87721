//! The `[s3]` section: where the bucket of `blobs = "s3://BUCKET/PREFIX"` is reached. Keys are never
//! in it: they come by `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` alone.

use std::net::IpAddr;
use std::path::PathBuf;

use tributary_core::document::Section;

/// What `blobs` begins with where they lie in a bucket.
const S3_SCHEME: &str = "s3://";
/// The region, unless set: what servers other than Amazon's expect to be signed for.
const REGION_DEFAULT: &str = "us-east-1";

/// What people would call a bucket's keys.
const SECRETS: [&str; 9] = [
    "access_key",
    "access_key_id",
    "aws_access_key_id",
    "secret",
    "secret_key",
    "secret_access_key",
    "aws_secret_access_key",
    "session_token",
    "token",
];

/// How a bucket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// `https://HOST[:PORT]`; Amazon's own where it is not set. `http://` on loopback alone.
    pub endpoint: Option<String>,
    /// What requests are signed for.
    pub region: String,
    /// Whether the bucket is the first part of the path (and not of the host's name).
    pub path_style: bool,
    /// Certificates (PEM) of the authority that the endpoint's certificate comes from; with it no
    /// other is trusted.
    pub ca_file: Option<PathBuf>,
}

impl Default for S3Config {
    fn default() -> Self {
        let region = REGION_DEFAULT.to_owned();
        Self { endpoint: None, region, path_style: false, ca_file: None }
    }
}

impl S3Config {
    pub(super) fn read(root: &mut Section) -> Self {
        let mut section = root.section("s3");
        // An unknown key is shown with its value; these would be secrets.
        for key in SECRETS {
            if section.has(key) {
                let _ = section.take(key);
                section.fault(key, "no keys in a file: they come by AWS_* variables", "one");
            }
        }
        let endpoint = section.optional_text("endpoint");
        if let Some(found) = &endpoint
            && !is_endpoint(found)
        {
            let expected = "https://HOST[:PORT], or http:// on loopback, where nobody listens in";
            section.fault("endpoint", expected, format!("{:?}", super::redact(found)));
        }
        let read = Self {
            endpoint,
            region: section.text("region", Some(REGION_DEFAULT)),
            path_style: section.boolean("path_style", Some(false)),
            ca_file: section.optional_text("ca_file").map(PathBuf::from),
        };
        section.finish();
        read
    }

    /// Whether requests go in the clear, which they may on loopback alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

/// Judges where blobs lie: a folder, or a bucket and what its keys begin with.
pub(super) fn check_blobs(root: &mut Section, blobs: &str) {
    let fits = match blobs.split_once("://") {
        None => true,
        Some(("s3", rest)) => is_bucket(rest.split('/').next().unwrap_or_default()),
        Some(_) => false,
    };
    if !fits {
        let expected = "a folder, or s3://BUCKET/PREFIX (keys come by AWS_* variables)";
        root.fault("blobs", expected, format!("{:?}", super::redact(blobs)));
    }
}

/// Bucket and prefix, where blobs lie in a bucket.
#[must_use]
pub fn bucket(blobs: &str) -> Option<(&str, &str)> {
    let rest = blobs.strip_prefix(S3_SCHEME)?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// Amazon's rule for names, which no server is laxer than.
fn is_bucket(name: &str) -> bool {
    let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    (3..=63).contains(&name.len()) && name.bytes().all(ok)
}

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let named = uri.host().is_some_and(|host| !host.is_empty());
    let bare = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("https") => named && bare,
        Some("http") => bare && uri.host().is_some_and(is_loopback),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{bucket, is_bucket, is_endpoint};

    #[test]
    fn endpoints_are_encrypted_unless_they_are_this_machine() {
        for good in ["https://s3.example.org", "https://minio:9000", "http://127.0.0.1:9000"] {
            assert!(is_endpoint(good), "{good}");
        }
        assert!(is_endpoint("http://localhost:9000") && is_endpoint("http://[::1]:9000"));
        for bad in ["http://minio:9000", "minio:9000", "", "s3://x", "https://me:secret@minio"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn a_bucket_and_its_prefix_are_told_apart() {
        assert_eq!(bucket("s3://models/a/b"), Some(("models", "a/b")));
        assert_eq!(bucket("s3://models"), Some(("models", "")));
        assert_eq!(bucket("/var/lib/blobs"), None);
        assert!(is_bucket("models") && !is_bucket("M") && !is_bucket("a b c"));
    }
}
