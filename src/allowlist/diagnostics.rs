//! What is wrong with a list's text: where, why, and what is allowed there.

use std::fmt::{self, Write};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::printable::{self, is_hidden};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where, as bytes of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// What some editors put before the first line.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How many errors are told. A file that is no list at all may have millions.
const TOLD: usize = 100;

/// Everything that is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidAllowlist {
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    /// In the order of the text, never empty.
    diagnostics: Vec<Diagnostic>,
}

impl InvalidAllowlist {
    pub(super) fn new(text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        let later_lines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self {
            text: text.to_owned(),
            lines: std::iter::once(0).chain(later_lines).collect(),
            diagnostics,
        }
    }

    /// What is wrong, in the order of the text.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Line and column of a byte of the text, both from 1; the column counts characters. A byte
    /// order mark is none.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let end = self.floor(offset);
        let line = self.lines.partition_point(|start| *start <= end);
        let before = &self.text[self.line_start(end)..end];
        let before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before);
        (line, before.chars().count() + 1)
    }

    fn line_start(&self, offset: usize) -> usize {
        let line = self.lines.partition_point(|start| *start <= offset);
        line.checked_sub(1)
            .and_then(|index| self.lines.get(index))
            .copied()
            .unwrap_or(0)
    }

    /// The offset, or the end of the text, or the beginning of the character that it is in.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// The report for a terminal: for each error its file, line and column, the line itself, a
    /// caret, and what is allowed there.
    pub fn report(&self, file: &str) -> String {
        let renderer = Renderer::plain();
        let mut report = String::new();
        for diagnostic in self.diagnostics.iter().take(TOLD) {
            let (line, column) = self.position(diagnostic.span.start);
            let (excerpt, span) = self.excerpt(&diagnostic.span);
            let annotation = AnnotationKind::Primary.span(span);
            let annotation = match &diagnostic.help {
                Some(help) => annotation.label(printable::line(help)),
                None => annotation,
            };
            let excerpt = sanitised(&excerpt);
            let group = Level::ERROR
                .primary_title(printable::line(&diagnostic.message))
                .element(
                    Snippet::source(excerpt)
                        .line_start(line)
                        .annotation(annotation),
                );
            let _ = writeln!(
                report,
                "{file}:{line}:{column}: {}",
                renderer.render(&[group])
            );
        }
        if let Some(more) = self.more() {
            let _ = writeln!(report, "{file}: {more}");
        }
        report
    }

    /// What is said of the errors that are not told one by one.
    fn more(&self) -> Option<&'static str> {
        (self.diagnostics.len() > TOLD).then_some("and more")
    }

    /// The line that holds a span, cut to a length that a terminal can show, and the span in it.
    fn excerpt(&self, span: &Range<usize>) -> (String, Range<usize>) {
        const SHOWN: usize = 200;
        let start = self.floor(span.start);
        let rest = &self.text[start..];
        let line_end = rest
            .find('\n')
            .map_or(self.text.len(), |newline| start + newline);
        let from = self.floor(self.line_start(start).max(start.saturating_sub(SHOWN)));
        let to = self.floor(line_end.min(start + SHOWN)).max(start);
        let end = self.floor(span.end).clamp(start, to);
        let line = &self.text[from..to];
        // Windows ends its lines with one more character.
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (start, end) = (start - from, end - from);
        (line.to_owned(), start.min(line.len())..end.min(line.len()))
    }
}

/// One line an error, without the source: for logs and the API.
impl fmt::Display for InvalidAllowlist {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().take(TOLD).enumerate() {
            let (line, column) = self.position(diagnostic.span.start);
            if index > 0 {
                formatter.write_str("; ")?;
            }
            write!(
                formatter,
                "line {line}, column {column}: {}",
                diagnostic.message
            )?;
            if let Some(help) = &diagnostic.help {
                write!(formatter, " ({help})")?;
            }
        }
        match self.more() {
            Some(more) => write!(formatter, "; {more}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for InvalidAllowlist {}

/// A line without what hides in it, byte for byte, so that spans stay true.
fn sanitised(line: &str) -> String {
    let mut sanitised = String::with_capacity(line.len());
    for character in line.chars() {
        if is_hidden(character) && character != '\t' {
            sanitised.extend(std::iter::repeat_n('?', character.len_utf8()));
        } else {
            sanitised.push(character);
        }
    }
    sanitised
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_points_at_the_place() {
        let invalid = InvalidAllowlist::new(
            "version = 1\nmode = \"audti\"\n",
            vec![Diagnostic {
                span: 19..26,
                message: "unknown mode `audti`".to_owned(),
                help: Some("allowed here: enforce, audit".to_owned()),
            }],
        );
        let report = invalid.report("allowlist.toml");
        assert!(
            report.starts_with("allowlist.toml:2:8: error: unknown mode `audti`"),
            "{report}"
        );
        assert!(report.contains("2 | mode = \"audti\""), "{report}");
        assert!(
            report.contains("       ^^^^^^^ allowed here: enforce, audit"),
            "{report}"
        );
        assert_eq!(
            invalid.to_string(),
            "line 2, column 8: unknown mode `audti` (allowed here: enforce, audit)"
        );
    }

    #[test]
    fn of_a_million_errors_some_are_told() {
        let diagnostic = |line: usize| Diagnostic {
            span: line * 2..line * 2 + 1,
            message: format!("bad {line}"),
            help: None,
        };
        let diagnostics = (0..1_000_000).map(diagnostic).collect();
        let invalid = InvalidAllowlist::new(&"x\n".repeat(1_000_000), diagnostics);
        for told in [invalid.report("f"), invalid.to_string()] {
            assert!(told.contains("bad 99") && !told.contains("bad 100"));
            assert!(told.trim_end().ends_with("and more"), "{told}");
        }
    }

    #[test]
    fn a_byte_order_mark_and_a_carriage_return_take_no_place() {
        let invalid = InvalidAllowlist::new("\u{feff}x = 1\r\ny\r\n", vec![]);
        for (offset, place) in [(0, (1, 1)), (3, (1, 1)), (7, (1, 5)), (10, (2, 1))] {
            assert_eq!(invalid.position(offset), place, "{offset}");
        }
        assert_eq!(invalid.excerpt(&(3..8)).0, "\u{feff}x = 1");
    }

    #[test]
    fn spans_outside_the_text_and_huge_lines_do_no_harm() {
        let text = format!("{}é\u{1b}[31m", "x".repeat(10_000));
        for span in [0..5, 10_001..10_002, 9_999..20_000, 30_000..40_000] {
            let diagnostic = Diagnostic {
                span,
                message: "m".to_owned(),
                help: None,
            };
            let report = InvalidAllowlist::new(&text, vec![diagnostic]).report("f");
            assert!(!report.contains('\u{1b}') && report.len() < 2_000);
        }
    }
}
