//! What a peer or a file may hold, mutated: every parser gives an error or a value, never a panic,
//! and what it accepts is within its bounds. (Checkpoints and updates have theirs in `core`.)

use proptest::prelude::{any, prop};
use proptest::strategy::Strategy;
use proptest::{prop_assert, prop_assert_eq, proptest};
use rustls::pki_types::CertificateDer;
use tributary_client::config::ClientConfig;
use tributary_client::identity::{Credential, Request};
use tributary_client::ledger;
use tributary_coordinator::authority::{Authority, der_of, init, member_of};
use tributary_core::identity::{Identity, Role, Token};
use tributary_core::metrics::Measure;
use tributary_core::name::ClientName;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::{NumericSums, Pool, SiteSums, encode_constants};
use tributary_proto::convert::{
    audit_from_wire, binding_from_wire, caller_from_wire, statistics_from_wire, upload_from_wire,
};
use tributary_proto::v1;

/// The samples of the documentation are the corpus.
const JOB: &str = include_str!("../../docs/samples/job.toml");
const CLIENT: &str = include_str!("../../docs/samples/client.toml");

/// Bytes with a few places overwritten, cut, or doubled.
fn mutated(seed: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let place = any::<prop::sample::Index>();
    let edits = prop::collection::vec((place, any::<u8>()), 0..6);
    (edits, place_of(), any::<u8>()).prop_map(move |(edits, end, how)| {
        let mut bytes = seed.clone();
        for (place, byte) in edits {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        match how % 4 {
            0 => bytes.truncate(end.index(bytes.len())),
            1 => {
                let tail = bytes[end.index(bytes.len())..].to_vec();
                bytes.extend(tail);
            }
            _ => {}
        }
        bytes
    })
}

fn place_of() -> impl Strategy<Value = prop::sample::Index> {
    any::<prop::sample::Index>()
}

fn authority() -> &'static Authority {
    static AUTHORITY: std::sync::OnceLock<Authority> = std::sync::OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        init(dir.path(), &"hospitals".parse().expect("a name"), None).expect("made");
        Authority::load(dir.path()).expect("read").expect("there")
    })
}

fn name() -> ClientName {
    "site-a".parse().expect("a name")
}

/// A request, and the certificate for it.
fn signed() -> (Vec<u8>, Vec<u8>) {
    let request = Request::new().expect("a key");
    let hour = std::time::Duration::from_secs(3600);
    let signed = authority().sign(&request.csr, (Role::Client, &name()), hour).expect("signed");
    (request.csr, der_of(&signed.der).expect("hex"))
}

/// A job that asks its sites for sums.
fn asking() -> JobSpec {
    let text = "[job]\nname = \"asks\"\nrounds = 1\n[data]\nkind = \"table\"\nclasses = 2\n\
                class_names = \"federated\"\nnormalise = \"federated\"\n[model]\n\
                input = { shape = [2] }\nlayers = [{ linear = 2 }]\n[train]\nbatch_size = 1\n\
                optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\n";
    JobSpec::parse(text).expect("good")
}

fn sums() -> SiteSums {
    let mut feature = NumericSums::default();
    [1.5, -2.0].into_iter().for_each(|value| feature.add(value));
    let names = vec!["ill".to_owned(), "well".to_owned()];
    SiteSums { rows: 2, features: vec![feature; 2], names, ..SiteSums::default() }
}

fn constants() -> Vec<u8> {
    let mut pool = Pool::default();
    for _ in 0..2 {
        pool.merge(&sums()).expect("they add up");
    }
    encode_constants(&pool.constants(&asking()).expect("constants"))
}

fn identity_file() -> Vec<u8> {
    let request = Request::new().expect("a key");
    let hour = std::time::Duration::from_secs(3600);
    let signed = authority().sign(&request.csr, (Role::Client, &name()), hour).expect("signed");
    let authorities = authority().trusted().iter().map(|ca| ca.to_vec()).collect();
    let der = der_of(&signed.der).expect("hex");
    let dir = tempfile::tempdir().expect("a folder");
    let credential = Credential::given(&request, der, authorities).expect("a credential");
    std::fs::read(credential.save(dir.path()).expect("saved")).expect("read")
}

