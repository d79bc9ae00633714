//! What stands in the metadata of every file, under the key `kairos`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::column::reader::ColumnReader;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde::{Deserialize, Serialize};

/// Version of the tables.
pub(super) const SCHEMA: u32 = 1;
const KEY: &str = "kairos";
/// The column of every table that holds `seq`.
const SEQ: usize = 1;

/// Where a set of files comes from and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    /// Name of the journal.
    pub(super) journal: String,
    /// The run of its last event.
    pub(super) run: u64,
    /// Its first event.
    pub(super) first_seq: u64,
    /// Its last event.
    pub(super) last_seq: u64,
    /// Checksum of the frame of the last event.
    pub(super) crc: u32,
    /// The folder of all its files.
    pub(super) date: String,
    /// Its hour since 1970; none in files of old.
    #[serde(default)]
    pub(super) hour: Option<i64>,
    /// Whether levels of books are in it.
    pub(super) depth: bool,
    /// Its tables, with the rows of each.
    pub(super) tables: BTreeMap<String, u64>,
    /// The kairos that wrote it.
    pub(super) product: String,
    /// Version of the tables.
    pub(super) schema: u32,
}

impl Footer {
    pub(super) fn to_metadata(&self) -> KeyValue {
        let text = serde_json::to_string(self).expect("numbers and text always encode");
        KeyValue::new(KEY.to_owned(), text)
    }

    /// Reads the footer of a file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bad = |why: String| format!("{}: {why}", path.display());
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        let reader = SerializedFileReader::new(file).map_err(|error| bad(error.to_string()))?;
        let pairs = reader.metadata().file_metadata().key_value_metadata();
        let own = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == KEY));
        let text = own.and_then(|pair| pair.value.as_deref());
        let text = text.ok_or_else(|| bad("no file of kairos".to_owned()))?;
        serde_json::from_str(text).map_err(|error| bad(error.to_string()))
    }
}

/// Hands out the `seq` of every row of a file.
pub(super) fn read_seqs(path: &Path, mut each: impl FnMut(u64)) -> Result<(), String> {
    let bad = |why: String| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    let reader = SerializedFileReader::new(file).map_err(|error| bad(error.to_string()))?;
    let mut seqs = Vec::new();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|error| bad(error.to_string()))?;
        let column = group.get_column_reader(SEQ).map_err(|error| bad(error.to_string()))?;
        let ColumnReader::Int64ColumnReader(mut column) = column else {
            return Err(bad("seq is no number of 64 bits".into()));
        };
        loop {
            seqs.clear();
            let read = column.read_records(1 << 16, None, None, &mut seqs);
            let (records, ..) = read.map_err(|error| bad(error.to_string()))?;
            seqs.iter().for_each(|seq| each(seq.cast_unsigned()));
            if records == 0 {
                break;
            }
        }
    }
    Ok(())
}
