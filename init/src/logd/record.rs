//! A log line in a file: `time boot since level text`, made for grep and for being read back.
//!
//! `2026-11-22T23:53:55.123Z 3f2a9c1d 12.345678 info listening on 443`; the time is `-` while the
//! clock makes no sense, `boot` the beginning of the kernel's boot id, `since` seconds since then.

use std::time::Duration;

use supervise::{log::Level, log_query::LogLine, unit::UnitName, utc};

/// The record of a line, its end included.
pub(crate) fn write(line: &LogLine, boot: &str) -> String {
    let time = line.unix_ms.map_or_else(|| "-".to_owned(), utc::format);
    let (s, us) = (line.at.as_secs(), line.at.subsec_micros());
    let level = match line.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    format!("{time} {boot} {s}.{us:06} {level} {}\n", line.text)
}

/// The line of a record (its number is 0); `None` if it is none, as after a power cut.
pub(crate) fn read(record: &str, unit: &UnitName, boot: &str) -> Option<LogLine> {
    let mut fields = record.splitn(5, ' ');
    let unix_ms = match fields.next()? {
        "-" => None,
        time => Some(utc::parse(time)?),
    };
    let earlier_boot = fields.next()? != boot;
    let (s, us) = fields.next()?.split_once('.')?;
    let at = Duration::from_secs(s.parse().ok()?)
        .checked_add(Duration::from_micros(us.parse::<u32>().ok()?.into()))?;
    let level = match fields.next()? {
        "error" => Level::Error,
        "warning" => Level::Warning,
        "info" => Level::Info,
        "debug" => Level::Debug,
        _ => return None,
    };
    // The file may have been damaged, or written by somebody else.
    let text = super::text::escape(fields.next()?.as_bytes());
    Some(LogLine {
        number: 0,
        at,
        unix_ms,
        earlier_boot,
        unit: unit.clone(),
        level,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(unix_ms: Option<u64>) -> LogLine {
        LogLine {
            number: 0,
            at: Duration::from_micros(12_000_045),
            unix_ms,
            earlier_boot: false,
            unit: "front".parse().unwrap(),
            level: Level::Warning,
            text: "a  b c ".into(),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for line in [line(None), line(Some(1_700_000_000_042))] {
            let record = write(&line, "3f2a9c1d");
            let text = record.strip_suffix('\n').unwrap();
            assert_eq!(read(text, &line.unit, "3f2a9c1d"), Some(line.clone()));
            assert!(read(text, &line.unit, "00000000").unwrap().earlier_boot);
        }
    }

    #[test]
    fn what_a_power_cut_left_is_no_line() {
        let record = write(&line(None), "3f2a9c1d");
        let unit = "front".parse().unwrap();
        for end in 0..record.find("warning").unwrap() + 8 {
            assert_eq!(
                read(&record[..end], &unit, "3f2a9c1d"),
                None,
                "{:?}",
                &record[..end]
            );
        }
        let huge = "- 3f2a9c1d 18446744073709551615.4294967295 info x";
        assert_eq!(read(huge, &unit, "3f2a9c1d"), None);
    }
}
