//! Tests of the market data session: recorded connections, the two readers against each other,
//! and the life of a book in lines of data.

mod captures;
mod differential;
mod life;
mod window;
