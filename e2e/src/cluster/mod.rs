//! The whole cluster in namespaces of its own: node, network, state, entering and leaving it.
