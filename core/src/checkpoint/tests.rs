//! The format frozen, read by its reference implementation, and attacked.

use std::sync::Arc;

use proptest::prelude::{Just, any, proptest};
use proptest::strategy::Strategy;

use super::{CheckpointError, check_header, data_start, decode, encode, file_len, header};
use crate::params::{ParameterSet, Schema};

fn parameters() -> ParameterSet {
    let tensors = [("layers.0.weight", vec![2, 2]), ("layers.0.bias", vec![2]), ("step", vec![])];
    let schema = Schema::new(tensors).expect("schema");
    ParameterSet::new(Arc::new(schema), vec![1.0, -2.0, 0.5, 0.0, 3.0, -0.0, 7.0]).expect("values")
}

/// A file of this header, which is padded, and these many bytes of data.
fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn the_bytes_are_frozen() {
    let json = concat!(
        r#"{"layers.0.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
        r#""layers.0.bias":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},"#,
        r#""step":{"dtype":"F32","shape":[],"data_offsets":[24,28]}}"#,
    );
    let mut expected = 200_u64.to_le_bytes().to_vec();
    expected.extend_from_slice(format!("{json:<200}").as_bytes());
    for bits in [0x3f80_0000_u32, 0xc000_0000, 0x3f00_0000, 0, 0x4040_0000, 0x8000_0000] {
        expected.extend_from_slice(&bits.to_le_bytes());
    }
    expected.extend_from_slice(&0x40e0_0000_u32.to_le_bytes());
    let parameters = parameters();
    let bytes = encode(&parameters);
    assert_eq!(bytes, expected);
    assert_eq!(bytes.len() as u64, file_len(parameters.schema()));
    assert_eq!(header(parameters.schema()).len() % 8, 0);
    assert_eq!(decode(&bytes), Ok(parameters));
}

#[test]
fn the_reference_implementation_reads_the_same() {
    let parameters = parameters();
    let bytes = encode(&parameters);
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(file.len(), 3);
    for tensor in parameters.schema().tensors() {
        let view = file.tensor(&tensor.name).expect("tensor");
        assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, &tensor.shape[..]));
        let values = parameters.tensor(&tensor.name).expect("values");
        let expected: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(view.data(), expected);
    }
}

#[test]
fn what_the_reference_implementation_writes_is_read() {
    let (a, b) = (1.5_f32.to_le_bytes(), [2.0_f32, 3.0].map(f32::to_le_bytes).concat());
    let view = |shape, data| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data).expect("view")
    };
    let tensors = [("z", view(vec![1], &a[..])), ("a \"b\"", view(vec![2], &b[..]))];
    let remarks = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(tensors, Some(remarks)).expect("bytes");
    let parameters = decode(&bytes).expect("parameters");
    assert_eq!(parameters.tensor("z"), Some(&[1.5][..]));
    assert_eq!(parameters.tensor("a \"b\""), Some(&[2.0, 3.0][..]));
}

#[test]
fn a_header_is_compared_with_the_schema() {
    let schema = parameters().schema().clone();
    let bytes = header(&schema);
    assert_eq!(check_header(&bytes, &schema), Ok(bytes.len()));
    assert_eq!(data_start(&bytes[..8]), Ok(bytes.len()));
    for other in [
        vec![("layers.0.weight", vec![4]), ("layers.0.bias", vec![2]), ("step", vec![])],
        vec![("layers.0.weight", vec![2, 2]), ("layers.0.bias", vec![2])],
        vec![("layers.0.bias", vec![2]), ("layers.0.weight", vec![2, 2]), ("step", vec![])],
    ] {
        let other = Schema::new(other).expect("schema");
        let error = check_header(&bytes, &other).expect_err("another schema");
        assert!(matches!(error, CheckpointError::OtherSchema { .. }), "{error}");
    }
}

#[test]
fn an_empty_schema_and_empty_tensors_are_kept() {
    for tensors in [vec![], vec![("b", vec![0, 3]), ("a", vec![0]), ("c", vec![1])]] {
        let schema = Arc::new(Schema::new(tensors).expect("schema"));
        let zeros = ParameterSet::zeros(schema);
        assert_eq!(decode(&encode(&zeros)), Ok(zeros));
    }
}

