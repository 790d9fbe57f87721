//! How a test says that it did not run: one visible `SKIP` line, and a failure where CI is `true`.

use std::io::Write;

/// Says `SKIP why` on standard error.
///
/// The test harness swallows what `eprintln!` writes in a passing test, so this writes to the
/// stream itself: a skipped test that nobody sees is a test that nobody runs.
pub fn skip(why: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "SKIP {why}");
}

/// As [`skip`], but an error where the variable CI is `true`: there, everything must run.
///
/// # Errors
/// The reason, in CI.
pub fn skip_unless_ci(why: &str) -> anyhow::Result<()> {
    let ci = std::env::var("CI").ok();
    permit(why, ci.as_deref())?;
    skip(why);
    Ok(())
}

fn permit(why: &str, ci: Option<&str>) -> anyhow::Result<()> {
    anyhow::ensure!(ci != Some("true"), "CI=true, so nothing may be skipped: {why}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::permit;

    #[test]
    fn a_skip_is_an_error_in_ci_alone() {
        assert!(permit("no cluster", None).is_ok());
        assert!(permit("no cluster", Some("false")).is_ok());
        let error = permit("no cluster", Some("true")).expect_err("in CI").to_string();
        assert!(error.contains("no cluster"), "{error}");
    }
}
