//! One file of one table while it is written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::footer::Footer;
use super::layout;
use crate::sink::SinkError;
use crate::table::{Column, Row, Table, Type};

/// Rows of a row group. What waits in memory is this many rows of each table at most.
const GROUP_ROWS: usize = 1 << 17;

/// The cells of a column that wait.
#[derive(Debug, Default)]
struct Waiting {
    values: Vec<i64>,
    present: Vec<i16>, // of an optional column: 1 where there is a value
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct TableFile {
    table: Table,
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    waiting: Vec<Waiting>,
    waiting_rows: usize,
    rows: u64,
}

impl TableFile {
    pub(super) fn create(table: Table, path: PathBuf) -> Result<Self, SinkError> {
        let columns = table.columns();
        let fields = columns.iter().map(field).collect::<Vec<_>>().join(" ");
        let writer = open(&path, table.name(), &fields)?;
        let waiting = columns.iter().map(|_| Waiting::default()).collect();
        Ok(Self { table, path, writer, waiting, waiting_rows: 0, rows: 0 })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a row. Says whether rows went to the file.
    pub(super) fn push(&mut self, row: &Row) -> Result<bool, SinkError> {
        for (waiting, (column, cell)) in self.waiting.iter_mut().zip(row.cells()) {
            if column.optional {
                waiting.present.push(i16::from(cell.is_some()));
            }
            waiting.values.extend(cell);
        }
        self.waiting_rows += 1;
        self.rows += 1;
        if self.waiting_rows < GROUP_ROWS {
            return Ok(false);
        }
        self.write_group()?;
        Ok(true)
    }

    /// Takes every row of another file of this table.
    pub(super) fn take(&mut self, from: &Path) -> Result<(), SinkError> {
        let bad =
            |error: &ParquetError| SinkError::Diverged(format!("{}: {error}", from.display()));
        let file = File::open(from).map_err(layout::failed("open", from))?;
        let reader = SerializedFileReader::new(file).map_err(|error| bad(&error))?;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(|error| bad(&error))?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            for (at, column) in self.table.columns().iter().enumerate() {
                let read = read_column(&*group, at, column, rows, &mut self.waiting[at]);
                read.map_err(|error| bad(&error))?;
            }
            self.waiting_rows += rows;
            self.rows += rows as u64;
            if self.waiting_rows >= GROUP_ROWS {
                self.write_group()?;
            }
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), SinkError> {
        if self.waiting_rows == 0 {
            return Ok(());
        }
        let failed = |error| parquet_failed(&self.path, &error);
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for (waiting, column) in self.waiting.iter_mut().zip(self.table.columns()) {
            write_column(&mut group, column, waiting).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        self.waiting_rows = 0;
        Ok(())
    }

    /// Writes everything to the disk, under the hidden name, which it gives back.
    pub(super) fn finish(mut self, footer: &Footer) -> Result<PathBuf, SinkError> {
        self.write_group()?;
        self.writer.append_key_value_metadata(footer.to_metadata());
        close(&self.path, self.writer)?;
        Ok(self.path)
    }

    /// Forgets the file. What cannot be deleted now is deleted at the next start.
    pub(super) fn abandon(self) {
        drop(self.writer);
        let _gone = fs::remove_file(&self.path);
    }
}

fn field(column: &Column) -> String {
    let (physical, logical) = match column.kind {
        Type::Small => ("INT32", " (INTEGER(16,true))"),
        Type::Int => ("INT32", " (INTEGER(32,true))"),
        // Times too: some readers cut time stamps with a zone to microseconds.
        Type::Big | Type::Nanos => ("INT64", " (INTEGER(64,true))"),
        Type::Bits => ("INT64", " (INTEGER(64,false))"),
        Type::Bool => ("BOOLEAN", ""),
    };
    let repetition = if column.optional { "OPTIONAL" } else { "REQUIRED" };
    format!("{repetition} {physical} {}{logical};", column.name)
}

/// Appends the cells of a column of another file.
fn read_column(
    group: &dyn RowGroupReader,
    at: usize,
    column: &Column,
    rows: usize,
    waiting: &mut Waiting,
) -> Result<(), ParquetError> {
    let present = &mut waiting.present;
    let mut levels = column.optional.then_some(present);
    match group.get_column_reader(at)? {
        ColumnReader::Int64ColumnReader(mut reader) => read_all(rows, |left| {
            let levels = levels.as_deref_mut();
            Ok(reader.read_records(left, levels, None, &mut waiting.values)?.0)
        }),
        ColumnReader::Int32ColumnReader(mut reader) => {
            let mut narrow = Vec::with_capacity(rows);
            read_all(rows, |left| {
                Ok(reader.read_records(left, levels.as_deref_mut(), None, &mut narrow)?.0)
            })?;
            waiting.values.extend(narrow.into_iter().map(i64::from));
            Ok(())
        }
        ColumnReader::BoolColumnReader(mut reader) => {
            let mut bits = Vec::with_capacity(rows);
            read_all(rows, |left| {
                Ok(reader.read_records(left, levels.as_deref_mut(), None, &mut bits)?.0)
            })?;
            waiting.values.extend(bits.into_iter().map(i64::from));
            Ok(())
        }
        ColumnReader::Int96ColumnReader(_)
        | ColumnReader::FloatColumnReader(_)
        | ColumnReader::DoubleColumnReader(_)
        | ColumnReader::ByteArrayColumnReader(_)
        | ColumnReader::FixedLenByteArrayColumnReader(_) => {
            Err(ParquetError::General(format!("column {} is of another type", column.name)))
        }
    }
}

/// Reads until so many records are there.
fn read_all(
    rows: usize,
    mut read: impl FnMut(usize) -> Result<usize, ParquetError>,
) -> Result<(), ParquetError> {
    let mut left = rows;
    while left > 0 {
        match read(left)? {
            0 => return Err(ParquetError::General("fewer rows than it says".into())),
            records => left -= records,
        }
    }
    Ok(())
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, File>,
    column: &Column,
    waiting: &mut Waiting,
) -> Result<(), ParquetError> {
    let Some(mut writer) = group.next_column()? else { return Ok(()) };
    let present = column.optional.then_some(waiting.present.as_slice());
    let values = waiting.values.as_slice();
    match column.kind {
        Type::Big | Type::Bits | Type::Nanos => {
            writer.typed::<Int64Type>().write_batch(values, present, None)?;
        }
        Type::Small | Type::Int => {
            let narrow: Result<Vec<i32>, _> = values.iter().map(|&it| i32::try_from(it)).collect();
            let narrow = narrow.map_err(|_| ParquetError::General("more than 32 bits".into()))?;
            writer.typed::<Int32Type>().write_batch(&narrow, present, None)?;
        }
        Type::Bool => {
            let bits: Vec<bool> = values.iter().map(|it| *it != 0).collect();
            writer.typed::<BoolType>().write_batch(&bits, present, None)?;
        }
    }
    writer.close()?;
    waiting.values.clear();
    waiting.present.clear();
    Ok(())
}

/// A column of a small table that is written at once.
pub(super) enum Small {
    Number(Vec<i64>),
    Text(Vec<String>),
}

/// Writes a small table whole, in place of an older one.
pub(super) fn write_small(
    path: &Path,
    name: &str,
    columns: Vec<(&str, Small)>,
) -> Result<(), SinkError> {
    let field = |(name, column): &(&str, Small)| match column {
        Small::Number(_) => format!("REQUIRED INT64 {name} (INTEGER(64,true));"),
        Small::Text(_) => format!("REQUIRED BYTE_ARRAY {name} (STRING);"),
    };
    let fields = columns.iter().map(field).collect::<Vec<_>>().join(" ");
    let hidden = layout::hidden_name(path);
    let mut writer = open(&hidden, name, &fields)?;
    let failed = |error| parquet_failed(&hidden, &error);
    let mut group = writer.next_row_group().map_err(failed)?;
    for (_, column) in columns {
        let Some(mut target) = group.next_column().map_err(failed)? else { break };
        match column {
            Small::Number(values) => {
                target.typed::<Int64Type>().write_batch(&values, None, None).map_err(failed)?;
            }
            Small::Text(values) => {
                let values: Vec<ByteArray> =
                    values.into_iter().map(|it| ByteArray::from(it.into_bytes())).collect();
                target.typed::<ByteArrayType>().write_batch(&values, None, None).map_err(failed)?;
            }
        }
        target.close().map_err(failed)?;
    }
    group.close().map_err(failed)?;
    close(&hidden, writer)?;
    fs::rename(&hidden, path).map_err(layout::failed("rename to", path))?;
    layout::sync_dir_of(path)
}

fn open(path: &Path, name: &str, fields: &str) -> Result<SerializedFileWriter<File>, SinkError> {
    let failed = |error| parquet_failed(path, &error);
    let schema = parse_message_type(&format!("message {name} {{ {fields} }}")).map_err(failed)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(failed)?))
        .set_created_by(format!("kairos {}", env!("CARGO_PKG_VERSION")));
    // Numbers that only grow have small differences and no words to look up.
    let properties = ["seq", "ts_ns", "venue_ns", "trade_id", "update_id"].into_iter().fold(
        properties,
        |properties, column| {
            properties
                .set_column_dictionary_enabled(column.into(), false)
                .set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED)
        },
    );
    let file = layout::create(path, true)?;
    SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build())).map_err(failed)
}

fn close(path: &Path, writer: SerializedFileWriter<File>) -> Result<(), SinkError> {
    let file = writer.into_inner().map_err(|error| parquet_failed(path, &error))?;
    file.sync_all().map_err(layout::failed("sync", path))
}

fn parquet_failed(path: &Path, error: &ParquetError) -> SinkError {
    let why = format!("{}: {error}", path.display());
    let full = matches!(error, ParquetError::External(inner)
        if inner.downcast_ref::<std::io::Error>().is_some_and(layout::is_full));
    if full { SinkError::Full(why) } else { SinkError::Transient(why) }
}
