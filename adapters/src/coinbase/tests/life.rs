//! The life of a session in lines of data: what comes in, what goes out.
