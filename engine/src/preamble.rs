//! What a run wrote down before its first input: enough to make again what decided in it.

use kairos_edge::frames::{Assembler, Cold, FrameError, Part};
use kairos_logic::instrument::InstrumentTable;

/// The cold records at the start of a run, as far as they were read.
#[derive(Default)]
pub(crate) struct Preamble {
    parts: Assembler,
    config: Option<String>,
    table: Option<InstrumentTable>,
}

impl Preamble {
    /// Takes one part of a record.
    ///
    /// # Errors
    /// [`FrameError`] of a part that does not follow, or of a record that does not read.
    pub(crate) fn push(&mut self, part: &Part<'_>) -> Result<(), FrameError> {
        match self.parts.push(part)? {
            Some(Cold::Config(text)) => self.config = Some(text),
            Some(Cold::Instruments(table)) => self.table = Some(table),
            // The names stand in the configuration, too.
            Some(Cold::Strategies(_)) | None => {}
        }
        Ok(())
    }

    /// Configuration and instruments.
    ///
    /// # Errors
    /// The name of the record that is not there.
    pub(crate) fn whole(&self) -> Result<(&str, &InstrumentTable), &'static str> {
        let text = self.config.as_deref().ok_or("configuration")?;
        Ok((text, self.table.as_ref().ok_or("instrument table")?))
    }
}
