//! Some examples together, as a model takes them.

/// In a batch's targets, a step that has no next token.
pub const NO_TOKEN: u32 = u32::MAX;

/// Some examples, one behind the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// How many examples.
    pub size: usize,
    /// Their values.
    pub inputs: Inputs,
    /// How many steps of each are no padding; empty where all steps of all are.
    pub lengths: Vec<u32>,
    /// What is to be predicted.
    pub targets: Targets,
}

/// The values of examples.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// `[size, …shape]` numbers.
    Floats(Vec<f32>),
    /// `[size, steps]` tokens; padding is 0.
    Tokens(Vec<u32>),
}

impl Default for Inputs {
    fn default() -> Self {
        Inputs::Floats(Vec::new())
    }
}

/// What is to be predicted of examples.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// `[size]` classes.
    Classes(Vec<u32>),
    /// `[size, width]` numbers.
    Values(Vec<f32>),
    /// `[size, steps]` tokens, each the one after its step; [`NO_TOKEN`] where there is none.
    Tokens(Vec<u32>),
}

impl Default for Targets {
    fn default() -> Self {
        Targets::Classes(Vec::new())
    }
}
