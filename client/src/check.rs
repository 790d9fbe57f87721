//! `tributary-client check`: what this site would contribute, printed here. Nothing leaves the machine.
//!
//! Without a job only what the files and the site's own configuration say is told; with one, what the
//! rows are as that job reads them, or the sums that it would hear before its first round.

use std::io::Write;
use std::path::Path;

use anyhow::bail;
use serde_json::{Value, json};
use tributary_client::config::{ClientConfig, DataConfig};
use tributary_core::binding::Binding;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::SiteSums;
use tributary_data::DataError;
use tributary_data::open::open;
use tributary_data::summary::Summary;
use tributary_data::sums::site_sums;
use tributary_data::wanted::Wanted;

use crate::{Output, open_models, read_spec};

mod document;

/// What is known of one data set.
enum Known {
    /// Its rows, and what the coordinator would hear of them.
    Rows(Box<Summary>, Vec<Binding>),
    /// What a job would hear before its first round; how rows are read after it is all sites' to say.
    Sums(SiteSums),
    /// It does not serve the job, which another data set may.
    Refused(String),
}

/// One data set of the site.
struct Checked<'a> {
    set: &'a DataConfig,
    known: Known,
    /// What the site decides by itself.
    warnings: Vec<&'static str>,
}

/// Reads the data, as a job wants them where there is one, and prints what they are.
pub(crate) fn run(config: &ClientConfig, job: Option<&Path>, output: Output) -> anyhow::Result<()> {
    let job = job.map(read_spec).transpose()?;
    // A job that names a data set is for that one alone.
    let named = job.as_ref().and_then(|job| job.data.name.as_deref());
    let sets = config.data.iter().filter(|data| named.is_none_or(|name| data.name == name));
    let checked: Vec<Checked<'_>> =
        sets.map(|set| check(config, set, job.as_ref())).collect::<Result<_, _>>()?;
    let serves = checked.iter().any(|checked| !matches!(checked.known, Known::Refused(_)));
    let models = open_models(config)?;
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            let models = models.iter().map(|model| {
                Ok(json!({ "digest": model.digest().to_string(), "spec": model.spec_lines()? }))
            });
            let document = json!({
                "client": config.agent.name.as_str(),
                "job": job.as_ref().map(|job| &job.name),
                "data": checked.iter().map(document::of).collect::<Vec<_>>(),
                "models": models.collect::<anyhow::Result<Vec<Value>>>()?,
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
        Output::Table => {
            checked.iter().try_for_each(|checked| show(checked, &mut out))?;
            for model in models {
                writeln!(out, "pretrained model: {}; a job's [model] for it:", model.digest())?;
                writeln!(out, "{}", model.spec_lines()?)?;
            }
        }
    }
    match (serves, named, checked.first()) {
        (true, ..) => Ok(()),
        (false, Some(name), None) => {
            bail!("this site binds no data set {name:?}, which the job names")
        }
        (false, ..) => bail!("no data set of this site serves the job: see above"),
    }
}

/// Reads one data set. Files that cannot be read are an error; data that do not fit the job are not.
fn check<'a>(
    config: &ClientConfig,
    set: &'a DataConfig,
    job: Option<&JobSpec>,
) -> anyhow::Result<Checked<'a>> {
    let wanted = job.map(Wanted::by_job).unwrap_or_default();
    let warnings = job.map(|_| set.source.decides(&wanted)).unwrap_or_default();
    let known = match job {
        Some(job) if job.statistics.is_some() => sums(config, set, job),
        _ => rows(config, set, job),
    };
    let known = match known {
        Ok(known) => known,
        Err(error) => match error.downcast_ref::<DataError>() {
            Some(unfit) if unfit.is_unfit() => Known::Refused(error.to_string()),
            _ => return Err(error.context(format!("the data set {:?}", set.name))),
        },
    };
    Ok(Checked { set, known, warnings })
}

fn rows(config: &ClientConfig, set: &DataConfig, job: Option<&JobSpec>) -> anyhow::Result<Known> {
    let format = &set.source.format;
    let (summary, bindings) = match job {
        None if format.needs_job() => {
            let counted = open(&set.source, &Wanted::count())?;
            let summary = Summary::of_files(&counted, &set.source)?;
            (summary, counted.open_bindings(&set.name, format))
        }
        _ => {
            let wanted = job.map(Wanted::by_job).unwrap_or_default();
            let opened = open(&set.source, &wanted)?;
            (opened.summary()?, vec![opened.binding(&set.name)])
        }
    };
    let offered = bindings.into_iter().map(|binding| config.policy.offered(binding)).collect();
    Ok(Known::Rows(Box::new(summary), offered))
}

fn sums(config: &ClientConfig, set: &DataConfig, job: &JobSpec) -> anyhow::Result<Known> {
    if let Some(reason) = config.policy.refuses_statistics(job) {
        return Ok(Known::Refused(reason));
    }
    let sums = site_sums(&set.source, job)?;
    Ok(config.policy.told(sums).map_or_else(Known::Refused, Known::Sums))
}

fn show(checked: &Checked<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "data set      {}", checked.set.name)?;
    for what in &checked.warnings {
        writeln!(out, "this site's   {what}: other sites may differ")?;
    }
    match &checked.known {
        Known::Refused(reason) => writeln!(out, "does not serve the job: {reason}")?,
        Known::Rows(summary, offered) => {
            write!(out, "{summary}")?;
            for binding in offered {
                writeln!(out, "a coordinator would hear: {}", document::line(binding))?;
            }
        }
        Known::Sums(sums) => show_sums(sums, out)?,
    }
    writeln!(out)?;
    Ok(())
}

fn show_sums(sums: &SiteSums, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "the job would hear this before its first round, in the clear:")?;
    writeln!(out, "rows to train on: {}", sums.rows)?;
    for (at, feature) in sums.features.iter().enumerate().filter(|(_, sums)| sums.count > 0) {
        let (mean, deviation) = (feature.mean().unwrap_or(0.0), feature.deviation().unwrap_or(0.0));
        let (count, left_out) = (feature.count, feature.left_out);
        writeln!(
            out,
            "feature {at}: {count} values of mean {mean:.6}, deviation {deviation:.6}; {left_out} left out"
        )?;
    }
    if !sums.tokens.is_empty() || sums.left_out > 0 {
        let told = sums.tokens.len();
        writeln!(out, "tokens told: {told}, and that {} more occurrences are not", sums.left_out)?;
    }
    if !sums.names.is_empty() {
        writeln!(out, "class names: {}", sums.names.join(", "))?;
    }
    Ok(())
}
