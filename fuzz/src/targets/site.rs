//! What a site and a coordinator keep and read again: the client's file, its ledger, pooled constants.

use std::path::Path;
use std::sync::OnceLock;

use tributary_client::config::ClientConfig;
use tributary_client::ledger;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::{Pool, SiteSums};

use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "client_file", run: client_file, words: KEYS },
    Target { name: "ledger", run: read_ledger, words: LINES },
    Target { name: "sums", run: sums, words: &["tributary/sums/v1", "ill", "\0\0\0\0"] },
    Target { name: "constants", run: constants, words: &["tributary/constants/v1", "\u{1}"] },
];

const KEYS: &[&str] = &[
    "[data]\n",
    "[[data]]\n",
    "[policy]\n",
    "[policy.data]\n",
    "format = \"csv\"\n",
    "proxy = ",
    "hours_utc = \"22:00-06:00\"\n",
    "threads = 0\n",
    "[tokens]\n",
    "by = \"words\"\n",
    "\"\"",
    "{",
    "}",
    "[",
    "]",
    "-1",
    "1e400",
    "nan",
    "99999999999999999999",
    "https://a:b@c",
    "../",
    "\\u0000",
];
const LINES: &[&str] =
    &["{\"", "\":", "\"what\":\"update\"", "\n", "\"digest\":\"sha256:", "null", "}"];

fn client_file(bytes: &[u8], _: &Path) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    Verdict::of(&ClientConfig::parse(text, Path::new("x")))
}

/// No line of a damaged chain is believed.
fn read_ledger(bytes: &[u8], folder: &Path) -> Verdict {
    std::fs::write(ledger::path(folder), bytes).expect("room");
    Verdict::of(&ledger::verify(folder, |_| {}))
}

/// A job that asks its sites for sums.
fn asking() -> &'static JobSpec {
    static SPEC: OnceLock<JobSpec> = OnceLock::new();
    SPEC.get_or_init(|| {
        let text = "[job]\nname = \"asks\"\nrounds = 1\n[data]\nkind = \"table\"\nclasses = 2\n\
                    class_names = \"federated\"\nnormalise = \"federated\"\n[model]\n\
                    input = { shape = [2] }\nlayers = [{ linear = 2 }]\n[train]\nbatch_size = 1\n\
                    optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\n";
        JobSpec::parse(text).expect("good")
    })
}

fn sums(bytes: &[u8], _: &Path) -> Verdict {
    let decoded = SiteSums::decode(bytes);
    let Ok(sums) = decoded else { return Verdict::Refused };
    assert_eq!(sums.encode(), bytes, "one way to write them");
    let asked = asking().statistics.as_ref().expect("asked").asked;
    let checked = sums.check(&asked);
    if checked.is_ok() {
        let mut pool = Pool::default();
        for _ in 0..3 {
            assert!(pool.merge(&sums).is_ok(), "three of what is checked add up");
        }
        let _ = pool.constants(asking());
    }
    Verdict::of(&checked)
}

fn constants(bytes: &[u8], _: &Path) -> Verdict {
    let spec = asking().clone().with_constants(bytes);
    if let Ok(spec) = &spec {
        let (means, deviations) = spec.constants.normalise.as_ref().expect("asked for");
        assert!(means.iter().all(|value| value.is_finite()));
        assert!(deviations.iter().all(|value| value.is_finite() && *value > 0.0));
    }
    Verdict::of(&spec)
}
