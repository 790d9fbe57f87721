//! How an update is encoded: header, parts, digests.
