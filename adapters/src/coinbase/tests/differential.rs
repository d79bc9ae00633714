//! The scanner against the tape parser.
