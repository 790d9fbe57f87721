//! Attacks from inside: members that reach for what is not theirs.

use std::time::Duration;

use tonic::Code;
use tributary_core::identity::Role;
use tributary_core::instance::Instance;
use tributary_proto::v1;
use v1::enrollment_service_client::EnrollmentServiceClient;
use v1::federation_service_client::FederationServiceClient;
use v1::job_service_client::JobServiceClient;

use crate::world::{World, caller, refusal, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_do_its_own_and_no_more() {
    let world = World::start(|_| {}).await;
    let client = world.enroll(Role::Client, "site-a").await;
    let viewer = world.enroll(Role::Viewer, "vera").await;
    let operator = world.enroll(Role::Operator, "otto").await;
    let create = || v1::CreateJobRequest {
        request_id: "r".to_owned(),
        spec: spec(3, 2),
        validate_only: true,
    };
    let denied = (Code::PermissionDenied, "role_may_not".to_owned());
    let jobs = |who: &crate::world::Somebody| JobServiceClient::new(who.channel.clone());
    assert_eq!(refusal(jobs(&client).create_job(create()).await), denied);
    assert_eq!(refusal(jobs(&viewer).create_job(create()).await), denied);
    jobs(&operator).create_job(create()).await.expect("an operator's");
    jobs(&viewer).list_jobs(v1::ListJobsRequest::default()).await.expect("a viewer's");
    let list = v1::ListJobsRequest::default();
    assert_eq!(refusal(jobs(&client).list_jobs(list).await), denied);
    for who in [&client, &viewer, &operator] {
        let mut federation = FederationServiceClient::new(who.channel.clone());
        let token =
            v1::CreateTokenRequest { role: "admin".to_owned(), name: "me".to_owned(), ttl_s: 0 };
        assert_eq!(refusal(federation.create_token(token).await), denied);
        let audit = v1::ListAuditRequest::default();
        assert_eq!(refusal(federation.list_audit(audit).await), denied);
    }
    assert_eq!(refusal(operator.poll("otto", 3, 0).await), denied, "no operator trains");
    let lines = world.audit().await;
    let denials = lines.iter().filter(|line| line.action == "denied");
    let who: Vec<&str> = denials.map(|line| line.actor.as_str()).collect();
    for name in ["client/site-a", "viewer/vera", "operator/otto"] {
        assert_eq!(who.iter().filter(|found| **found == name).count(), 1, "one line: {who:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_in_another_s_name() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let _b = world.enroll(Role::Client, "site-b").await;
    let mismatch = (Code::PermissionDenied, "identity_mismatch".to_owned());
    assert_eq!(refusal(a.poll("site-b", 3, 0).await), mismatch);
    let heartbeat = v1::HeartbeatRequest {
        caller: caller("site-b"),
        task_id: "0".repeat(32),
        progress: 1,
        progress_total: 1,
    };
    assert_eq!(refusal(a.participant().heartbeat(heartbeat).await), mismatch);
    let header = v1::UploadHeader { caller: caller("site-b"), ..v1::UploadHeader::default() };
    let message = Some(v1::upload_update_request::Message::Header(header));
    let messages = tokio_stream::iter([v1::UploadUpdateRequest { message }]);
    assert_eq!(refusal(a.participant().upload_update(messages).await), mismatch);
    let lines = world.audit().await;
    let line = lines.iter().find(|line| line.action == "identity_mismatch").expect("audited");
    assert_eq!((line.actor.as_str(), line.target.as_str()), ("client/site-a", "site-b"));
    assert!(a.poll("site-a", 3, 0).await.expect("its own name").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_s_task_and_another_job_s_checkpoint_stay_closed() {
    let world = World::start(|_| {}).await;
    let (a, b) =
        (world.enroll(Role::Client, "site-a").await, world.enroll(Role::Client, "site-b").await);
    world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    let fetch = |name: &str| v1::FetchBlobRequest {
        caller: caller(name),
        digest: task.checkpoint_digest.clone(),
        offset: 0,
    };
    a.participant().fetch_blob(fetch("site-a")).await.expect("its own job's");
    let closed = refusal(b.participant().fetch_blob(fetch("site-b")).await.map(|_| ()));
    assert_eq!(closed, (Code::NotFound, "blob_not_found".to_owned()));
    let report = v1::ReportFailureRequest {
        caller: caller("site-b"),
        task_id: task.task_id.clone(),
        reason: "sabotage".to_owned(),
        refused_by_site: true,
        code: String::new(),
    };
    let stolen = refusal(b.participant().report_failure(report).await);
    assert_eq!(stolen, (Code::PermissionDenied, "not_your_task".to_owned()));
    let held = v1::GetUploadRequest {
        caller: caller("site-b"),
        task_id: task.task_id.clone(),
        update_digest: task.checkpoint_digest.clone(),
        bytes: 96,
    };
    let peeked = refusal(b.participant().get_upload(held).await);
    assert_eq!(peeked, (Code::PermissionDenied, "not_your_task".to_owned()));
    let evaluation = v1::SubmitEvaluationRequest {
        caller: caller("site-b"),
        task_id: task.task_id.clone(),
        statistics: None,
    };
    b.participant().submit_evaluation(evaluation).await.expect_err("not its task");
    let again = a.poll("site-a", 3, 0).await.expect("polled").expect("the task stands");
    assert_eq!(again.task_id, task.task_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_climb_or_hide_are_no_names() {
    let world = World::start(|_| {}).await;
    for name in
        ["../../etc/passwd", "a/b", "..", ".", "", "A", "a\0b", "a b", "ä", "a%2f..", "x/../y"]
    {
        for role in ["client", "admin"] {
            let (role, name) = (role.to_owned(), name.to_owned());
            let token = v1::CreateTokenRequest { role: role.clone(), name: name.clone(), ttl_s: 0 };
            let refused = refusal(world.federation().create_token(token).await);
            assert_eq!(refused, (Code::InvalidArgument, "malformed".to_owned()), "{name}");
            let revoke = v1::RevokeIdentityRequest { role, name, reason: String::new() };
            assert_eq!(
                refusal(world.federation().revoke_identity(revoke).await).0,
                Code::InvalidArgument
            );
        }
    }
    for role in ["", "root", "Admin", "client/../admin", "coordinator"] {
        let token =
            v1::CreateTokenRequest { role: role.to_owned(), name: "eve".to_owned(), ttl_s: 0 };
        assert_eq!(refusal(world.federation().create_token(token).await).0, Code::InvalidArgument);
    }
    for ttl_s in [1, 59, 604_801, u32::MAX] {
        let (role, name) = ("viewer".to_owned(), "eve".to_owned());
        let token = v1::CreateTokenRequest { role, name, ttl_s };
        assert_eq!(refusal(world.federation().create_token(token).await).0, Code::InvalidArgument);
    }
    let a = world.enroll(Role::Client, "site-a").await;
    for task_id in ["../secret", "", "/", &"x".repeat(4000)] {
        let request = v1::ReportFailureRequest {
            caller: caller("site-a"),
            task_id: task_id.to_owned(),
            reason: String::new(),
            refused_by_site: false,
            code: String::new(),
        };
        let refused = refusal(a.participant().report_failure(request).await);
        assert_eq!(refused.0, Code::InvalidArgument, "{task_id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_is_cut_off_in_the_middle_of_a_poll_and_its_task_goes_on() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let job = world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    // Another connection of the same client hangs in a long call.
    let watching = world.connect(&a.credential).await;
    let hanging = tokio::spawn(async move {
        let mut client = v1::participant_service_client::ParticipantServiceClient::new(watching);
        let (sender, receiver) = tokio::sync::mpsc::channel::<v1::UploadUpdateRequest>(1);
        let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let answer = client.upload_update(receiver).await;
        drop(sender);
        answer.expect_err("it hung")
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.revoke(Role::Client, "site-a").await;
    let refused = a.poll("site-a", 3, 0).await.expect_err("at once on this replica");
    assert!(matches!(refused.code(), Code::Unauthenticated | Code::Unknown | Code::Unavailable));
    // Cut by the port, not ended by the service, which would have said why.
    let cut = hanging.await.expect("it ended");
    assert_eq!(tributary_proto::fault::reason(&cut), None, "{cut:?}");
    let channel = world.connect(&a.credential).await;
    let again = crate::world::Somebody { credential: a.credential, channel };
    let refused = refusal(again.poll("site-a", 3, 0).await);
    assert_eq!(refused, (Code::Unauthenticated, "certificate_revoked".to_owned()));
    let listed = world.federation().list_clients(v1::ListClientsRequest::default()).await;
    let listed = listed.expect("listed").into_inner().clients;
    assert!(
        listed.iter().all(|client| !client.present),
        "cut off, if heard a moment ago: {listed:?}"
    );
    // Renewing is no way back.
    let csr = tributary_client::identity::Request::new().expect("a key").csr.into();
    let mut client = EnrollmentServiceClient::new(again.channel.clone());
    assert_eq!(refusal(client.renew(v1::RenewRequest { csr }).await).0, Code::Unauthenticated);
    // The task goes to the next one who comes.
    let b = world.enroll(Role::Client, "site-b").await;
    let next = b.poll("site-b", 3, 30_000).await.expect("polled").expect("a task");
    assert_eq!((next.job_id.as_str(), next.round), (job.as_str(), task.round));
    // A new token lets the site in again.
    let back = world.enroll(Role::Client, "site-a").await;
    back.poll("site-a", 3, 0).await.expect("a member again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_and_the_one_before_last_is_worth_nothing() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Viewer, "vera").await;
    let list = |channel: tonic::transport::Channel| async move {
        JobServiceClient::new(channel).list_jobs(v1::ListJobsRequest::default()).await.map(|_| ())
    };
    let remote = tributary_client::rpc::Remote::secure(&world.at(), &a.credential);
    let link = tributary_client::rpc::Link::new(remote.expect("a remote").connect_lazy());
    let (at, home) = (world.at(), world.home("vera"));
    let renew = || tributary_client::rpc::renew(&at, &link, &home);
    let second = renew().await.expect("the second");
    list(a.channel.clone()).await.expect("the first is good until the second is used");
    renew().await.expect("the third, by the second");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let refused = refusal(list(world.connect(&a.credential).await).await);
    assert_eq!(refused.0, Code::Unauthenticated, "the first is gone");
    list(world.connect(&second).await).await.expect("the second stays");
    let stored = tributary_client::identity::Credential::load(&world.home("vera")).expect("stored");
    list(world.connect(&stored).await).await.expect("the third works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_names_who_did_what_and_its_chain_holds() {
    let world = World::start(|_| {}).await;
    let operator = world.enroll(Role::Operator, "otto").await;
    let mut jobs = JobServiceClient::new(operator.channel.clone());
    let request = v1::CreateJobRequest {
        request_id: "one".to_owned(),
        spec: spec(3, 2),
        validate_only: false,
    };
    let job = jobs.create_job(request).await.expect("created").into_inner().job.expect("a job");
    assert_eq!(job.submitted_by, "operator/otto");
    let cancel = v1::CancelJobRequest { job: job.job_id.clone(), reason: "a slip".to_owned() };
    jobs.cancel_job(cancel).await.expect("cancelled");
    world.revoke(Role::Operator, "otto").await;
    let lines = world.audit().await;
    let told: Vec<(&str, &str, &str)> =
        lines.iter().map(|l| (l.actor.as_str(), l.action.as_str(), l.target.as_str())).collect();
    for line in [
        ("test", "token_created", "admin/ada"),
        (
            "local",
            "coordinator_started",
            concat!("tributary-coordinator ", env!("CARGO_PKG_VERSION")),
        ),
        ("admin/ada", "enrolled", "admin/ada"),
        ("admin/ada", "token_created", "operator/otto"),
        ("operator/otto", "enrolled", "operator/otto"),
        ("operator/otto", "job_created", job.job_id.as_str()),
        ("operator/otto", "job_cancelled", job.job_id.as_str()),
        ("admin/ada", "revoked", "operator/otto"),
    ] {
        assert!(told.contains(&line), "{line:?} is not in {told:?}");
    }
    let mut chain = tributary_core::audit::AuditChain::default();
    for line in lines {
        let line = tributary_proto::convert::audit_from_wire(line).expect("a line");
        assert!(chain.follow(&line), "line {}", line.sequence);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_with_one_identity_is_refused_noticed_and_disturbs_nobody() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let poll = |instance: &Instance| {
        let mut client = a.participant();
        let caller =
            Some(v1::Caller { client: "site-a".to_owned(), instance_id: instance.to_string() });
        let request = v1::PollRequest { caller, protocol_version: 1, ..v1::PollRequest::default() };
        async move { client.poll(request).await.map(|_| ()) }
    };
    // The same key and certificate, in another state folder.
    let (first, second) = (Instance::new(1, 100), Instance::new(2, 200));
    poll(&first).await.expect("the first one");
    let refused = poll(&second).await.expect_err("the second one");
    assert!(tributary_proto::fault::retry_after(&refused) > Some(Duration::ZERO));
    assert_eq!(refusal(Err::<(), _>(refused)), (Code::AlreadyExists, "identity_in_use".to_owned()));
    poll(&first).await.expect("the first one goes on");
    poll(&Instance::new(1, 101)).await.expect("started again, at once");
    assert_eq!(refusal(poll(&first).await).1, "identity_in_use", "both of one folder");
    let lines = world.audit().await;
    let line = lines.iter().find(|line| line.action == "identity_in_use").expect("audited");
    assert_eq!((line.actor.as_str(), line.target.as_str()), ("client/site-a", "site-a"));
    assert_eq!(line.outcome, "refused");
}
