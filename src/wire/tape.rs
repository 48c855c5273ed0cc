//! A view of parsed JSON that a client sent: a tape of nodes, read in place, that says of each field whether it is
//! absent, of the wrong type or good.
//!
//! The tape is flat: an object or array node tells how many nodes belong to it, so skipping a value costs nothing
//! however large it is. Of equal keys the last one counts.
use super::json;
use crate::base::refusal::Refusal;
use simd_json::{Node, StaticNode};

/// One above the largest integer that every JSON reader keeps exact (product, "types follow names").
const INTEGER_END: u64 = 1 << 53;

/// One JSON value: its node, then those of what it contains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value<'t, 'm>(&'t [Node<'m>]);

impl<'t, 'm> Value<'t, 'm> {
    /// `nodes` starts with the value; what follows it is left alone. None if there is no whole value.
    pub fn first(nodes: &'t [Node<'m>]) -> Option<Value<'t, 'm>> {
        nodes.get(..size(nodes.first()?)).map(Value)
    }

    pub fn is_null(self) -> bool {
        matches!(self.head(), Some(Node::Static(StaticNode::Null)))
    }

    pub fn as_str(self) -> Option<&'m str> {
        match self.head()? {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(self) -> Option<bool> {
        match self.head()? {
            Node::Static(StaticNode::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// An integer from 0 below 2^53, however it was written: `7`, `7.0` and `7e0` are the same JSON number.
    pub fn as_u64(self) -> Option<u64> {
        let Node::Static(number) = self.head()? else { return None };
        let value = match *number {
            StaticNode::U64(value) => value,
            StaticNode::I64(value) => value.try_into().ok()?,
            StaticNode::F64(value) if value.trunc() == value && (0.0..INTEGER_END as f64).contains(&value) => {
                value as u64
            }
            _ => return None,
        };
        (value < INTEGER_END).then_some(value)
    }

    pub fn is_number(self) -> bool {
        use StaticNode::{F64, I64, U64};
        matches!(self.head(), Some(Node::Static(U64(_) | I64(_) | F64(_))))
    }

    pub fn as_object(self) -> Option<Object<'t, 'm>> {
        match self.head()? {
            Node::Object { .. } => Some(Object(&self.0[1..])),
            _ => None,
        }
    }

    pub fn as_array(self) -> Option<Items<'t, 'm>> {
        match self.head()? {
            Node::Array { .. } => Some(Items(&self.0[1..])),
            _ => None,
        }
    }

    /// Appends the value as compact JSON. It recurses: the parser bounds the depth (`limits::JSON_DEPTH_MAX`).
    pub fn write(self, out: &mut Vec<u8>) {
        match self.head() {
            None => out.extend_from_slice(b"null"),
            Some(Node::String(text)) => json::string(out, text),
            Some(Node::Static(value)) => write_static(out, *value),
            Some(Node::Array { .. }) => json::array(out, |array| {
                Items(&self.0[1..]).for_each(|value| value.write(array.item()));
            }),
            Some(Node::Object { .. }) => {
                out.push(b'{');
                for (index, (key, value)) in Object(&self.0[1..]).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    json::string(out, key);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// How many nodes the value takes, its own among them.
    pub(super) fn nodes(self) -> usize {
        self.0.len()
    }

    fn head(self) -> Option<&'t Node<'m>> {
        self.0.first()
    }
}

/// An object: a look-up by field, and an iterator over its members in their order (equal keys and all).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Object<'t, 'm>(&'t [Node<'m>]);

impl<'t, 'm> Object<'t, 'm> {
    /// The field's value; none if it is absent or null, which mean the same here.
    pub fn value(self, field: &str) -> Option<Value<'t, 'm>> {
        let found = self.filter(|(key, _)| *key == field).last();
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// A field that holds text if it is there.
    pub fn str(self, field: &'static str) -> Result<Option<&'m str>, Refusal> {
        self.typed(field, Value::as_str)
    }

    /// A field that holds an integer from 0 below 2^53 if it is there.
    pub fn u64(self, field: &'static str) -> Result<Option<u64>, Refusal> {
        self.typed(field, Value::as_u64)
    }

    pub fn bool(self, field: &'static str) -> Result<Option<bool>, Refusal> {
        self.typed(field, Value::as_bool)
    }

    pub fn object(self, field: &'static str) -> Result<Option<Object<'t, 'm>>, Refusal> {
        self.typed(field, Value::as_object)
    }

    pub fn array(self, field: &'static str) -> Result<Option<Items<'t, 'm>>, Refusal> {
        self.typed(field, Value::as_array)
    }

    fn typed<T>(self, field: &'static str, read: impl Fn(Value<'t, 'm>) -> Option<T>) -> Result<Option<T>, Refusal> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or(Refusal::field(field)),
        }
    }
}

impl<'t, 'm> Iterator for Object<'t, 'm> {
    type Item = (&'m str, Value<'t, 'm>);

    fn next(&mut self) -> Option<Self::Item> {
        let (Node::String(key), rest) = self.0.split_first()? else { return None };
        let (value, rest) = rest.split_at_checked(size(rest.first()?))?;
        self.0 = rest;
        Some((key, Value(value)))
    }
}

/// The elements of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Items<'t, 'm>(&'t [Node<'m>]);

impl<'t, 'm> Iterator for Items<'t, 'm> {
    type Item = Value<'t, 'm>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = self.0.split_at_checked(size(self.0.first()?))?;
        self.0 = rest;
        Some(Value(value))
    }
}

/// Nodes that a value takes, its own among them.
fn size(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

fn write_static(out: &mut Vec<u8>, value: StaticNode) {
    match value {
        StaticNode::Null => out.extend_from_slice(b"null"),
        StaticNode::Bool(value) => json::boolean(out, value),
        StaticNode::U64(value) => json::integer(out, value),
        StaticNode::I64(value) => json::signed(out, value),
        StaticNode::F64(value) => json::float(out, value),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any JSON, at most four levels deep.
    pub(crate) fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            // Few digits, because serde_json, which the tests compare with, rounds long ones.
            any::<i32>().prop_map(|number| serde_json::Value::from(f64::from(number) / 8.0)),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn with_value<R>(text: &str, check: impl FnOnce(Value<'_, '_>) -> R) -> R {
        let mut bytes = text.as_bytes().to_vec();
        let tape = simd_json::to_tape(&mut bytes).expect("valid JSON");
        check(Value::first(&tape.0).expect("a value"))
    }

    fn rewritten(text: &str) -> String {
        with_value(text, |value| {
            let mut out = Vec::new();
            value.write(&mut out);
            String::from_utf8(out).expect("UTF-8")
        })
    }

    #[test]
    fn absent_null_and_wrong_types_are_told_apart() {
        let text = r#"{"s":"x","n":3,"b":true,"z":null,"o":{"k":1},"a":[1],"f":2.5,"m":-1}"#;
        with_value(text, |value| {
            let object = value.as_object().unwrap();
            assert_eq!(object.str("s"), Ok(Some("x")));
            assert_eq!(object.str("nowhere"), Ok(None));
            assert_eq!(object.str("z"), Ok(None));
            assert_eq!(object.str("n"), Err(Refusal::field("n")));
            assert_eq!(object.u64("n"), Ok(Some(3)));
            assert_eq!(object.u64("f"), Err(Refusal::field("f")));
            assert_eq!(object.u64("m"), Err(Refusal::field("m")));
            assert_eq!(object.u64("s"), Err(Refusal::field("s")));
            assert_eq!(object.bool("b"), Ok(Some(true)));
            assert_eq!(object.bool("n"), Err(Refusal::field("n")));
            assert_eq!(object.object("o").unwrap().unwrap().u64("k"), Ok(Some(1)));
            assert_eq!(object.object("a"), Err(Refusal::field("a")));
            assert_eq!(object.array("a").unwrap().unwrap().count(), 1);
            assert_eq!(object.array("o"), Err(Refusal::field("o")));
            assert_eq!(object.value("z"), None);
            assert_eq!(object.count(), 8);
        });
    }

    #[test]
    fn integers_end_below_two_to_the_53() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("7.0", Some(7)),
            ("7e2", Some(700)),
            ("9007199254740991", Some((1 << 53) - 1)),
            ("9007199254740992", None),
            ("9007199254740992.0", None),
            ("18446744073709551616", None),
            ("-1", None),
            ("0.5", None),
            ("1e300", None),
            ("\"7\"", None),
        ] {
            assert_eq!(with_value(text, |value| value.as_u64()), expected, "{text}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        with_value(r#"{"a":1,"b":[{"a":5}],"a":2}"#, |value| {
            assert_eq!(value.as_object().unwrap().u64("a"), Ok(Some(2)));
        });
        with_value(r#"{"a":1,"a":null}"#, |value| assert_eq!(value.as_object().unwrap().value("a"), None));
    }

    #[test]
    fn values_are_written_compactly() {
        let text = " { \"a\" : [ 1 , -2 , 2.5e1 , true , null , \"x\\n\\u00fc\" ] , \"\\\"\" : { } } ";
        assert_eq!(rewritten(text), r#"{"a":[1,-2,25.0,true,null,"x\nü"],"\"":{}}"#);
        let big = rewritten("100000000000000000000000000000");
        assert_eq!(serde_json::from_str::<f64>(&big).unwrap(), 1e29);
    }

    proptest! {
        #[test]
        fn any_value_reads_back(value in any_json()) {
            let again: serde_json::Value = serde_json::from_str(&rewritten(&value.to_string())).unwrap();
            prop_assert_eq!(again, value);
        }

        #[test]
        fn any_float_reads_back(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(rewritten(&format!("{value:?}")).parse(), Ok(value));
        }
    }

    #[test]
    fn an_empty_tape_has_no_value() {
        assert_eq!(Value::first(&[]), None);
        assert_eq!(Value::first(&[Node::Array { len: 1, count: 1 }]), None);
    }
}
