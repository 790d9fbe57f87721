//! The audit: administrative acts and security events, one hash chain for the whole federation,
//! whichever replica appends.

use tributary_core::audit::{AuditChain, AuditLine, genesis};
use tributary_core::digest::Digest;

use super::Store;
use super::database::{Tx, try_again};
use super::decode::{Fields, int};
use super::error::StoreError;
use super::rows::AuditEvent;
use super::sql::Row;

/// Longest text of any field of a line: a hostile peer's words are part of some.
const TEXT_CHARS_MAX: usize = 300;
/// Lines that a check reads at once.
const PAGE: u32 = 1000;

impl Store {
    /// Appends one line.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, event: &AuditEvent) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let appended = async {
                let mut tx = self.db.begin().await?;
                append(&mut tx, event).await?;
                tx.commit().await
            };
            match appended.await {
                Err(error) if try_again(&error, &mut tries).await => {}
                result => return result,
            }
        }
    }

    /// Lines behind a sequence number, ascending.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn audit_lines(&self, after: u64, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let sql = "-- store.audit.lines\n\
            SELECT * FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = self.db.fetch(sql, &[after.into(), limit.into()]).await?;
        rows.iter().map(line).collect()
    }

    /// The newest line's number and digest; 0 and the chain's beginning where there is none.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn audit_head(&self) -> Result<(u64, Digest), StoreError> {
        let rows = self.db.fetch(HEAD, &[]).await?;
        let Some(row) = rows.first() else { return Ok((0, genesis())) };
        let fields = Fields::of("audit_head", row);
        Ok((fields.number("sequence")?, fields.parsed("digest")?))
    }

    /// Recomputes the chain; the first sequence number that does not fit, if any does not.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn verify_audit(&self) -> Result<Option<u64>, StoreError> {
        let mut chain = AuditChain::default();
        loop {
            let page = self.audit_lines(chain.sequence, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for line in page {
                if !chain.follow(&line) {
                    return Ok(Some(chain.sequence + 1));
                }
            }
        }
        let (_, head) = self.audit_head().await?;
        Ok((head != chain.digest).then_some(chain.sequence + 1))
    }
}

const HEAD: &str = "-- store.audit.head\nSELECT id, sequence, digest FROM audit_head WHERE id = 1";

/// Appends one line within a transaction. The head's row is locked until it ends, so this comes last.
pub(super) async fn append(tx: &mut Tx, event: &AuditEvent) -> Result<(), StoreError> {
    let sql = "-- store.audit.begin\n\
        INSERT INTO audit_head (id, sequence, digest) VALUES (1, 0, $1) ON CONFLICT (id) DO NOTHING";
    tx.execute(sql, &[genesis().into()]).await?;
    let sql = "-- store.audit.lock_head\n\
        SELECT id, sequence, digest, {now} AS now_us FROM audit_head WHERE id = 1 {for update}";
    let rows = tx.fetch(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let head = Fields::of("audit_head", row);
    let bounded = |text: &str| -> String {
        text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
    };
    let mut line = AuditLine {
        sequence: head.number::<u64>("sequence")? + 1,
        at_us: head.int("now_us")?,
        actor: bounded(&event.by.who),
        address: bounded(&event.by.address),
        action: event.action.to_owned(),
        target: bounded(&event.target),
        outcome: if event.refused { "refused" } else { "done" }.to_owned(),
        detail: bounded(&event.detail),
        digest: genesis(),
    };
    line.digest = line.digest_after(head.parsed("digest")?);
    let sql = "-- store.audit.append\n\
        INSERT INTO audit (sequence, at_us, actor, address, action, target, outcome, detail, digest) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let sequence = int("sequence", line.sequence)?;
    let values = [
        sequence.into(),
        line.at_us.into(),
        line.actor.into(),
        line.address.into(),
        line.action.into(),
        line.target.into(),
        line.outcome.into(),
        line.detail.into(),
        line.digest.into(),
    ];
    tx.execute(sql, &values).await?;
    let sql = "-- store.audit.move_head\n\
        UPDATE audit_head SET sequence = $1, digest = $2 WHERE id = 1";
    tx.execute(sql, &[sequence.into(), line.digest.into()]).await?;
    Ok(())
}

fn line(row: &Row) -> Result<AuditLine, StoreError> {
    let fields = Fields::of("audit", row);
    let text = |column| fields.text(column).map(str::to_owned);
    Ok(AuditLine {
        sequence: fields.number("sequence")?,
        at_us: fields.int("at_us")?,
        actor: text("actor")?,
        address: text("address")?,
        action: text("action")?,
        target: text("target")?,
        outcome: text("outcome")?,
        detail: text("detail")?,
        digest: fields.parsed("digest")?,
    })
}
