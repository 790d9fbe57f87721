//! The layers of a model: what each is, and its settings. Shapes are those of one example.

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// A convolution over `[channels, length]`, with bias.
    Conv1d(Convolution),
    /// A convolution over `[channels, height, width]`, with bias.
    Conv2d(Convolution),
    /// The largest value of each window, per channel.
    MaxPool2d(Pool),
    /// The mean of each window, per channel.
    AvgPool2d(Pool),
    /// The mean of each channel: `[channels, …]` to `[channels]`.
    GlobalAvgPool,
    /// Normalisation of each channel over the batch (Ioffe and Szegedy 2015).
    BatchNorm(BatchNorm),
    /// Normalisation of groups of channels within an example (Wu and He 2018).
    GroupNorm {
        /// How many groups; it divides the channels.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Normalisation over the last dimension (Ba, Kiros and Hinton 2016).
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// A fully connected layer over the last dimension, with bias.
    Linear {
        /// How many values it gives.
        out: usize,
    },
    /// A row of a table for each token: `[steps]` to `[steps, dimension]`.
    Embedding {
        /// Rows of the table.
        vocabulary: usize,
        /// Values of a row.
        dimension: usize,
    },
    /// Sets values to zero with this probability while training, and scales the others up.
    Dropout {
        /// The probability.
        rate: f64,
    },
    /// Any shape to `[values]`.
    Flatten,
    /// Exchanges the two dimensions: `[a, b]` to `[b, a]`.
    Transpose,
    /// A function of each value, or softmax over the last dimension.
    Activation(Activation),
    /// layers(x) + shortcut(x) (He et al. 2016); an empty shortcut is x itself.
    Residual {
        /// The long way.
        layers: Vec<Layer>,
        /// The short way.
        shortcut: Vec<Layer>,
    },
    /// A recurrent network over `[steps, features]`.
    Recurrent(Recurrent),
    /// Adds a place to each step of `[steps, features]`.
    PositionalEncoding(PositionalEncoding),
    /// A stack of self-attention blocks over `[steps, features]` (Vaswani et al. 2017).
    TransformerEncoder(TransformerEncoder),
    /// The mean over the steps that are not padding: `[steps, features]` to `[features]`.
    MeanPool,
    /// The first step.
    ClsPool,
    /// The last step that is not padding.
    LastStep,
    /// A whole BERT or DistilBERT classifier with Hugging Face's tensor names.
    Bert(Box<super::bert::Bert>),
}

/// A function of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x·Φ(x), exact.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 ⁄ (1 + e⁻ˣ).
    Sigmoid,
    /// eˣ over the sum of the last dimension's.
    Softmax,
}

impl Activation {
    /// The words of all.
    pub const WORDS: [(&'static str, Activation); 5] = [
        ("relu", Activation::Relu),
        ("gelu", Activation::Gelu),
        ("tanh", Activation::Tanh),
        ("sigmoid", Activation::Sigmoid),
        ("softmax", Activation::Softmax),
    ];
}

/// A convolution with a kernel of equal sides; zeros stand around the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Output channels.
    pub out: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step of the kernel.
    pub stride: usize,
    /// Zeros at each side.
    pub padding: usize,
    /// Distance of the kernel's places; 1 is a dense kernel.
    pub dilation: usize,
    /// Groups of channels that do not see each other; divides input and output channels.
    pub groups: usize,
}

/// Windows of equal sides without padding; rows and columns that fill no window are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
}

/// Settings of batch normalisation; PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Share of a batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
    /// Statistics stay at each site and are no parameters: outside training a site takes those of its
    /// own rows (Andreux et al. 2020, "SiloBN").
    pub local: bool,
}

/// A kind of recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// h = tanh(W x + b + U h + c) (Elman 1990).
    Rnn,
    /// h = max(W x + b + U h + c, 0) (Le, Jaitly and Hinton 2015).
    ReluRnn,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997); gates in the order i, f, g, o.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014) as in PyTorch; gates in the order r, z, n.
    Gru,
}

