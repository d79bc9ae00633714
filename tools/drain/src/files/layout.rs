//! Where files lie, and what a crash may have left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::columns::{Small, write_small};
use super::footer::{Footer, SCHEMA, read_seqs};
use crate::audit::Tallies;
use crate::sink::{Cursor, SinkError};
use crate::source::Run;
use crate::table::{Table, words};

/// The range that a set of files holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetName {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) run: u64,
}

impl SetName {
    fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.strip_suffix(".parquet")?.split('-').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (run, first_seq, last_seq) = (next()?, next()?, next()?);
        next().is_none().then_some(Self { first_seq, last_seq, run })
    }

    pub(super) fn file(&self) -> String {
        format!("{}-{}-{}.parquet", self.run, self.first_seq, self.last_seq)
    }
}

/// Names in the directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

/// A set's files by table.
pub(super) type SetFiles = BTreeMap<&'static str, PathBuf>;

/// What the tables' folders hold.
pub(super) struct Found {
    pub(super) shown: BTreeMap<SetName, SetFiles>,
    hidden: Vec<(&'static str, PathBuf)>,
    missing: BTreeSet<(u64, u64)>,
}

const HIDDEN: &str = ".tmp-";
/// The hidden name of a file of the set that is being written: there is one set at a time.
const HIDDEN_SET: &str = ".tmp-set.parquet";
/// The hidden name of a file that takes the place of several.
const HIDDEN_WHOLE: &str = ".tmp-whole.parquet";
/// The folder of ranges that an operator accepted as missing.
const MISSING: &str = "missing";

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn make(&self, dir: &Path) -> Result<(), SinkError> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(failed("create", dir))
    }

    fn folder(&self, table: &str, date: &str) -> PathBuf {
        self.dir.join(table).join(format!("date={date}"))
    }

    pub(super) fn file(&self, table: &str, date: &str, name: &SetName) -> PathBuf {
        self.folder(table, date).join(name.file())
    }

    /// The hidden name of a table's file, in a folder that exists and is on disk.
    pub(super) fn hidden(&self, table: &str, date: &str) -> Result<PathBuf, SinkError> {
        let folder = self.folder(table, date);
        if !folder.is_dir() {
            self.make(&folder)?;
            sync_dir_of(&folder)?;
            sync_dir_of(&self.dir.join(table))?;
        }
        Ok(folder.join(HIDDEN_SET))
    }

    /// The hidden name of a file that takes the place of several in the same folder.
    pub(super) fn hidden_whole(&self, table: &str, date: &str) -> PathBuf {
        self.folder(table, date).join(HIDDEN_WHOLE)
    }

    /// Who looks for what a crash left, and who makes one set of several, take turns.
    pub(super) fn take_turn(&self) -> Result<File, SinkError> {
        let path = self.dir.join(".turn.lock");
        let file = create(&path, false)?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(file)
    }

    /// Finishes or removes what a crash left, and says how far the sets go.
    pub(super) fn recover(&self, journal: &str, depth: bool) -> Result<Cursor, SinkError> {
        let _turn = self.take_turn()?;
        self.recover_alone((journal, depth), true)
    }

    /// The same for who has the turn. A drain that writes has hidden files that are none of ours.
    pub(super) fn recover_alone(
        &self,
        expected: (&str, bool),
        is_writer: bool,
    ) -> Result<Cursor, SinkError> {
        let Found { mut shown, mut hidden, missing } = self.find()?;
        self.finish_wholes(&mut shown, &mut hidden, expected)?;
        self.check_sequence(shown.keys(), &missing)?;
        let mut cursor = Cursor::START;
        if let Some((set, files)) = shown.last_key_value() {
            let footer = self.check_footer(files, expected)?;
            cursor = Cursor { run: footer.run, next_seq: footer.last_seq + 1, crc: footer.crc };
            if is_writer {
                self.finish_newest(set, files, &mut hidden, &footer)?;
            }
        }
        let ours = |file: &Path| is_writer || file.ends_with(HIDDEN_WHOLE);
        for (_, file) in hidden.into_iter().filter(|(_, file)| ours(file)) {
            fs::remove_file(&file).map_err(failed("remove", &file))?;
        }
        Ok(after_missing(cursor, &missing))
    }

    /// How far the sets go. Nothing is changed.
    pub(super) fn held(&self, journal: &str, depth: bool) -> Result<Cursor, SinkError> {
        let Found { shown, missing, .. } = self.find()?;
        let Some((_, files)) = shown.last_key_value() else {
            return Ok(after_missing(Cursor::START, &missing));
        };
        let footer = self.check_footer(files, (journal, depth))?;
        let cursor = Cursor { run: footer.run, next_seq: footer.last_seq + 1, crc: footer.crc };
        Ok(after_missing(cursor, &missing))
    }

    /// Counts the rows of every set that shows.
    pub(super) fn tally(&self, journal: &str, depth: bool) -> Result<(Cursor, Tallies), SinkError> {
        let _turn = if self.dir.is_dir() { Some(self.take_turn()?) } else { None };
        let Found { mut shown, missing, .. } = self.find()?;
        for part in covered(&shown) {
            shown.remove(&part);
        }
        self.check_sequence(shown.keys(), &missing)?;
        let mut cursor = Cursor::START;
        let mut tallies = Tallies::new();
        for (set, files) in &shown {
            let footer = self.check_footer(files, (journal, depth))?;
            cursor = Cursor { run: footer.run, next_seq: footer.last_seq + 1, crc: footer.crc };
            for (table, file) in files {
                let tally = tallies.entry((set.run, (*table).to_owned())).or_default();
                read_seqs(file, |seq| tally.add(seq)).map_err(SinkError::Diverged)?;
            }
        }
        Ok((after_missing(cursor, &missing), tallies))
    }

    /// A crash while one set took the place of several: what it lacks is complete under a hidden name, and
    /// then the parts go.
    fn finish_wholes(
        &self,
        shown: &mut BTreeMap<SetName, SetFiles>,
        hidden: &mut Vec<(&'static str, PathBuf)>,
        expected: (&str, bool),
    ) -> Result<(), SinkError> {
        let parts = covered(shown);
        if parts.is_empty() {
            return Ok(());
        }
        let wholes: Vec<SetName> = shown
            .keys()
            .filter(|it| !parts.contains(it) && parts.iter().any(|part| covers(it, part)))
            .copied()
            .collect();
        for whole in wholes {
            let files = shown[&whole].clone();
            let footer = self.check_footer(&files, expected)?;
            self.finish_newest(&whole, &files, hidden, &footer)?;
        }
        for part in parts {
            for file in shown.remove(&part).unwrap_or_default().into_values() {
                fs::remove_file(&file).map_err(failed("remove", &file))?;
                sync_dir_of(&file)?;
            }
        }
        Ok(())
    }

    /// Says that a range will never come.
    pub(super) fn write_missing(&self, first: u64, last: u64) -> Result<(), SinkError> {
        let folder = self.dir.join(MISSING);
        self.make(&folder)?;
        let number = |it: u64| Small::Number(vec![it.cast_signed()]);
        let columns = vec![
            ("first_seq", number(first)),
            ("last_seq", number(last)),
            ("accepted_ns", number(crate::status::now_ns())),
        ];
        let path = folder.join(format!("{first}-{last}.parquet"));
        write_small(&path, MISSING, columns)?;
        sync_dir_of(&path)
    }

    /// Deletes every table.
    pub(super) fn clear(&self) -> Result<(), SinkError> {
        let small = ["word", "run", "strategy", "currency", "venue", "instrument", MISSING];
        for table in Table::ALL.iter().map(|table| table.name()).chain(small) {
            let folder = self.dir.join(table);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &folder)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn find(&self) -> Result<Found, SinkError> {
        let mut shown: BTreeMap<SetName, BTreeMap<&'static str, PathBuf>> = BTreeMap::new();
        let mut hidden = Vec::new();
        for table in Table::ALL.iter().map(|table| table.name()) {
            for folder in entries(&self.dir.join(table))? {
                for file in entries(&folder)? {
                    let name = file.file_name().map(|it| it.to_string_lossy().into_owned());
                    let name = name.unwrap_or_default();
                    if name.starts_with(HIDDEN) {
                        hidden.push((table, file));
                    } else if let Some(set) = SetName::parse(&name) {
                        shown.entry(set).or_default().insert(table, file);
                    } else {
                        let why = format!("{}: no file of kairos", file.display());
                        return Err(SinkError::Diverged(why));
                    }
                }
            }
        }
        let mut missing = BTreeSet::new();
        for file in entries(&self.dir.join(MISSING))? {
            let name = file.file_stem().map(|it| it.to_string_lossy().into_owned());
            let range =
                name.as_deref().and_then(|it| it.split_once('-')).and_then(|(first, last)| {
                    Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
                });
            missing.extend(range);
        }
        Ok(Found { shown, hidden, missing })
    }

    pub(super) fn check_sequence<'a>(
        &self,
        sets: impl Iterator<Item = &'a SetName>,
        missing: &BTreeSet<(u64, u64)>,
    ) -> Result<(), SinkError> {
        let mut before: Option<&SetName> = None;
        for set in sets {
            if let Some(before) = before {
                // Behind one range that is missing there may be another.
                let mut next = before.last_seq + 1;
                while let Some((_, last)) = missing.iter().find(|(first, _)| *first == next) {
                    next = last + 1;
                }
                if set.first_seq != next {
                    let (one, other) = (before.file(), set.file());
                    let why = format!("{}: {other} does not follow on {one}", self.dir.display());
                    return Err(SinkError::Diverged(why));
                }
            }
            before = Some(set);
        }
        Ok(())
    }

    /// Reads the footer of a set and compares it with what is configured.
    pub(super) fn check_footer(
        &self,
        files: &BTreeMap<&'static str, PathBuf>,
        (journal, depth): (&str, bool),
    ) -> Result<Footer, SinkError> {
        let Some(any) = files.values().next() else {
            return Err(SinkError::Diverged("a set without files".into()));
        };
        let footer = Footer::read(any).map_err(SinkError::Diverged)?;
        let dir = self.dir.display();
        if footer.schema > SCHEMA {
            let (file, version) = (any.display(), footer.schema);
            return Err(SinkError::Rejected(format!(
                "{file}: tables of version {version}, this kairos writes version {SCHEMA}"
            )));
        }
        if footer.journal != journal {
            let owner = &footer.journal;
            return Err(SinkError::Diverged(format!(
                "{dir}: files of journal {owner}, this is journal {journal}"
            )));
        }
        if footer.depth != depth {
            let was = footer.depth;
            return Err(SinkError::Diverged(format!(
                "{dir}: written with depth = {was}; changing it needs a rebuild"
            )));
        }
        Ok(footer)
    }

    /// A crash while a set got its names left some of its files hidden: they are complete.
    fn finish_newest(
        &self,
        set: &SetName,
        files: &BTreeMap<&'static str, PathBuf>,
        hidden: &mut Vec<(&'static str, PathBuf)>,
        footer: &Footer,
    ) -> Result<(), SinkError> {
        for table in footer.tables.keys().filter(|table| !files.contains_key(table.as_str())) {
            let at = hidden.iter().position(|(owner, file)| {
                owner == table && Footer::read(file).is_ok_and(|it| it == *footer)
            });
            let Some(at) = at else {
                let why =
                    format!("{}: table {table} of {} is gone", self.dir.display(), set.file());
                return Err(SinkError::Diverged(why));
            };
            let (_, from) = hidden.swap_remove(at);
            let to = self.file(table, &footer.date, set);
            fs::rename(&from, &to).map_err(failed("rename to", &to))?;
            sync_dir_of(&to)?;
        }
        Ok(())
    }

    pub(super) fn write_words(&self) -> Result<(), SinkError> {
        let (mut group, mut number, mut word) = (Vec::new(), Vec::new(), Vec::new());
        for (of, value, text) in words() {
            group.push(of.to_owned());
            number.push(i64::from(value));
            word.push(text.to_owned());
        }
        let columns = vec![
            ("of", Small::Text(group)),
            ("number", Small::Number(number)),
            ("word", Small::Text(word)),
        ];
        let folder = self.dir.join("word");
        self.make(&folder)?;
        write_small(&folder.join("word.parquet"), "word", columns)
    }

    /// What the numbers in a run's rows mean.
    pub(super) fn write_run(&self, run: &Run) -> Result<(), SinkError> {
        let Ok(number) = i64::try_from(run.number) else { return Ok(()) };
        let write = |name: &str, columns| {
            let folder = self.dir.join(name);
            self.make(&folder)?;
            write_small(&folder.join(format!("{number}.parquet")), name, columns)
        };
        let config = run.config.clone().unwrap_or_default();
        write(
            "run",
            vec![
                ("run", Small::Number(vec![number])),
                ("started_ns", Small::Number(vec![run.started_ns])),
                ("config", Small::Text(vec![config])),
            ],
        )?;
        let names = run.strategies.iter();
        write(
            "strategy",
            vec![
                ("run", Small::Number(vec![number; run.strategies.len()])),
                ("strategy", Small::Number((0..).take(run.strategies.len()).collect())),
                ("name", Small::Text(names.clone().map(|it| it.name.clone()).collect())),
                ("kind", Small::Text(names.map(|it| it.kind.clone()).collect())),
            ],
        )?;
        let currencies = &run.table.currencies;
        write(
            "currency",
            vec![
                ("run", Small::Number(vec![number; currencies.len()])),
                ("currency", Small::Number((0..).take(currencies.len()).collect())),
                ("name", Small::Text(currencies.clone())),
            ],
        )?;
        let venues = &run.table.venues;
        write(
            "venue",
            vec![
                ("run", Small::Number(vec![number; venues.len()])),
                ("venue", Small::Number((0..).take(venues.len()).collect())),
                ("name", Small::Text(venues.clone())),
            ],
        )?;
        let all = &run.table.instruments;
        let numbers = |of: &dyn Fn(&kairos_logic::instrument::Instrument) -> i64| {
            Small::Number(all.iter().map(of).collect())
        };
        let texts = |of: &dyn Fn(&kairos_logic::instrument::Instrument) -> String| {
            Small::Text(all.iter().map(of).collect())
        };
        write(
            "instrument",
            vec![
                ("run", numbers(&|_| number)),
                ("instrument", Small::Number((0..).take(all.len()).collect())),
                ("venue", texts(&|it| run.table.venue_name(it.venue).to_owned())),
                ("symbol", texts(&|it| it.symbol.clone())),
                ("base", texts(&|it| run.table.currency_name(it.base).to_owned())),
                ("quote", texts(&|it| run.table.currency_name(it.quote).to_owned())),
                ("price_scale", numbers(&|it| i64::from(it.price_scale))),
                ("qty_scale", numbers(&|it| i64::from(it.qty_scale))),
                ("tick", numbers(&|it| it.tick.0)),
                ("lot", numbers(&|it| it.lot.0)),
            ],
        )
    }
}

fn covers(whole: &SetName, part: &SetName) -> bool {
    whole != part && whole.first_seq <= part.first_seq && part.last_seq <= whole.last_seq
}

/// The sets in whose place another one stands.
pub(super) fn covered(shown: &BTreeMap<SetName, SetFiles>) -> Vec<SetName> {
    let is_covered = |part: &&SetName| shown.keys().any(|whole| covers(whole, part));
    shown.keys().filter(is_covered).copied().collect()
}

/// Where the files go on, if what follows on them was accepted as missing.
fn after_missing(mut cursor: Cursor, missing: &BTreeSet<(u64, u64)>) -> Cursor {
    while let Some((_, last)) = missing.iter().find(|(first, _)| *first == cursor.next_seq) {
        cursor = Cursor { run: 0, next_seq: last + 1, crc: 0 };
    }
    cursor
}

/// The paths in a folder; none where there is no folder.
fn entries(folder: &Path) -> Result<BTreeSet<PathBuf>, SinkError> {
    let list = match fs::read_dir(folder) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let path = |entry: io::Result<fs::DirEntry>| entry.map(|it| it.path());
    list.map(path).collect::<io::Result<_>>().map_err(failed("list", folder))
}

pub(super) fn hidden_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{HIDDEN}{name}"))
}

