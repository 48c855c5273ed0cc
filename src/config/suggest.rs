//! "Did you mean": the nearest known name for a misspelt one.
use super::key::Key;
use super::table::KEYS;

/// What to say about a key that is not in the table.
pub fn unknown_key(name: &str) -> String {
    match nearest_key(name) {
        Some(key) => format!("unknown key; did you mean {key}?"),
        None => "unknown key; `throng config` lists all keys".into(),
    }
}

/// The key that differs by the fewest letters; one of the same name in another section counts as one letter away.
fn nearest_key(name: &str) -> Option<&'static str> {
    let field = name.rsplit('.').next().unwrap_or(name);
    let slips = |key: &Key| {
        let in_full = distance(name, key.name);
        let in_field =
            if name.contains('.') && field != key.field() { usize::MAX } else { distance(field, key.field()) };
        in_full.min(in_field.saturating_add(1))
    };
    // One slip in four letters is a slip; more is another word.
    let slips_max = (name.len() / 4).clamp(1, 4);
    let nearest = KEYS.iter().min_by_key(|key| slips(key)).filter(|key| slips(key) <= slips_max);
    let is_cut_short = |key: &&Key| name.len() >= 8 && key.name.starts_with(name);
    nearest.or_else(|| KEYS.iter().find(is_cut_short)).map(|key| key.name)
}

/// Letters to insert, delete, replace or swap (optimal string alignment). Long texts are not compared.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(65).collect(), right.chars().collect());
    if left.len() > 64 {
        return usize::MAX;
    }
    let width = right.len() + 1;
    let mut rows = vec![0usize; (left.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            rows[at(i, j)] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[at(i - 1, j - 1)] + usize::from(left[i - 1] != right[j - 1]);
                let mut least = replaced.min(rows[at(i - 1, j)] + 1).min(rows[at(i, j - 1)] + 1);
                if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    least = least.min(rows[at(i - 2, j - 2)] + 1);
                }
                least
            };
        }
    }
    rows[at(left.len(), right.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, slips) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "acb", 1), ("abc", "ab", 1), ("a", "xyz", 3)]
        {
            assert_eq!(distance(left, right), slips, "{left} {right}");
        }
    }

    #[test]
    fn near_misses() {
        for (wrong, right) in [
            ("limits.mesages", "limits.messages"),
            ("limit.messages", "limits.messages"),
            ("listen", "http.listen"),
            ("server.listen", "http.listen"),
            ("auth.secret", "auth.secret_file"),
            ("auth.jwks", "auth.jwks_file"),
            ("auth.public_key", "auth.public_key_file"),
            ("data_dir", "server.data_dir"),
        ] {
            assert_eq!(nearest_key(wrong), Some(right), "{wrong}");
        }
        assert_eq!(nearest_key("zzzzzz.qqqqqq"), None);
        assert_eq!(nearest_key(&"x".repeat(100_000)), None);
    }
}
