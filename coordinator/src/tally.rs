//! How many of something each one holds, up to a bound; who holds none takes no memory.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Counts by key.
pub(crate) struct Tally<K>(HashMap<K, u32>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Tally<K> {
    /// One more of this key, where it has fewer than `most`; whether there was room.
    pub(crate) fn add<Q>(&mut self, key: &Q, most: u32) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let count = self.of(key);
        if count >= most {
            return false;
        }
        self.0.insert(key.to_owned(), count + 1);
        true
    }

    /// One less of this key.
    pub(crate) fn take<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        match self.0.get_mut(key) {
            Some(count @ 2..) => *count -= 1,
            _ => {
                self.0.remove(key);
            }
        }
    }

    /// How many this key has.
    pub(crate) fn of<Q>(&self, key: &Q) -> u32
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn each_has_its_own_bound_and_who_has_none_is_forgotten() {
        let mut tally = Tally::<String>::default();
        assert!(tally.add("eve", 2) && tally.add("eve", 2));
        assert!(!tally.add("eve", 2), "her two");
        assert!(tally.add("adam", 2));
        assert_eq!((tally.of("eve"), tally.of("adam"), tally.of("abel")), (2, 1, 0));
        tally.take("eve");
        assert!(tally.add("eve", 2));
        for who in ["eve", "eve", "adam", "abel", "adam"] {
            tally.take(who);
        }
        assert_eq!(tally.of("adam"), 0, "never below nothing");
        assert!(tally.0.is_empty());
    }
}
