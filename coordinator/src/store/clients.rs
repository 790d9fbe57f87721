//! Clients: what they said of themselves, when they were seen, which of an identity's processes is
//! listened to, and the roster of a job.

use std::time::Duration;

use tributary_core::binding::{Binding, DataNeed};
use tributary_core::instance::{Relation, relation};
use tributary_core::name::{ClientName, JobId};
use tributary_core::round::cohort::{Member, Roster};

use super::Store;
use super::database::Tx;
use super::decode::{Fields, json};
use super::error::StoreError;
use super::rows::{ClientHello, ClientRow, Greeting};
use super::sql::Row;

/// A client that was seen within this time is present: longer than a poll waits. So long its identity
/// is held against another agent.
pub const IDENTITY_HELD: Duration = Duration::from_secs(45);
/// The same, as the database counts.
const PRESENCE_US: i64 = IDENTITY_HELD.as_micros() as i64;
/// How often a hello is tried where another one of the same name comes in between.
const TRIES: usize = 3;
/// A poll that changes nothing is written down at most this often.
const SEEN_US: i64 = 5_000_000;

impl Store {
    /// Takes what a client says of itself. Another agent with the same identity is refused while the
    /// first one is heard; the same agent, started again, is not.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn hello(&self, hello: &ClientHello) -> Result<Greeting, StoreError> {
        for _ in 0..TRIES {
            if let Some(greeting) = self.try_hello(hello).await? {
                return Ok(greeting);
            }
        }
        Ok(Greeting::InUse)
    }

    /// `None` where another process's hello came in between.
    async fn try_hello(&self, hello: &ClientHello) -> Result<Option<Greeting>, StoreError> {
        let bindings = json(&hello.bindings)?;
        let sql = "-- store.clients.look\n\
            SELECT name, instance, version, bindings, protocol, last_seen_us, {now} AS now_us \
            FROM clients WHERE name = $1";
        let rows = self.db.fetch(sql, &[hello.name.as_str().into()]).await?;
        let mut greeting = Greeting::Changed;
        let mut held = hello.instance.clone();
        if let Some(row) = rows.first() {
            let fields = Fields::of("clients", row);
            let silent_us = fields.int("now_us")? - fields.int("last_seen_us")?;
            held = fields.text("instance")?.to_owned();
            // Enrolled anew: whoever was here before has no certificate any more.
            let free = held.is_empty() || silent_us > PRESENCE_US;
            if !free && relation(&held, &hello.instance) == Relation::Other {
                return Ok(Some(Greeting::InUse));
            }
            let same = held == hello.instance
                && fields.text("version")? == hello.version
                && fields.int("protocol")? == i64::from(hello.protocol)
                && fields.text("bindings")? == bindings;
            if same && silent_us < SEEN_US {
                return Ok(Some(Greeting::Known));
            }
            if same && silent_us <= PRESENCE_US {
                greeting = Greeting::Known;
            }
        }
        let sql = "-- store.clients.hello\n\
            INSERT INTO clients (name, instance, version, bindings, protocol, first_seen_us, \
            last_seen_us) VALUES ($1, $2, $3, $4, $5, {now}, {now}) \
            ON CONFLICT (name) DO UPDATE SET instance = excluded.instance, \
            version = excluded.version, bindings = excluded.bindings, \
             protocol = excluded.protocol, \
             last_seen_us = excluded.last_seen_us WHERE clients.instance = $6";
        let values = [
            hello.name.as_str().into(),
            hello.instance.as_str().into(),
            hello.version.as_str().into(),
            bindings.into(),
            hello.protocol.into(),
            held.into(),
        ];
        let written = self.db.execute(sql, &values).await?;
        Ok((written > 0).then_some(greeting))
    }

    /// A client gave a sign of life other than a poll.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seen(&self, client: &ClientName) -> Result<(), StoreError> {
        let sql = "-- store.clients.look_seen\n\
            SELECT name FROM clients WHERE name = $1 AND last_seen_us < {now} - $2";
        let values = [client.as_str().into(), SEEN_US.into()];
        if self.db.fetch(sql, &values).await?.is_empty() {
            return Ok(());
        }
        let sql = "-- store.clients.seen\nUPDATE clients SET last_seen_us = {now} WHERE name = $1";
        self.db.execute(sql, &[client.as_str().into()]).await?;
        Ok(())
    }

    /// All clients by name. One that is cut off is not present.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn clients(&self) -> Result<Vec<ClientRow>, StoreError> {
        let rows = self.db.fetch(ALL, &[]).await?;
        let listed = |row| {
            let mut client = client(row)?;
            client.present &= Fields::of("clients", row).int("cut_off")? == 0;
            Ok(client)
        };
        rows.iter().map(listed).collect()
    }
}

const ALL: &str = "-- store.clients.all\n\
    SELECT c.*, {now} AS now_us, (SELECT COUNT(*) FROM identities i WHERE i.role = 'client' \
    AND i.name = c.name AND i.revoked_at_us IS NOT NULL) AS cut_off FROM clients c ORDER BY name";

fn client(row: &Row) -> Result<ClientRow, StoreError> {
    let fields = Fields::of("clients", row);
    let last_seen_us = fields.int("last_seen_us")?;
    Ok(ClientRow {
        hello: ClientHello {
            name: fields.parsed("name")?,
            instance: fields.text("instance")?.to_owned(),
            version: fields.text("version")?.to_owned(),
            protocol: fields.number("protocol")?,
            bindings: fields.json("bindings")?,
        },
        first_seen_us: fields.int("first_seen_us")?,
        last_seen_us,
        present: fields.int("now_us")? - last_seen_us <= PRESENCE_US,
    })
}

/// The clients that are neither revoked nor refused the job.
const ADMITTED: &str = "-- store.clients.admitted\n\
    SELECT c.*, {now} AS now_us FROM clients c \
    WHERE NOT EXISTS (SELECT 1 FROM identities i WHERE i.role = 'client' AND i.name = c.name \
    AND i.revoked_at_us IS NOT NULL) \
    AND NOT EXISTS (SELECT 1 FROM refusals r WHERE r.job = $1 AND r.client = c.name) ORDER BY name";

/// Who could take part in a job: the admitted clients that understand it, with a data set that it can
/// use.
pub(super) async fn roster(
    tx: &mut Tx,
    job: &JobId,
    need: &DataNeed,
) -> Result<Roster, StoreError> {
    let mut members = Vec::new();
    for row in tx.fetch(ADMITTED, &[job.as_str().into()]).await? {
        let client = client(&row)?;
        if client.hello.protocol < need.protocol {
            continue;
        }
        let fits = |binding: &&Binding| need.met_by(binding);
        // The first data set that fits is the one that the client's trainer takes.
        if let Some(binding) = client.hello.bindings.iter().find(fits) {
            members.push(Member {
                name: client.hello.name.clone(),
                train_examples: binding.train_examples,
                evaluate_examples: binding.evaluate_examples,
                present: client.present,
            });
        }
    }
    Ok(Roster::new(members))
}
