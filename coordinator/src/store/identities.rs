//! Who was let in: tokens, identities, certificates, revocation; each change with its line in the
//! audit, in one transaction.

use std::time::Duration;

use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use tributary_core::name::ClientName;

use super::Store;
use super::audit::append;
use super::database::{Tx, try_again};
use super::decode::Fields;
use super::error::StoreError;
use super::rows::{
    AuditEvent, By, CertificateRow, IdentityRow, NewCertificate, Redeemed, TokenRow,
};
use super::sql::{Row, Value};

/// How long a token's row stays after its end: long enough to see in a database what became of it.
const TOKEN_KEPT_US: i64 = 30 * 86_400 * 1_000_000;

impl Store {
    /// Keeps a token's hash; its end by wall clock comes back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_token(
        &self,
        hash: Digest,
        (role, name): (Role, &ClientName),
        ttl: Duration,
        by: &By,
    ) -> Result<i64, StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "-- store.identities.trim_tokens\n\
            DELETE FROM enrollment_tokens WHERE expires_at_us < {now} - $1";
        tx.execute(sql, &[TOKEN_KEPT_US.into()]).await?;
        let sql = "-- store.identities.create_token\n\
            INSERT INTO enrollment_tokens (hash, role, name, created_by, created_at_us, \
            expires_at_us) VALUES ($1, $2, $3, $4, {now}, {now} + $5)";
        let ttl_us = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 4);
        let values = [
            hash.into(),
            role.word().into(),
            name.as_str().into(),
            by.who.as_str().into(),
            ttl_us.into(),
        ];
        tx.execute(sql, &values).await?;
        let token = read_token(&mut tx, hash).await?;
        let detail = format!("good for {} s", ttl.as_secs());
        append(&mut tx, &by.did("token_created", format!("{role}/{name}"), detail)).await?;
        tx.commit().await?;
        Ok(token.map_or(0, |token| token.expires_at_us))
    }

    /// A token that could still be used, or was used by the request `request`.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn token(&self, hash: Digest, request: Digest) -> Result<TokenRow, StoreError> {
        let rows = self.db.fetch(TOKEN, &[hash.into()]).await?;
        let token = rows.first().map(token).transpose()?;
        Ok(token.filter(|token| token.usable_by(request)).unwrap_or_default())
    }

    /// Uses a token: its identity is enrolled (again), earlier certificates of it end, and the new
    /// one is good. The same request gets the same certificate again.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn redeem(
        &self,
        hash: Digest,
        request: Digest,
        new: &NewCertificate,
        address: &str,
    ) -> Result<Redeemed, StoreError> {
        let mut tries = 0;
        loop {
            match self.try_redeem(hash, request, new, address).await {
                Err(error) if try_again(&error, &mut tries).await => {}
                result => return result,
            }
        }
    }

    async fn try_redeem(
        &self,
        hash: Digest,
        request: Digest,
        new: &NewCertificate,
        address: &str,
    ) -> Result<Redeemed, StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "-- store.identities.redeem\n\
            UPDATE enrollment_tokens SET used_at_us = {now}, request = $2, fingerprint = $3 \
            WHERE hash = $1 AND used_at_us IS NULL AND expires_at_us > {now}";
        let values = [hash.into(), request.into(), new.fingerprint.into()];
        if tx.execute(sql, &values).await? == 0 {
            let token = read_token(&mut tx, hash).await?.filter(|token| token.usable_by(request));
            let Some(fingerprint) = token.and_then(|token| token.fingerprint) else {
                return Ok(Redeemed::Refused);
            };
            let rows = tx.fetch(CERTIFICATE, &[fingerprint.into()]).await?;
            let earlier = rows.first().map(certificate).transpose()?;
            let good = earlier.filter(|earlier| !earlier.revoked);
            return Ok(good.map_or(Redeemed::Refused, |earlier| Redeemed::Again(earlier.der)));
        }
        let (role, name) = (new.role.word(), new.name.as_str());
        let sql = "-- store.identities.enroll\n\
            INSERT INTO identities (role, name, enrolled_at_us) VALUES ($1, $2, {now}) \
            ON CONFLICT (role, name) DO UPDATE SET enrolled_at_us = excluded.enrolled_at_us, \
            revoked_at_us = NULL, revoked_by = NULL, reason = NULL";
        tx.execute(sql, &[role.into(), name.into()]).await?;
        let ended = end_certificates(&mut tx, new.role, &new.name).await?;
        insert_certificate(&mut tx, new).await?;
        if new.role == Role::Client {
            // Whoever worked under this name has no certificate any more: the new one need not wait.
            let sql = "-- store.identities.free_name\n\
                UPDATE clients SET instance = '' WHERE name = $1";
            tx.execute(sql, &[name.into()]).await?;
        }
        let target = format!("{role}/{name}");
        let by = By { who: target.clone(), address: address.to_owned() };
        let detail = format!("certificate {}; {ended} earlier ones ended", new.fingerprint);
        append(&mut tx, &by.did("enrolled", target, detail)).await?;
        tx.commit().await?;
        Ok(Redeemed::New)
    }

    /// Adds an identity's next certificate; of its earlier ones only `presented` stays good, which
    /// is in use until the next one is. `false` where `presented` has ended meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew_certificate(
        &self,
        presented: Digest,
        new: &NewCertificate,
        by: &By,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "-- store.identities.lock\n\
            SELECT name FROM identities WHERE role = $1 AND name = $2 AND revoked_at_us IS NULL \
            {for update}";
        let identity = [new.role.word().into(), new.name.as_str().into()];
        if tx.fetch(sql, &identity).await?.is_empty() {
            return Ok(false);
        }
        let rows = tx.fetch(CERTIFICATE, &[presented.into()]).await?;
        let held = rows.first().map(certificate).transpose()?;
        if held.is_none_or(|held| held.revoked || (held.role, &held.name) != (new.role, &new.name))
        {
            return Ok(false);
        }
        let sql = "-- store.identities.trim_certificates\n\
            DELETE FROM certificates WHERE role = $1 AND name = $2 AND fingerprint <> $3";
        let [role, name] = identity;
        tx.execute(sql, &[role, name, presented.into()]).await?;
        insert_certificate(&mut tx, new).await?;
        let detail = format!("certificate {}", new.fingerprint);
        let target = format!("{}/{}", new.role, new.name);
        append(&mut tx, &by.did("renewed", target, detail)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A certificate that we gave.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn certificate(
        &self,
        fingerprint: Digest,
    ) -> Result<Option<CertificateRow>, StoreError> {
        let rows = self.db.fetch(CERTIFICATE, &[fingerprint.into()]).await?;
        rows.first().map(certificate).transpose()
    }

    /// Whether an identity may come in with a certificate that another authority gave: unless it was
    /// revoked here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_revoked(&self, role: Role, name: &ClientName) -> Result<bool, StoreError> {
        let sql = "-- store.identities.is_revoked\n\
            SELECT name FROM identities WHERE role = $1 AND name = $2 AND revoked_at_us IS NOT NULL";
        let rows = self.db.fetch(sql, &[role.word().into(), name.as_str().into()]).await?;
        Ok(!rows.is_empty())
    }

    /// Cuts an identity off; how many of its certificates were good. One that is not known yet is
    /// written down as revoked: a certificate of another authority opens nothing for it either.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke(
        &self,
        role: Role,
        name: &ClientName,
        reason: &str,
        by: &By,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "-- store.identities.revoke\n\
            INSERT INTO identities (role, name, enrolled_at_us, revoked_at_us, revoked_by, reason) \
            VALUES ($1, $2, {now}, {now}, $3, $4) \
            ON CONFLICT (role, name) DO UPDATE SET revoked_at_us = excluded.revoked_at_us, \
            revoked_by = excluded.revoked_by, reason = excluded.reason";
        let values =
            [role.word().into(), name.as_str().into(), by.who.as_str().into(), reason.into()];
        tx.execute(sql, &values).await?;
        let ended = end_certificates(&mut tx, role, name).await?;
        let sql = "-- store.identities.revoke_tokens\n\
            UPDATE enrollment_tokens SET expires_at_us = {now} \
            WHERE role = $1 AND name = $2 AND expires_at_us > {now}";
        tx.execute(sql, &[role.word().into(), name.as_str().into()]).await?;
        append(&mut tx, &by.did("revoked", format!("{role}/{name}"), reason.to_owned())).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Who is revoked, of those who could still hold a certificate or a connection.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn revoked_certificates(&self) -> Result<Vec<Digest>, StoreError> {
        let sql = "-- store.identities.revoked\n\
            SELECT fingerprint FROM certificates \
            WHERE revoked_at_us IS NOT NULL AND not_after_us > {now}";
        let rows = self.db.fetch(sql, &[]).await?;
        rows.iter().map(|row| Fields::of("certificates", row).parsed("fingerprint")).collect()
    }

    /// Who is revoked, as `ROLE/NAME`: also those whose certificate another authority gave.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn revoked_identities(&self) -> Result<Vec<String>, StoreError> {
        let sql = "-- store.identities.revoked_names\n\
            SELECT role, name FROM identities WHERE revoked_at_us IS NOT NULL";
        let who = |row: &Row| {
            let fields = Fields::of("identities", row);
            Ok(format!("{}/{}", fields.text("role")?, fields.text("name")?))
        };
        self.db.fetch(sql, &[]).await?.iter().map(who).collect()
    }

    /// Everybody, by role and name.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn identities(&self) -> Result<Vec<IdentityRow>, StoreError> {
        let sql = "-- store.identities.all\n\
            SELECT i.role, i.name, i.enrolled_at_us, i.revoked_at_us, i.revoked_by, i.reason, \
            MAX(c.not_after_us) AS not_after_us FROM identities i \
            LEFT JOIN certificates c ON c.role = i.role AND c.name = i.name \
            AND c.revoked_at_us IS NULL \
            GROUP BY i.role, i.name, i.enrolled_at_us, i.revoked_at_us, i.revoked_by, i.reason \
            ORDER BY i.role, i.name";
        let rows = self.db.fetch(sql, &[]).await?;
        let identity = |row: &Row| {
            let fields = Fields::of("identities", row);
            let text = |column| -> Result<String, StoreError> {
                Ok(fields.optional_text(column)?.unwrap_or_default().to_owned())
            };
            Ok(IdentityRow {
                role: fields.parsed("role")?,
                name: fields.parsed("name")?,
                enrolled_at_us: fields.int("enrolled_at_us")?,
                not_after_us: fields.optional_int("not_after_us")?.unwrap_or(0),
                revoked_at_us: fields.optional_int("revoked_at_us")?,
                revoked_by: text("revoked_by")?,
                reason: text("reason")?,
            })
        };
        rows.iter().map(identity).collect()
    }
}

