//! Values of the runs of a comparison as CSV, for programs that look for changes themselves.

use super::{super::figures::FigureValue, figures::RunFigures};

/// Text of a value: `inf` for an infinite one, nothing for an unknown one.
fn field(value: FigureValue) -> String {
    value.number().map_or_else(String::new, |number| number.to_string())
}

/// One row for each run of both sides: `side`, `run`, and a column for each figure, in the order in which the runs have
/// them. Fields are quoted as in RFC 4180.
///
/// # Errors
///
/// Fails if a row cannot be written to memory.
pub fn comparison_csv(a: &[RunFigures], b: &[RunFigures]) -> Result<String, csv::Error> {
    let mut columns: Vec<&str> = vec![];
    for (name, _) in a.iter().chain(b).flat_map(|run| &run.figures) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut bytes = vec![];
    {
        let mut writer = csv::Writer::from_writer(&mut bytes);
        writer.write_record(["side", "run"].iter().chain(&columns))?;
        for (side, runs) in [("A", a), ("B", b)] {
            for run in runs {
                let fields = columns.iter().map(|column| field(run.value(column)));
                writer.write_record([side.to_owned(), run.name.clone()].into_iter().chain(fields))?;
            }
        }
        writer.flush()?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_is_a_row_with_all_figures() {
        let run = |name: &str, figures: &[(&str, FigureValue)]| RunFigures {
            name: name.into(),
            figures: figures.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
        };
        let a = [run("runs/1, \"first\"", &[("p50", FigureValue::Number(1500.5)), ("p99", FigureValue::Infinite)])];
        let b = [run("runs/2", &[("p50", FigureValue::Unknown), ("sent", FigureValue::Number(3.0))])];
        let text = comparison_csv(&a, &b).unwrap();
        assert_eq!(text, "side,run,p50,p99,sent\nA,\"runs/1, \"\"first\"\"\",1500.5,inf,\nB,runs/2,,,3\n");
        assert_eq!(comparison_csv(&[], &[]).unwrap(), "side,run\n");
    }
}
