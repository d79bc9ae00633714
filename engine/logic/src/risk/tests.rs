//! Data lines for every rule of risk.