impl Cell {
    /// The layers' words; a setting of `rnn` makes it [`Cell::ReluRnn`].
    pub const WORDS: [(&'static str, Cell); 3] =
        [("rnn", Cell::Rnn), ("lstm", Cell::Lstm), ("gru", Cell::Gru)];

    /// The word of the cell's layer.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Cell::Rnn | Cell::ReluRnn => "rnn",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }

    /// How many gates a cell has: its weights have so many rows for each hidden value.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn | Cell::ReluRnn => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// What a recurrent network gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// Every step's hidden values: `[steps, hidden × directions]`.
    Sequence,
    /// The last step's that is not padding: `[hidden × directions]`.
    LastStep,
}

/// A stack of recurrent layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recurrent {
    /// The kind of cell.
    pub cell: Cell,
    /// Hidden values of a layer and direction.
    pub hidden: usize,
    /// Layers, one on top of the other.
    pub layers: usize,
    /// Whether each layer also reads from the end.
    pub bidirectional: bool,
    /// Dropout between the layers.
    pub dropout: f64,
    /// What comes out.
    pub returns: Returns,
}

/// How steps are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionalEncoding {
    /// Sines and cosines of the place (Vaswani et al. 2017, section 3.5); no parameters.
    Sinusoidal,
    /// A trained row for each place.
    Learned {
        /// Rows; at least as many as the input has steps.
        length: usize,
    },
}

/// A stack of self-attention blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerEncoder {
    /// Blocks.
    pub layers: usize,
    /// Heads of attention; divides the features.
    pub heads: usize,
    /// Hidden values of the feed-forward part.
    pub feed_forward: usize,
    /// Dropout of attention, and behind attention and feed-forward parts.
    pub dropout: f64,
    /// Activation of the feed-forward part: relu or gelu.
    pub activation: Activation,
    /// Whether normalisation comes before each part (and once at the end), or behind it.
    pub norm_first: bool,
    /// Whether a step sees only itself and those before it.
    pub causal: bool,
    /// Added to variances.
    pub epsilon: f64,
}

/// Largest side of a kernel or window, and largest step: a place in a window fits 16 bits.
pub(super) const KERNEL_MAX: usize = 255;

impl Layer {
    /// What the layer makes of one example of this shape; `None` where it does not fit.
    #[must_use]
    pub fn output(&self, input: &[usize]) -> Option<Vec<usize>> {
        let tokens = super::shape::takes_tokens(self);
        let input = super::shape::Value { shape: input.to_vec(), tokens };
        let mut plan = super::plan::Plan::default();
        super::shape::infer(self, &input, "", &mut plan).ok().map(|value| value.shape)
    }

    /// The layer's word in specs and messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Layer::Conv1d(_) => "conv1d",
            Layer::Conv2d(_) => "conv2d",
            Layer::MaxPool2d(_) => "max_pool2d",
            Layer::AvgPool2d(_) => "avg_pool2d",
            Layer::GlobalAvgPool => "global_avg_pool",
            Layer::BatchNorm(_) => "batch_norm",
            Layer::GroupNorm { .. } => "group_norm",
            Layer::LayerNorm { .. } => "layer_norm",
            Layer::Linear { .. } => "linear",
            Layer::Embedding { .. } => "embedding",
            Layer::Dropout { .. } => "dropout",
            Layer::Flatten => "flatten",
            Layer::Transpose => "transpose",
            Layer::Activation(activation) => word_of(&Activation::WORDS, *activation),
            Layer::Residual { .. } => "residual",
            Layer::Recurrent(recurrent) => recurrent.cell.word(),
            Layer::PositionalEncoding(_) => "positional_encoding",
            Layer::TransformerEncoder(_) => "transformer_encoder",
            Layer::MeanPool => "mean_pool",
            Layer::ClsPool => "cls_pool",
            Layer::LastStep => "last_step",
            Layer::Bert(bert) => bert.family.word(),
        }
    }
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}
