//! How many: connections in all, handshakes in all and of one network, connections of one identity,
//! and of one network without an identity.
//! A place is given back when whoever holds it is dropped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tributary_core::digest::Digest;

use crate::authority::Member;
use crate::tally::Tally;

#[derive(Default)]
struct State {
    connections: u32,
    handshakes: u32,
    handshakes_of: Tally<IpAddr>,
    peers: Tally<String>,
    unknown_of: Tally<IpAddr>,
    /// The connections of members, by the number of their place.
    members: HashMap<u64, Joined>,
    next: u64,
}

/// A member's connection.
struct Joined {
    who: String,
    certificate: Digest,
    /// The certificate's end.
    end_s: i64,
    cut: CancellationToken,
}

/// Who is to be cut.
pub(super) struct Bad {
    /// Certificates of ours that were revoked.
    pub(super) certificates: Vec<Digest>,
    /// Identities, as `ROLE/NAME`, whoever gave their certificates.
    pub(super) identities: Vec<String>,
    /// Certificates that ended before this are past.
    pub(super) past_s: i64,
}

/// The counts of one port.
#[derive(Default)]
pub(super) struct Counts(Mutex<State>);

/// A place that is given back when dropped.
pub(super) struct Counted {
    counts: Arc<Counts>,
    place: Place,
}

enum Place {
    Connection,
    Handshake(IpAddr),
    Peer { who: String, member: Option<u64>, unknown: Option<IpAddr> },
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(counts: &Arc<Self>, place: Place) -> Counted {
        Counted { counts: counts.clone(), place }
    }

    /// A connection, where fewer than `most` are open.
    pub(super) fn connection(counts: &Arc<Self>, most: u32) -> Option<Counted> {
        let mut state = counts.lock();
        if state.connections >= most {
            return None;
        }
        state.connections += 1;
        Some(Self::counted(counts, Place::Connection))
    }

    /// A handshake, where fewer than `most` go on in all, and `of_one` of this address's network.
    pub(super) fn handshake(
        counts: &Arc<Self>,
        from: IpAddr,
        most: u32,
        of_one: u32,
    ) -> Option<Counted> {
        let (from, mut state) = (network(from), counts.lock());
        if state.handshakes >= most || !state.handshakes_of.add(&from, of_one) {
            return None;
        }
        state.handshakes += 1;
        Some(Self::counted(counts, Place::Handshake(from)))
    }

    /// A connection of a member, where they have fewer than `most`; `cut` ends it.
    pub(super) fn member(
        counts: &Arc<Self>,
        member: &Member,
        most: u32,
        cut: CancellationToken,
    ) -> Option<Counted> {
        let mut state = counts.lock();
        let who = format!("{}/{}", member.identity.role, member.identity.name);
        if !state.peers.add(&who, most) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        let (certificate, end_s) = (member.fingerprint, member.not_after_s);
        state.members.insert(number, Joined { who: who.clone(), certificate, end_s, cut });
        let member = Some(number);
        Some(Self::counted(counts, Place::Peer { who, member, unknown: None }))
    }

    /// A connection without a certificate, where there are fewer than `most` in all, and `of_one`
    /// of this address's network.
    pub(super) fn unknown(
        counts: &Arc<Self>,
        from: IpAddr,
        most: u32,
        of_one: u32,
    ) -> Option<Counted> {
        let (from, mut state) = (network(from), counts.lock());
        // No member is called nothing.
        let who = String::new();
        if state.peers.of(&who) >= most || !state.unknown_of.add(&from, of_one) {
            return None;
        }
        state.peers.add(&who, most);
        Some(Self::counted(counts, Place::Peer { who, member: None, unknown: Some(from) }))
    }

    /// Cuts the connections of those who are good no longer; how many there were.
    pub(super) fn cut(&self, bad: &Bad) -> usize {
        let state = self.lock();
        let live = state.members.values().filter(|joined| !joined.cut.is_cancelled());
        let cut = live.filter(|joined| {
            joined.end_s < bad.past_s
                || bad.certificates.contains(&joined.certificate)
                || bad.identities.contains(&joined.who)
        });
        cut.map(|joined| joined.cut.cancel()).count()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.counts.lock();
        match &self.place {
            Place::Connection => state.connections = state.connections.saturating_sub(1),
            Place::Handshake(from) => {
                state.handshakes = state.handshakes.saturating_sub(1);
                state.handshakes_of.take(from);
            }
            Place::Peer { who, member, unknown } => {
                state.peers.take(who);
                if let Some(from) = unknown {
                    state.unknown_of.take(from);
                }
                if let Some(number) = member {
                    state.members.remove(number);
                }
            }
        }
    }
}

/// What counts as one place to call from: an IPv4 address, or the 64 bits of an IPv6 one that a site
/// is given as a whole.
pub(in crate::grpc) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;
    use tributary_core::digest::Digest;

    use super::{Bad, Counts};
    use crate::authority::Member;

    #[test]
    fn places_are_bounded_and_come_back() {
        let counts = Arc::new(Counts::default());
        let one = Counts::connection(&counts, 2).expect("a place");
        let _two = Counts::connection(&counts, 2).expect("a place");
        assert!(Counts::connection(&counts, 2).is_none());
        drop(one);
        assert!(Counts::connection(&counts, 2).is_some());
        let (a, b) = ("10.0.0.1".parse().expect("a"), "10.0.0.2".parse().expect("b"));
        let _first = Counts::handshake(&counts, a, 9, 1).expect("a's");
        assert!(Counts::handshake(&counts, a, 9, 1).is_none(), "a has its one");
        assert!(Counts::handshake(&counts, b, 9, 1).is_some(), "b is another");
    }

    #[test]
    fn nobody_s_connections_are_counted_by_network() {
        let counts = Arc::new(Counts::default());
        let from = |text: &str| text.parse().expect("an address");
        let take = |text: &str| Counts::unknown(&counts, from(text), 3, 2);
        let first = take("2001:db8:1:2::1").expect("one");
        let _second = take("2001:db8:1:2:ffff::9").expect("two");
        assert!(take("2001:db8:1:2:3::7").is_none(), "the same 64 bits");
        let _third = take("2001:db8:1:3::1").expect("another network");
        assert!(take("10.0.0.1").is_none(), "three in all");
        drop(first);
        assert!(take("::ffff:10.0.0.1").is_some());
        assert_eq!(super::network(from("::ffff:10.0.0.1")), from("10.0.0.1"));
    }

    #[test]
    fn revoked_and_long_past_certificates_are_cut_and_no_others() {
        let counts = Arc::new(Counts::default());
        let join = |name: &str, not_after_s| {
            let identity = format!("spiffe://f/client/{name}").parse().expect("an identity");
            let fingerprint = Digest::of(name.as_bytes());
            let member = Member { identity, fingerprint, not_after_s };
            let cut = CancellationToken::new();
            (Counts::member(&counts, &member, 1, cut.clone()).expect("a place"), cut)
        };
        let (good, past, revoked) = (join("good", 100), join("past", 10), join("revoked", 100));
        // Its certificate is another authority's: it is in no table of ours.
        let external = join("external", 100);
        let bad = Bad {
            certificates: vec![Digest::of(b"revoked"), Digest::of(b"gone")],
            identities: vec!["client/external".to_owned(), "viewer/good".to_owned()],
            past_s: 50,
        };
        assert_eq!(counts.cut(&bad), 3);
        assert!(past.1.is_cancelled() && revoked.1.is_cancelled() && external.1.is_cancelled());
        assert!(!good.1.is_cancelled(), "another role's name");
        assert_eq!(counts.cut(&bad), 0, "each once");
    }
}
