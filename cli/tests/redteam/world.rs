//! A coordinator with certificates, real TLS over loopback, and whoever knocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tributary_client::identity::{Credential, Request};
use tributary_client::rpc::{Remote, enroll};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::authority::{Authority, der_of, init, secret};
use tributary_coordinator::config::Config;
use tributary_coordinator::store::{By, Store};
use tributary_core::identity::{Role, Token};
use tributary_proto::fault::reason;
use tributary_proto::v1;
use v1::federation_service_client::FederationServiceClient;
use v1::job_service_client::JobServiceClient;
use v1::participant_service_client::ParticipantServiceClient;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
    pub(crate) config: Config,
    pub(crate) admin: Channel,
    dir: tempfile::TempDir,
}

/// A member of the federation with its connection.
pub(crate) struct Somebody {
    pub(crate) credential: Credential,
    pub(crate) channel: Channel,
}

impl World {
    pub(crate) async fn start(tune: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::embedded(&dir.path().join("coordinator"));
        config.disk_reserve_mb = 0;
        tune(&mut config);
        init(&config.ca_dir, &"hospitals".parse().expect("a name"), None).expect("an authority");
        let token = token_of(&config, Role::Admin, "ada", Duration::from_secs(600)).await;
        let coordinator = Coordinator::start(&config).await.expect("start");
        let at = format!("https://localhost:{}", coordinator.address().port());
        let home = dir.path().join("ada");
        let credential = enroll(&at, &token, &home).await.expect("the first admin");
        let admin = Remote::secure(&at, &credential).expect("remote").connect().await;
        Self { coordinator, config, admin: admin.expect("connected"), dir }
    }

    pub(crate) fn at(&self) -> String {
        format!("https://localhost:{}", self.coordinator.address().port())
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::load(&self.config.ca_dir).expect("read").expect("there")
    }

    pub(crate) fn federation(&self) -> FederationServiceClient<Channel> {
        FederationServiceClient::new(self.admin.clone())
    }

    pub(crate) async fn token(&self, role: Role, name: &str) -> Token {
        let request =
            v1::CreateTokenRequest { role: role.to_string(), name: name.to_owned(), ttl_s: 0 };
        let answer = self.federation().create_token(request).await.expect("a token").into_inner();
        answer.token.parse().expect("a token")
    }

    pub(crate) async fn enroll(&self, role: Role, name: &str) -> Somebody {
        let token = self.token(role, name).await;
        let credential = enroll(&self.at(), &token, &self.home(name)).await.expect("enrolled");
        let channel = self.connect(&credential).await;
        Somebody { credential, channel }
    }

    pub(crate) async fn connect(&self, credential: &Credential) -> Channel {
        let remote = Remote::secure(&self.at(), credential).expect("a remote");
        remote.connect().await.expect("connected")
    }

    pub(crate) async fn revoke(&self, role: Role, name: &str) {
        let request = v1::RevokeIdentityRequest {
            role: role.to_string(),
            name: name.to_owned(),
            reason: "stolen".to_owned(),
        };
        self.federation().revoke_identity(request).await.expect("revoked");
    }

    pub(crate) async fn audit(&self) -> Vec<v1::AuditLine> {
        let request = v1::ListAuditRequest { after_sequence: 0, page_size: 1000 };
        self.federation().list_audit(request).await.expect("the audit").into_inner().lines
    }

    pub(crate) async fn actions(&self) -> Vec<String> {
        self.audit().await.into_iter().map(|line| line.action).collect()
    }

    pub(crate) async fn submit(&self, features: usize, clients: u32) -> String {
        let request = v1::CreateJobRequest {
            request_id: format!("{features}-{clients}"),
            spec: spec(features, clients),
            validate_only: false,
        };
        let job = JobServiceClient::new(self.admin.clone()).create_job(request).await;
        job.expect("created").into_inner().job.expect("a job").job_id
    }

    /// A certificate of the real authority's key, of any dates, that is in no table: what somebody
    /// has who stole the key and nothing else.
    pub(crate) fn forge(
        &self,
        (role, name): (Role, &str),
        from: SystemTime,
        ttl: Duration,
    ) -> Credential {
        forge_by(&self.authority(), (role, name), from, ttl)
    }
}

