//! JSON objects out of a byte stream, one at a time and bounded in size.
//!
//! Labels of hundreds of megabytes are accepted by the engine and come back in lists and events.
//! A value that is too large is read as [`LEFT_OUT`], so that id, names, image and state of the same
//! container stay readable and memory stays small.

/// What stands in the place of a value that is too large: no text, array or object, so that nobody
/// takes it for a field that is not there.
const LEFT_OUT: &[u8] = b"true";
/// The largest value of a field of a field, in bytes: one label, or all labels of an inspection.
const INNER_MAX: usize = 1024 * 1024;
/// The largest value of a field, in bytes: all labels of a list's element.
const OUTER_MAX: usize = 8 * 1024 * 1024;
/// The largest element; only hostile keys reach it.
const ELEMENT_MAX: usize = 64 * 1024 * 1024;

/// How elements follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `[a, b, c]`
    Array,
    /// One a line.
    Lines,
}

/// Cuts a byte stream into elements.
#[derive(Debug)]
pub(super) struct Elements {
    shape: Shape,
    element: Vec<u8>,
    /// Open brackets within the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where the values of depth 1 and 2 begin in `element`, while inside of them.
    values: [Option<usize>; 2],
    /// The depth of the value that is being left out.
    skipping: Option<usize>,
    opened: bool,
    closed: bool,
}

impl Elements {
    /// The elements of one array.
    pub(super) fn of_array() -> Self {
        Self::new(Shape::Array)
    }

    /// One object a line. A line that is cut or no JSON costs that line alone.
    pub(super) fn of_lines() -> Self {
        Self::new(Shape::Lines)
    }

    fn new(shape: Shape) -> Self {
        Self {
            shape,
            element: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            values: [None, None],
            skipping: None,
            opened: shape == Shape::Lines,
            closed: false,
        }
    }