const TOKEN: &str = "-- store.identities.token\n\
    SELECT hash, role, name, expires_at_us, used_at_us, request, fingerprint, {now} AS now_us \
    FROM enrollment_tokens WHERE hash = $1";

const CERTIFICATE: &str = "-- store.identities.certificate\n\
    SELECT c.fingerprint, c.role, c.name, c.der, c.revoked_at_us, i.revoked_at_us AS cut_at_us \
    FROM certificates c JOIN identities i ON i.role = c.role AND i.name = c.name \
    WHERE c.fingerprint = $1";

async fn read_token(tx: &mut Tx, hash: Digest) -> Result<Option<TokenRow>, StoreError> {
    tx.fetch(TOKEN, &[hash.into()]).await?.first().map(token).transpose()
}

fn token(row: &Row) -> Result<TokenRow, StoreError> {
    let fields = Fields::of("enrollment_tokens", row);
    let expires_at_us = fields.int("expires_at_us")?;
    Ok(TokenRow {
        grants: Some((fields.parsed("role")?, fields.parsed("name")?)),
        expires_at_us,
        in_time: expires_at_us > fields.int("now_us")?,
        request: fields.optional_parsed("request")?,
        fingerprint: fields.optional_parsed("fingerprint")?,
    })
}

fn certificate(row: &Row) -> Result<CertificateRow, StoreError> {
    let fields = Fields::of("certificates", row);
    let ended = fields.optional_int("revoked_at_us")?.is_some();
    Ok(CertificateRow {
        role: fields.parsed("role")?,
        name: fields.parsed("name")?,
        der: fields.text("der")?.to_owned(),
        revoked: ended || fields.optional_int("cut_at_us")?.is_some(),
    })
}

