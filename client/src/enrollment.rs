//! `tributary-client enroll`: a token becomes this machine's certificate; `identity import`: one that
//! another authority gave is taken over.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use tributary_client::agent::identity_dir;
use tributary_client::config::ClientConfig;
use tributary_client::identity::Credential;
use tributary_client::rpc::{Egress, Place, enroll};
use tributary_core::identity::{Role, Token};
use zeroize::Zeroizing;

use crate::{EnrollArgs, ImportArgs};

pub(crate) async fn run(args: EnrollArgs) -> anyhow::Result<()> {
    let token = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path).map(Zeroizing::new);
            text.with_context(|| format!("cannot read {}", path.display()))?.parse::<Token>()?
        }
        (None, None) => anyhow::bail!("expected --token or --token-file"),
    };
    ensure!(
        token.role == Role::Client,
        "this token is for the role {}: `tributary enroll` takes it, on the operator's machine",
        token.role
    );
    let mut egress = Egress::from_environment();
    let state_dir = match (args.config, args.state_dir) {
        (Some(path), _) => {
            let config = ClientConfig::load(&path)?;
            ensure!(
                config.agent.name == token.name,
                "the token is {}'s, and {} says name = {:?}",
                token.name,
                path.display(),
                config.agent.name.as_str()
            );
            egress = config.agent.egress;
            config.agent.state_dir
        }
        (None, Some(dir)) => dir,
        (None, None) => PathBuf::from(format!("tributary-client-{}", token.name)),
    };
    let dir = identity_dir(&state_dir);
    let egress = args.proxy.map_or(egress, Egress::through);
    let place = Place::new(&args.coordinator, egress);
    let credential = enroll(place, &token, &dir).await?;
    tracing::info!(
        identity = %credential.identity(),
        stored = %dir.display(),
        "enrolled; put coordinator = \"{}\" into the client's file and run it",
        args.coordinator
    );
    Ok(())
}

/// Puts an external authority's certificate into place; a running agent takes it at its next start.
pub(crate) fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let config = ClientConfig::load(&args.config)?;
    let credential = Credential::import(&args.certificate, &args.key, &args.trust)?;
    let identity = credential.identity();
    ensure!(
        identity.role == Role::Client && identity.name == config.agent.name,
        "the certificate is of {identity}, and {} says name = {:?}",
        args.config.display(),
        config.agent.name.as_str()
    );
    let stored = credential.save(&identity_dir(&config.agent.state_dir))?;
    tracing::info!(%identity, stored = %stored.display(), "imported");
    Ok(())
}
