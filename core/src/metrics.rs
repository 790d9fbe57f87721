//! Metrics as sufficient statistics: counts that add up exactly, ratios only when shown.
