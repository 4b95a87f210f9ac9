//! Plans a verified command in memory, judges the plan, and applies it whole or not at all.
