//! `arrivals.parquet`: the sampled arrivals of a run, for DuckDB, pandas and polars.

use std::{fs::File, path::Path, sync::Arc};

use parquet::{
    basic::Compression,
    column::reader::get_typed_column_reader,
    data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        reader::{FileReader, RowGroupReader, SerializedFileReader},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use thiserror::Error;

use super::{
    arrivals::{ArrivalRow, Arrivals},
    observed::{Observations, Place},
};
use crate::{
    node::{Arrival, TrafficPlan},
    paths::replace_file,
};

/// Version of the columns; raised when one changes its meaning or is removed.
const VERSION: &str = "1";

/// Keys of the file's metadata.
const VERSION_KEY: &str = "apollo.schema_version";
const THRESHOLDS_KEY: &str = "apollo.sample_thresholds";

/// Columns of the file, documented in `docs/schema.md`.
const SCHEMA: &str = "message arrivals {
    required binary class (STRING);
    required int64 sender;
    required int64 index;
    required int64 receiver;
    required int64 intended_unix_nanos;
    required int64 arrived_unix_nanos;
    optional int64 first_peer;
    optional int32 hops;
    optional int64 send_lag_micros;
    required double receiver_weight;
    optional binary sender_region (STRING);
    optional binary receiver_region (STRING);
}";

/// Records that are written at once, which bounds the memory of a reader.
const ROW_GROUP: usize = 100_000;

/// Reason why the file of arrivals can't be written or read.
#[derive(Debug, Error)]
#[error("{path}: {reason}")]
pub struct ArrivalsError {
    path: String,
    reason: String,
}

impl ArrivalsError {
    fn of(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// Writes the records beside `path`, and renames the file when it is complete.
///
/// # Errors
/// Fails if the system refuses.
pub fn write_arrivals(path: &Path, arrivals: &Arrivals, observed: &Observations) -> Result<(), ArrivalsError> {
    let Some(window) = &observed.window else { return Ok(()) };
    replace_file(path, |beside| write(beside, arrivals, &window.plan, &observed.places))
        .map_err(|error| ArrivalsError::of(path, error))
}

fn write(path: &Path, arrivals: &Arrivals, traffic: &TrafficPlan, places: &[Place]) -> Result<(), ParquetError> {
    let thresholds: Vec<String> = arrivals.thresholds().iter().map(u64::to_string).collect();
    let metadata = vec![
        KeyValue::new(VERSION_KEY.into(), VERSION.to_owned()),
        KeyValue::new(THRESHOLDS_KEY.into(), thresholds.join(",")),
    ];
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_key_value_metadata(Some(metadata)).build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut file = SerializedFileWriter::new(File::create(path)?, schema, Arc::new(properties))?;
    for rows in arrivals.rows().chunks(ROW_GROUP) {
        let mut group = file.next_row_group()?;
        write_group(&mut group, rows, traffic, places)?;
        group.close()?;
    }
    file.close()?;
    Ok(())
}

/// Writes the next column; a value of none is left out of an optional column.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut present, mut levels) = (vec![], vec![]);
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has too few columns".into()));
    };
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

fn write_group(
    group: &mut SerializedRowGroupWriter<'_, File>,
    rows: &[ArrivalRow],
    traffic: &TrafficPlan,
    places: &[Place],
) -> Result<(), ParquetError> {
    let place = |node: u64| usize::try_from(node).ok().and_then(|node| places.get(node));
    let region = |node: u64| place(node)?.region.as_deref().map(ByteArray::from);
    let class = |row: &ArrivalRow| traffic.class(row.class).map_or("", |class| class.name.as_str());
    let number = |field: fn(&ArrivalRow) -> u64| move |row: &ArrivalRow| Some(field(row).cast_signed());
    column::<ByteArrayType>(group, rows.iter().map(|row| Some(ByteArray::from(class(row)))))?;
    for field in [
        (|row| row.arrival.sender) as fn(&ArrivalRow) -> u64,
        |row| row.arrival.index,
        |row| row.receiver,
        |row| row.arrival.intended_unix_nanos,
        |row| row.arrival.arrived_unix_nanos,
    ] {
        column::<Int64Type>(group, rows.iter().map(number(field)))?;
    }
    column::<Int64Type>(group, rows.iter().map(|row| row.arrival.first_peer.map(u64::cast_signed)))?;
    column::<Int32Type>(group, rows.iter().map(|row| row.hops.map(u32::cast_signed)))?;
    column::<Int64Type>(group, rows.iter().map(|row| row.arrival.send_lag_micros.map(u64::cast_signed)))?;
    column::<DoubleType>(group, rows.iter().map(|row| Some(place(row.receiver).map_or(1.0, |place| place.weight))))?;
    column::<ByteArrayType>(group, rows.iter().map(|row| region(row.arrival.sender)))?;
    column::<ByteArrayType>(group, rows.iter().map(|row| region(row.receiver)))
}

/// Reads the records of a run; none if it has no such file.
///
/// # Errors
/// Fails if the file can't be read, or does not belong to this traffic.
pub fn read_arrivals(path: &Path, traffic: &TrafficPlan) -> Result<Option<Arrivals>, ArrivalsError> {
    if !path.exists() {
        return Ok(None);
    }
    read(path, traffic).map(Some).map_err(|error| ArrivalsError::of(path, error))
}

fn read(path: &Path, traffic: &TrafficPlan) -> Result<Arrivals, ParquetError> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let metadata = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let value = |key: &str| metadata.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    let wrong = |line: &str| ParquetError::General(line.into());
    if value(VERSION_KEY).as_deref() != Some(VERSION) {
        return Err(wrong("the file has another version of the columns"));
    }
    let thresholds = value(THRESHOLDS_KEY).unwrap_or_default();
    let thresholds: Result<Vec<u64>, _> = thresholds.split(',').map(str::parse).collect();
    let thresholds = thresholds.map_err(|_| wrong("the thresholds of the sample are no numbers"))?;
    let mut rows = vec![];
    for number in 0..reader.num_row_groups() {
        rows.extend(read_group(reader.get_row_group(number)?.as_ref(), traffic)?);
    }
    Ok(Arrivals::ordered(thresholds, rows))
}

