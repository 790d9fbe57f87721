//! The site's pretrained models, which jobs may build upon: the base in use stays in memory from round
//! to round.

use std::sync::{Arc, Mutex, PoisonError};

use tributary_core::digest::Digest;
use tributary_core::model::ModelSpec;
use tributary_core::params::ParameterSet;
use tributary_learning::{LearningError, Pretrained};

/// The models, and the frozen parameters of the last one that was asked for.
#[derive(Default)]
pub struct Bases {
    models: Vec<Pretrained>,
    loaded: Mutex<Option<(Digest, Arc<ParameterSet>)>>,
}

impl Bases {
    /// Of these folders.
    #[must_use]
    pub fn new(models: Vec<Pretrained>) -> Self {
        Self { models, loaded: Mutex::default() }
    }

    /// The frozen parameters of a model; none where it has none, or where the site lacks its base.
    ///
    /// # Errors
    /// When the base's folder is not the spec's model, is damaged, or has changed since it was opened.
    pub fn frozen(&self, model: &ModelSpec) -> Result<Option<Arc<ParameterSet>>, LearningError> {
        let (Some(digest), Some(schema)) = (model.base(), model.frozen_schema()) else {
            return Ok(None);
        };
        let Some(base) = self.models.iter().find(|base| base.digest() == digest) else {
            return Ok(None);
        };
        // Each model is held against the folder: the same tensors may be meant for another one.
        base.check(model)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, set)) = loaded.as_ref()
            && *of == digest
            && set.schema() == schema
        {
            return Ok(Some(set.clone()));
        }
        let set = base.frozen(model)?.map(Arc::new);
        *loaded = set.clone().map(|set| (digest, set));
        Ok(set)
    }
}
