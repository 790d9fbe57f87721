//! Rules that a simulation can have broken, so that it is seen to find what it looks for. Builds without
//! the feature `simulation` keep all of them.

/// A rule of the coordinator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A driver that lost its lease writes nothing.
    Fence,
    /// A round that is closed accepts nothing.
    Close,
    /// A receipt is given behind the commit of what it is for.
    Receipt,
    /// A receipt's outcome stands beside it once its round or job has ended.
    Outcome,
}

#[cfg(feature = "simulation")]
std::thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Breaks a rule on this thread, or none.
#[cfg(feature = "simulation")]
pub fn break_rule(rule: Option<Rule>) {
    BROKEN.set(rule);
}

/// Whether drivers are held to their leases, as they are but where [`Rule::Fence`] is broken.
pub(crate) fn fences() -> bool {
    !is_broken(Rule::Fence)
}

/// Whether a rule is broken on purpose.
pub(crate) fn is_broken(rule: Rule) -> bool {
    #[cfg(feature = "simulation")]
    return BROKEN.get() == Some(rule);
    #[cfg(not(feature = "simulation"))]
    {
        let _ = rule;
        false
    }
}
