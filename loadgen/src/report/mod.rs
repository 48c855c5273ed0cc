//! Results for people: the table at the end of a run, the HTML page, the JSON; several results side by side.
pub mod chart;
pub mod comparison;
mod facts;
mod grids;
mod html;
pub mod metric;
pub mod plan_html;
mod plots;
mod table;
pub mod units;

#[cfg(test)]
mod sample;

use crate::result::RunResult;
use std::io;
use std::path::{Path, PathBuf};

pub use html::html;
pub use table::table;

/// Whether a table for stdout may have colours: it is a terminal that has them, and `NO_COLOR` is not set.
pub fn is_coloured() -> bool {
    console::colors_enabled()
}

/// The whole record, to be read by programs.
pub fn json(result: &RunResult) -> String {
    // Only maps with keys that are not text fail, and there are none.
    serde_json::to_string_pretty(result).unwrap_or_default()
}

/// Writes `result.json`, `report.html` and `report.txt` into the folder, which is made if it is missing.
pub fn write(dir: &Path, result: &RunResult) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let files = [("result.json", json(result)), ("report.html", html(result)), ("report.txt", table(result, false))];
    files
        .into_iter()
        .map(|(name, text)| {
            let path = dir.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let result = sample::missed();
        let paths = write(&folder.path().join("new/out"), &result).expect("written");
        let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["result.json", "report.html", "report.txt"]);
        let json = std::fs::read_to_string(&paths[0]).expect("result.json");
        let read: RunResult = serde_json::from_str(&json).expect("a result");
        // Not the whole: the last bit of a float may differ.
        assert_eq!((read.counts, read.integrity, read.verdict), (result.counts, result.integrity, result.verdict));
        assert!(read.scenario == result.scenario && read.series.len() == result.series.len());
    }
}
