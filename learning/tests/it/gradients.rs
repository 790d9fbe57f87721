//! A whole network's gradient against central differences of its own loss.

use candle_core::{Device, Tensor};
use tributary_core::params::ParameterSet;
use tributary_core::prg::Prg;
use tributary_learning::model::Network;

use crate::case;

#[test]
fn a_small_cnn_agrees_with_central_differences() {
    let text = "input = { shape = [2, 9, 8] }\nlayers = [\n\
        { conv2d = { out = 3, kernel = 3, padding = 1 } }, \"relu\", { max_pool2d = 2 },\n\
        { conv2d = { out = 4, kernel = 3, stride = 2, padding = 1 } }, \"tanh\",\n\
        { max_pool2d = { kernel = 2, stride = 1 } }, \"relu\",\n\
        \"flatten\", { linear = 6 }, \"relu\", { linear = 3 },\n]";
    let model = case::model(text, 3).expect("model");
    let start = model.initial(5);
    let mut prg = Prg::for_name(5, "test", "input");
    let values: Vec<f32> = (0..4 * 2 * 9 * 8).map(|_| 2.0 * prg.unit_f32() - 1.0).collect();
    let input = Tensor::from_vec(values, (4, 2, 9, 8), &Device::Cpu).expect("input");
    let labels: std::sync::Arc<[u32]> = vec![0, 2, 1, 1].into();

    let network = Network::trainable(&model, &start).expect("network");
    let logits = network.forward(&input).expect("forward");
    let loss = network.loss(&logits, labels.clone()).expect("loss");
    let gradients = network.gradients(&loss).expect("gradients");
    let ours: Vec<f32> =
        gradients.iter().flat_map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect();

    // The loss in f64 from f32 logits; a step of 2^-7 keeps their rounding below the tolerance.
    let loss_at = |values: Vec<f32>| -> f64 {
        let moved = ParameterSet::new(model.schema().clone(), values).expect("values");
        let network = Network::frozen(&model, &moved).expect("network");
        let logits = network.forward(&input).expect("forward");
        let scores = tributary_learning::ops::scores(&logits, &labels).expect("scores");
        scores.iter().map(|score| score.loss).sum::<f64>() / 4.0
    };
    // Each step passes kinks of rectifiers and maxima: along a direction they even out where the
    // step is small, so directions are compared, one a tensor.
    for tensor in model.schema().tensors() {
        let mut prg = Prg::for_name(6, "test", &tensor.name);
        let direction: Vec<f32> = (0..tensor.len).map(|_| 2.0 * prg.unit_f32() - 1.0).collect();
        let step = 1.0 / 2048.0 / (tensor.len as f32).sqrt();
        let at = |sign: f32| {
            let mut values = start.values().to_vec();
            let place = &mut values[tensor.offset..tensor.offset + tensor.len];
            place.iter_mut().zip(&direction).for_each(|(v, d)| *v += sign * step * d);
            loss_at(values)
        };
        let numeric = (at(1.0) - at(-1.0)) / (2.0 * f64::from(step));
        let slopes = &ours[tensor.offset..tensor.offset + tensor.len];
        let pairs = slopes.iter().zip(&direction);
        let exact: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let norm = slopes.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        let error = (numeric - exact).abs();
        assert!(error <= 2e-2 * norm + 1e-4, "{}: {numeric}, {exact}, {norm}", tensor.name);
    }
}
