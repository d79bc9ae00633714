//! One set of files in place of the many of an hour.
//!
//! The new files are complete and on disk under hidden names before the first of them shows, and it shows
//! before the first old one goes: whatever a crash leaves, the next start finishes. A reader of the files
//! who looks in the moment in between finds a table's rows of that hour twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::columns::TableFile;
use super::footer::Footer;
use super::layout::{self, Layout, SetFiles, SetName};
use crate::sink::SinkError;
use crate::table::Table;

/// Sets that become one, in order.
type Parts = Vec<(SetName, SetFiles, Footer)>;

/// Compacts every hour but the newest. Returns how many sets there were and are.
pub(super) fn all(
    layout: &Layout,
    journal: &str,
    depth: bool,
) -> Result<(usize, usize), SinkError> {
    let mut after = 0;
    let mut tries = 5;
    let (before, hours) = loop {
        tries -= 1;
        // A drain may have shown one set behind and the next one before the folder that was just looked at.
        match scan(layout, journal, depth) {
            Err(SinkError::Diverged(_)) if tries > 0 => {}
            other => break other?,
        }
    };
    let newest = hours.len().saturating_sub(1);
    for (at, parts) in hours.iter().enumerate() {
        if at == newest || parts.len() == 1 {
            after += parts.len();
            continue;
        }
        // Between two hours others have their turn.
        let _turn = layout.take_turn()?;
        one(layout, parts)?;
        after += 1;
    }
    Ok((before, after))
}

/// The sets by hours, and how many there are.
fn scan(layout: &Layout, journal: &str, depth: bool) -> Result<(usize, Vec<Parts>), SinkError> {
    let _turn = layout.take_turn()?;
    layout.recover_alone((journal, depth), false)?;
    let mut before = 0;
    let mut hours: Vec<Parts> = Vec::new();
    for (set, files) in layout.find()?.shown {
        before += 1;
        let footer = layout.check_footer(&files, (journal, depth))?;
        let belongs = |parts: &Parts| {
            let (last, _, of) = &parts[parts.len() - 1];
            (last.run, of.hour, &of.date, last.last_seq + 1)
                == (set.run, footer.hour, &footer.date, set.first_seq)
        };
        match hours.last_mut().filter(|parts| footer.hour.is_some() && belongs(parts)) {
            Some(parts) => parts.push((set, files, footer)),
            None => hours.push(vec![(set, files, footer)]),
        }
    }
    Ok((before, hours))
}

fn one(layout: &Layout, parts: &Parts) -> Result<(), SinkError> {
    let (first, last) = (&parts[0], &parts[parts.len() - 1]);
    let whole = SetName { first_seq: first.0.first_seq, ..last.0 };
    let date = last.2.date.as_str();
    let tables: BTreeSet<&str> = parts.iter().flat_map(|it| it.1.keys().copied()).collect();
    let tables: Vec<Table> =
        Table::ALL.iter().filter(|it| tables.contains(it.name())).copied().collect();
    let mut rows = BTreeMap::new();
    for (table, count) in parts.iter().flat_map(|it| &it.2.tables) {
        *rows.entry(table.clone()).or_insert(0) += count;
    }
    let footer = Footer { first_seq: whole.first_seq, tables: rows, ..last.2.clone() };
    for table in &tables {
        let hidden = layout.hidden_whole(table.name(), date);
        let mut file = TableFile::create(*table, hidden)?;
        for from in parts.iter().filter_map(|it| it.1.get(table.name())) {
            file.take(from)?;
        }
        if Some(&file.rows()) != footer.tables.get(table.name()) {
            let why = format!("{}: rows are missing of {}", table.name(), whole.file());
            return Err(SinkError::Diverged(why));
        }
        let hidden = file.finish(&footer)?;
        layout::sync_dir_of(&hidden)?;
    }
    for table in tables.iter().map(|it| it.name()) {
        let (hidden, shown) = (layout.hidden_whole(table, date), layout.file(table, date, &whole));
        fs::rename(&hidden, &shown).map_err(layout::failed("rename to", &shown))?;
        layout::sync_dir_of(&shown)?;
        for part in parts.iter().filter_map(|it| it.1.get(table)) {
            fs::remove_file(part).map_err(layout::failed("remove", part))?;
        }
        layout::sync_dir_of(&shown)?;
    }
    Ok(())
}
