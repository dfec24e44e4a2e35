//! Matrices of latencies between regions.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ScenarioError;

/// Latencies between regions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// Names of the regions, in the order of rows and columns.
    pub regions: Vec<String>,
    /// One-way latencies in milliseconds: rows send, columns receive.
    pub latency: Vec<Vec<f64>>,
}

/// A matrix in place, or the name of a CSV file that contains one; resolved to a matrix in place.
#[derive(Clone, Debug, PartialEq)]
pub enum MatrixSource {
    /// A matrix in place.
    Inline(Matrix),
    /// The name of a CSV file, relative to the scenario's own folder.
    File(String),
}

impl Serialize for MatrixSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inline(matrix) => matrix.serialize(serializer),
            Self::File(file) => file.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MatrixSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;

        impl<'de> serde::de::Visitor<'de> for Source {
            type Value = MatrixSource;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("the name of a CSV file, or a table with regions and latency")
            }

            fn visit_str<E>(self, file: &str) -> Result<Self::Value, E> {
                Ok(MatrixSource::File(file.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Matrix::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(MatrixSource::Inline)
            }
        }

        deserializer.deserialize_any(Source)
    }
}

impl JsonSchema for MatrixSource {
    fn schema_name() -> Cow<'static, str> {
        "MatrixSource".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let matrix = generator.subschema_for::<Matrix>();
        schemars::json_schema!({
            "description": "A matrix, or the name of a CSV file that holds one",
            "anyOf": [matrix, { "type": "string" }],
        })
    }
}

impl Matrix {
    /// Reads a table: the first row names the receiving regions, the first column the sending ones. The first cell
    /// declares the times: `one-way` or `round-trip` milliseconds; round trips are halved. Lines that begin with `#`
    /// are comments.
    ///
    /// # Errors
    /// One line that names the row at fault.
    pub fn from_csv(text: &str) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut rows = reader.records();
        let head = match rows.next() {
            Some(head) => head.map_err(|error| error.to_string().replace('\n', " "))?,
            None => return Err("the file has no rows".into()),
        };
        let divisor = match head.get(0).unwrap_or("") {
            "one-way" => 1.0,
            "round-trip" => 2.0,
            other => {
                return Err(format!(
                    "its first cell is '{other}': write one-way or round-trip there, for the meaning of its milliseconds"
                ));
            }
        };
        let regions: Vec<String> = head.iter().skip(1).map(str::to_owned).collect();
        let mut latency = vec![];
        for (number, row) in rows.enumerate() {
            let row = row.map_err(|error| error.to_string().replace('\n', " "))?;
            let name = row.get(0).unwrap_or("");
            match regions.get(number) {
                Some(expected) if expected == name => {}
                Some(expected) => {
                    return Err(format!(
                        "row {} is '{name}', and column {} '{expected}': give both the same order",
                        number + 1,
                        number + 1
                    ));
                }
                None => return Err(format!("row '{name}' has no column: give as many rows as columns")),
            }
            let times = row.iter().skip(1).map(|cell| {
                cell.parse::<f64>()
                    .map(|time| time / divisor)
                    .map_err(|_| format!("row '{name}': '{cell}' is no number of milliseconds"))
            });
            latency.push(times.collect::<Result<Vec<f64>, String>>()?);
        }
        let matrix = Self { regions, latency };
        matrix.check().map_err(|error| error.to_string())?;
        Ok(matrix)
    }

    /// Checks that rows and columns fit the regions.
    ///
    /// # Errors
    /// One line that says which do not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let count = self.regions.len();
        if self.latency.len() != count || self.latency.iter().any(|row| row.len() != count) {
            return Err(ScenarioError::new(format!(
                "latency must have {count} rows of {count} numbers, as regions has"
            ))
            .below("latency"));
        }
        if let Some((_, name)) = self.regions.iter().enumerate().find(|(at, name)| self.regions[..*at].contains(name)) {
            return Err(ScenarioError::new(format!("region '{name}' is named twice")).below("regions"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_halved() {
        let text = "# from a wiki\nround-trip, eu, us\neu, 2, 90\nus, 92, 2\n";
        let matrix = Matrix::from_csv(text).unwrap();
        assert_eq!(matrix.regions, ["eu", "us"]);
        assert_eq!(matrix.latency, [[1.0, 45.0], [46.0, 1.0]]);
    }

    #[test]
    fn a_table_that_declares_no_times_is_refused() {
        for (text, says) in [
            ("", "no rows"),
            ("region,eu\neu,1", "write one-way or round-trip"),
            ("one-way,eu,us\nus,1,2\neu,3,4", "row 1 is 'us'"),
            ("one-way,eu\neu,fast", "'fast' is no number"),
            ("one-way,eu,us\neu,1,2", "2 rows of 2 numbers"),
            ("one-way,eu\neu,1\nus,2", "has no column"),
        ] {
            let error = Matrix::from_csv(text).unwrap_err();
            assert!(error.contains(says) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
