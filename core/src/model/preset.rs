//! Models by name, written out as layers.

use super::{Conv2d, Layer, MaxPool2d};

/// A model that the literature knows. Its last layer gives one value for each class of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Two hidden layers of 200 (McMahan et al. 2017, "2NN"); 199,210 parameters with 10 classes.
    Mnist2nn,
    /// Two 5×5 convolutions of 32 and 64 channels, each with 2×2 pooling, then 512 (McMahan et al.
    /// 2017, "CNN"); 1,663,370 parameters with 10 classes.
    MnistCnn,
    /// One linear layer over the flattened input, which the spec must give.
    LogisticRegression,
    /// Two 3×3 convolutions of 32 and 64 channels, each with 2×2 pooling, then 128, over 24×24 colour
    /// crops; 315,722 parameters with 10 classes.
    CifarCnn,
}

impl Preset {
    /// All presets with their words.
    pub const WORDS: [(&'static str, Preset); 4] = [
        ("mnist_2nn", Preset::Mnist2nn),
        ("mnist_cnn", Preset::MnistCnn),
        ("logistic_regression", Preset::LogisticRegression),
        ("cifar_cnn", Preset::CifarCnn),
    ];

    /// The input's shape where the spec does not give one.
    pub(super) fn input(self) -> Option<&'static [usize]> {
        match self {
            Preset::Mnist2nn | Preset::MnistCnn => Some(&[1, 28, 28]),
            Preset::CifarCnn => Some(&[3, 24, 24]),
            Preset::LogisticRegression => None,
        }
    }

    pub(super) fn layers(self, classes: usize) -> Vec<Layer> {
        let linear = |out| Layer::Linear { out };
        let head = [Layer::Flatten, linear(classes)];
        match self {
            Preset::LogisticRegression => head.to_vec(),
            Preset::Mnist2nn => {
                let hidden = [linear(200), Layer::Relu, linear(200), Layer::Relu];
                [&[Layer::Flatten], hidden.as_slice(), &[linear(classes)]].concat()
            }
            Preset::MnistCnn => convolutional(5, 512, classes),
            Preset::CifarCnn => convolutional(3, 128, classes),
        }
    }
}

/// Two convolutions that keep the picture's size, each halved by pooling, and a hidden layer.
fn convolutional(kernel: usize, hidden: usize, classes: usize) -> Vec<Layer> {
    let conv = |out| Layer::Conv2d(Conv2d { out, kernel, stride: 1, padding: kernel / 2 });
    let pool = Layer::MaxPool2d(MaxPool2d { kernel: 2, stride: 2 });
    vec![
        conv(32),
        Layer::Relu,
        pool,
        conv(64),
        Layer::Relu,
        pool,
        Layer::Flatten,
        Layer::Linear { out: hidden },
        Layer::Relu,
        Layer::Linear { out: classes },
    ]
}
