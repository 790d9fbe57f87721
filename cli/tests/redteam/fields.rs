//! Messages as trees of fields, by the descriptors of the protocol, and mutations that know what each
//! field is: a number at its end, a name that climbs, a list of thousands, a field that is not there.

use std::collections::BTreeMap;

use proptest::prelude::Rng;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Entries that a list is made to have.
const MANY: usize = 2000;

/// Drawn from a seed.
pub(crate) struct Draw(TestRunner);

impl Draw {
    pub(crate) fn new(seed: u8) -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        Self(TestRunner::new_with_rng(Config::default(), rng))
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.rng().fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `most`, or 0.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        let bytes = self.bytes(4);
        let drawn = bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        drawn % most.max(1)
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// The protocol's methods and messages.
pub(crate) struct Protocol {
    messages: BTreeMap<String, DescriptorProto>,
    /// Every method's path, with the message that it takes.
    pub(crate) methods: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Fields),
}

/// A message's fields as they lie on the wire.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Fields(Vec<(u32, Value)>);

impl Protocol {
    pub(crate) fn read() -> Self {
        let set = FileDescriptorSet::decode(tributary_proto::FILE_DESCRIPTOR_SET);
        let (mut messages, mut methods) = (BTreeMap::new(), Vec::new());
        for file in &set.expect("descriptors").file {
            let package = file.package();
            for message in &file.message_type {
                messages.insert(format!(".{package}.{}", message.name()), message.clone());
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    methods.push((path, method.input_type().to_owned()));
                }
            }
        }
        assert!(methods.len() > 25, "{methods:?}");
        Self { messages, methods }
    }

    fn of(&self, message: &str) -> &DescriptorProto {
        self.messages.get(message).unwrap_or_else(|| panic!("no message {message}"))
    }

    /// Whether the message has no field.
    pub(crate) fn is_empty(&self, message: &str) -> bool {
        self.of(message).field.is_empty()
    }

    /// The message's fields; `None` where the bytes are none.
    pub(crate) fn decode(&self, message: &str, mut bytes: &[u8]) -> Option<Fields> {
        let (known, mut fields) = (self.of(message), Vec::new());
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let number = u32::try_from(key >> 3).ok()?;
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
                5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let inner = take(&mut bytes, length)?;
                    match known.field.iter().find(|field| field.number() == number as i32) {
                        Some(field) if field.r#type() == Type::Message => {
                            Value::Message(self.decode(field.type_name(), inner)?)
                        }
                        _ => Value::Bytes(inner.to_vec()),
                    }
                }
                _ => return None,
            };
            fields.push((number, value));
        }
        Some(Fields(fields))
    }

    /// One change; what it was.
    pub(crate) fn mutate(
        &self,
        draw: &mut Draw,
        message: &str,
        fields: &mut Fields,
    ) -> &'static str {
        let inner = |(at, (_, value)): (usize, &(u32, Value))| {
            matches!(value, Value::Message(_)).then_some(at)
        };
        let inner: Vec<usize> = fields.0.iter().enumerate().filter_map(inner).collect();
        let known = &self.of(message).field;
        if !inner.is_empty() && draw.below(3) > 0 {
            let (number, value) = &mut fields.0[*draw.of(&inner)];
            let field = known.iter().find(|field| field.number() == *number as i32);
            // (A mutation before may have put a message where another type is expected.)
            let field = field.filter(|field| field.r#type() == Type::Message);
            if let (Some(field), Value::Message(fields)) = (field, value) {
                return self.mutate(draw, field.type_name(), fields);
            }
        }
        let place = draw.below(fields.0.len());
        match draw.below(8) {
            0 if !fields.0.is_empty() => {
                fields.0.remove(place);
                "a field is missing"
            }
            1 if !fields.0.is_empty() => {
                let again = fields.0[place].clone();
                let times = *draw.of(&[1, 2, MANY]);
                fields.0.extend(std::iter::repeat_n(again, times));
                "a field comes again"
            }
            2 if !known.is_empty() => {
                let field = draw.of(known);
                fields.0.push((field.number() as u32, extreme(draw, field)));
                "a field of an extreme value more"
            }
            3 => {
                let number = *draw.of(&[15, 99, 1 << 28]);
                fields.0.push((number, Value::Bytes(draw.bytes(20))));
                "an unknown field"
            }
            4 if !known.is_empty() => {
                let (number, other) = (draw.of(known).number() as u32, draw.of(known).clone());
                fields.0.push((number, extreme(draw, &other)));
                "a field of another's type"
            }
            _ => match fields.0.get_mut(place) {
                Some((number, value)) => {
                    let field = known.iter().find(|field| field.number() == *number as i32);
                    change(draw, field, value)
                }
                None => "nothing",
            },
        }
    }
}

impl Fields {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, value) in &self.0 {
            let key = u64::from(*number) << 3;
            match value {
                Value::Number(value) => {
                    put(&mut bytes, key);
                    put(&mut bytes, *value);
                }
                Value::Fixed64(value) => {
                    put(&mut bytes, key | 1);
                    bytes.extend(value);
                }
                Value::Fixed32(value) => {
                    put(&mut bytes, key | 5);
                    bytes.extend(value);
                }
                Value::Bytes(value) => piece(&mut bytes, key, value),
                Value::Message(fields) => piece(&mut bytes, key, &fields.encode()),
            }
        }
        bytes
    }
}

