//! A peer's messages: decoded, checked field by field, and, where they are right, written again.

use std::path::Path;

use prost::Message;
use tributary_core::audit::AuditChain;
use tributary_core::metrics::Measure;
use tributary_core::statistics::{Asked, FeatureAsk, TokenAsk};
use tributary_proto::convert::{
    WireFault, audit_from_wire, audit_to_wire, binding_from_wire, binding_to_wire,
    caller_from_wire, digest_from_wire, failure_code_from_wire, statistics_from_wire,
    statistics_to_wire, sums_from_wire, sums_to_wire, task_id_from_wire, upload_from_wire,
};
use tributary_proto::v1;

use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[Target { name: "convert", run: convert, words: WORDS }];

const WORDS: &[&str] =
    &["image", "table", "text", "site-a", "sha256:", "\n\u{1}", "\u{12}", "\u{8}", ".."];

/// What a site may be asked for.
const ASKED: Asked = Asked {
    features: Some(FeatureAsk { count: 1, per_row: 1 }),
    tokens: Some(TokenAsk::Words { lowercase: true }),
    names: true,
};

/// The first byte says which message the others are.
fn convert(bytes: &[u8], _: &Path) -> Verdict {
    let Some((kind, bytes)) = bytes.split_first() else { return Verdict::Refused };
    let checked = match kind % 7 {
        b'\0' => with(bytes, |wire: v1::Binding| {
            let binding = binding_from_wire(wire.clone())?;
            assert!(binding.train_examples <= 1 << 29 && !binding.shape.contains(&0));
            assert_eq!(binding_to_wire(&binding), wire, "nothing is lost");
            Ok(())
        }),
        1 => with(bytes, |wire: v1::UploadHeader| {
            let upload = upload_from_wire(wire)?;
            assert!(upload.examples <= 1 << 29, "{} examples", upload.examples);
            Ok(())
        }),
        2 => with(bytes, statistics),
        3 => with(bytes, |wire: v1::SiteSums| {
            let sums = sums_from_wire(Some(wire.clone()), &ASKED)?;
            assert_eq!(sums_to_wire(&sums), wire, "nothing is lost");
            Ok(())
        }),
        4 => with(bytes, |wire: v1::AuditLine| {
            let line = audit_from_wire(wire.clone())?;
            let _ = AuditChain::default().follow(&line);
            assert_eq!(audit_to_wire(line), wire, "nothing is lost");
            Ok(())
        }),
        5 => with(bytes, |wire: v1::Caller| caller_from_wire(Some(wire)).map(|_| ())),
        _ => with(bytes, |wire: v1::ReportFailureRequest| {
            failure_code_from_wire(&wire.code)?;
            task_id_from_wire(&wire.task_id)?;
            caller_from_wire(wire.caller)?;
            // Any text of the message may be taken for a digest.
            let _ = digest_from_wire("digest", &wire.reason);
            Ok(())
        }),
    };
    Verdict::of(&checked)
}

/// They count as what the peer says that it counts, and as nothing else.
fn statistics(wire: v1::Statistics) -> Result<(), WireFault> {
    let measures = [Measure::Classes(wire.classes), Measure::Tokens, Measure::Values(1)];
    let mut last = Ok(());
    let mut fits = 0;
    for measure in measures {
        match statistics_from_wire(Some(wire.clone()), measure) {
            Ok(statistics) => {
                fits += 1;
                assert!(statistics.check().is_ok());
                assert_eq!(statistics_to_wire(&statistics), wire, "nothing is lost");
                let _ = tributary_proto::convert::metrics_to_wire(&statistics);
            }
            Err(fault) => last = Err(fault),
        }
    }
    assert!(fits <= 1, "one measure, or none");
    if fits == 1 { Ok(()) } else { last }
}

/// Whether the bytes are the message, and the message is right.
fn with<M: Message + Default>(
    bytes: &[u8],
    check: impl FnOnce(M) -> Result<(), WireFault>,
) -> Result<(), String> {
    let message = M::decode(bytes).map_err(|error| error.to_string())?;
    check(message).map_err(|fault| {
        assert!(!fault.field.is_empty() && !fault.expected.is_empty());
        fault.to_string()
    })
}
