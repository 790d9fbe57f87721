//! Every kernel against a plain f64 reference: values, and gradients by central differences.

use candle_core::{Device, Result, Tensor, Var};
use tributary_core::prg::Prg;

use super::{Convolution, Pool, conv2d, cross_entropy, linear, max_pool2d, relu, scores, tanh};

/// Step of the central differences of an f64 reference: errors are about its square.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 2e-5;

/// Distinct values from −1 to 1, none within 2 ⁄ count of zero or of each other: far from the kinks
/// of a rectifier and of a maximum.
fn distinct(count: usize, seed: u64) -> Vec<f32> {
    let spread = |i: usize| 2.0 * (i as f32 + 0.5) / count as f32 - 1.0;
    let mut values: Vec<f32> = (0..count).map(spread).collect();
    Prg::for_name(seed, "test", "distinct").shuffle(&mut values);
    values
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn var(values: &[f32], shape: &[usize]) -> Tensor {
    Var::from_slice(values, shape, &Device::Cpu).expect("var").into_inner()
}

fn assert_close(ours: &[f32], theirs: &[f64], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let norm = theirs.iter().map(|t| t * t).sum::<f64>().sqrt();
    let pairs = ours.iter().zip(theirs);
    let error = pairs.map(|(o, t)| (f64::from(*o) - t).powi(2)).sum::<f64>().sqrt();
    assert!(error <= TOLERANCE * norm.max(0.1), "{what}: {error} of {norm}");
}

/// Checks an operation: `arguments` are values with shapes, `ours` the kernel, `theirs` the
/// reference. The scalar that is differentiated is a fixed random combination of the results.
fn check(
    arguments: &[(Vec<f32>, Vec<usize>)],
    ours: impl Fn(&[Tensor]) -> Result<Tensor>,
    theirs: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let tensors: Vec<Tensor> = arguments.iter().map(|(v, shape)| var(v, shape)).collect();
    let out = ours(&tensors).expect("forward");
    let values = out.flatten_all().expect("flat").to_vec1::<f32>().expect("f32");
    let plain: Vec<Vec<f64>> = arguments.iter().map(|(values, _)| wide(values)).collect();
    assert_close(&values, &theirs(&plain), "forward");

    let weights = distinct(values.len(), 99);
    let factor = Tensor::from_slice(&weights, out.shape(), &Device::Cpu).expect("factor");
    let scalar = (out * factor).expect("product").sum_all().expect("sum");
    let gradients = scalar.backward().expect("backward");
    let combine = |arguments: &[Vec<f64>]| -> f64 {
        theirs(arguments).iter().zip(&weights).map(|(v, w)| v * f64::from(*w)).sum()
    };
    for (index, tensor) in tensors.iter().enumerate() {
        let ours = gradients.get(tensor).expect("a gradient for every argument");
        let ours = ours.flatten_all().expect("flat").to_vec1::<f32>().expect("f32");
        let numeric: Vec<f64> = (0..ours.len())
            .map(|element| {
                let at = |step: f64| {
                    let mut moved = plain.clone();
                    moved[index][element] += step;
                    combine(&moved)
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            })
            .collect();
        assert_close(&ours, &numeric, &format!("gradient of argument {index}"));
    }
}

/// Sizes of a reference convolution: batch, channels, height, width, filters, kernel.
type Sizes = [usize; 6];

fn reference_conv(sizes: Sizes, config: Convolution, arguments: &[Vec<f64>]) -> Vec<f64> {
    let [batch, channels, height, width, filters, kernel] = sizes;
    let Convolution { stride, padding, .. } = config;
    let (rows, columns) =
        ((height + 2 * padding - kernel) / stride + 1, (width + 2 * padding - kernel) / stride + 1);
    let mut out = Vec::new();
    for image in 0..batch {
        for filter in 0..filters {
            for (row, column) in (0..rows * columns).map(|i| (i / columns, i % columns)) {
                let mut sum = arguments[2][filter];
                for channel in 0..channels {
                    for (y, x) in (0..kernel * kernel).map(|i| (i / kernel, i % kernel)) {
                        let (iy, ix) = (row * stride + y, column * stride + x);
                        if (padding..padding + height).contains(&iy)
                            && (padding..padding + width).contains(&ix)
                        {
                            let plane = (image * channels + channel) * height;
                            let input = (plane + iy - padding) * width + ix - padding;
                            let weight = ((filter * channels + channel) * kernel + y) * kernel + x;
                            sum += arguments[0][input] * arguments[1][weight];
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    if let Some(pool) = config.pool {
        out = reference_pool(batch * filters, rows, columns, pool, &out);
    }
    if config.relu {
        out.iter_mut().for_each(|value| *value = value.max(0.0));
    }
    out
}

fn reference_pool(planes: usize, rows: usize, columns: usize, pool: Pool, v: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for plane in 0..planes {
        for top in (0..=rows - pool.kernel).step_by(pool.stride) {
            for left in (0..=columns - pool.kernel).step_by(pool.stride) {
                let cells = (0..pool.kernel * pool.kernel).map(|i| {
                    let (y, x) = (top + i / pool.kernel, left + i % pool.kernel);
                    v[(plane * rows + y) * columns + x]
                });
                out.push(cells.fold(f64::NEG_INFINITY, f64::max));
            }
        }
    }
    out
}

fn check_conv(sizes: Sizes, config: Convolution) {
    let [batch, channels, height, width, filters, kernel] = sizes;
    let input = vec![batch, channels, height, width];
    let weight = vec![filters, channels, kernel, kernel];
    let argument = |shape: Vec<usize>, seed| (distinct(shape.iter().product(), seed), shape);
    let arguments = [argument(input, 1), argument(weight, 2), argument(vec![filters], 3)];
    check(
        &arguments,
        |t| conv2d(&t[0], &t[1], &t[2], config),
        |a| reference_conv(sizes, config, a),
    );
}

const PLAIN: Convolution = Convolution { stride: 1, padding: 0, relu: false, pool: None };

#[test]
fn convolution_with_any_stride_and_padding() {
    check_conv([2, 2, 5, 6, 3, 3], PLAIN);
    check_conv([3, 1, 6, 5, 2, 5], Convolution { padding: 2, ..PLAIN });
    check_conv([2, 2, 5, 6, 2, 3], Convolution { stride: 2, padding: 1, ..PLAIN });
    check_conv([1, 2, 7, 4, 2, 2], Convolution { stride: 3, ..PLAIN });
    check_conv([9, 1, 3, 3, 2, 1], Convolution { padding: 1, ..PLAIN });
    // Padding so wide that some patches lie wholly outside the picture.
    check_conv([1, 1, 2, 3, 1, 3], Convolution { padding: 4, ..PLAIN });
    check_conv([1, 1, 2, 2, 1, 2], Convolution { stride: 3, padding: 5, ..PLAIN });
}

#[test]
fn convolution_with_rectifier_and_pooling_in_one_pass() {
    let pool = |kernel, stride| Some(Pool { kernel, stride });
    check_conv([2, 2, 6, 6, 3, 3], Convolution { padding: 1, relu: true, ..PLAIN });
    check_conv([2, 1, 6, 7, 3, 3], Convolution { padding: 1, pool: pool(2, 2), ..PLAIN });
    let both = Convolution { padding: 1, relu: true, ..PLAIN };
    check_conv([2, 2, 6, 6, 3, 3], Convolution { pool: pool(2, 2), ..both });
    check_conv([2, 2, 7, 5, 2, 3], Convolution { pool: pool(3, 2), ..both });
}

#[test]
fn pooling_gives_the_gradient_to_the_maximum() {
    for (kernel, stride) in [(2, 2), (3, 2), (2, 1), (2, 3), (1, 1)] {
        let pool = Pool { kernel, stride };
        let argument = (distinct(2 * 2 * 5 * 7, 4), vec![2, 2, 5, 7]);
        check(&[argument], |t| max_pool2d(&t[0], pool), |a| reference_pool(4, 5, 7, pool, &a[0]));
    }
    // Of equal values the first gets all of it.
    let input = var(&[1.0; 4], &[1, 1, 2, 2]);
    let out = max_pool2d(&input, Pool { kernel: 2, stride: 2 }).expect("pool");
    let gradients = out.sum_all().expect("sum").backward().expect("backward");
    let gradient = gradients.get(&input).expect("gradient").flatten_all().expect("flat");
    assert_eq!(gradient.to_vec1::<f32>().expect("f32"), [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn linear_with_and_without_rectifier() {
    for (batch, inputs, outputs) in [(3, 4, 5), (1, 7, 2), (2, 130, 3)] {
        for rectify in [false, true] {
            let argument =
                |shape: Vec<usize>, seed| (distinct(shape.iter().product(), seed), shape);
            let arguments = [
                argument(vec![batch, inputs], 5),
                argument(vec![outputs, inputs], 6),
                argument(vec![outputs], 7),
            ];
            let reference = |a: &[Vec<f64>]| {
                let at = |i: usize| {
                    let (row, out) = (i / outputs, i % outputs);
                    let products =
                        (0..inputs).map(|k| a[0][row * inputs + k] * a[1][out * inputs + k]);
                    let sum = a[2][out] + products.sum::<f64>();
                    if rectify { sum.max(0.0) } else { sum }
                };
                (0..batch * outputs).map(at).collect()
            };
            check(&arguments, |t| linear(&t[0], &t[1], &t[2], rectify), reference);
        }
    }
}

#[test]
fn a_wide_linear_layer_is_the_same_in_pieces() {
    // Wide enough that the columns are cut.
    let (batch, inputs, outputs) = (3, 257, 300);
    let weight = var(&distinct(outputs * inputs, 8), &[outputs, inputs]);
    let input = var(&distinct(batch * inputs, 9), &[batch, inputs]);
    let bias = var(&distinct(outputs, 10), &[outputs]);
    let ours = linear(&input, &weight, &bias, false).expect("linear");
    let ours = ours.flatten_all().expect("flat").to_vec1::<f32>().expect("f32");
    let plain = [wide(&distinct(batch * inputs, 9)), wide(&distinct(outputs * inputs, 8))];
    let bias = wide(&distinct(outputs, 10));
    let at = |i: usize| {
        let (row, out) = (i / outputs, i % outputs);
        let products = (0..inputs).map(|k| plain[0][row * inputs + k] * plain[1][out * inputs + k]);
        bias[out] + products.sum::<f64>()
    };
    assert_close(&ours, &(0..batch * outputs).map(at).collect::<Vec<_>>(), "wide linear");
}

#[test]
fn activations() {
    let argument = || (distinct(24, 11), vec![2, 3, 4]);
    check(&[argument()], |t| relu(&t[0]), |a| a[0].iter().map(|x| x.max(0.0)).collect());
    check(&[argument()], |t| tanh(&t[0]), |a| a[0].iter().map(|x| x.tanh()).collect());
    let input = var(&[0.0, -0.0, f32::NAN], &[3]);
    let out = relu(&input).expect("relu");
    let gradients = out.sum_all().expect("sum").backward().expect("backward");
    let gradient = gradients.get(&input).expect("gradient").to_vec1::<f32>().expect("f32");
    assert_eq!(gradient, [0.0; 3], "the gradient at zero is zero");
    assert!(out.to_vec1::<f32>().expect("f32")[2].is_nan(), "a NaN is not hidden");
}

#[test]
fn cross_entropy_and_scores() {
    let (labels, classes) = ([2_u32, 0, 3, 3, 1], 4);
    let reference = |a: &[Vec<f64>]| {
        let rows = a[0].chunks(classes).zip(labels);
        let losses = rows.map(|(row, label)| {
            row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[label as usize]
        });
        vec![losses.sum::<f64>() / labels.len() as f64]
    };
    let argument = (distinct(labels.len() * classes, 12), vec![labels.len(), classes]);
    check(&[argument], |t| cross_entropy(&t[0], labels.to_vec().into()), reference);

    let logits = var(&[1e30, -1e30, 0.0, 0.0], &[2, 2]);
    let loss = cross_entropy(&logits, vec![0, 1].into()).expect("loss").to_scalar::<f32>();
    assert!(
        (loss.expect("scalar") - 0.5 * 2.0_f32.ln()).abs() < 1e-6,
        "large logits are no trouble"
    );
    let scored = scores(&logits, &[1, 1]).expect("scores");
    assert_eq!((scored[0].predicted, scored[1].predicted), (0, 0));
    assert!(scored[0].loss > 1e30 && (scored[1].loss - 2.0_f64.ln()).abs() < 1e-12);
    assert!(scores(&logits, &[0, 2]).is_err() && scores(&logits, &[0]).is_err());
    assert!(cross_entropy(&logits, vec![0, 2].into()).is_err());
}

#[test]
fn pictures_get_no_gradient_and_wrong_shapes_an_error() {
    let input =
        Tensor::from_slice(&distinct(32, 13), &[2, 1, 4, 4][..], &Device::Cpu).expect("input");
    let (weight, bias) = (var(&distinct(9, 14), &[1, 1, 3, 3]), var(&[0.5], &[1]));
    let out = conv2d(&input, &weight, &bias, PLAIN).expect("conv");
    let gradients = out.sum_all().expect("sum").backward().expect("backward");
    assert!(gradients.get(&input).is_none() && gradients.get(&weight).is_some());
    assert!(conv2d(&input, &bias, &bias, PLAIN).is_err());
    assert!(conv2d(&input, &weight, &weight, PLAIN).is_err());
    assert!(linear(&input, &weight, &bias, false).is_err());
    let wide = Convolution { pool: Some(Pool { kernel: 9, stride: 1 }), ..PLAIN };
    assert!(conv2d(&input, &weight, &bias, wide).is_err());
}
