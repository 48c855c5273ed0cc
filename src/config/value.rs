//! How a value of each type is read and printed. Types come from the table; texts from the file, the environment and flags.
use super::key::Key;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::de::DeValue;

/// A value before it has a type.
#[derive(Debug, PartialEq)]
pub enum Input<'a> {
    /// From the environment or a flag: has no type of its own.
    Loose(&'a str),
    Text(&'a str),
    /// `None`: negative, or beyond 64 bits.
    Number(Option<u64>),
    Flag(bool),
    List(Vec<Input<'a>>),
    /// What else TOML knows, by name.
    Other(&'static str),
}

impl<'a> Input<'a> {
    pub fn from_toml(value: &'a DeValue<'_>) -> Input<'a> {
        match value {
            DeValue::String(text) => Input::Text(text),
            DeValue::Integer(number) => Input::Number(u64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Boolean(flag) => Input::Flag(*flag),
            DeValue::Array(items) => Input::List(items.iter().map(|item| Input::from_toml(item.get_ref())).collect()),
            DeValue::Float(_) => Input::Other("a fraction"),
            DeValue::Datetime(_) => Input::Other("a date"),
            DeValue::Table(_) => Input::Other("a table"),
        }
    }

    /// For messages: what was found instead.
    fn found(&self) -> String {
        match self {
            Input::Loose(text) | Input::Text(text) => format!("{text:?}"),
            Input::Number(Some(number)) => number.to_string(),
            Input::Number(None) => "that number".into(),
            Input::Flag(flag) => flag.to_string(),
            Input::List(_) => "a list".into(),
            Input::Other(name) => (*name).into(),
        }
    }
}

/// A field of the configuration whose type is only known to itself.
pub trait Setting {
    /// Takes the value, or says what is wrong with it and stays as it was.
    fn set(&mut self, input: &Input, key: &Key) -> Result<(), String>;

    /// As `set` takes it back from `Input::Loose`. Empty: unset.
    fn text(&self) -> String;

    /// As the file would have it; `None`: unset.
    fn toml(&self) -> Option<String>;

    /// An example for a key that has no default.
    fn example(&self) -> &'static str {
        "\"\""
    }
}

impl Setting for u64 {
    fn set(&mut self, input: &Input, key: &Key) -> Result<(), String> {
        let number = match input {
            Input::Number(number) => *number,
            Input::Loose(text) => text.replace('_', "").parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            return Err(format!("{} is not a whole number ({})", input.found(), key.unit));
        };
        if let Some(range) = key.range
            && !(range.low..=range.high).contains(&number)
        {
            return Err(format!("{number} is out of range: {} to {} {}", range.low, range.high, key.unit));
        }
        *self = number;
        Ok(())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for bool {
    fn set(&mut self, input: &Input, _: &Key) -> Result<(), String> {
        *self = match input {
            Input::Flag(flag) => *flag,
            Input::Loose("true") => true,
            Input::Loose("false") => false,
            _ => return Err(format!("{} is neither true nor false", input.found())),
        };
        Ok(())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    fn set(&mut self, input: &Input, _: &Key) -> Result<(), String> {
        *self = text(input)?.to_owned();
        Ok(())
    }

    fn text(&self) -> String {
        self.clone()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    fn set(&mut self, input: &Input, _: &Key) -> Result<(), String> {
        *self = parse_path(text(input)?)?;
        Ok(())
    }

    fn text(&self) -> String {
        self.to_string_lossy().into_owned()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Setting for SocketAddr {
    fn set(&mut self, input: &Input, _: &Key) -> Result<(), String> {
        *self = parse_address(text(input)?)?;
        Ok(())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// What can be absent: an empty text is no value.
trait Optional: Sized {
    const EXAMPLE: &'static str;
    fn parse(text: &str) -> Result<Self, String>;
    fn print(&self) -> String;
}

impl Optional for String {
    const EXAMPLE: &'static str = "\"…\"";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

impl Optional for PathBuf {
    const EXAMPLE: &'static str = "\"/path/to/file\"";

    fn parse(text: &str) -> Result<Self, String> {
        parse_path(text)
    }

    fn print(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl Optional for SocketAddr {
    const EXAMPLE: &'static str = "\"127.0.0.1:9090\"";

    fn parse(text: &str) -> Result<Self, String> {
        parse_address(text)
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl<T: Optional> Setting for Option<T> {
    fn set(&mut self, input: &Input, _: &Key) -> Result<(), String> {
        let text = text(input)?;
        *self = if text.is_empty() { None } else { Some(T::parse(text)?) };
        Ok(())
    }

    fn text(&self) -> String {
        self.as_ref().map(T::print).unwrap_or_default()
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(|value| quoted(&value.print()))
    }

    fn example(&self) -> &'static str {
        T::EXAMPLE
    }
}

impl Setting for Vec<String> {
    /// Loose text is a TOML list if it starts with a bracket, else items between commas.
    fn set(&mut self, input: &Input, _: &Key) -> Result<(), String> {
        *self = match input {
            Input::List(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>()?,
            Input::Loose(text) if text.trim_start().starts_with('[') => {
                let value = DeValue::parse(text).map_err(|error| format!("not a list: {}", error.message()))?;
                match Input::from_toml(value.get_ref()) {
                    Input::List(items) => {
                        items.iter().map(|item| self::text(item).map(str::to_owned)).collect::<Result<_, _>>()?
                    }
                    other => return Err(format!("{} is not a list", other.found())),
                }
            }
            Input::Loose(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
            }
            _ => return Err(format!("{} is not a list, for example [\"a\", \"b\"]", input.found())),
        };
        Ok(())
    }

    fn text(&self) -> String {
        let is_plain = |item: &String| !item.is_empty() && item.trim() == item && !item.contains(',');
        if self.iter().all(is_plain) && !self.first().is_some_and(|item| item.starts_with('[')) {
            return self.join(",");
        }
        self.toml().unwrap_or_default()
    }

    fn toml(&self) -> Option<String> {
        let items: Vec<_> = self.iter().map(|item| quoted(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

fn text<'a>(input: &Input<'a>) -> Result<&'a str, String> {
    match input {
        Input::Loose(text) | Input::Text(text) => Ok(text),
        _ => Err(format!("{} is not a text: put it in quotes", input.found())),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{text:?} is not a path"));
    }
    Ok(PathBuf::from(text))
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not IP:port, for example 127.0.0.1:8080 or [::]:8080"))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn set(name: &str, text: &str) -> Result<String, String> {
        let mut config = Config::default();
        config.set(name, text).map_err(|problem| problem.what)?;
        Ok(config.get(name).unwrap())
    }

    #[test]
    fn numbers_name_their_unit_and_range() {
        assert_eq!(set("limits.live", "1_000").unwrap(), "1000");
        assert_eq!(set("conn.stale_ms", "10s").unwrap_err(), "\"10s\" is not a whole number (ms)");
        assert_eq!(set("auth.leeway_s", "601").unwrap_err(), "601 is out of range: 0 to 600 s");
        assert!(set("limits.live", "-1").is_err() && set("limits.live", "").is_err());
    }

    #[test]
    fn lists_are_commas_or_toml() {
        assert_eq!(set("http.allowed_origins", "https://a, https://b").unwrap(), "https://a,https://b");
        assert_eq!(set("http.allowed_origins", r#"["https://a", "x,y"]"#).unwrap(), r#"["https://a", "x,y"]"#);
        assert_eq!(set("http.allowed_origins", "").unwrap(), "");
        assert!(set("http.allowed_origins", "[1]").is_err() && set("http.allowed_origins", "[").is_err());
    }

    #[test]
    fn optional_keys_can_be_unset() {
        assert_eq!(set("auth.issuer", "").unwrap(), "");
        assert_eq!(set("admin.listen", "127.0.0.1:9090").unwrap(), "127.0.0.1:9090");
        assert!(set("admin.listen", ":9090").unwrap_err().contains("127.0.0.1:8080"));
        assert!(set("server.data_dir", "").is_err());
    }

    #[test]
    fn flags_are_true_or_false() {
        assert_eq!(set("rooms.auto_create", "false").unwrap(), "false");
        assert_eq!(set("rooms.auto_create", "yes").unwrap_err(), "\"yes\" is neither true nor false");
    }
}