/// Numbers at the ends of the types that the protocol has; the negative ones of signed fields are
/// among them, as two's complement and as zigzag.
const ENDS: &[u64] = &[
    0,
    1,
    127,
    128,
    255,
    1 << 16,
    (1 << 29) + 1,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "..",
    "../../etc/passwd",
    "/",
    "a/b",
    "\0",
    "a\0b",
    "\u{1b}[2J",
    "\u{202e}a",
    "Ünïcödé",
    "-a",
    "null",
    "'; --",
    "%s%n",
    "sha256:",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "18446744073709551616",
    "nan",
];

/// A value of a field's type that no honest peer sends.
fn extreme(draw: &mut Draw, field: &FieldDescriptorProto) -> Value {
    if field.label() == Label::Repeated && draw.below(2) == 0 {
        // Packed numbers, or an entry of any length.
        return Value::Bytes(vec![*draw.of(&[0, 1, 0xff]); *draw.of(&[0, 1, 10, MANY])]);
    }
    match field.r#type() {
        Type::String => Value::Bytes(text(draw, "seven 7")),
        Type::Bytes => Value::Bytes(vec![0xff; *draw.of(&[0, 1, 31, 33, MANY])]),
        Type::Message => Value::Message(Fields::default()),
        Type::Double => Value::Fixed64(f64::NAN.to_le_bytes()),
        Type::Float => Value::Fixed32(f32::NAN.to_le_bytes()),
        _ => Value::Number(*draw.of(ENDS)),
    }
}

/// Changes a value; what it is now.
fn change(
    draw: &mut Draw,
    field: Option<&FieldDescriptorProto>,
    value: &mut Value,
) -> &'static str {
    match value {
        Value::Number(number) => {
            *number = match draw.below(4) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                _ => *draw.of(ENDS),
            };
            "a number"
        }
        Value::Fixed64(bytes) => {
            *bytes = *draw.of(&[[0xff; 8], f64::INFINITY.to_le_bytes(), f64::NAN.to_le_bytes()]);
            "a number"
        }
        Value::Fixed32(bytes) => {
            *bytes = [0xff; 4];
            "a number"
        }
        Value::Message(fields) => {
            *fields = Fields::default();
            "a message without fields"
        }
        Value::Bytes(bytes) => match field.map(FieldDescriptorProto::r#type) {
            Some(Type::String) => {
                *bytes = text(draw, &String::from_utf8_lossy(bytes));
                "a text"
            }
            _ => {
                let place = draw.below(bytes.len());
                match draw.below(6) {
                    0 => bytes.clear(),
                    1 => bytes.truncate(place),
                    2 => bytes.extend_from_within(place..),
                    3 => bytes.extend(vec![0; MANY]),
                    4 => bytes.fill(0xff),
                    _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 0x80),
                }
                "bytes"
            }
        },
    }
}

/// A text that is not what it was: another one, or its like.
fn text(draw: &mut Draw, was: &str) -> Vec<u8> {
    let chars: Vec<char> = was.chars().collect();
    let place = draw.below(chars.len());
    match draw.below(8) {
        0 => was.repeat(*draw.of(&[2, 50])).into_bytes(),
        1 => chars[..place].iter().collect::<String>().into_bytes(),
        // No UTF-8.
        2 => [was.as_bytes(), &[0xff, 0xfe]].concat(),
        3 => was.to_uppercase().into_bytes(),
        4 => [was, *draw.of(TEXTS)].concat().into_bytes(),
        // The next number in it is another: a spec is full of them.
        5 => {
            let start = (place..chars.len()).find(|at| chars[*at].is_ascii_digit());
            let Some(start) = start else { return draw.of(TEXTS).as_bytes().to_vec() };
            let digits = chars[start..].iter().take_while(|c| c.is_ascii_digit()).count();
            let (head, tail) = (&chars[..start], &chars[start + digits..]);
            let number = draw.of(&["0", "-1", "1e99", "18446744073709551615", "nan"]);
            let number: Vec<char> = number.chars().collect();
            [head, &number, tail].concat().iter().collect::<String>().into_bytes()
        }
        _ => draw.of(TEXTS).as_bytes().to_vec(),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn piece(bytes: &mut Vec<u8>, key: u64, value: &[u8]) {
    put(bytes, key | 2);
    put(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

#[test]
fn a_message_is_read_and_written_as_it_was() {
    use tributary_proto::v1;
    let protocol = Protocol::read();
    let poll = v1::PollRequest {
        caller: Some(v1::Caller { client: "a".to_owned(), instance_id: "b".to_owned() }),
        protocol_version: 300,
        bindings: vec![v1::Binding { shape: vec![1, 2, 300], ..v1::Binding::default() }; 2],
        ..v1::PollRequest::default()
    };
    let (bytes, name) = (poll.encode_to_vec(), ".tributary.v1.PollRequest");
    let fields = protocol.decode(name, &bytes).expect("fields");
    assert_eq!(fields.encode(), bytes);
    let mut draw = Draw::new(1);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..400 {
        let mut other = fields.clone();
        *kinds.entry(protocol.mutate(&mut draw, name, &mut other)).or_default() += 1;
    }
    assert!(kinds.len() >= 8 && kinds.values().all(|count| *count > 2), "{kinds:?}");
    assert!(protocol.decode(name, &bytes[..bytes.len() - 1]).is_none());
}
