//! Checkpoints as safetensors: the header in and out, without a tensor library.