proptest! {
    #[test]
    fn specs(bytes in mutated(JOB.into())) {
        if let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(spec) = JobSpec::parse(text)
        {
            prop_assert!(spec.rounds >= 1 && spec.train.batch_size >= 1);
            prop_assert!(!spec.model.schema().is_empty());
        }
    }

    #[test]
    fn client_files(bytes in mutated(CLIENT.into())) {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = ClientConfig::parse(text, std::path::Path::new("x"));
        }
    }

    #[test]
    fn tokens_and_identities(text in "\\PC{0,120}", bytes in any::<[u8; 32]>()) {
        let _ = (text.parse::<Token>(), text.parse::<Identity>(), text.parse::<Role>());
        let digest = tributary_core::digest::Digest::of(&bytes);
        let token = Token::new(Role::Operator, name(), digest, bytes);
        prop_assert_eq!(token.reveal().parse::<Token>().ok(), Some(token));
        if let Ok(identity) = text.parse::<Identity>() {
            prop_assert_eq!(identity.to_string(), text, "one spelling each");
        }
    }

    #[test]
    fn certificate_requests(bytes in mutated(signed().0)) {
        let hour = std::time::Duration::from_secs(3600);
        if let Ok(signed) = authority().sign(&bytes, (Role::Client, &name()), hour) {
            // Whatever the request said, the certificate says what we say.
            let der = CertificateDer::from(der_of(&signed.der).expect("hex"));
            let member = member_of(&der, authority().federation()).expect("a member");
            prop_assert_eq!(member.identity.to_string(), "spiffe://hospitals/client/site-a");
        }
    }

    #[test]
    fn certificates(bytes in mutated(signed().1)) {
        if let Ok(member) = member_of(&CertificateDer::from(bytes), authority().federation()) {
            prop_assert_eq!(member.identity.federation.as_str(), "hospitals");
        }
    }

    #[test]
    fn stored_hex(text in "\\PC{0,40}") {
        let _ = der_of(&text);
    }

    #[test]
    fn uploads(
        client in "\\PC{0,70}",
        task in "[a-f0-9]{0,40}",
        digest in "(sha256:)?[a-f0-9]{0,70}",
        bytes in any::<u64>(),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        examples in any::<u64>(),
        begun in any::<Option<(u32, u64)>>(),
    ) {
        let caller = Some(v1::Caller { client, instance_id: "x".to_owned() });
        let _ = caller_from_wire(caller.clone());
        let part_digests = parts.into_iter().map(Into::into).collect();
        let header = v1::UploadHeader {
            caller,
            task_id: task,
            update_digest: digest,
            bytes,
            part_digests,
            examples,
            statistics: None,
            beginning: begun.map(|(part, bytes)| v1::PartBeginning { part, bytes }),
        };
        let _ = upload_from_wire(header);
    }

    #[test]
    fn sums_and_constants_of_sites(bytes in mutated(sums().encode()), constants in mutated(constants())) {
        let asked = asking().statistics.expect("asked").asked;
        if let Ok(found) = SiteSums::decode(&bytes) {
            prop_assert_eq!(found.encode(), bytes, "one way to write them");
            if found.check(&asked).is_ok() {
                let mut pool = Pool::default();
                for _ in 0..3 {
                    prop_assert!(pool.merge(&found).is_ok());
                }
                let _ = pool.constants(&asking());
            }
        }
        if let Ok(spec) = asking().with_constants(&constants) {
            let (means, deviations) = spec.constants.normalise.expect("asked for");
            prop_assert!(means.iter().all(|value| value.is_finite()));
            prop_assert!(deviations.iter().all(|value| value.is_finite() && *value > 0.0));
        }
    }

    #[test]
    fn bindings_and_statistics(
        text in "\\PC{0,70}",
        classes in any::<u32>(),
        shape in prop::collection::vec(any::<u32>(), 0..12),
        counts in prop::collection::vec(any::<u64>(), 0..20),
        loss_sum in any::<i64>(),
        examples in any::<u64>(),
    ) {
        let binding = v1::Binding {
            name: text,
            kind: "image".to_owned(),
            classes,
            shape,
            train_examples: examples,
            evaluate_examples: 0,
            targets: classes,
            vocabulary: classes,
        };
        if let Ok(binding) = binding_from_wire(binding) {
            prop_assert!(binding.train_examples <= 1 << 29 && !binding.shape.contains(&0));
        }
        for of in [classes, 2, 4] {
            let (confusion, scores) = (counts.clone(), counts.clone());
            let (correct, top_k, values, withheld) = (examples, examples, vec![], classes % 2 == 1);
            let classes = of;
            let wire = v1::Statistics {
                examples, loss_sum, classes, confusion, correct, top_k, scores, values, withheld,
            };
            for measure in [Measure::Classes(of), Measure::Tokens, Measure::Values(of)] {
                let _ = statistics_from_wire(Some(wire.clone()), measure);
            }
        }
    }

    #[test]
    fn audit_lines(text in "\\PC{0,80}", sequence in any::<u64>(), at_us in any::<i64>()) {
        let line = v1::AuditLine {
            sequence,
            at_us,
            actor: text.clone(),
            digest: text,
            ..v1::AuditLine::default()
        };
        if let Ok(line) = audit_from_wire(line) {
            let _ = tributary_core::audit::AuditChain::default().follow(&line);
        }
    }

    #[test]
    fn identity_files(bytes in mutated(identity_file())) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("identity.pem");
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        let _ = Credential::load(dir.path());
    }

    #[test]
    fn ledgers(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = ledger::path(dir.path());
        std::fs::write(&path, bytes).expect("written");
        let mut entries = 0;
        let _ = ledger::verify(dir.path(), |_| entries += 1);
        prop_assert_eq!(entries, 0, "nothing made up is believed");
    }
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("identity.pem");
    std::fs::write(&path, identity_file()).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
    let error = Credential::load(dir.path()).expect_err("too open").to_string();
    assert!(error.contains("expected mode 0600, found 0640"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    Credential::load(dir.path()).expect("its owner's alone");
    let missing = Credential::load(&dir.path().join("nowhere")).expect_err("none").to_string();
    assert!(missing.contains("enroll with a token"), "{missing}");
}
