//! Who may call what: one table of role and method, and it says no to what is not in it.
//!
//! A call passes three gates before its service hears of it: its connection's certificate is still
//! good (not past, not revoked: asked of the store at most once a second a certificate, and a store
//! that does not answer lets nobody in), the table allows its role the method, and its identity's
//! rate is kept. A client's own tasks and blobs are then its service's and the store's to guard.
//!
//! The table also says how long a message of each method may be. A decoded message can be fifty times
//! as large as its bytes (an empty entry of a list has two), so a method gets what its longest honest
//! message needs, and no more.

use tributary_core::identity::Role;
use tributary_proto::{CHUNK_BYTES, MESSAGE_BYTES_MAX};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody, without a certificate.
    Anybody,
    /// Whoever has a good certificate.
    Members,
    /// These roles alone.
    Roles(&'static [Role]),
}

const CLIENTS: Access = Access::Roles(&[Role::Client]);
const READERS: Access = Access::Roles(&[Role::Viewer, Role::Operator, Role::Admin]);
const OPERATORS: Access = Access::Roles(&[Role::Operator, Role::Admin]);
const ADMINS: Access = Access::Roles(&[Role::Admin]);

/// What a call of a method may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    /// Longest message.
    pub(super) message_bytes: usize,
    /// Whether it may send more than one.
    pub(super) streamed: bool,
}

const fn one(message_bytes: usize) -> Bound {
    Bound { message_bytes, streamed: false }
}

const fn streamed(message_bytes: usize) -> Bound {
    Bound { message_bytes, streamed: true }
}

/// Ids, names, numbers.
const SMALL: usize = 4 << 10;
/// A sentence of a person's or of a failed task's.
const WORDS: usize = 64 << 10;
/// Who polls, and 64 bindings of their longest.
const POLL: usize = 64 << 10;
/// A certificate request and a token.
const ENROLLMENT: usize = 16 << 10;
/// A spec of its longest, and a little.
const SPEC: usize = 2 << 20;
/// A chunk of a checkpoint, and a little.
const CHUNK: usize = CHUNK_BYTES + SMALL;
/// Statistics over the most classes; `body` lets few of that size in at once.
const STATISTICS: usize = MESSAGE_BYTES_MAX;

/// Service, method, who, how much. What is not here is nobody's.
const TABLE: &[(&str, &str, Access, Bound)] = &[
    ("tributary.v1.EnrollmentService", "Enroll", Access::Anybody, one(ENROLLMENT)),
    ("tributary.v1.EnrollmentService", "Renew", Access::Members, one(ENROLLMENT)),
    ("tributary.v1.ParticipantService", "Poll", CLIENTS, one(POLL)),
    ("tributary.v1.ParticipantService", "Heartbeat", CLIENTS, one(SMALL)),
    ("tributary.v1.ParticipantService", "FetchBlob", CLIENTS, one(SMALL)),
    ("tributary.v1.ParticipantService", "GetUpload", CLIENTS, one(SMALL)),
    ("tributary.v1.ParticipantService", "UploadUpdate", CLIENTS, streamed(STATISTICS)),
    ("tributary.v1.ParticipantService", "SubmitEvaluation", CLIENTS, one(STATISTICS)),
    ("tributary.v1.ParticipantService", "SubmitStatistics", CLIENTS, one(STATISTICS)),
    ("tributary.v1.ParticipantService", "ReportFailure", CLIENTS, one(WORDS)),
    ("tributary.v1.JobService", "GetJob", READERS, one(SMALL)),
    ("tributary.v1.JobService", "ListJobs", READERS, one(SMALL)),
    ("tributary.v1.JobService", "WatchJob", READERS, one(SMALL)),
    ("tributary.v1.JobService", "ListEvents", READERS, one(SMALL)),
    ("tributary.v1.JobService", "ListRejections", READERS, one(SMALL)),
    ("tributary.v1.JobService", "CreateJob", OPERATORS, one(SPEC)),
    ("tributary.v1.JobService", "PauseJob", OPERATORS, one(SMALL)),
    ("tributary.v1.JobService", "ResumeJob", OPERATORS, one(SMALL)),
    ("tributary.v1.JobService", "CancelJob", OPERATORS, one(WORDS)),
    ("tributary.v1.JobService", "UploadCheckpoint", OPERATORS, streamed(CHUNK)),
    ("tributary.v1.JobService", "DownloadCheckpoint", OPERATORS, one(SMALL)),
    ("tributary.v1.RoundService", "GetRound", READERS, one(SMALL)),
    ("tributary.v1.RoundService", "ListRounds", READERS, one(SMALL)),
    ("tributary.v1.FederationService", "GetFederation", READERS, one(SMALL)),
    ("tributary.v1.FederationService", "ListClients", READERS, one(SMALL)),
    ("tributary.v1.FederationService", "ListIdentities", ADMINS, one(SMALL)),
    ("tributary.v1.FederationService", "CreateToken", ADMINS, one(SMALL)),
    ("tributary.v1.FederationService", "RevokeIdentity", ADMINS, one(WORDS)),
    ("tributary.v1.FederationService", "ListAudit", ADMINS, one(SMALL)),
    ("grpc.health.v1.Health", "Check", Access::Anybody, one(SMALL)),
    ("grpc.health.v1.Health", "Watch", Access::Members, one(SMALL)),
    ("grpc.health.v1.Health", "List", Access::Members, one(SMALL)),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", READERS, streamed(SMALL)),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", READERS, streamed(SMALL)),
];

