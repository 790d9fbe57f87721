//! Models by name, written out as layers.

use super::bert::BertFamily;
use super::layer::{
    Activation, Cell, Convolution, Layer, Pool, PositionalEncoding, Recurrent, Returns,
    TransformerEncoder,
};

/// A model that the literature knows. Its last layer gives what the data's targets need.
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
    /// Two LSTM layers of 64 over 100 steps of 10 values; 53,386 parameters with 10 classes.
    StackedLstm,
    /// Embedding of 8, two LSTM layers of 256, the next character at each of 80 steps (McMahan et al.
    /// 2017, "Shakespeare"); 822,570 parameters with a vocabulary of 90.
    CharLstm,
    /// Two post-norm encoder blocks of 128, four heads, 512 hidden, over 64 tokens; 1,686,026
    /// parameters with a vocabulary of 10,000 and 10 classes.
    TextTransformer,
    /// A pretrained encoder with Hugging Face's names.
    Pretrained(BertFamily),
}

/// What a preset fits itself to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// Values that the last layer gives.
    pub(super) outputs: usize,
    /// Tokens of the data; 0 where it has none.
    pub(super) vocabulary: usize,
    /// Steps of an example; 0 where it has none.
    pub(super) steps: usize,
}

/// The shape of an input.
pub(super) enum DefaultInput {
    Numbers(&'static [usize]),
    Tokens(usize),
    None,
}

impl Preset {
    /// All presets with their words.
    pub const WORDS: [(&'static str, Preset); 9] = [
        ("mnist_2nn", Preset::Mnist2nn),
        ("mnist_cnn", Preset::MnistCnn),
        ("logistic_regression", Preset::LogisticRegression),
        ("cifar_cnn", Preset::CifarCnn),
        ("stacked_lstm", Preset::StackedLstm),
        ("char_lstm", Preset::CharLstm),
        ("text_transformer", Preset::TextTransformer),
        ("distilbert", Preset::Pretrained(BertFamily::DistilBert)),
        ("bert", Preset::Pretrained(BertFamily::Bert)),
    ];

    /// The input where the spec does not give one.
    pub(super) fn input(self) -> DefaultInput {
        match self {
            Preset::Mnist2nn | Preset::MnistCnn => DefaultInput::Numbers(&[1, 28, 28]),
            Preset::CifarCnn => DefaultInput::Numbers(&[3, 24, 24]),
            Preset::StackedLstm => DefaultInput::Numbers(&[100, 10]),
            Preset::CharLstm => DefaultInput::Tokens(80),
            Preset::TextTransformer => DefaultInput::Tokens(64),
            Preset::Pretrained(_) => DefaultInput::Tokens(128),
            Preset::LogisticRegression => DefaultInput::None,
        }
    }

    /// The layers; none for a pretrained model, whose sizes the spec gives.
    pub(super) fn layers(self, fit: Fit) -> Vec<Layer> {
        let linear = |out| Layer::Linear { out };
        let relu = Layer::Activation(Activation::Relu);
        let head = linear(fit.outputs);
        match self {
            Preset::LogisticRegression => vec![Layer::Flatten, head],
            Preset::Mnist2nn => {
                vec![Layer::Flatten, linear(200), relu.clone(), linear(200), relu, head]
            }
            Preset::MnistCnn => convolutional(5, 512, fit.outputs),
            Preset::CifarCnn => convolutional(3, 128, fit.outputs),
            Preset::StackedLstm => vec![lstm(64, Returns::LastStep), head],
            Preset::CharLstm => {
                let embedding = Layer::Embedding { vocabulary: fit.vocabulary, dimension: 8 };
                vec![embedding, lstm(256, Returns::Sequence), head]
            }
            Preset::TextTransformer => text_transformer(fit),
            Preset::Pretrained(_) => Vec::new(),
        }
    }
}

fn lstm(hidden: usize, returns: Returns) -> Layer {
    Layer::Recurrent(Recurrent {
        cell: Cell::Lstm,
        hidden,
        layers: 2,
        bidirectional: false,
        dropout: 0.0,
        returns,
    })
}

fn text_transformer(fit: Fit) -> Vec<Layer> {
    vec![
        Layer::Embedding { vocabulary: fit.vocabulary, dimension: 128 },
        Layer::PositionalEncoding(PositionalEncoding::Learned { length: fit.steps }),
        Layer::TransformerEncoder(TransformerEncoder {
            layers: 2,
            heads: 4,
            feed_forward: 512,
            dropout: 0.0,
            activation: Activation::Relu,
            norm_first: false,
            causal: false,
            epsilon: super::reading::EPSILON,
        }),
        Layer::MeanPool,
        Layer::Linear { out: fit.outputs },
    ]
}

/// Two convolutions that keep the picture's size, each halved by pooling, and a hidden layer.
fn convolutional(kernel: usize, hidden: usize, outputs: usize) -> Vec<Layer> {
    let conv = |out| {
        let padding = kernel / 2;
        Layer::Conv2d(Convolution { out, kernel, stride: 1, padding, dilation: 1, groups: 1 })
    };
    let relu = || Layer::Activation(Activation::Relu);
    let pool = || Layer::MaxPool2d(Pool { kernel: 2, stride: 2 });
    vec![
        conv(32),
        relu(),
        pool(),
        conv(64),
        relu(),
        pool(),
        Layer::Flatten,
        Layer::Linear { out: hidden },
        relu(),
        Layer::Linear { out: outputs },
    ]
}
