//! What this site agrees to: which jobs, whose, how large, when. The site has the last word; what it
//! refuses is told to the coordinator with the reason, and is not asked of it again.

use std::time::{Duration, SystemTime};

use tributary_core::document::Section;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::SiteSums;

/// Most patterns in one list.
const PATTERNS_MAX: usize = 1000;
/// Minutes of a day.
const DAY_MIN: u32 = 24 * 60;

/// A site's `[policy]`. The default agrees to everything, as a site without one does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Names of jobs, each with an optional `*` at its end; none for all.
    pub jobs: Vec<String>,
    /// Operators (`ROLE/NAME`, or a name alone) whose jobs are accepted; none for all.
    pub operators: Vec<String>,
    /// Most passes over the data in a round.
    pub local_epochs_max: Option<u32>,
    /// Largest batch.
    pub batch_size_max: Option<u32>,
    /// Largest model.
    pub parameters_max: Option<u64>,
    /// Most rounds of a job.
    pub rounds_max: Option<u32>,
    /// A round must wait for at least so many updates: one among few could be told from the rest.
    pub min_updates: Option<u32>,
    /// Whether jobs may ask for sums of the rows before their first round; yes where it is not said.
    pub statistics: Option<bool>,
    /// Sums of fewer rows are not given.
    pub statistics_rows_min: Option<u64>,
    /// Words and characters that come less often are not told.
    pub token_count_min: Option<u64>,
    /// Sums are given to jobs that pool so many sites' at least.
    pub statistics_clients_min: Option<u32>,
    /// When tasks are asked for, in minutes of the day (UTC): from, to. It may span midnight.
    pub hours_utc: Option<(u32, u32)>,
}

impl Policy {
    pub(crate) fn read(section: &mut Section) -> Self {
        Self {
            jobs: read_list(section, "jobs"),
            operators: read_list(section, "operators"),
            local_epochs_max: read_count(section, "local_epochs_max"),
            batch_size_max: read_count(section, "batch_size_max"),
            parameters_max: read_many(section, "parameters_max"),
            rounds_max: read_count(section, "rounds_max"),
            min_updates: read_count(section, "min_updates"),
            statistics: section.has("statistics").then(|| section.boolean("statistics", None)),
            statistics_rows_min: read_many(section, "statistics_rows_min"),
            token_count_min: read_many(section, "token_count_min"),
            statistics_clients_min: read_count(section, "statistics_clients_min"),
            hours_utc: read_hours(section),
        }
    }

    /// Why the site does not allow a job; `None` where it does.
    #[must_use]
    pub fn refuses(&self, spec: &JobSpec, submitted_by: &str) -> Option<String> {
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, text))
        };
        if !any(&self.jobs, &spec.name) {
            return Some(format!("policy.jobs does not name {}", spec.name));
        }
        let name = submitted_by.split_once('/').map_or(submitted_by, |(_, name)| name);
        if !any(&self.operators, submitted_by) && !any(&self.operators, name) {
            let who = if submitted_by.is_empty() { "nobody known" } else { submitted_by };
            return Some(format!("policy.operators does not name {who}"));
        }
        // A frozen body takes the site's memory too.
        let frozen = spec.model.frozen_schema().map_or(0, |schema| schema.len());
        let parameters = (spec.model.schema().len() + frozen) as u64;
        let bounds = [
            (
                "local_epochs_max",
                self.local_epochs_max.map(u64::from),
                spec.train.local_epochs.into(),
            ),
            ("batch_size_max", self.batch_size_max.map(u64::from), spec.train.batch_size.into()),
            ("parameters_max", self.parameters_max, parameters),
            ("rounds_max", self.rounds_max.map(u64::from), spec.rounds.into()),
        ];
        for (key, most, found) in bounds {
            if let Some(most) = most.filter(|most| found > *most) {
                return Some(format!("policy.{key} is {most}, the job asks for {found}"));
            }
        }
        let least = self.min_updates.unwrap_or(0);
        let found = spec.cohort.min_updates;
        (found < least)
            .then(|| format!("policy.min_updates is {least}, the job's min_updates is {found}"))
    }

    /// Why the site gives a job no sums; `None` where it does. Whoever joins later and only trains
    /// gives none, and is not asked.
    #[must_use]
    pub fn refuses_statistics(&self, spec: &JobSpec) -> Option<String> {
        if self.statistics == Some(false) {
            return Some(
                "policy.statistics is false, the job asks for sums of the rows".to_owned(),
            );
        }
        let least = self.statistics_clients_min.unwrap_or(0);
        let found = spec.statistics.as_ref().map_or(0, |statistics| statistics.min_clients);
        (found < least).then(|| {
            format!(
                "policy.statistics_clients_min is {least}, the job's data.statistics.min_clients is \
                 {found}"
            )
        })
    }

    /// What of a site's sums is told.
    ///
    /// # Errors
    /// Where they are of too few rows; how few is not said.
    pub fn told(&self, sums: SiteSums) -> Result<SiteSums, String> {
        let least = self.statistics_rows_min.unwrap_or(0);
        if sums.rows < least {
            return Err(format!("policy.statistics_rows_min is {least}, the site has fewer rows"));
        }
        Ok(sums.without_rare_tokens(self.token_count_min.unwrap_or(1)))
    }

    /// How long until tasks may be asked for; nothing where they may be now.
    #[must_use]
    pub fn closed_for(&self, now: SystemTime) -> Option<Duration> {
        let (from, to) = self.hours_utc?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let minute = u32::try_from(since / 60 % u64::from(DAY_MIN)).unwrap_or(0);
        let open =
            if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to };
        let left_min = (from + DAY_MIN - minute) % DAY_MIN;
        let left_s = (u64::from(left_min) * 60).saturating_sub(since % 60).max(1);
        (!open).then(|| Duration::from_secs(left_s))
    }
}

