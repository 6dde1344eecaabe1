//! Label streams folded offline.
