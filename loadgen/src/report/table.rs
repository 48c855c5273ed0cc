//! The result as text for a terminal of 100 columns: the verdict first, then what ran, then the figures.
use super::facts;
use super::grids::{self, Grid};
use crate::result::{Outcome, RunResult};
use comfy_table::{CellAlignment, Table, presets};
use console::Style;

/// Widest line that is not a reason or note.
const COLUMNS: usize = 100;

/// The table. `is_coloured`: see [`super::is_coloured`].
pub fn table(result: &RunResult, is_coloured: bool) -> String {
    let style = |style: Style| style.force_styling(is_coloured);
    let bold = style(Style::new().bold());
    let dim = style(Style::new().dim());
    let verdict = style(match result.verdict.outcome {
        Outcome::Passed => Style::new().green().bold(),
        Outcome::Missed => Style::new().red().bold(),
        Outcome::Invalid => Style::new().yellow().bold(),
    });

    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let name = &result.scenario.name;
    line(format!(
        "{}  {} on {}",
        verdict.apply_to(facts::verdict_word(result.verdict.outcome)),
        bold.apply_to(name),
        facts::server_name(result)
    ));
    for reason in facts::reasons(result) {
        wrapped(&reason, "  - ", "    ").into_iter().for_each(&mut line);
    }
    line(String::new());
    for (name, value) in facts::setting(result) {
        for (at, part) in wrapped(&value, "          ", "          ").into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            line(format!("{}  {}", dim.apply_to(format!("{name:<8}")), part.trim_start()));
        }
    }
    let mut grid = |grid: &Grid, title: &str| {
        line(String::new());
        let rows = rows(grid);
        for (at, row) in rows.lines().enumerate() {
            let row = row.trim_end();
            line(if at == 0 { bold.apply_to(row).to_string() } else { row.to_owned() });
        }
        if rows.is_empty() {
            line(bold.apply_to(title).to_string());
        }
        for note in grid.note.lines() {
            wrapped(note, "  ", "    ").into_iter().for_each(|part| line(dim.apply_to(part).to_string()));
        }
    };
    for section in [grids::rates(result), grids::latency(result)] {
        grid(&section, section.title);
    }
    grid(&integrity(result), "Integrity");
    for section in [grids::cost(result), grids::client_load(result), grids::witnesses(result), grids::targets(result)] {
        grid(&section, section.title);
    }
    text
}

fn integrity(result: &RunResult) -> Grid {
    let examples = result.integrity.examples.iter().map(|example| format!("- {example}"));
    let note = [facts::integrity_line(result)].into_iter().chain(examples).collect::<Vec<_>>().join("\n");
    Grid { title: "Integrity", note, ..Grid::default() }
}

/// Head and rows, names to the left, figures to the right; the title stands above the names. Nothing if there are no rows.
pub(super) fn rows(grid: &Grid) -> String {
    if grid.rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let head = grid.head.iter().enumerate().map(|(at, head)| if at == 0 { grid.title } else { head });
    table.add_row(head);
    for row in &grid.rows {
        let name = row.first().map(|name| format!("  {name}"));
        table.add_row(name.into_iter().chain(row.iter().skip(1).cloned()));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if at == 0 { 0 } else { 2 }, 0));
        column.set_cell_alignment(if at == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.to_string()
}

/// Breaks a sentence at spaces.
pub(super) fn wrapped(text: &str, first: &str, next: &str) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let mut is_fresh = true;
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !is_fresh && lines[last].chars().count() + 1 + word.chars().count() > COLUMNS - 2 {
            lines.push(format!("{next}{word}"));
        } else {
            if !is_fresh {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
        is_fresh = false;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, golden};

    #[test]
    fn the_table_of_a_run() {
        golden("report.txt", &table(&sample::passed(), false));
        golden("report-missed.txt", &table(&sample::missed(), false));
    }

    #[test]
    fn lines_fit_a_terminal() {
        for result in [sample::passed(), sample::missed()] {
            let widest = table(&result, false).lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= COLUMNS), "{widest:?}");
        }
    }

    #[test]
    fn colours_are_the_callers_choice() {
        let result = sample::passed();
        assert!(!table(&result, false).contains('\u{1b}'));
        let coloured = table(&result, true);
        assert!(coloured.starts_with("\u{1b}["));
        assert_eq!(console::strip_ansi_codes(&coloured), table(&result, false));
    }
}
