//! Who is in the federation: `enroll`, `token create`, `client revoke`, `identities`.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use tributary_client::rpc;
use tributary_core::identity::Role;
use tributary_proto::v1;
use zeroize::Zeroizing;

use crate::args::{EnrollArgs, Output, Token};
use crate::connect::{federation, place, said};
use crate::jobs::print_json;
use crate::table::{Align, Table};

/// A time such as `1h`, in seconds.
pub(crate) fn ttl(text: &str) -> Result<u32, String> {
    let expected = || format!("expected a number and s, m, h or d, such as 1h, found {text:?}");
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let count: u32 = text.trim_end_matches(unit).parse().map_err(|_| expected())?;
    count.checked_mul(seconds).ok_or_else(expected)
}

pub(crate) async fn enroll(at: &str, args: EnrollArgs, dir: &Path) -> anyhow::Result<()> {
    let token = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path).map(Zeroizing::new);
            text.with_context(|| format!("cannot read {}", path.display()))?.parse()?
        }
        (None, None) => bail!("expected --token or --token-file"),
    };
    if token.role == Role::Client {
        bail!("this token is a client's: `tributary-client enroll` takes it, where the data is");
    }
    let credential = rpc::enroll(place(at), &token, dir).await?;
    println!("{}", credential.identity());
    eprint_hint(at);
    Ok(())
}

#[allow(clippy::print_stderr)]
fn eprint_hint(at: &str) {
    eprintln!("from now on: export TRIBUTARY_COORDINATOR={at}");
}

#[derive(Serialize)]
struct Created {
    token: String,
    expires_at_us: i64,
}

pub(crate) async fn token(at: &str, args: Token, out: Output) -> anyhow::Result<()> {
    let Token::Create { name, role, ttl } = args;
    let request = v1::CreateTokenRequest { role, name, ttl_s: ttl };
    let answer = federation(at).await?.create_token(request).await.map_err(said)?.into_inner();
    let created = Created { token: answer.token, expires_at_us: answer.expires_at_us };
    match out {
        Output::Json => print_json(&created),
        Output::Table => {
            println!("{}", created.token);
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct Revoked {
    identity: String,
    certificates: u32,
}

pub(crate) async fn revoke(
    at: &str,
    role: &str,
    name: String,
    reason: String,
    out: Output,
) -> anyhow::Result<()> {
    let identity = format!("{role}/{name}");
    let request = v1::RevokeIdentityRequest { role: role.to_owned(), name, reason };
    let answer = federation(at).await?.revoke_identity(request).await.map_err(said)?.into_inner();
    let revoked = Revoked { identity, certificates: answer.certificates };
    match out {
        Output::Json => print_json(&revoked),
        Output::Table => {
            let Revoked { identity, certificates } = revoked;
            println!("{identity} is cut off; {certificates} of its certificates were good");
            Ok(())
        }
    }
}

pub(crate) async fn identities(
    at: &str,
    cut: Option<String>,
    reason: String,
    out: Output,
) -> anyhow::Result<()> {
    if let Some(member) = cut {
        let Some((role, name)) = member.split_once('/') else {
            bail!("expected ROLE/NAME such as operator/ada, found {member:?}");
        };
        return revoke(at, role, name.to_owned(), reason, out).await;
    }
    let request = v1::ListIdentitiesRequest {};
    let answer = federation(at).await?.list_identities(request).await.map_err(said)?.into_inner();
    if out == Output::Json {
        return print_json(&answer.identities);
    }
    let mut table = Table::new(&[
        ("ROLE", Align::Left),
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("BY", Align::Left),
        ("REASON", Align::Left),
    ]);
    for member in answer.identities {
        let state = match (member.revoked_at_us, member.not_after_us) {
            (0, 0) => "no good certificate".to_owned(),
            (0, end) => format!("good until {}", end / 1_000_000),
            _ => "revoked".to_owned(),
        };
        table.row(vec![member.role, member.name, state, member.revoked_by, member.reason]);
    }
    println!("{}", table.render());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ttl;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(
            (ttl("90s"), ttl("30m"), ttl("1h"), ttl("2d")),
            (Ok(90), Ok(1800), Ok(3600), Ok(172_800))
        );
        for bad in ["", "h", "1", "-1h", "1w", "1.5h", "99999999d", "1 h"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
