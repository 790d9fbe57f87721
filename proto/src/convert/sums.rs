//! A site's sums on the wire, and what they must be.

use tributary_core::statistics::{Asked, NUMERIC_BYTES, NumericSums, SiteSums};

use super::WireFault;
use crate::v1;

/// Sums as the wire has them.
#[must_use]
pub fn sums_to_wire(sums: &SiteSums) -> v1::SiteSums {
    let token =
        |(token, count): &(String, u64)| v1::TokenCount { token: token.clone(), count: *count };
    v1::SiteSums {
        rows: sums.rows,
        features: sums.features.iter().map(|sums| sums.to_bytes().to_vec().into()).collect(),
        tokens: sums.tokens.iter().map(token).collect(),
        left_out: sums.left_out,
        names: sums.names.clone(),
    }
}

/// Sums from a peer: they answer what was asked, and can be sums of so many rows.
///
/// # Errors
/// When they are missing, malformed, or cannot be.
pub fn sums_from_wire(wire: Option<v1::SiteSums>, asked: &Asked) -> Result<SiteSums, WireFault> {
    let wire = wire.ok_or_else(|| WireFault::new("sums", "sums", "nothing"))?;
    let mut features = Vec::with_capacity(wire.features.len());
    for bytes in &wire.features {
        let sums = NumericSums::from_bytes(bytes).ok_or_else(|| {
            let expected = format!("{NUMERIC_BYTES} bytes each");
            WireFault::new("sums.features", expected, bytes.len().to_string())
        })?;
        features.push(sums);
    }
    let sums = SiteSums {
        rows: wire.rows,
        features,
        tokens: wire.tokens.into_iter().map(|entry| (entry.token, entry.count)).collect(),
        left_out: wire.left_out,
        names: wire.names,
    };
    let checked = sums.check(asked);
    checked.map_err(|fault| WireFault::new(fault.field, fault.expected, fault.found))?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use tributary_core::statistics::{Asked, FeatureAsk, NumericSums, SiteSums, TokenAsk};

    use super::{sums_from_wire, sums_to_wire};
    use crate::v1;

    const ASKED: Asked = Asked {
        features: Some(FeatureAsk { count: 1, per_row: 1 }),
        tokens: Some(TokenAsk::Words { lowercase: true }),
        names: true,
    };

    fn sums() -> SiteSums {
        let mut feature = NumericSums::default();
        [1.5, -2.0].into_iter().for_each(|value| feature.add(value));
        SiteSums {
            rows: 2,
            features: vec![feature],
            tokens: vec![("a".to_owned(), 3), ("b".to_owned(), 1)],
            left_out: 4,
            names: vec!["ill".to_owned()],
        }
    }

    #[test]
    fn sums_come_back_as_they_were_sent() {
        let wire = sums_to_wire(&sums());
        assert_eq!(sums_from_wire(Some(wire), &ASKED), Ok(sums()));
    }

    #[test]
    fn hostile_sums_are_refused_by_field() {
        let feature = |count: u64, left_out: u64, sum: i128, squares: i128| {
            let parts = [count.to_le_bytes().to_vec(), left_out.to_le_bytes().to_vec()];
            let wide = [sum.to_le_bytes().to_vec(), squares.to_le_bytes().to_vec()];
            vec![[parts.concat(), wide.concat()].concat().into()]
        };
        let refused = |change: &dyn Fn(&mut v1::SiteSums)| {
            let mut wire = sums_to_wire(&sums());
            change(&mut wire);
            sums_from_wire(Some(wire), &ASKED).expect_err("hostile").field
        };
        let token = |token: &str| v1::TokenCount { token: token.to_owned(), count: 1 };
        for (field, change) in [
            ("sums.rows", &(|w: &mut v1::SiteSums| w.rows = 1 << 40) as &dyn Fn(&mut v1::SiteSums)),
            ("sums.features", &|w| w.features[0] = vec![0; 47].into()),
            ("sums.features", &|w| w.features.clear()),
            ("sums.features", &|w| w.features = feature(3, 0, 0, 0)),
            ("sums.features", &|w| w.features = feature(1, u64::MAX, 0, 0)),
            ("sums.features", &|w| w.features = feature(2, 0, 1 << 60, i128::MAX)),
            ("sums.features", &|w| w.features = feature(2, 0, 1 << 20, 1)),
            ("sums.features", &|w| w.features = feature(2, 0, i128::MIN, 0)),
            ("sums.tokens", &|w| w.tokens = vec![token("b"), token("a")]),
            ("sums.tokens", &|w| w.tokens = vec![token(&"x".repeat(65))]),
            ("sums.tokens", &|w| {
                w.tokens = (0..=1 << 16).map(|at| token(&format!("{at:06}"))).collect()
            }),
            ("sums.names", &|w| w.names = vec!["\u{1b}[31m".to_owned()]),
            ("sums.names", &|w| w.names = (0..2049).map(|at| format!("{at:06}")).collect()),
        ] {
            assert_eq!(refused(change), field);
        }
        assert_eq!(sums_from_wire(None, &ASKED).expect_err("nothing").field, "sums");
    }
}
