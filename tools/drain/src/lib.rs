//! Takes the journal out of the host's memory: into Parquet files, PostgreSQL or TimescaleDB, and
//! Redis, Valkey or DragonflyDB.
//!
//! Each sink has its own thread, reader, cursor, back-off and counters; nothing is shared between
//! them. A sink keeps its cursor inside itself, together with the data, so that neither a crash of
//! the drain nor one of the server loses an event or doubles it. The engine never notices a drain.
//!
//! * [`source`] reads the journal and says what each frame means.
//! * [`table`] is the one list of tables and columns that every sink with rows writes.
//! * [`sink`] is the contract; [`files`], [`postgres`] and [`redis`] keep it.
//! * [`archive`] copies the ring of placement `hot` to disk, before anything else.
//! * [`service`] runs them; [`status`] says how they are; [`audit`] compares them with the journal.

#![forbid(unsafe_code)]

pub mod archive;
pub mod audit;
pub mod cli;
pub mod files;
pub mod postgres;
pub mod redis;
pub mod service;
pub mod sink;
pub mod source;
pub mod status;
pub mod table;
