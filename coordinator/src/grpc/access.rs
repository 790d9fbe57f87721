//! Who may call what: one table of role and method, and it says no to what is not in it.
//!
//! A call passes three gates before its service hears of it: its connection's certificate is still
//! good (not past, not revoked: asked of the store at most once a second a certificate, and a store
//! that does not answer lets nobody in), the table allows its role the method, and its identity's
//! rate is kept. A client's own tasks and blobs are then its service's and the store's to guard.

use tributary_core::identity::Role;

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

/// Service, method, who. What is not here is nobody's.
const TABLE: &[(&str, &str, Access)] = &[
    ("tributary.v1.EnrollmentService", "Enroll", Access::Anybody),
    ("tributary.v1.EnrollmentService", "Renew", Access::Members),
    ("tributary.v1.ParticipantService", "Poll", CLIENTS),
    ("tributary.v1.ParticipantService", "Heartbeat", CLIENTS),
    ("tributary.v1.ParticipantService", "FetchBlob", CLIENTS),
    ("tributary.v1.ParticipantService", "GetUpload", CLIENTS),
    ("tributary.v1.ParticipantService", "UploadUpdate", CLIENTS),
    ("tributary.v1.ParticipantService", "SubmitEvaluation", CLIENTS),
    ("tributary.v1.ParticipantService", "SubmitStatistics", CLIENTS),
    ("tributary.v1.ParticipantService", "ReportFailure", CLIENTS),
    ("tributary.v1.JobService", "GetJob", READERS),
    ("tributary.v1.JobService", "ListJobs", READERS),
    ("tributary.v1.JobService", "WatchJob", READERS),
    ("tributary.v1.JobService", "ListEvents", READERS),
    ("tributary.v1.JobService", "ListRejections", READERS),
    ("tributary.v1.JobService", "CreateJob", OPERATORS),
    ("tributary.v1.JobService", "PauseJob", OPERATORS),
    ("tributary.v1.JobService", "ResumeJob", OPERATORS),
    ("tributary.v1.JobService", "CancelJob", OPERATORS),
    ("tributary.v1.JobService", "DownloadCheckpoint", OPERATORS),
    ("tributary.v1.RoundService", "GetRound", READERS),
    ("tributary.v1.RoundService", "ListRounds", READERS),
    ("tributary.v1.FederationService", "GetFederation", READERS),
    ("tributary.v1.FederationService", "ListClients", READERS),
    ("tributary.v1.FederationService", "ListIdentities", ADMINS),
    ("tributary.v1.FederationService", "CreateToken", ADMINS),
    ("tributary.v1.FederationService", "RevokeIdentity", ADMINS),
    ("tributary.v1.FederationService", "ListAudit", ADMINS),
    ("grpc.health.v1.Health", "Check", Access::Anybody),
    ("grpc.health.v1.Health", "Watch", Access::Members),
    ("grpc.health.v1.Health", "List", Access::Members),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", READERS),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", READERS),
];

/// Who may call the method of this path; `None` where there is none that anybody may call.
pub(super) fn access_of(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let row = TABLE.iter().find(|(s, m, _)| *s == service && *m == method);
    row.map(|(_, _, access)| *access)
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
                    assert!(access_of(&path).is_some(), "{path} has no row");
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
        for (service, method, access) in TABLE {
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
