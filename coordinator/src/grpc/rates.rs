//! How often: a budget of requests for every identity, every network without one, and everybody
//! together; and lines of the audit that a hostile peer cannot multiply.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Caller;
use crate::config::Limits;
use crate::store::AuditEvent;

/// Identities and networks whose budget is remembered; beyond it those that are full again go, and
/// while all are in use the newcomers share one.
const BUDGETS_MAX: usize = 65_536;
/// A budget holds the requests of this many seconds: a reconnecting client asks a few at once.
const BURST_S: f64 = 2.0;
/// The budget of newcomers while no more can be remembered. No identity and no address is empty.
const SHARED: &str = "";
/// Refusals of one kind by one peer are one line of the audit in this time.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Kinds and peers that are remembered.
const NOTES_MAX: usize = 4096;

/// What is left of somebody's budget.
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn full(per_s: f64, now: Instant) -> Self {
        Self { left: per_s * BURST_S, at: now }
    }

    fn take(&mut self, per_s: f64, now: Instant) -> Result<(), ()> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * per_s).min(per_s * BURST_S);
        self.at = now;
        if self.left < 1.0 {
            return Err(());
        }
        self.left -= 1.0;
        Ok(())
    }
}

/// The budgets that are remembered.
#[derive(Default)]
struct Budgets {
    of: HashMap<String, Budget>,
    /// When those that are full again were last forgotten: looking at all of them at every call
    /// would be a flood's work done by us.
    swept: Option<Instant>,
    all: Option<Budget>,
}

/// The budgets of all.
pub(super) struct Rates {
    member_per_s: f64,
    unknown_per_s: f64,
    all_per_s: f64,
    most: usize,
    budgets: Mutex<Budgets>,
}

impl Rates {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            member_per_s: limits.requests_per_s.into(),
            unknown_per_s: limits.unknown_requests_per_s.into(),
            all_per_s: limits.all_requests_per_s.into(),
            most: BUDGETS_MAX,
            budgets: Mutex::default(),
        }
    }

    /// Takes one request from the caller's budget, and one from everybody's.
    pub(super) fn take(&self, caller: &Caller) -> Result<(), ()> {
        let Some(key) = caller.key() else { return Ok(()) };
        let per_s = match caller {
            Caller::Member { .. } => self.member_per_s,
            _ => self.unknown_per_s,
        };
        self.take_at(key, per_s, Instant::now())
    }

    fn take_at(&self, key: String, per_s: f64, now: Instant) -> Result<(), ()> {
        let mut budgets = lock(&self.budgets);
        let budgets = &mut *budgets;
        let refilled = Duration::from_secs_f64(BURST_S);
        let known = budgets.of.contains_key(&key);
        if !known && budgets.of.len() >= self.most {
            let due = budgets.swept.is_none_or(|at| now.saturating_duration_since(at) >= refilled);
            if due {
                budgets.swept = Some(now);
                budgets.of.retain(|_, b| now.saturating_duration_since(b.at) < refilled);
            }
        }
        let key = if known || budgets.of.len() < self.most { key } else { SHARED.to_owned() };
        // One's own first: who asks too often takes nothing from the others.
        budgets.of.entry(key).or_insert_with(|| Budget::full(per_s, now)).take(per_s, now)?;
        let all = budgets.all.get_or_insert_with(|| Budget::full(self.all_per_s, now));
        all.take(self.all_per_s, now)
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
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{NOTE_EVERY, Notes, Rates, lock};
    use crate::config::Limits;
    use crate::store::By;

    #[test]
    fn a_budget_is_used_up_and_comes_back() {
        let rates = Rates::new(&Limits::default());
        let start = Instant::now();
        let take = |key: &str, at| rates.take_at(key.to_owned(), 10.0, at);
        let used = (0..100).filter(|_| take("eve", start).is_ok()).count();
        assert_eq!(used, 20, "two seconds' worth");
        assert!(take("adam", start).is_ok(), "each has its own");
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| take("eve", later).is_ok()).count(), 10);
    }

    #[test]
    fn a_flood_from_everywhere_shares_one_budget_and_is_looked_through_once() {
        let mut rates = Rates::new(&Limits::default());
        rates.most = 10;
        let start = Instant::now();
        let take = |key: String| rates.take_at(key, 10.0, start).is_ok();
        let taken = (0..1000).filter(|i| take(format!("10.0.0.{i}"))).count();
        assert_eq!(taken, 10 + 20, "ten with a budget of their own, the rest with one");
        assert_eq!(lock(&rates.budgets).of.len(), 11);
        assert_eq!(lock(&rates.budgets).swept, Some(start));
        assert!(take("10.0.0.3".to_owned()), "who is known keeps its own");
        let later = start + Duration::from_secs(3);
        assert!(rates.take_at("new".to_owned(), 10.0, later).is_ok());
        assert_eq!(lock(&rates.budgets).of.len(), 1, "those that are full again are forgotten");
    }

    #[test]
    fn everybody_together_has_a_budget_too() {
        let limits = Limits { all_requests_per_s: 5, ..Limits::default() };
        let rates = Rates::new(&limits);
        let start = Instant::now();
        let take = |i: usize| rates.take_at(format!("site-{i}"), 10.0, start).is_ok();
        assert_eq!((0..100).filter(|i| take(*i)).count(), 10, "two seconds' worth");
    }

    #[test]
    fn refusals_of_a_kind_are_one_line_a_minute() {
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
