//! How often: a budget of requests for every identity and every address without one, and lines of
//! the audit that a hostile peer cannot multiply.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Caller;
use crate::config::Limits;
use crate::store::AuditEvent;

/// Identities and addresses whose budget is remembered; beyond it those that are full again go.
const BUDGETS_MAX: usize = 65_536;
/// A budget holds the requests of this many seconds: a reconnecting client asks a few at once.
const BURST_S: f64 = 2.0;
/// Refusals of one kind by one peer are one line of the audit in this time.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Kinds and peers that are remembered.
const NOTES_MAX: usize = 4096;

/// What is left of somebody's budget.
struct Budget {
    left: f64,
    at: Instant,
}

/// The budgets of all.
pub(super) struct Rates {
    member_per_s: f64,
    unknown_per_s: f64,
    budgets: Mutex<HashMap<String, Budget>>,
}

impl Rates {
    pub(super) fn new(limits: &Limits) -> Self {
        let (member_per_s, unknown_per_s) =
            (limits.requests_per_s.into(), limits.unknown_requests_per_s.into());
        Self { member_per_s, unknown_per_s, budgets: Mutex::default() }
    }

    /// Takes one request from the caller's budget.
    pub(super) fn take(&self, caller: &Caller) -> Result<(), ()> {
        let (key, per_s) = match caller {
            Caller::Local => return Ok(()),
            Caller::Unknown(address) => (address.clone(), self.unknown_per_s),
            Caller::Member { .. } => (caller.by().who, self.member_per_s),
        };
        self.take_at(key, per_s, Instant::now())
    }

    fn take_at(&self, key: String, per_s: f64, now: Instant) -> Result<(), ()> {
        let mut budgets = lock(&self.budgets);
        let full = per_s * BURST_S;
        if budgets.len() >= BUDGETS_MAX {
            let refilled = Duration::from_secs_f64(BURST_S);
            budgets.retain(|_, budget| now.saturating_duration_since(budget.at) < refilled);
        }
        let budget = budgets.entry(key).or_insert(Budget { left: full, at: now });
        let since = now.saturating_duration_since(budget.at).as_secs_f64();
        budget.left = (budget.left + since * per_s).min(full);
        budget.at = now;
        if budget.left < 1.0 {
            return Err(());
        }
        budget.left -= 1.0;
        Ok(())
    }
}

/// When a kind of refusal was last written, and how many came since.
type Noted = HashMap<(String, String, &'static str), (Instant, u64)>;

/// What was written of refusals lately.
#[derive(Default)]
pub(super) struct Notes(Mutex<Noted>);

impl Notes {
    /// The event as it is to be written, if it is.
    pub(super) fn thin(&self, event: AuditEvent) -> Option<AuditEvent> {
        self.thin_at(event, Instant::now())
    }

    fn thin_at(&self, mut event: AuditEvent, now: Instant) -> Option<AuditEvent> {
        if !event.refused {
            return Some(event);
        }
        let mut noted = lock(&self.0);
        if noted.len() >= NOTES_MAX {
            noted.retain(|_, (at, _)| now.saturating_duration_since(*at) < NOTE_EVERY);
            // All of them are fresh: a flood from everywhere. It is not written down one by one.
            if noted.len() >= NOTES_MAX {
                return None;
            }
        }
        let key = (event.by.who.clone(), event.by.address.clone(), event.action);
        match noted.get_mut(&key) {
            Some((at, more)) if now.saturating_duration_since(*at) < NOTE_EVERY => {
                *more += 1;
                None
            }
            found => {
                if let Some((_, more @ 1..)) = found {
                    event.detail = format!("{}; {more} more like it since the last", event.detail);
                }
                noted.insert(key, (now, 0));
                Some(event)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{NOTE_EVERY, Notes, Rates};
    use crate::config::Limits;
    use crate::store::By;

    #[test]
    fn a_budget_runs_out_refills_and_is_somebody_s_own() {
        let rates = Rates::new(&Limits::default());
        let start = Instant::now();
        let take = |who: &str, at| rates.take_at(who.to_owned(), 5.0, at);
        assert_eq!((0..20).filter(|_| take("a", start).is_ok()).count(), 10, "two seconds' worth");
        assert!(take("b", start).is_ok(), "another's is untouched");
        let later = start + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| take("a", later).is_ok()).count(), 5);
    }

    #[test]
    fn refusals_of_one_kind_are_one_line_with_a_count() {
        let notes = Notes::default();
        let by = By { who: "client/a".to_owned(), address: "10.0.0.1".to_owned() };
        let event = || by.refused("denied", "x".to_owned(), "no".to_owned());
        let start = Instant::now();
        assert!(notes.thin_at(event(), start).is_some());
        assert!((0..100).all(|_| notes.thin_at(event(), start).is_none()));
        let done = by.did("revoked", "x".to_owned(), String::new());
        assert!(notes.thin_at(done, start).is_some(), "what was done is always written");
        let later = notes.thin_at(event(), start + NOTE_EVERY).expect("written again");
        assert!(later.detail.contains("100 more"), "{}", later.detail);
    }
}
