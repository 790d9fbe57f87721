//! What this site agrees to: which jobs, whose, how large, when. The site has the last word; what it
//! refuses is told to the coordinator with the reason, and is not asked of it again.

use std::time::{Duration, SystemTime};

use tributary_core::binding::{Binding, DataNeed};
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
    /// Data sets that only some jobs may read: each with the names of those jobs.
    pub data: Vec<(String, Vec<String>)>,
    /// Sums over fewer rows than this stay here: they could be told from one row to the next.
    pub statistics_min_examples: Option<u32>,
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
            data: read_data(section),
            statistics_min_examples: read_count(section, "statistics_min_examples"),
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

    /// The data set that a job reads: the first of the site's that serves it and that the policy lets
    /// it read. None in particular where the policy says nothing of data and the trainer may see.
    ///
    /// # Errors
    /// Why the job may read none of them.
    pub fn data_for(&self, spec: &JobSpec, bound: &[Binding]) -> Result<Option<String>, String> {
        let need = DataNeed::of(spec);
        let mut closed = None;
        for binding in bound.iter().filter(|binding| need.met_by(binding)) {
            if self.lets_read(&binding.name, &spec.name) {
                return Ok(Some(binding.name.clone()));
            }
            closed = Some(&binding.name);
        }
        match closed {
            Some(data) => Err(format!("policy.data.{data} does not name {}", spec.name)),
            None if self.data.is_empty() => Ok(None),
            None => Err(format!("no data set of this site serves {}", spec.name)),
        }
    }

    fn lets_read(&self, data: &str, job: &str) -> bool {
        let named = self.data.iter().find(|(name, _)| name == data);
        named.is_none_or(|(_, jobs)| jobs.iter().any(|pattern| fits(pattern, job)))
    }

    /// Whether sums over so many rows stay here.
    #[must_use]
    pub fn withholds(&self, examples: u64) -> bool {
        self.statistics_min_examples.is_some_and(|least| examples < least.into())
    }

    /// Why sums over so many rows stay here; `None` where they may leave. It does not say how many
    /// rows there are.
    #[must_use]
    pub fn keeps(&self, examples: u64) -> Option<String> {
        let least = self.statistics_min_examples.filter(|_| self.withholds(examples))?;
        Some(format!("policy.statistics_min_examples is {least}, the site has fewer rows to score"))
    }

    /// A data set as the coordinator may know it: counts below the floor are not told. Few rows to
    /// score are none; few rows to train on are as many as the floor says, because the round's cap
    /// on the number of examples must not be below what an update says.
    #[must_use]
    pub fn offered(&self, mut binding: Binding) -> Binding {
        if self.withholds(binding.evaluate_examples) {
            binding.evaluate_examples = 0;
        }
        if binding.train_examples > 0 && self.withholds(binding.train_examples) {
            binding.train_examples = self.statistics_min_examples.map_or(0, u64::from);
        }
        binding
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

/// `[policy.data]`: a list of jobs for each data set that is named.
fn read_data(section: &mut Section) -> Vec<(String, Vec<String>)> {
    let Some(table) = section.optional_table("data") else { return Vec::new() };
    let names: Vec<String> = table.keys().cloned().collect();
    let mut inner = section.below(section.path_of("data"), table);
    let lists = names.into_iter().map(|name| {
        let jobs = read_list(&mut inner, &name);
        (name, jobs)
    });
    let lists = lists.collect();
    inner.finish();
    lists
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
mod tests;
