//! The grammar of `[model]`: layers, shape inference, the schema, the seeded first checkpoint.