/// A certificate by this authority's key.
pub(crate) fn forge_by(
    authority: &Authority,
    (role, name): (Role, &str),
    from: SystemTime,
    ttl: Duration,
) -> Credential {
    let request = Request::new().expect("a key");
    let name = name.parse().expect("a name");
    let signed = authority.sign_at(&request.csr, (role, &name), from, ttl).expect("signed");
    let authorities = authority.trusted().iter().map(|ca| ca.to_vec()).collect();
    let der = der_of(&signed.der).expect("hex");
    Credential::given(&request, der, authorities).expect("a credential")
}

/// A token straight into the database, as `tributary-coordinator token` makes it.
pub(crate) async fn token_of(config: &Config, role: Role, name: &str, ttl: Duration) -> Token {
    let store = Store::open(config.database_url.reveal()).await.expect("open");
    store.migrate().await.expect("migrate");
    let authority = Authority::load(&config.ca_dir).expect("read").expect("there");
    let name = name.parse().expect("a name");
    let secret = secret().expect("random bytes");
    let token = Token::new(role, name, authority.fingerprint(), secret);
    let by = By { who: "test".to_owned(), address: "local".to_owned() };
    let hash = Token::hash(token.secret());
    store.create_token(hash, (role, &token.name), ttl, &by).await.expect("created");
    store.close().await;
    token
}

pub(crate) fn spec(features: usize, clients: u32) -> String {
    format!(
        "[job]\nname = \"redteam-{features}\"\nrounds = 1\nseed = 3\n\
         [data]\nkind = \"image\"\nclasses = 2\n\
         [model]\ninput = {{ shape = [{features}] }}\nlayers = [{{ linear = 2 }}]\n\
         [train]\nlocal_epochs = 1\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n\
         [cohort]\nmin_available_clients = {clients}\nmin_train_clients = {clients}\n\
         min_updates = {clients}\n"
    )
}

impl Somebody {
    pub(crate) fn participant(&self) -> ParticipantServiceClient<Channel> {
        ParticipantServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn poll(
        &self,
        name: &str,
        features: u32,
        wait_ms: u32,
    ) -> Result<Option<v1::Task>, Status> {
        let request = v1::PollRequest {
            caller: caller(name),
            protocol_version: 1,
            software: "test".to_owned(),
            bindings: vec![v1::Binding {
                name: "data".to_owned(),
                kind: "image".to_owned(),
                classes: 2,
                shape: vec![features],
                train_examples: 5,
                evaluate_examples: 0,
                targets: 0,
                vocabulary: 0,
            }],
            wait_ms,
            reconsider: false,
        };
        match self.participant().poll(request).await?.into_inner().answer {
            Some(v1::poll_response::Answer::Task(task)) => Ok(Some(task)),
            _ => Ok(None),
        }
    }
}

pub(crate) fn caller(name: &str) -> Option<v1::Caller> {
    let instance_id = format!("{name}-process");
    Some(v1::Caller { client: name.to_owned(), instance_id })
}

/// Code and stable reason of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("it must be refused");
    (status.code(), reason(&status).unwrap_or_default())
}

/// TLS as an attacker speaks it: any certificate, any version, any server accepted.
pub(crate) async fn shake(
    port: u16,
    versions: &[&'static rustls::SupportedProtocolVersion],
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    trust: &Path,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, std::io::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let ca = <CertificateDer<'static> as rustls::pki_types::pem::PemObject>::from_pem_file(trust);
    roots.add(ca.expect("a certificate")).expect("added");
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a certificate"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let name = "localhost".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// A certificate that vouches for itself.
pub(crate) fn self_signed(uri: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("ascii"))];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).expect("signed");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (vec![certificate.der().clone()], key)
}

/// Whether the peer has ended the connection (at the latest when something is asked of it).
pub(crate) async fn is_cut(
    stream: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // The preface of HTTP/2: a server that goes on answers with its settings.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut byte = [0];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("an answer");
    !matches!(read, Ok(1))
}
