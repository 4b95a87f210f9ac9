//! Files what became of a document: result, diff, integrity, archive or dead letter, and the audit line.
