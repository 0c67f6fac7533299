use std::time::Duration;

use supervise::log::Level;

use super::*;

/// A directory that goes when the test is over.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self, bounds: Bounds) -> Directory {
        Directory::open(&self.0, BOOT, bounds).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const BOOT: &str = "3f2a9c1d";
const ROOMY: Bounds = Bounds {
    file: 1 << 20,
    total: 1 << 24,
};

fn line(unit: &str, at: u64, text: &str) -> LogLine {
    LogLine {
        number: 0,
        at: Duration::from_secs(at),
        unix_ms: None,
        earlier_boot: false,
        unit: unit.parse().unwrap(),
        level: Level::Info,
        text: text.into(),
    }
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn a_successor_reads_all_units_lines_in_the_order_of_their_writing() {
    let temporary = Temporary::new("tails");
    let mut directory = temporary.open(ROOMY);
    for (at, unit) in [(1, "front"), (2, "manager"), (3, "front")] {
        directory
            .write(&line(unit, at, &format!("{unit} at {at}")))
            .unwrap();
    }
    let tails = temporary.open(ROOMY).tails().unwrap();
    assert_eq!(texts(&tails), ["front at 1", "manager at 2", "front at 3"]);
}

#[test]
fn files_are_replaced_when_full_and_their_tails_go_on_over_the_seam() {
    let temporary = Temporary::new("rotate");
    let mut directory = temporary.open(Bounds {
        file: 1000,
        total: 1 << 20,
    });
    (0..200).for_each(|at| {
        directory
            .write(&line("front", at, "twenty bytes of text"))
            .unwrap()
    });
    assert_eq!(
        temporary.names(),
        ["front.log", "front.log.1", "front.log.2"]
    );
    for name in temporary.names() {
        assert!(
            fs::metadata(temporary.0.join(&name)).unwrap().len() <= 1000,
            "{name}"
        );
    }
    let tails = directory.tails().unwrap();
    assert!(tails.len() > 20, "{} lines of two files", tails.len());
    assert_eq!(tails.last().unwrap().at, Duration::from_secs(199));
}

#[test]
fn the_oldest_files_go_when_all_are_too_large() {
    let temporary = Temporary::new("total");
    let mut directory = temporary.open(Bounds {
        file: 1000,
        total: 5000,
    });
    for unit in ["a", "b", "c", "d"] {
        (0..100).for_each(|at| directory.write(&line(unit, at, "some text")).unwrap());
    }
    let sizes = temporary
        .names()
        .iter()
        .map(|n| fs::metadata(temporary.0.join(n)).unwrap().len())
        .sum::<u64>();
    assert!(sizes <= 6000, "{sizes} bytes in {:?}", temporary.names());
    assert!(temporary.names().contains(&"d.log".to_owned()));
}

#[test]
fn a_line_that_a_power_cut_cut_costs_itself_only() {
    let temporary = Temporary::new("cut");
    temporary
        .open(ROOMY)
        .write(&line("front", 1, "whole"))
        .unwrap();
    let path = temporary.0.join("front.log");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"- 3f2a9c1d 2.0000").unwrap();
    let mut directory = temporary.open(ROOMY);
    directory.write(&line("front", 3, "after")).unwrap();
    assert_eq!(texts(&directory.tails().unwrap()), ["whole", "after"]);
}

#[test]
fn files_of_others_and_rubbish_are_left_out() {
    let temporary = Temporary::new("rubbish");
    fs::write(temporary.0.join("front.log"), [0xff; 300_000]).unwrap();
    fs::write(temporary.0.join("NOT A UNIT.log"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", temporary.0.join("manager.log")).unwrap();
    let mut directory = temporary.open(ROOMY);
    assert_eq!(texts(&directory.tails().unwrap()), Vec::<&str>::new());
    assert!(directory.write(&line("manager", 1, "into a link")).is_err());
}
