//! Attacks on who somebody is: tokens, certificates, handshakes, impostors.

use std::time::{Duration, SystemTime};

use tonic::Code;
use tributary_client::identity::Request;
use tributary_client::rpc::{EnrollError, Remote, enroll};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::authority::{Authority, init};
use tributary_core::identity::{Role, Token};
use tributary_proto::v1;
use v1::enrollment_service_client::EnrollmentServiceClient;
use v1::job_service_client::JobServiceClient;

use crate::world::{World, forge_by, is_cut, refusal, self_signed, shake, token_of};

const DAY: Duration = Duration::from_secs(86_400);
const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

async fn list_jobs(channel: tonic::transport::Channel) -> Result<(), tonic::Status> {
    JobServiceClient::new(channel).list_jobs(v1::ListJobsRequest::default()).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_once() {
    let world = World::start(|_| {}).await;
    let token = world.token(Role::Viewer, "eve").await;
    let first = enroll(&world.at(), &token, &world.home("eve")).await.expect("once");
    let again = enroll(&world.at(), &token, &world.home("mallory")).await.expect_err("twice");
    assert!(matches!(&again, EnrollError::Refused { reason, .. } if reason == "token_refused"));
    list_jobs(world.connect(&first).await).await.expect("the first one stands");
    assert!(world.actions().await.contains(&"enrollment_refused".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_given_again_to_the_same_key_alone() {
    let world = World::start(|_| {}).await;
    let token = world.token(Role::Viewer, "eve").await;
    let (mine, theirs) = (Request::new().expect("a key"), Request::new().expect("a key"));
    let ask = |request: &Request| v1::EnrollRequest {
        secret: token.secret().to_vec().into(),
        csr: request.csr.clone().into(),
    };
    let mut client = EnrollmentServiceClient::new(world.admin.clone());
    let given = client.enroll(ask(&mine)).await.expect("given").into_inner();
    let again = client.enroll(ask(&mine)).await.expect("again").into_inner();
    assert_eq!(given, again, "the same certificate");
    let stolen = client.enroll(ask(&theirs)).await;
    assert_eq!(refusal(stolen), (Code::PermissionDenied, "token_refused".to_owned()));
    world.revoke(Role::Viewer, "eve").await;
    let late = client.enroll(ask(&mine)).await;
    assert_eq!(refusal(late), (Code::PermissionDenied, "token_refused".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_past_guessed_or_cut_open_nothing() {
    let mut world = World::start(|_| {}).await;
    world.coordinator.stop().await.expect("stopped");
    let past = token_of(&world.config, Role::Admin, "eve", Duration::ZERO).await;
    world.coordinator = Coordinator::start(&world.config).await.expect("start");
    let refused = enroll(&world.at(), &past, &world.home("eve")).await.expect_err("past");
    assert!(matches!(refused, EnrollError::Refused { .. }), "{refused}");
    let guess = Token::new(Role::Admin, "eve".parse().expect("a name"), past.authority, [7; 32]);
    let refused = enroll(&world.at(), &guess, &world.home("eve")).await.expect_err("a guess");
    assert!(matches!(refused, EnrollError::Refused { .. }), "{refused}");
    let csr = Request::new().expect("a key").csr;
    let anybody = Remote::secure(
        &world.at(),
        &forge_by(&world.authority(), (Role::Viewer, "x"), SystemTime::now(), DAY),
    );
    let mut client = EnrollmentServiceClient::new(anybody.expect("a remote").connect_lazy());
    for secret in [vec![], vec![7; 31], vec![7; 33], vec![0; 4096]] {
        let request = v1::EnrollRequest { secret: secret.into(), csr: csr.clone().into() };
        let refused = refusal(client.enroll(request).await);
        assert_eq!(refused, (Code::PermissionDenied, "token_refused".to_owned()));
    }
    assert!(!world.home("eve").exists(), "nothing was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_none_costs_nobody_a_token() {
    let world = World::start(|_| {}).await;
    let token = world.token(Role::Viewer, "eve").await;
    let mut client = EnrollmentServiceClient::new(world.admin.clone());
    for csr in [vec![], vec![0x30; 100], vec![0xff; 9 << 10]] {
        let secret = token.secret().to_vec().into();
        let refused = client.enroll(v1::EnrollRequest { secret, csr: csr.into() }).await;
        assert_eq!(refusal(refused).0, Code::InvalidArgument);
    }
    let secret = token.secret().to_vec().into();
    let huge = v1::EnrollRequest { secret, csr: vec![0; 1 << 20].into() };
    assert_eq!(refusal(client.enroll(huge).await).0, Code::OutOfRange);
    enroll(&world.at(), &token, &world.home("eve")).await.expect("it still opens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impostor_never_sees_the_token() {
    let world = World::start(|_| {}).await;
    let token = world.token(Role::Viewer, "eve").await;
    // Another coordinator with another authority, of the same federation's name.
    let impostor = World::start(|_| {}).await;
    let refused = enroll(&impostor.at(), &token, &world.home("eve")).await.expect_err("not it");
    assert!(matches!(refused, EnrollError::Away(_)), "{refused}");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let plain = enroll("http://127.0.0.1:1", &token, &world.home("eve")).await;
    assert!(matches!(plain, Err(EnrollError::Plain(_))), "never in the clear");
    let seen = impostor.actions().await;
    assert!(!seen.contains(&"enrollment_refused".to_owned()), "the token was not sent: {seen:?}");
    enroll(&world.at(), &token, &world.home("eve")).await.expect("it is unused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn self_signed_foreign_and_past_certificates_end_at_the_handshake() {
    let world = World::start(|_| {}).await;
    let (port, trust) =
        (world.coordinator.address().port(), world.config.ca_dir.join("current.pem"));
    let shown = self_signed("spiffe://hospitals/admin/ada");
    let mut stream = shake(port, TLS13, Some(shown), &trust).await.expect("TLS 1.3 tells later");
    assert!(is_cut(&mut stream).await, "self-signed");

    let dir = tempfile::tempdir().expect("a folder");
    init(dir.path(), &"hospitals".parse().expect("a name"), None).expect("made");
    let foreign = Authority::load(dir.path()).expect("read").expect("there");
    for (authority, from, why) in [
        (foreign, SystemTime::now(), "another authority of the same name"),
        (world.authority(), SystemTime::now() - 8 * DAY, "past"),
        (world.authority(), SystemTime::now() + DAY, "not yet"),
    ] {
        let credential = forge_by(&authority, (Role::Admin, "ada"), from, 7 * DAY);
        let home = tempfile::tempdir().expect("a folder");
        credential.save(home.path()).expect("saved");
        let file = home.path().join("identity.pem");
        let key = rustls::pki_types::pem::PemObject::from_pem_file(&file).expect("a key");
        let chain = vec![credential.certificate().clone()];
        let stream = shake(port, TLS13, Some((chain, key)), &trust).await;
        assert!(is_cut(&mut stream.expect("TLS 1.3 tells later")).await, "{why}");
    }
    assert!(world.actions().await.contains(&"handshake_refused".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_s_own_certificate_is_nobody_s_at_the_port() {
    let world = World::start(|_| {}).await;
    let (port, trust) =
        (world.coordinator.address().port(), world.config.ca_dir.join("current.pem"));
    let signed = world.authority().serve_as(&["localhost".to_owned()], DAY);
    let (chain, key) = signed.expect("signed");
    let own = (chain, key.clone_key());
    let mut stream = shake(port, TLS13, Some(own), &trust).await.expect("TLS 1.3 tells later");
    assert!(is_cut(&mut stream).await, "a server's certificate is for servers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_cannot_pose_as_the_coordinator() {
    let world = World::start(|_| {}).await;
    let eve = world.enroll(Role::Admin, "eve").await;
    let key =
        rustls::pki_types::pem::PemObject::from_pem_file(world.home("eve").join("identity.pem"));
    let chain = vec![eve.credential.certificate().clone()];
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let posing = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(TLS13)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key.expect("a key"))
        .expect("a configuration");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a victim");
        tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(posing)).accept(socket).await.is_ok()
    });
    let victim = Remote::secure(&format!("https://localhost:{port}"), &eve.credential);
    victim.expect("a remote").connect().await.expect_err("the victim does not believe it");
    assert!(!serving.await.expect("it ran"), "no handshake");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_tls_and_plain_text_get_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start(|_| {}).await;
    let (port, trust) =
        (world.coordinator.address().port(), world.config.ca_dir.join("current.pem"));
    let older = shake(port, &[&rustls::version::TLS12], None, &trust).await;
    assert!(older.expect_err("TLS 1.2").to_string().contains("ProtocolVersion"));
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.len() <= 16 && !answer.starts_with(&[0, 0]), "an alert at most: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_authority_s_key_alone_opens_nothing() {
    let world = World::start(|_| {}).await;
    for role in [Role::Admin, Role::Client] {
        let forged = world.forge((role, "ada"), SystemTime::now(), DAY);
        let channel = world.connect(&forged).await;
        let refused = refusal(list_jobs(channel).await);
        assert_eq!(refused, (Code::Unauthenticated, "certificate_revoked".to_owned()));
    }
    assert!(world.actions().await.contains(&"revoked_certificate_used".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_authority_s_members_come_in_until_they_are_revoked() {
    let world = World::start(|_| {}).await;
    let foreign = |federation: &str| {
        let dir = tempfile::tempdir().expect("a folder");
        init(dir.path(), &federation.parse().expect("a name"), None).expect("made");
        let pem = std::fs::read(dir.path().join("current.pem")).expect("a certificate");
        (Authority::load(dir.path()).expect("read").expect("there"), pem)
    };
    let (external, mut pem) = foreign("hospitals");
    let (elsewhere, more) = foreign("elsewhere");
    pem.extend(more);
    std::fs::write(world.config.ca_dir.join("external.pem"), pem).expect("written");
    let mut vera = forge_by(&external, (Role::Viewer, "vera"), SystemTime::now(), DAY);
    let ours = world.authority().trusted().iter().map(|ca| ca.to_vec()).collect();
    vera = vera.trusting(ours);
    // The running coordinator sees the file by itself.
    let mut tries = 0;
    let channel = loop {
        let channel = Remote::secure(&world.at(), &vera).expect("a remote").connect_lazy();
        match list_jobs(channel.clone()).await {
            Ok(()) => break channel,
            Err(error) => assert!(tries < 600, "never let in: {error:?}"),
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // What it is not: of another federation, of a role above its own, renewed here.
    let stranger = forge_by(&elsewhere, (Role::Admin, "vera"), SystemTime::now(), DAY);
    let ours = world.authority().trusted().iter().map(|ca| ca.to_vec()).collect();
    let stranger = Remote::secure(&world.at(), &stranger.trusting(ours)).expect("a remote");
    list_jobs(stranger.connect_lazy()).await.expect_err("another federation's");
    let csr = Request::new().expect("a key").csr.into();
    let mut client = EnrollmentServiceClient::new(channel.clone());
    let renewed = client.renew(v1::RenewRequest { csr }).await;
    assert_eq!(refusal(renewed).1, "external_certificate");
    let job = v1::CreateJobRequest::default();
    let created = JobServiceClient::new(channel.clone()).create_job(job).await;
    assert_eq!(refusal(created).1, "role_may_not");
    world.revoke(Role::Viewer, "vera").await;
    assert_eq!(refusal(list_jobs(channel).await).1, "certificate_revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_federation_that_lost_its_authority_is_not_open_to_everybody() {
    let world = World::start(|_| {}).await;
    let mut config = world.config.clone();
    world.coordinator.stop().await.expect("stopped");
    // Only the certificate is gone: half an authority.
    let (current, away) = (config.ca_dir.join("current.pem"), config.ca_dir.join("away"));
    std::fs::rename(&current, &away).expect("moved");
    let error = Coordinator::start(&config).await.err().expect("it must not serve");
    assert!(format!("{error:#}").contains("half a certificate authority"), "{error:#}");
    std::fs::rename(&away, &current).expect("moved back");
    // The whole folder is another one: on loopback everybody would be let in.
    let ca_dir = std::mem::replace(&mut config.ca_dir, world.config.data_dir.join("nowhere"));
    let error = Coordinator::start(&config).await.err().expect("it must not serve");
    assert!(format!("{error:#}").contains("1 identities"), "{error:#}");
    config.ca_dir = ca_dir;
    Coordinator::start(&config).await.expect("with it, it serves").stop().await.expect("stopped");
}
