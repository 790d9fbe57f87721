//! `tributary data prepare`: archives into files that a client's `[data]` table can name.

use serde_json::json;
use tributary_data::prepare::{
    PlayOptions, Prepared, RecordingOptions, prepare_plays, prepare_recordings,
};

use crate::args::{Output, Prepare};
use crate::jobs::print_json;

pub(crate) fn prepare(what: Prepare, out: Output) -> anyhow::Result<()> {
    let prepared = match what {
        Prepare::Plays(args) => {
            let options = PlayOptions {
                speeches_min: args.speeches_min,
                evaluate_fraction: args.evaluate_fraction,
            };
            prepare_plays(&args.archive, &args.to, &options)?
        }
        Prepare::Recordings(args) => {
            let options =
                RecordingOptions { pattern: args.pattern, evaluate_below: args.evaluate_below };
            prepare_recordings(&args.archive, &args.to, &options)?
        }
    };
    show(&prepared, out)
}

fn show(prepared: &Prepared, out: Output) -> anyhow::Result<()> {
    let Prepared { files, train_rows, evaluate_rows, clients, skipped } = prepared;
    if out == Output::Json {
        return print_json(&json!({
            "files": files,
            "train_rows": train_rows,
            "evaluate_rows": evaluate_rows,
            "clients": clients,
            "skipped": skipped,
        }));
    }
    for file in files {
        println!("{}", file.display());
    }
    println!("{train_rows} rows to train on, {evaluate_rows} to evaluate on, of {clients} clients");
    if *skipped > 0 {
        println!("{skipped} entries of the archive are of another kind");
    }
    Ok(())
}
