//! The learning flow: labels joined to decisions, folded, published.