/// Who may call the method of this path, and what with; `None` where there is none that anybody may
/// call.
pub(super) fn access_of(path: &str) -> Option<(Access, Bound)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let row = TABLE.iter().find(|(s, m, ..)| *s == service && *m == method);
    row.map(|(.., access, bound)| (*access, *bound))
}

impl Access {
    /// Whether a member of this role may.
    pub(super) fn allows(self, role: Role) -> bool {
        match self {
            Access::Anybody | Access::Members => true,
            Access::Roles(roles) => roles.contains(&role),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tributary_core::identity::Role;

    use super::{Access, TABLE, access_of};

    /// Every method that exists has its row, so that none is forgotten; and no row is of a method
    /// that is gone.
    #[test]
    fn every_method_has_its_row() {
        let set = tributary_proto::FILE_DESCRIPTOR_SET;
        let set = prost_types::FileDescriptorSet::decode(set).expect("descriptors");
        let mut ours = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let (_, bound) = access_of(&path).expect("every method has its row");
                    assert_eq!(bound.streamed, method.client_streaming(), "{path}");
                    ours += 1;
                }
            }
        }
        let rows = TABLE.iter().filter(|(service, ..)| service.starts_with("tributary.")).count();
        assert_eq!(rows, ours, "a row is of no method");
    }

    #[test]
    fn what_is_not_in_the_table_is_nobody_s() {
        for path in [
            "",
            "/",
            "//",
            "/tributary.v1.JobService",
            "/tributary.v1.JobService/",
            "/tributary.v1.JobService/createjob",
            "/tributary.v1.JobService/CreateJob/",
            "//tributary.v1.JobService/CreateJob",
            "/tributary.v2.JobService/CreateJob",
            "/tributary.v1.EnrollmentService/../JobService/CreateJob",
        ] {
            assert_eq!(access_of(path), None, "{path}");
        }
    }

    #[test]
    fn roles_stay_apart() {
        for (service, method, access, _) in TABLE {
            let participant = *service == "tributary.v1.ParticipantService";
            let shared = matches!(access, Access::Anybody | Access::Members);
            assert_eq!(access.allows(Role::Client), participant || shared, "{method}");
            assert_eq!(access.allows(Role::Admin), !participant, "{method}: no admin trains");
            if access.allows(Role::Viewer) && !shared {
                let reads = ["Get", "List", "Watch", "ServerReflection"];
                assert!(reads.iter().any(|word| method.starts_with(word)), "{method}");
            }
        }
    }
}
