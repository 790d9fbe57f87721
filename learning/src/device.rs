//! What trains: the CPU by kernels of our own, or any device by candle's.

use std::fmt;
use std::str::FromStr;

use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_data::Batch;

use crate::LearningError;
use crate::network::{Network, Parameters};
use crate::portable::PortableNetwork;

/// A device. The same job gives the same bytes on devices of one kind, and nearly the same on others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, by kernels of our own.
    #[default]
    Cpu,
    /// The CPU, by candle: slower, and a second opinion.
    Candle,
    /// A GPU of NVIDIA's, by its number; needs the feature `cuda`.
    Cuda(usize),
    /// A GPU of Apple's, by its number; needs the feature `metal`.
    Metal(usize),
}

impl Device {
    /// What a device's word may be.
    pub const EXPECTED: &'static str =
        "\"cpu\", \"candle\", \"cuda\", \"cuda:N\", \"metal\" or \"metal:N\"";

    /// Whether this build and this machine have it.
    ///
    /// # Errors
    /// [`LearningError::Device`] where they do not.
    pub fn check(self) -> Result<(), LearningError> {
        self.open().map(|_| ())
    }

    /// Candle's own; `None` for our kernels.
    fn open(self) -> Result<Option<candle_core::Device>, LearningError> {
        let opened = match self {
            Device::Cpu => return Ok(None),
            Device::Candle => Ok(candle_core::Device::Cpu),
            Device::Cuda(number) => candle_core::Device::new_cuda(number),
            Device::Metal(number) => candle_core::Device::new_metal(number),
        };
        let failed = |error: candle_core::Error| LearningError::Device {
            device: self.to_string(),
            reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        opened.map(Some).map_err(failed)
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, number) = text.split_once(':').unwrap_or((text, "0"));
        let number = number.parse().ok();
        match (word, number, text.contains(':')) {
            ("cpu", _, false) => Ok(Device::Cpu),
            ("candle", _, false) => Ok(Device::Candle),
            ("cuda", Some(number), _) => Ok(Device::Cuda(number)),
            ("metal", Some(number), _) => Ok(Device::Metal(number)),
            _ => Err(format!("expected {}, found {text:?}", Self::EXPECTED)),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Candle => f.write_str("candle"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::Metal(number) => write!(f, "metal:{number}"),
        }
    }
}

/// What a task may use of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    /// How many threads may work. Results do not depend on it.
    pub threads: usize,
    /// Where.
    pub device: Device,
}

impl Compute {
    /// The CPU, with so many threads.
    #[must_use]
    pub fn cpu(threads: usize) -> Self {
        Self { threads, device: Device::Cpu }
    }
}

/// A model at work on a device.
pub enum Engine {
    /// The CPU, by kernels of our own.
    Own(Box<Network>),
    /// Any device, by candle's.
    Portable(Box<PortableNetwork>),
}

impl Engine {
    /// A model on a device.
    ///
    /// # Errors
    /// [`LearningError::Device`] where this build or machine does not have it; on a model that the engine
    /// cannot run.
    pub fn new(spec: &ModelSpec, device: Device) -> Result<Self, LearningError> {
        Ok(match device.open()? {
            None => Engine::Own(Box::new(Network::new(spec)?)),
            Some(device) => Engine::Portable(Box::new(PortableNetwork::new(spec, device))),
        })
    }

    /// One step's loss; its gradients are in [`Self::gradients`] afterwards. `seed` is where dropout draws
    /// from.
    ///
    /// # Errors
    /// On parameters, a batch or targets that are not the model's, and when the device fails.
    pub fn learn(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
        seed: u64,
        statistics: Option<&mut Statistics>,
    ) -> Result<f64, LearningError> {
        match self {
            Engine::Own(network) => network.learn(parameters, batch, seed, statistics),
            Engine::Portable(network) => network.learn(parameters, batch, seed, statistics),
        }
    }

    pub(crate) fn score(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
        statistics: &mut Statistics,
    ) -> Result<f64, LearningError> {
        match self {
            Engine::Own(network) => network.score(parameters, batch, statistics),
            Engine::Portable(network) => network.score(parameters, batch, statistics),
        }
    }

    pub(crate) fn observe(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
    ) -> Result<(), LearningError> {
        match self {
            Engine::Own(network) => network.observe(parameters, batch),
            Engine::Portable(network) => network.observe(parameters, batch),
        }
    }

    /// The last step's gradients, and the ranges of them that count.
    #[must_use]
    pub fn gradients(&self) -> (&[f32], &[std::ops::Range<usize>]) {
        match self {
            Engine::Own(network) => (network.gradients(), network.optimised()),
            Engine::Portable(network) => (network.gradients(), network.optimised()),
        }
    }

    pub(crate) fn settle(&mut self, trained: &mut [f32]) {
        match self {
            Engine::Own(network) => network.settle(trained),
            Engine::Portable(network) => network.settle(trained),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn devices_are_read_and_written_alike() {
        for text in ["cpu", "candle", "cuda:0", "cuda:3", "metal:1"] {
            assert_eq!(text.parse::<Device>().expect(text).to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for text in ["gpu", "cuda:", "cuda:x", "cpu:1", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
