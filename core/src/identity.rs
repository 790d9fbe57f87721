//! Who somebody is in a federation: a role and a name, as the URI of a certificate
//! (`spiffe://FEDERATION/ROLE/NAME`), and the one-time token that a first certificate is given for.
//!
//! ```text
//! tributary1_ROLE_SECRET_AUTHORITY_NAME
//!            |    |      |         `- the operator-given name; the only part that may hold `_`
//!            |    |      `- SHA-256 of the certificate authority's certificate, 64 hex digits
//!            |    `- 32 random bytes, 64 hex digits; the coordinator keeps a hash of them alone
//!            `- client, viewer, operator, admin
//! ```

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use crate::digest::Digest;
use crate::name::{ClientName, FederationName};

/// Bytes of a token's secret: as hard to guess as a key.
pub const SECRET_BYTES: usize = 32;
/// How a token begins; a later form has another number.
const TOKEN_FORM: &str = "tributary1";
/// The scheme of an identity's URI.
const SCHEME: &str = "spiffe://";

/// What somebody may do; `coordinator/grpc/access` has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An agent on a data-holding machine: its own tasks, and nothing else.
    Client,
    /// Looks at jobs, rounds and clients.
    Viewer,
    /// A viewer who submits, holds and ends jobs, and fetches models.
    Operator,
    /// An operator who lets others in and out, and reads the audit.
    Admin,
}

impl Role {
    /// All roles with their words.
    pub const WORDS: [(&'static str, Role); 4] = [
        ("client", Role::Client),
        ("viewer", Role::Viewer),
        ("operator", Role::Operator),
        ("admin", Role::Admin),
    ];

    /// The stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// Why a text is no identity, role or token. What came is not repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The word of a role.
    #[error("expected client, viewer, operator or admin, found another word")]
    Role,
    /// The URI of an identity.
    #[error("expected spiffe://FEDERATION/ROLE/NAME, found another text")]
    Uri,
    /// A token.
    #[error(
        "expected a token such as `tributary token create` prints (tributary1_ROLE_…), found \
         another text: copy the whole line"
    )]
    Token,
}

impl FromStr for Role {
    type Err = IdentityError;
    fn from_str(word: &str) -> Result<Self, IdentityError> {
        let found = Role::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, role)| *role).ok_or(IdentityError::Role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A member of a federation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The federation.
    pub federation: FederationName,
    /// The role.
    pub role: Role,
    /// The operator-given name, unique among those of the role.
    pub name: ClientName,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.federation, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;
    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let rest = uri.strip_prefix(SCHEME).ok_or(IdentityError::Uri)?;
        let mut parts = rest.split('/');
        let (Some(federation), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::Uri);
        };
        Ok(Self {
            federation: federation.parse().map_err(|_| IdentityError::Uri)?,
            role: role.parse()?,
            name: name.parse().map_err(|_| IdentityError::Uri)?,
        })
    }
}

/// What a certificate authority's own certificate says of its federation: `spiffe://FEDERATION`.
#[must_use]
pub fn federation_uri(federation: &FederationName) -> String {
    format!("{SCHEME}{federation}")
}

/// The federation that an authority's URI names.
#[must_use]
pub fn federation_of(uri: &str) -> Option<FederationName> {
    uri.strip_prefix(SCHEME)?.parse().ok()
}

/// The right to one certificate, once. It prints as text only through [`Token::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The role that it is for.
    pub role: Role,
    /// The name that it is for.
    pub name: ClientName,
    /// The certificate authority that its holder may trust.
    pub authority: Digest,
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// A token over fresh random bytes.
    #[must_use]
    pub fn new(
        role: Role,
        name: ClientName,
        authority: Digest,
        secret: [u8; SECRET_BYTES],
    ) -> Self {
        Self { role, name, authority, secret }
    }

    /// The text that its holder is given; its memory is cleared when it goes.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let (role, secret) = (self.role, Zeroizing::new(hex::encode(self.secret)));
        let secret = secret.as_str();
        Zeroizing::new(format!(
            "{TOKEN_FORM}_{role}_{secret}_{}_{}",
            self.authority.hex(),
            self.name
        ))
    }

    /// The secret, for the wire.
    #[must_use]
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// What the coordinator keeps of the secret.
    #[must_use]
    pub fn hash(secret: &[u8]) -> Digest {
        Digest::of_fields("tributary/token/v1", [secret])
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} {}, secret hidden)", self.role, self.name)
    }
}

impl FromStr for Token {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let mut parts = text.trim().splitn(5, '_');
        let mut next = || parts.next().ok_or(IdentityError::Token);
        if next()? != TOKEN_FORM {
            return Err(IdentityError::Token);
        }
        let role = next()?.parse()?;
        let mut secret = [0; SECRET_BYTES];
        hex::decode_to_slice(next()?, &mut secret).map_err(|_| IdentityError::Token)?;
        let authority = format!("sha256:{}", next()?).parse().map_err(|_| IdentityError::Token)?;
        let name = next()?.parse().map_err(|_| IdentityError::Token)?;
        Ok(Self { role, name, authority, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Role, Token};
    use crate::digest::Digest;

    #[test]
    fn an_identity_is_its_uri_and_nothing_else_is_one() {
        let uri = "spiffe://hospitals/client/hospital-a";
        let identity: Identity = uri.parse().expect("good");
        assert_eq!((identity.role, identity.to_string().as_str()), (Role::Client, uri));
        for bad in [
            "",
            "spiffe://hospitals/client",
            "spiffe://hospitals/client/a/b",
            "spiffe://hospitals/root/a",
            "spiffe://hospitals/client/../admin/a",
            "spiffe://hospitals/client/A",
            "spiffe://hospitals//client/a",
            "spiffe:///client/a",
            "https://hospitals/client/a",
            "spiffe://hospitals/client/a%2f..",
            "spiffe://hospitals/client/a?x",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_reads_back_and_never_prints_its_secret() {
        let name = "a_b.c-d".parse().expect("a name");
        let token = Token::new(Role::Operator, name, Digest::of(b"ca"), [7; 32]);
        let text = token.reveal();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("0707"));
        assert!(text.contains(&"07".repeat(32)));
        for bad in ["", "tributary1_admin", &text[1..], &text.replace("operator", "root")] {
            let error = bad.parse::<Token>().expect_err("bad");
            assert!(!error.to_string().contains("0707"), "{error}");
        }
    }
}
