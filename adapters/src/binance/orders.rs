//! Order messages.
