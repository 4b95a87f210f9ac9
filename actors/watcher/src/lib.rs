//! Finds command documents in commands/ and feeds them, in order and within bounds, into the pipeline.
