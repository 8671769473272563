//! What is wrong with a list's text: where, why, and what is allowed there.

use std::fmt::{self, Write};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

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

/// Everything that is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidAllowlist {
    text: String,
    /// In the order of the text, never empty.
    diagnostics: Vec<Diagnostic>,
}

impl InvalidAllowlist {
    pub(super) fn new(text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        Self {
            text: text.to_owned(),
            diagnostics,
        }
    }

    /// What is wrong, in the order of the text.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Line and column of a byte of the text, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The report for a terminal: for each error its file, line and column, the line itself, a
    /// caret, and what is allowed there.
    pub fn report(&self, file: &str) -> String {
        let renderer = Renderer::plain();
        let mut report = String::new();
        for diagnostic in &self.diagnostics {
            let (line, column) = self.position(diagnostic.span.start);
            let (excerpt, span) = self.excerpt(&diagnostic.span);
            let annotation = AnnotationKind::Primary.span(span);
            let annotation = match &diagnostic.help {
                Some(help) => annotation.label(sanitised(help)),
                None => annotation,
            };
            let excerpt = sanitised_line(&excerpt);
            let group = Level::ERROR
                .primary_title(sanitised(&diagnostic.message))
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
        report
    }

    /// The line that holds a span, cut to a length that a terminal can show, and the span in it.
    fn excerpt(&self, span: &Range<usize>) -> (String, Range<usize>) {
        const SHOWN: usize = 200;
        let floor = |mut index: usize| {
            index = index.min(self.text.len());
            while !self.text.is_char_boundary(index) {
                index -= 1;
            }
            index
        };
        let start = floor(span.start);
        let line_start = self.text[..start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |newline| start + newline);
        let from = floor(line_start.max(start.saturating_sub(SHOWN)));
        let to = floor(line_end.min(start + SHOWN)).max(start);
        let end = floor(span.end).clamp(start, to);
        (self.text[from..to].to_owned(), start - from..end - from)
    }
}

/// One line an error, without the source: for logs and the API.
impl fmt::Display for InvalidAllowlist {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
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
        Ok(())
    }
}

impl std::error::Error for InvalidAllowlist {}

/// Control characters would let a list's text steer the terminal it is reported on.
fn sanitised(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// As [`sanitised`], byte for byte, so that spans stay true.
fn sanitised_line(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_ascii_control() && character != '\t' {
                '?'
            } else {
                character
            }
        })
        .collect()
}

fn visible(character: char) -> char {
    if character.is_control() {
        '\u{fffd}'
    } else {
        character
    }
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