    /// Reads on; complete elements go to `emit`. False when the bytes can't be what is expected.
    pub(super) fn feed(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&[u8])) -> bool {
        while let Some(byte) = bytes.first() {
            let read = self.plain(bytes).max(1);
            let (now, later) = bytes.split_at(read);
            match read {
                1 if !self.byte(*byte, emit) => return false,
                1 => {}
                _ => self.keep(now),
            }
            bytes = later;
        }
        // Outside of any object there is nothing to leave out.
        let largest = match self.depth {
            0 => INNER_MAX,
            _ => ELEMENT_MAX,
        };
        self.element.len() <= largest
    }

    /// How many of these bytes stand in a string and mean nothing else. Labels of hundreds of
    /// megabytes are read at a stretch.
    fn plain(&self, bytes: &[u8]) -> usize {
        if !self.in_string || self.escaped {
            return 0;
        }
        let end = bytes
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | b'\n'));
        end.unwrap_or(bytes.len())
    }

    /// Whether the stream may end here: the array is closed, or no line is half read.
    pub(super) fn is_complete(&self) -> bool {
        match self.shape {
            Shape::Array => self.closed,
            Shape::Lines => self.element.is_empty(),
        }
    }

    fn byte(&mut self, byte: u8, emit: &mut impl FnMut(&[u8])) -> bool {
        if self.shape == Shape::Lines && byte == b'\n' {
            self.finish(emit);
            return true;
        }
        if self.in_string {
            self.string_byte(byte);
            return true;
        }
        if self.depth == 0 {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => return true,
                b'[' if !self.opened => {
                    self.opened = true;
                    return true;
                }
                _ if !self.opened || self.closed => return false,
                b',' if self.shape == Shape::Array => {
                    self.finish(emit);
                    return true;
                }
                b']' if self.shape == Shape::Array => {
                    self.finish(emit);
                    self.closed = true;
                    return true;
                }
                _ => {}
            }
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(&[byte]);
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.keep(&[byte]);
            }
            b'}' | b']' => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
                self.keep(&[byte]);
                if self.depth == 0 {
                    self.finish(emit);
                }
            }
            b',' => {
                self.end_value();
                self.keep(&[byte]);
            }
            b':' => {
                self.keep(&[byte]);
                self.begin_value();
            }
            _ => self.keep(&[byte]),
        }
        true
    }

    fn string_byte(&mut self, byte: u8) {
        self.keep(&[byte]);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    fn begin_value(&mut self) {
        if let Some(value) = self
            .depth
            .checked_sub(1)
            .and_then(|at| self.values.get_mut(at))
        {
            *value = Some(self.element.len());
        }
    }

    fn end_value(&mut self) {
        if let Some(value) = self
            .depth
            .checked_sub(1)
            .and_then(|at| self.values.get_mut(at))
        {
            *value = None;
        }
        if self.skipping == Some(self.depth) {
            self.skipping = None;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping.is_some() {
            return;
        }
        self.element.extend_from_slice(bytes);
        for (depth, largest) in [(2, INNER_MAX), (1, OUTER_MAX)] {
            let Some(start) = self.values[depth - 1] else {
                continue;
            };
            if self.element.len() - start > largest {
                self.element.truncate(start);
                self.element.extend_from_slice(LEFT_OUT);
                self.skipping = Some(depth);
                return;
            }
        }
    }

    fn finish(&mut self, emit: &mut impl FnMut(&[u8])) {
        if !self.element.is_empty() {
            emit(&self.element);
        }
        self.element.clear();
        self.element.shrink_to(INNER_MAX);
        self.depth = 0;
        self.in_string = false;
        self.escaped = false;
        self.values = [None, None];
        self.skipping = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(
        mut elements: Elements,
        bytes: &[u8],
        chunk: usize,
    ) -> (Vec<Option<Value>>, bool, bool) {
        let mut found = Vec::new();
        let mut accepted = true;
        for part in bytes.chunks(chunk) {
            accepted &= elements.feed(part, &mut |element| {
                found.push(serde_json::from_slice(element).ok());
            });
        }
        (found, accepted, elements.is_complete())
    }

    #[test]
    fn arrays_and_lines_are_cut_into_elements() {
        let list = br#" [ {"a":"}],{\"","b":[1,{"c":2}]} , {} ,5,"x", null ] "#;
        for chunk in [1, 3, 1_000] {
            let (found, accepted, complete) = read(Elements::of_array(), list, chunk);
            let expected = [
                json!({"a": "}],{\"", "b": [1, {"c": 2}]}),
                json!({}),
                json!(5),
                json!("x"),
                Value::Null,
            ];
            assert_eq!(found, expected.map(Some));
            assert!(accepted && complete);
        }
        let lines = b"{\"a\":1}\n\n{\"b\":\"half\n{\"c\":3}\ngarbage\n{\"d\":4}";
        let (found, accepted, complete) = read(Elements::of_lines(), lines, 4);
        assert_eq!(
            found,
            [
                Some(json!({"a": 1})),
                None,
                Some(json!({"c": 3})),
                None,
                Some(json!({"d": 4}))
            ]
        );
        assert!(accepted && complete);
    }

    #[test]
    fn what_is_no_array_or_half_of_one_is_told() {
        for (text, expected) in [
            ("[]", (true, true)),
            ("[{}", (true, false)),
            ("[{},", (true, false)),
            ("", (true, false)),
            ("{\"message\":\"no\"}", (false, false)),
            ("null", (false, false)),
            ("<html>", (false, false)),
        ] {
            let (_, accepted, complete) = read(Elements::of_array(), text.as_bytes(), 7);
            assert_eq!((accepted, complete), expected, "{text}");
        }
    }

    #[test]
    fn text_without_end_is_refused_before_it_fills_the_memory() {
        let text = "x".repeat(65_536);
        for begin in ["", "\""] {
            let mut elements = Elements::of_lines();
            assert!(elements.feed(begin.as_bytes(), &mut |_| ()), "{begin}");
            let pieces = (0..).take_while(|_| elements.feed(text.as_bytes(), &mut |_| ()));
            let most = INNER_MAX / text.len();
            assert!((most - 1..=most).contains(&pieces.count()), "{begin}");
        }
        // Of a value there is a limit to what is kept, not to what is read.
        let mut elements = Elements::of_lines();
        assert!(elements.feed(br#"{"x":""#, &mut |_| ()));
        for _ in 0..3 * OUTER_MAX / text.len() {
            assert!(elements.feed(text.as_bytes(), &mut |_| ()));
        }
        assert!(elements.element.capacity() <= 2 * OUTER_MAX);
    }

    #[test]
    fn values_that_are_too_large_are_left_out_and_the_rest_stays() {
        let huge = "x".repeat(3 * INNER_MAX);
        let one_label =
            json!([{"Id": "a", "Labels": {"big": huge, "small": "y"}, "State": "running"}]);
        let (found, ..) = read(
            Elements::of_array(),
            one_label.to_string().as_bytes(),
            65_536,
        );
        assert_eq!(
            found,
            [Some(
                json!({"Id": "a", "Labels": {"big": true, "small": "y"}, "State": "running"})
            )]
        );
        let many: serde_json::Map<_, _> = (0..200_000)
            .map(|number| (format!("label-{number:032}"), json!("value")))
            .collect();
        let many_labels = json!([{"Id": "a", "Labels": many, "State": "running"}, {"Id": "b"}]);
        let (found, ..) = read(
            Elements::of_array(),
            many_labels.to_string().as_bytes(),
            65_536,
        );
        assert_eq!(
            found,
            [
                Some(json!({"Id": "a", "Labels": true, "State": "running"})),
                Some(json!({"Id": "b"}))
            ]
        );
        let inspection =
            json!({"Config": {"Image": "i", "Labels": many_labels, "Cmd": [huge]}, "Name": "/n"});
        let (found, ..) = read(
            Elements::of_lines(),
            format!("{inspection}\n").as_bytes(),
            65_536,
        );
        assert_eq!(
            found,
            [Some(
                json!({"Config": {"Image": "i", "Labels": true, "Cmd": true}, "Name": "/n"})
            )]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_array_comes_out_as_it_went_in(
            texts in proptest::collection::vec("\\PC{0,12}", 0..5),
            chunk in 1_usize..40,
        ) {
            let values: Vec<_> = texts
                .iter()
                .map(|text| json!({"t": text, "n": [1, {"deep": [text]}], (text): {"in": text}}))
                .collect();
            let (found, accepted, complete) =
                read(Elements::of_array(), json!(values).to_string().as_bytes(), chunk);
            proptest::prop_assert_eq!(found, values.into_iter().map(Some).collect::<Vec<_>>());
            proptest::prop_assert!(accepted && complete);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            read(Elements::of_array(), &bytes, 7);
            read(Elements::of_lines(), &bytes, 7);
        }
    }
}
