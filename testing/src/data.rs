//! The folder of real data sets, which tests use where `TRIBUTARY_DATA` names it.

use std::path::PathBuf;

use crate::skip::skip;

/// The variable that names the folder.
pub const DATA_VARIABLE: &str = "TRIBUTARY_DATA";

/// The folder that `TRIBUTARY_DATA` names; `None`, and a `SKIP` line, where there is none.
#[must_use]
pub fn data_dir() -> Option<PathBuf> {
    match folder(std::env::var_os(DATA_VARIABLE).map(PathBuf::from)) {
        Ok(folder) => Some(folder),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

fn folder(named: Option<PathBuf>) -> Result<PathBuf, String> {
    let folder = named
        .ok_or_else(|| format!("set {DATA_VARIABLE} to a folder of data sets to run this test"))?;
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(format!("{DATA_VARIABLE}={} is no folder", folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::folder;

    #[test]
    fn only_a_folder_that_exists_is_taken() {
        let dir = tempfile::tempdir().expect("temp folder");
        assert_eq!(folder(Some(dir.path().to_owned())).as_deref(), Ok(dir.path()));
        let missing = folder(Some(dir.path().join("missing"))).expect_err("no folder");
        assert!(missing.contains("missing is no folder"), "{missing}");
        assert!(folder(None).expect_err("not named").contains(super::DATA_VARIABLE));
    }
}
