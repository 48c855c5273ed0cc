//! `throng config`: every key with value, unit and meaning, for people, as a sample file, or as a table for the documentation.
use super::key::{Applies, Key};
use super::table::{Config, KEYS};
use std::fmt::Write;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns: key, value, unit, meaning; a star marks values that are not the default
    #[default]
    Text,
    /// A sample file with comments; values that are not the default are set
    Toml,
    /// The table of the manual
    Markdown,
}

impl Config {
    pub fn listing(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Toml => self.toml(),
            Format::Markdown => self.markdown(),
        }
    }

    fn text(&self) -> String {
        let default = Config::default();
        let shown = |key: &Key| match (key.read)(self).toml() {
            Some(value) if (key.read)(&default).text() == (key.read)(self).text() => value,
            Some(value) => format!("{value} *"),
            None => "(unset)".into(),
        };
        // A long value does not push all columns to the right.
        let width =
            |lengths: Vec<usize>, most: usize| lengths.into_iter().filter(|length| *length <= most).max().unwrap_or(0);
        let names = width(KEYS.iter().map(|key| key.name.len()).collect(), 40);
        let values = width(KEYS.iter().map(|key| shown(key).chars().count()).collect(), 24);
        let units = width(KEYS.iter().map(|key| key.unit.len()).collect(), 16);
        let mut out = String::new();
        for_each_section(|section, keys| {
            let _ = writeln!(out, "[{section}]{}", if is_live(keys) { "  (SIGHUP applies changes)" } else { "" });
            for key in keys {
                let (name, value, unit) = (key.name, shown(key), key.unit);
                let _ = writeln!(
                    out,
                    "  {name:names$}  {value:values$}  {unit:units$}  {}{}",
                    key.meaning,
                    range_note(key)
                );
            }
            out.push('\n');
        });
        out
    }

    fn toml(&self) -> String {
        let default = Config::default();
        let mut out = String::from("# Throng. A line that is commented out shows the default.\n");
        for_each_section(|section, keys| {
            let _ = writeln!(out, "\n[{section}]");
            for key in keys {
                let setting = (key.read)(self);
                let is_default = setting.text() == (key.read)(&default).text();
                let value = setting.toml().unwrap_or_else(|| setting.example().into());
                let unset = if setting.toml().is_none() { "; unset" } else { "" };
                let _ = writeln!(out, "# {} ({}{unset}){}", key.meaning, key.unit, range_note(key));
                let _ = writeln!(out, "{}{} = {value}", if is_default { "# " } else { "" }, key.field());
            }
        });
        out
    }

    fn markdown(&self) -> String {
        let mut out = String::from("| Key | Default | Unit | Meaning |\n|---|---|---|---|\n");
        for key in KEYS {
            let value = (key.read)(self).toml().map_or("unset".into(), |value| format!("`{value}`"));
            let _ = writeln!(out, "| `{}` | {value} | {} | {}{} |", key.name, key.unit, key.meaning, range_note(key));
        }
        out
    }
}

fn for_each_section(mut visit: impl FnMut(&str, &[Key])) {
    for keys in KEYS.chunk_by(|left, right| left.section() == right.section()) {
        visit(keys[0].section(), keys);
    }
}

fn is_live(keys: &[Key]) -> bool {
    keys.iter().all(|key| key.applies == Applies::Live)
}

/// Ranges that only keep numbers sane are not worth reading.
fn range_note(key: &Key) -> String {
    match key.range {
        Some(range) if range.low > 1 || range.high < 86_400 => format!(" [{} to {}]", range.low, range.high),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_every_format() {
        let config = Config::default();
        let (text, toml, markdown) = (config.text(), config.toml(), config.markdown());
        for key in KEYS {
            assert!(text.contains(key.name) && text.contains(key.meaning), "{}", key.name);
            assert!(toml.contains(&format!("\n# {} = ", key.field())), "{}", key.name);
            assert!(markdown.contains(&format!("| `{}` |", key.name)), "{}", key.name);
        }
    }

    /// The sample, with all its comments opened, is a valid file that says the same.
    #[test]
    fn the_sample_file_says_the_defaults() {
        let sample = Config::default().toml();
        let mut section = "";
        let mut config = Config::default();
        for line in sample.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            } else if let Some((field, value)) = line.trim_start_matches("# ").split_once(" = ")
                && let Some(key) = KEYS.iter().find(|key| key.section() == section && key.field() == field)
                && (key.read)(&config).toml().is_some()
            {
                let parsed = toml::de::DeValue::parse(value).unwrap();
                (key.slot)(&mut config).set(&super::super::value::Input::from_toml(parsed.get_ref()), key).unwrap();
            }
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn changed_values_are_marked_and_set() {
        let mut config = Config::default();
        config.set("limits.live", "7").unwrap();
        assert!(config.text().lines().any(|line| line.contains("limits.live ") && line.contains("7 *")));
        assert!(config.toml().contains("\nlive = 7\n"));
    }
}