/// Values of a column; those that an optional column leaves out are none.
fn values<T: DataType>(group: &dyn RowGroupReader, column: usize) -> Result<Vec<Option<T::T>>, ParquetError> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(column)?);
    let optional = group.metadata().column(column).column_descr().max_def_level() > 0;
    let (mut present, mut levels) = (vec![], vec![]);
    reader.read_records(rows, optional.then_some(&mut levels), None, &mut present)?;
    let mut present = present.into_iter();
    if !optional {
        return Ok(present.map(Some).collect());
    }
    Ok(levels.into_iter().map(|level| if level > 0 { present.next() } else { None }).collect())
}

fn read_group(group: &dyn RowGroupReader, traffic: &TrafficPlan) -> Result<Vec<ArrivalRow>, ParquetError> {
    let classes = values::<ByteArrayType>(group, 0)?;
    let mut numbers = vec![];
    for column in 1..=5 {
        numbers.push(values::<Int64Type>(group, column)?);
    }
    let (peers, hops, lags) =
        (values::<Int64Type>(group, 6)?, values::<Int32Type>(group, 7)?, values::<Int64Type>(group, 8)?);
    let row = |(at, class): (usize, &Option<ByteArray>)| {
        let name = class.as_ref()?.as_utf8().ok()?;
        let (class, _) = traffic.numbered().find(|(_, known)| known.name == name)?;
        let number = |column: usize| numbers.get(column)?.get(at).copied()?.map(i64::cast_unsigned);
        let optional = |column: &[Option<i64>]| column.get(at).copied().flatten().map(i64::cast_unsigned);
        Some(ArrivalRow {
            class,
            receiver: number(2)?,
            arrival: Arrival {
                sender: number(0)?,
                index: number(1)?,
                intended_unix_nanos: number(3)?,
                arrived_unix_nanos: number(4)?,
                first_peer: optional(&peers),
                send_lag_micros: optional(&lags),
            },
            hops: hops.get(at).copied().flatten().map(i32::cast_unsigned),
        })
    };
    let rows: Option<Vec<ArrivalRow>> = classes.iter().enumerate().map(row).collect();
    rows.ok_or_else(|| ParquetError::General("a record is incomplete, or its class is not one of the run".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::{ALL, SendPlan, Turn},
        report::{PlannedWindow, arrivals::tests::row},
    };

    #[test]
    fn arrivals_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrivals.parquet");
        let plan = TrafficPlan::only(SendPlan::new(3, Turn::All, 10), 100);
        let places = ["eu", "us"].map(|region| Place { weight: 2.5, region: Some(region.into()) }).to_vec();
        let window = Some(PlannedWindow { plan: plan.clone(), from_unix_nanos: 0, to_unix_nanos: 1 });
        let observed = Observations { window, places, ..Observations::default() };
        assert_eq!(read_arrivals(&path, &plan).unwrap(), None);
        let rows = vec![row(0, 1, 0, [0, 0], None), row(0, 1, 1, [0, 10], Some(0)), row(0, 1, 2, [0, 20], Some(1))];
        for arrivals in [Arrivals::ordered(vec![ALL / 2], rows), Arrivals::ordered(vec![ALL], vec![])] {
            write_arrivals(&path, &arrivals, &observed).unwrap();
            assert_eq!(read_arrivals(&path, &plan).unwrap(), Some(arrivals));
        }
        assert!(!folder.path().join("arrivals.parquet.partial").exists());
    }

    #[test]
    fn a_file_that_is_no_table_of_arrivals_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrivals.parquet");
        let plan = TrafficPlan::only(SendPlan::new(3, Turn::All, 10), 100);
        std::fs::write(&path, b"no parquet at all").unwrap();
        let line = read_arrivals(&path, &plan).unwrap_err().to_string();
        assert!(line.contains("arrivals.parquet") && line.lines().count() == 1, "{line}");
    }
}
