//! The programs of the cluster: Go modules of pinned versions, built once and cached by version.
