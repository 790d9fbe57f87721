//! A private key of the authority's, whose bytes are cleared when it goes.

use rcgen::{Error, KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

/// A key pair that signs.
pub(super) struct Key(Zeroizing<KeyPair>);

impl From<KeyPair> for Key {
    fn from(pair: KeyPair) -> Self {
        Self(Zeroizing::new(pair))
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&*self.0)
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message)
    }
}