/// A text, or its beginning where the pattern ends with `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => text.starts_with(begin),
        None => text == pattern,
    }
}

fn read_count(section: &mut Section, key: &str) -> Option<u32> {
    section.has(key).then(|| section.count(key, 1..=u32::MAX, None))
}

fn read_many(section: &mut Section, key: &str) -> Option<u64> {
    section.has(key).then(|| section.integer(key, 1..=u64::MAX >> 1, None))
}

fn read_list(section: &mut Section, key: &str) -> Vec<String> {
    let Some(list) = section.optional_list(key) else { return Vec::new() };
    // An empty list would agree to everything, which nobody means who writes one.
    if list.is_empty() || list.len() > PATTERNS_MAX {
        let expected = format!("1 to {PATTERNS_MAX} names (leave it out to agree to all)");
        section.fault(key, expected, format!("{} names", list.len()));
    }
    let mut names = Vec::new();
    for (path, value) in list {
        match value.as_str().filter(|name| !name.is_empty()) {
            Some(name) => names.push(name.to_owned()),
            None => {
                let found = tributary_core::document::show(&value);
                section.fault_at(path, "a name in quotes, with an optional * at its end", found);
            }
        }
    }
    names
}

fn read_hours(section: &mut Section) -> Option<(u32, u32)> {
    let text = section.optional_text("hours_utc")?;
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
        let (hour, minute) = (two(hour)?, two(minute)?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let hours = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    let hours = hours.filter(|(from, to)| from != to);
    if hours.is_none() {
        section.fault("hours_utc", "from and to, such as \"20:00-06:00\"", format!("{text:?}"));
    }
    hours
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tributary_core::document::read_document;
    use tributary_core::spec::JobSpec;
    use tributary_core::statistics::SiteSums;

    use super::Policy;

    fn policy(text: &str) -> Policy {
        read_document(text, 1000, Policy::read).expect("a policy")
    }

    fn spec() -> JobSpec {
        JobSpec::parse(
            "[job]\nname = \"digits-v2\"\nrounds = 3\n[data]\nkind = \"image\"\nclasses = 2\n\
             [model]\ninput = { shape = [3] }\nlayers = [{ linear = 2 }]\n\
             [train]\nlocal_epochs = 5\nbatch_size = 10\n\
             optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\nmin_updates = 2\n",
        )
        .expect("a spec")
    }

    #[test]
    fn a_site_without_a_policy_agrees() {
        assert_eq!(Policy::default().refuses(&spec(), ""), None);
        assert_eq!(policy("").closed_for(SystemTime::now()), None);
    }

    #[test]
    fn every_bound_is_kept_and_its_key_named() {
        for (text, agrees) in [
            ("jobs = [\"digits-*\", \"x\"]", true),
            ("jobs = [\"digits\"]", false),
            ("operators = [\"ada\"]", true),
            ("operators = [\"operator/ada\"]", true),
            ("operators = [\"bob\", \"admin/ada\"]", false),
            ("local_epochs_max = 5", true),
            ("local_epochs_max = 4", false),
            ("batch_size_max = 9", false),
            ("parameters_max = 8", true),
            ("parameters_max = 7", false),
            ("rounds_max = 2", false),
            ("min_updates = 2", true),
            ("min_updates = 3", false),
        ] {
            let refused = policy(text).refuses(&spec(), "operator/ada");
            assert_eq!(refused.is_none(), agrees, "{text}: {refused:?}");
            let key = text.split(' ').next().expect("a key");
            assert!(refused.is_none_or(|reason| reason.contains(key)), "{text}");
        }
        assert!(policy("operators = [\"a*\"]").refuses(&spec(), "").is_some(), "nobody known");
    }

    #[test]
    fn sums_are_given_above_the_floors_of_the_site() {
        let text = "[job]\nname = \"f\"\nrounds = 1\n[data]\nkind = \"image\"\nclasses = 2\n\
                    normalise = \"federated\"\n[model]\ninput = { shape = [3] }\n\
                    layers = [{ linear = 2 }]\n[train]\nbatch_size = 1\n\
                    optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\n";
        let spec = JobSpec::parse(text).expect("a spec");
        for (text, agrees) in [
            ("", true),
            ("statistics = true", true),
            ("statistics = false", false),
            ("statistics_clients_min = 3", true),
            ("statistics_clients_min = 4", false),
        ] {
            let policy = policy(text);
            assert_eq!(policy.refuses(&spec, ""), None, "{text}: to train is another question");
            let refused = policy.refuses_statistics(&spec);
            assert_eq!(refused.is_none(), agrees, "{text}: {refused:?}");
            let key = text.split(' ').next().expect("a key");
            assert!(refused.is_none_or(|reason| reason.contains(key)), "{text}");
        }
        let sums = || SiteSums {
            rows: 49,
            tokens: vec![("a".to_owned(), 5), ("b".to_owned(), 4)],
            ..SiteSums::default()
        };
        let refused = policy("statistics_rows_min = 50").told(sums()).expect_err("too few");
        assert!(refused.contains("statistics_rows_min is 50"), "{refused}");
        assert!(!refused.contains("49"), "{refused}");
        assert_eq!(policy("statistics_rows_min = 49").told(sums()), Ok(sums()));
        let told = policy("token_count_min = 5").told(sums()).expect("enough rows");
        assert_eq!((told.tokens, told.left_out), (vec![("a".to_owned(), 5)], 4));
    }

    #[test]
    fn hours_may_span_midnight() {
        let at = |hour: u64, minute: u64| {
            SystemTime::UNIX_EPOCH
                + Duration::from_secs(86_400 * 20_000 + (hour * 60 + minute) * 60)
        };
        let night = policy("hours_utc = \"20:00-06:30\"");
        for (hour, minute, open) in [(20, 0, true), (23, 59, true), (6, 29, true), (6, 30, false)] {
            assert_eq!(night.closed_for(at(hour, minute)).is_none(), open, "{hour}:{minute}");
        }
        assert_eq!(night.closed_for(at(19, 0)), Some(Duration::from_secs(3600)));
        let day = policy("hours_utc = \"08:00-17:00\"");
        assert_eq!(day.closed_for(at(17, 0)), Some(Duration::from_secs(15 * 3600)));
        assert_eq!(day.closed_for(at(8, 0)), None);
    }

    #[test]
    fn faults_are_named() {
        let text = "jobs = []\noperators = [3]\nhours_utc = \"8-17\"\nlocal_epochs_max = 0\n";
        let faults = read_document(text, 1000, Policy::read).expect_err("faulty").to_string();
        for part in ["jobs:", "operators[0]", "hours_utc", "local_epochs_max"] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
    }
}
