//! Resilience bounds as data, asked by problem and fault model.