async fn end_certificates(tx: &mut Tx, role: Role, name: &ClientName) -> Result<u64, StoreError> {
    let sql = "-- store.identities.end_certificates\n\
        UPDATE certificates SET revoked_at_us = {now} \
        WHERE role = $1 AND name = $2 AND revoked_at_us IS NULL AND not_after_us > {now}";
    tx.execute(sql, &[role.word().into(), name.as_str().into()]).await
}

async fn insert_certificate(tx: &mut Tx, new: &NewCertificate) -> Result<(), StoreError> {
    let sql = "-- store.identities.insert_certificate\n\
        INSERT INTO certificates (fingerprint, role, name, der, issued_at_us, not_after_us) \
        VALUES ($1, $2, $3, $4, {now}, $5)";
    let values: [Value; 5] = [
        new.fingerprint.into(),
        new.role.word().into(),
        new.name.as_str().into(),
        new.der.as_str().into(),
        new.not_after_us.into(),
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}

impl By {
    /// Something that was done.
    #[must_use]
    pub fn did(&self, action: &'static str, target: String, detail: String) -> AuditEvent {
        AuditEvent { by: self.clone(), action, target, refused: false, detail }
    }

    /// Something that was refused.
    #[must_use]
    pub fn refused(&self, action: &'static str, target: String, detail: String) -> AuditEvent {
        AuditEvent { by: self.clone(), action, target, refused: true, detail }
    }
}
