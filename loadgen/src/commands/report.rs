//! `report`: table and HTML anew, from what an earlier run wrote down.
use super::{Exit, Failure};
use crate::cli::ReportArgs;
use crate::report;
use crate::result::{FORMAT, RunResult};
use std::path::Path;

/// Prints the table and writes all files again. The exit code is that of the run.
pub fn report(args: &ReportArgs) -> Result<Exit, Failure> {
    let result = read(&args.folder)?;
    let files = report::write(&args.folder, &result)
        .map_err(|error| Failure::Failed(format!("{}: {error}", args.folder.display())))?;
    print!("{}", report::table(&result, console::colors_enabled()));
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(result.verdict.outcome.into())
}

fn read(folder: &Path) -> Result<RunResult, Failure> {
    let path = folder.join("result.json");
    let fault = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| fault(&error))?;
    let result: RunResult = serde_json::from_str(&text).map_err(|error| fault(&error))?;
    match result.format {
        FORMAT => Ok(result),
        other => Err(fault(&format!("format {other}; this program reads {FORMAT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_told_with_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = || read(folder.path()).expect_err("a fault").to_string();
        assert!(said().contains("result.json: No such file"), "{}", said());
        std::fs::write(folder.path().join("result.json"), "{}").expect("written");
        assert!(said().contains("missing field"), "{}", said());
    }
}