/// Creates a file that is the service's own.
pub(super) fn create(path: &Path, truncate: bool) -> Result<File, SinkError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate).mode(0o640);
    options.open(path).map_err(failed("create", path))
}

/// Brings the name of `path` to the disk.
pub(super) fn sync_dir_of(path: &Path) -> Result<(), SinkError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let synced = File::open(folder).and_then(|it| it.sync_all());
    synced.map_err(failed("sync", folder))
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the system said of a path.
pub(super) fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    move |error| {
        let why = format!("cannot {what} {}: {error}", path.display());
        if is_full(&error) { SinkError::Full(why) } else { SinkError::Transient(why) }
    }
}

/// The UTC day of a time, as `2024-06-30`.
pub(super) fn day_of(ns: i64) -> String {
    // Days since 0000-03-01, in eras of 400 years (H. Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = ns.div_euclid(86_400_000_000_000) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        const DAY: i64 = 86_400_000_000_000;
        for (ns, want) in [
            (0, "1970-01-01"),
            (DAY - 1, "1970-01-01"),
            (11_016 * DAY, "2000-02-29"),
            (19_782 * DAY, "2024-02-29"),
            (19_783 * DAY, "2024-03-01"),
            (20_453 * DAY, "2025-12-31"),
            (i64::MAX, "2262-04-11"),
        ] {
            assert_eq!(day_of(ns), want, "{ns}");
        }
    }

    #[test]
    fn names_of_sets_read_back_and_other_names_are_none() {
        let set = SetName { run: 3, first_seq: 10, last_seq: 20 };
        assert_eq!(SetName::parse(&set.file()), Some(set));
        for bad in ["3-10.parquet", "3-10-20-1.parquet", "a-1-2.parquet", "3-10-20", ""] {
            assert_eq!(SetName::parse(bad), None, "{bad}");
        }
    }
}
