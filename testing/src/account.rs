//! The unprivileged account that Postgres runs under where the tests run as root, which it refuses.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::signal::is_root;

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `postgres`, else `nobody`, where this process is root; `None` where it is not.
    ///
    /// # Errors
    /// As root on a machine with neither account.
    pub(crate) fn for_postgres() -> anyhow::Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let text = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let account = find(&text, "postgres").or_else(|| find(&text, "nobody"));
        account.map(Some).context("root needs an account `postgres` or `nobody` to run Postgres as")
    }

    /// Makes the command run under the account. (The standard library drops root's supplementary
    /// groups together with the uid.)
    pub(crate) fn assume(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives the account a file or folder.
    ///
    /// # Errors
    /// As `chown(2)`.
    pub(crate) fn own(self, path: &Path) -> anyhow::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("chown {}", path.display()))
    }
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (found && uid != 0).then_some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::{Account, find};

    #[test]
    fn an_account_is_read_and_root_is_never_one() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/:/bin/false\n";
        assert_eq!(find(passwd, "nobody"), Some(Account { uid: 65534, gid: 65533 }));
        assert_eq!(find(passwd, "root"), None);
        assert_eq!(find(passwd, "postgres"), None);
    }
}