#[test]
fn attacks_are_refused() {
    let tensor = |shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = tensor("[1]", "[0,4]");
    let mut infinite = file(&format!(r#"{{"a":{one}}}"#), 0);
    infinite.extend_from_slice(&f32::INFINITY.to_le_bytes());
    let attacks: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "header of 8 bytes"),
        (u64::MAX.to_le_bytes().to_vec(), "at most 8388608"),
        (64_u64.to_le_bytes().to_vec(), "header of 72 bytes"),
        (file(" {}", 0), "no `{`"),
        (file("{", 0), "safetensors header"),
        (file("{}x", 0), "safetensors header"),
        (file("{}", 4), "expected 0 bytes of data"),
        (file(&format!(r#"{{"a":{one}}}"#), 3), "expected 4 bytes of data"),
        (file(&format!(r#"{{"a":{one}}}"#), 5), "expected 4 bytes of data"),
        (file(&format!(r#"{{"a":{one},"a":{}}}"#, tensor("[1]", "[4,8]")), 8), "`a` twice"),
        (file(&format!(r#"{{"a":{one},"b":{one}}}"#), 4), "no overlaps"),
        (file(&format!(r#"{{"a":{one},"b":{}}}"#, tensor("[1]", "[8,12]")), 12), "no holes"),
        (file(&format!(r#"{{"a":{}}}"#, tensor("[2]", "[0,4]")), 4), "found 0..4"),
        (file(&format!(r#"{{"a":{}}}"#, tensor("[1]", "[4,0]")), 4), "found 4..0"),
        (file(&format!(r#"{{"a":{}}}"#, tensor("[4294967296,4294967296]", "[0,0]")), 0), "holes"),
        (file(&format!(r#"{{"a":{}}}"#, tensor("[-1]", "[0,4]")), 4), "safetensors header"),
        (file(&format!(r#"{{"a":{}}}"#, one.replace("F32", "F16")), 4), "dtype F32"),
        (file(&format!(r#"{{"a":{}}}"#, one.replace("dtype", "d")), 4), "unknown field"),
        (file(r#"{"__metadata__":{"a":1}}"#, 0), "safetensors header"),
        (file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "twice"),
        (file(&"[".repeat(100_000), 0), "no `{`"),
        (file(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0), "safetensors header"),
        (infinite, "finite"),
    ];
    for (bytes, says) in attacks {
        let error = decode(&bytes).expect_err(says).to_string();
        assert!(error.contains(says), "expected `{says}` in `{error}`");
    }
}

#[test]
fn too_many_tensors_are_refused_while_they_are_read() {
    let entries: Vec<String> = (0..=crate::params::TENSORS_MAX)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let error = decode(&file(&format!("{{{}}}", entries.join(",")), 0)).expect_err("too many");
    assert!(error.to_string().contains("more than 65536 tensors"), "{error}");
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let bytes = encode(&parameters());
    let flips = proptest::collection::vec((0..bytes.len(), any::<u8>()), 0..6);
    (Just(bytes), flips, 0..300_usize).prop_map(|(mut bytes, flips, cut)| {
        for (at, byte) in flips {
            bytes[at] = byte;
        }
        // Half of the cases keep their length.
        bytes.truncate(if cut < 236 { cut } else { bytes.len() });
        bytes
    })
}

proptest! {
    #[test]
    fn mutated_bytes_never_panic_and_what_is_read_writes_back(bytes in mutated()) {
        if let Ok(read) = decode(&bytes) {
            assert_eq!(decode(&encode(&read)), Ok(read));
        }
        let _ = check_header(&bytes, parameters().schema());
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert!(decode(&bytes).is_err() || bytes.len() >= 10);
    }

    #[test]
    fn values_come_back_to_the_bit(
        values in proptest::collection::vec(proptest::num::f32::NORMAL, 0..100),
    ) {
        let schema = Arc::new(Schema::new([("w", vec![values.len()])]).expect("schema"));
        let set = ParameterSet::new(schema, values).expect("values");
        let back = decode(&encode(&set)).expect("decode");
        let bits = |set: &ParameterSet| set.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&set));
    }
}
