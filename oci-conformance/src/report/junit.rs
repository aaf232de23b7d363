//! JUnit's XML, as continuous integration reads it: a suite for each category, a case for each check.

use std::io;

use quick_xml::Writer;
use quick_xml::events::BytesText;

use crate::check::Category;
use crate::runner::{Outcome, Row};

use super::Report;

/// The report as XML.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn junit(report: &Report) -> io::Result<String> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let counts = report.counts();
    writer
        .create_element("testsuites")
        .with_attributes([
            ("name", report.subject.as_str()),
            ("tests", &report.rows.len().to_string()),
            ("failures", &counts.fail.to_string()),
            ("skipped", &counts.skip.to_string()),
        ])
        .write_inner_content(|writer| {
            for category in Category::ALL {
                suite(writer, report, category)?;
            }
            Ok(())
        })?;
    let xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{xml}\n"
    ))
}

fn suite(writer: &mut Writer<Vec<u8>>, report: &Report, category: Category) -> io::Result<()> {
    let rows = report.rows.iter();
    let rows: Vec<&Row> = rows.filter(|row| row.check.category == category).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let counts = report.counts_of(category);
    writer
        .create_element("testsuite")
        .with_attributes([
            ("name", category.name()),
            ("tests", &rows.len().to_string()),
            ("failures", &counts.fail.to_string()),
            ("errors", "0"),
            ("skipped", &counts.skip.to_string()),
        ])
        .write_inner_content(|writer| rows.iter().try_for_each(|row| case(writer, row)))?;
    Ok(())
}

fn case(writer: &mut Writer<Vec<u8>>, row: &Row) -> io::Result<()> {
    let name = format!("{} {}", row.check.id(), row.check.title);
    let class = format!("{} ({})", row.check.clause, row.check.level.name());
    let took = format!("{:.3}", row.took.as_secs_f64());
    let element = writer.create_element("testcase").with_attributes([
        ("name", name.as_str()),
        ("classname", &class),
        ("time", &took),
    ]);
    match &row.outcome {
        Outcome::Pass => element.write_empty()?,
        Outcome::Skip(reason) => element.write_inner_content(|writer| {
            let skipped = writer.create_element("skipped");
            skipped
                .with_attribute(("message", reason.as_str()))
                .write_empty()?;
            Ok(())
        })?,
        Outcome::Fail(reason) => element.write_inner_content(|writer| {
            let said = row.exchanges.iter().map(ToString::to_string);
            let said = said.collect::<Vec<_>>().join("\n\n");
            writer
                .create_element("failure")
                .with_attribute(("message", reason.as_str()))
                .write_text_content(BytesText::new(&said))?;
            Ok(())
        })?,
    };
    Ok(())
}
