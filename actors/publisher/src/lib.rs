//! Publishes filed commands with git; the only part that touches the repository and meta/retries.json.
