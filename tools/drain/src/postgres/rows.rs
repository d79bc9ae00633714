//! Rows as the server's binary COPY format wants them.

use crate::table::{Row, Type};

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &[0xff, 0xff];
/// 2000-01-01 in microseconds since 1970: where the server's time begins.
const EPOCH_US: i64 = 946_684_800_000_000;

/// The rows of one table that wait.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    count: u64,
}

impl Rows {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// What is sent: everything up to the end marker.
    pub(super) fn finished(&mut self) -> &[u8] {
        self.bytes.extend_from_slice(TRAILER);
        &self.bytes
    }

    /// Appends a row; says how many bytes it took.
    pub(super) fn push(&mut self, row: &Row) -> usize {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(HEADER);
        }
        let before = self.bytes.len();
        let count = row.table.columns().len() + 1;
        self.bytes.extend_from_slice(&i16::try_from(count).unwrap_or(i16::MAX).to_be_bytes());
        for (column, cell) in row.cells() {
            match cell {
                None => self.bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(cell) => self.cell(column.kind, cell),
            }
            if column.name == "ts_ns" {
                let us = cell.unwrap_or(0).div_euclid(1_000) - EPOCH_US;
                self.cell(Type::Big, us);
            }
        }
        self.count += 1;
        self.bytes.len() - before
    }

    fn cell(&mut self, kind: Type, cell: i64) {
        let bytes = cell.to_be_bytes();
        let width: usize = match kind {
            Type::Bool => 1,
            Type::Small => 2,
            Type::Int => 4,
            Type::Big | Type::Bits | Type::Nanos => 8,
        };
        let mut field = [0_u8; 12];
        field[3] = bytes_of(width);
        field[4..4 + width].copy_from_slice(&bytes[8 - width..]);
        self.bytes.extend_from_slice(&field[..4 + width]);
    }
}

const fn bytes_of(width: usize) -> u8 {
    match width {
        1 => 1,
        2 => 2,
        4 => 4,
        _ => 8,
    }
}
