//! What the folders of all venues are built from. Nothing here names a venue.

use kairos_logic::units::InstrumentId;

pub(crate) mod backlog;
pub(crate) mod batch;
pub(crate) mod cursor;
pub(crate) mod levels;
pub mod listing;
pub(crate) mod pace;
pub(crate) mod report;
pub(crate) mod standing;
pub(crate) mod symbols;
pub(crate) mod sync;
pub(crate) mod tape;
pub(crate) mod time;
pub(crate) mod trust;

pub use batch::{Batch, Part, Quote, Trade};
pub use levels::{Level, Levels};

/// Why a session can not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// No instrument to listen to.
    #[error("no instruments")]
    NoInstruments,
    /// More streams than a connection may have.
    #[error("{found} streams; one connection may have {limit}")]
    TooManyStreams {
        /// How many the instruments need.
        found: usize,
        /// How many the venue allows.
        limit: usize,
    },
    /// An instrument of another venue, or of no table.
    #[error("instrument {id:?} is not in the venue's table")]
    ForeignInstrument {
        /// Which.
        id: InstrumentId,
    },
    /// Two instruments of which the venue's messages do not tell one from the other.
    #[error("instruments {id:?} and {other:?} have one name in the venue's messages")]
    SameName {
        /// One of them.
        id: InstrumentId,
        /// The other.
        other: InstrumentId,
    },
}
