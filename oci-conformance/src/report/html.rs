//! The report as one page without scripts: every check, and under a failure all that was said.

use std::io;

use quick_xml::Writer;
use quick_xml::events::BytesText;

use crate::runner::Row;

use super::Report;

const STYLE: &str = "
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3em .6em; border-top: 1px solid #ddd; }
.pass { color: #1a7f37; } .FAIL { color: #cf222e; font-weight: bold; } .skip { color: #6e7781; }
small { color: #57606a; } pre { background: #f6f8fa; padding: .6em; overflow-x: auto; }
";

/// The report as a page.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn html(report: &Report) -> io::Result<String> {
    let mut writer = Writer::new(Vec::new());
    let counts = report.counts();
    let title = format!("Registry conformance of {}", report.subject);
    let line = format!(
        "{} checks: {} pass, {} FAIL, {} skip",
        report.rows.len(),
        counts.pass,
        counts.fail,
        counts.skip
    );
    let note = "Checks of Darner's own, not the suite and not the certification programme of the \
                Open Container Initiative.";
    writer
        .create_element("html")
        .with_attribute(("lang", "en"))
        .write_inner_content(|writer| {
            writer
                .create_element("head")
                .write_inner_content(|writer| {
                    let meta = writer.create_element("meta");
                    meta.with_attribute(("charset", "utf-8")).write_empty()?;
                    text(writer, "title", &title)?;
                    text(writer, "style", STYLE)
                })?;
            writer
                .create_element("body")
                .write_inner_content(|writer| {
                    text(writer, "h1", &title)?;
                    text(writer, "p", &line)?;
                    text(writer, "p", note)?;
                    writer
                        .create_element("table")
                        .write_inner_content(|writer| {
                            report.rows.iter().try_for_each(|row| line_of(writer, row))
                        })?;
                    Ok(())
                })?;
            Ok(())
        })?;
    let body = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    Ok(format!("<!DOCTYPE html>\n{body}\n"))
}

fn line_of(writer: &mut Writer<Vec<u8>>, row: &Row) -> io::Result<()> {
    let word = row.outcome.name();
    let line = writer.create_element("tr");
    line.with_attribute(("id", row.check.id().as_str()))
        .write_inner_content(|writer| {
            text(writer, "td", &row.check.id())?;
            text(writer, "td", row.check.level.name())?;
            let cell = writer.create_element("td").with_attribute(("class", word));
            cell.write_text_content(BytesText::new(word))?;
            writer.create_element("td").write_inner_content(|writer| {
                text(writer, "div", row.check.title)?;
                text(writer, "small", row.check.clause)?;
                if !row.outcome.reason().is_empty() {
                    text(writer, "div", row.outcome.reason())?;
                }
                if word == "FAIL" {
                    for exchange in &row.exchanges {
                        text(writer, "pre", &exchange.to_string())?;
                    }
                }
                Ok(())
            })?;
            Ok(())
        })?;
    Ok(())
}

fn text(writer: &mut Writer<Vec<u8>>, name: &str, words: &str) -> io::Result<()> {
    writer
        .create_element(name)
        .write_text_content(BytesText::new(words))?;
    Ok(())
}
