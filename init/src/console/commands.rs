//! The console's commands: their table, what is typed made into one, and completion.

use supervise::{control::Power, log::Level, log_query::Query, status::BoxStatus, unit::UnitName};

use super::Order;

mod net;

/// A line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Boot,
    Ca,
    Clear,
    Disks,
    Dmesg { lines: usize },
    Guard,
    Help,
    Logs(Query),
    Net(NetView),
    Order(Order),
    Services,
    SetupCode,
    Shell,
    Status,
    Version,
}

/// What of the network is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetView {
    All,
    Dns,
    Firewall,
    Leases,
    Route,
    Status,
    Time,
}

/// Understands a line; `None` if it is blank.
///
/// # Errors
/// Why not, as a sentence to show.
pub(crate) fn parse(line: &str, status: &BoxStatus) -> Result<Option<Command>, String> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else {
        return Ok(None);
    };
    let arguments: Vec<&str> = words.collect();
    let Some(entry) = TABLE.iter().find(|entry| entry.name == name) else {
        return Err(unknown(name));
    };
    if arguments.len() > entry.most {
        return Err(format!(
            "Too many words; write `{} {}`.",
            entry.name, entry.arguments
        ));
    }
    command(entry, &arguments, status).map(Some)
}

/// The words that could stand where the last one of `before_cursor` begins.
pub(crate) fn complete(before_cursor: &str, status: &BoxStatus) -> Vec<String> {
    let (before, word) = before_cursor
        .rsplit_once(' ')
        .unwrap_or(("", before_cursor));
    let mut words: Vec<String> = match before.split_whitespace().next() {
        None => TABLE.iter().map(|entry| entry.name.to_owned()).collect(),
        Some("logs") => {
            let fixed = ["-f", "-n", "init", "kernel"].map(str::to_owned);
            fixed.into_iter().chain(unit_names(status)).collect()
        }
        Some("net") if before.split_whitespace().count() == 1 => {
            net::WORDS.iter().map(|&word| word.to_owned()).collect()
        }
        Some("net") => links(status),
        Some("dmesg") => vec!["-n".to_owned()],
        Some("restart" | "start" | "stop") => unit_names(status),
        Some(_) => Vec::new(),
    };
    words.retain(|candidate| candidate.starts_with(word));
    words.sort();
    words
}

/// What `help` shows.
pub(crate) fn help() -> String {
    TABLE.iter().fold(
        String::new(),
        |text,
         Entry {
             name,
             arguments,
             about,
             ..
         }| {
            let usage = format!("{name} {arguments}");
            text + &format!("  {usage:<27} {about}\n")
        },
    ) + "Arrows recall lines, Tab completes, Ctrl-C ends what is being shown.\n"
}

fn command(entry: &Entry, arguments: &[&str], status: &BoxStatus) -> Result<Command, String> {
    let unit = || unit_named(entry, arguments, status);
    Ok(match entry.name {
        "boot" => Command::Boot,
        "ca" => Command::Ca,
        "clear" => Command::Clear,
        "disks" => Command::Disks,
        "dmesg" => dmesg(arguments)?,
        "guard" => Command::Guard,
        "halt" => Command::Order(Order::Power(Power::Halt)),
        "logs" => Command::Logs(logs(arguments, status)?),
        "net" => net::command(arguments)?,
        "poweroff" => Command::Order(Order::Power(Power::PowerOff)),
        "reboot" => Command::Order(Order::Power(Power::Reboot)),
        "restart" => Command::Order(Order::Restart(unit()?)),
        "services" => Command::Services,
        "setup-code" => Command::SetupCode,
        "shell" => Command::Shell,
        "start" => Command::Order(Order::Start(unit()?)),
        "status" => Command::Status,
        "stop" => Command::Order(Order::Stop(unit()?)),
        "version" => Command::Version,
        _ => Command::Help,
    })
}

fn logs(arguments: &[&str], status: &BoxStatus) -> Result<Query, String> {
    let mut query = Query {
        unit: None,
        lines: LOG_LINES,
        follow: false,
        level: Level::Debug,
    };
    let mut words = arguments.iter();
    while let Some(&word) = words.next() {
        match word {
            "-f" => query.follow = true,
            "-n" => query.lines = number(words.next())?,
            word if word.starts_with('-') => return Err(format!("`logs` has no option {word}.")),
            word => query.unit = Some(resolve(word, status)?),
        }
    }
    Ok(query)
}

fn dmesg(arguments: &[&str]) -> Result<Command, String> {
    match arguments {
        [] => Ok(Command::Dmesg {
            lines: KERNEL_LINES,
        }),
        ["-n", lines] => Ok(Command::Dmesg {
            lines: number(Some(lines))? as usize,
        }),
        _ => Err("Write `dmesg -n` and a number.".to_owned()),
    }
}

fn number(word: Option<&&str>) -> Result<u32, String> {
    let number = word.and_then(|word| word.parse().ok()).filter(|&n| n > 0);
    number.ok_or_else(|| "After -n comes the number of lines, 1 or more.".to_owned())
}

fn unit_named(entry: &Entry, arguments: &[&str], status: &BoxStatus) -> Result<UnitName, String> {
    match arguments {
        [name] => resolve(name, status),
        _ => Err(format!(
            "Say which: `{} {}`; `services` lists them.",
            entry.name, entry.arguments
        )),
    }
}

/// A role or unit by its name, else the service of that id.
fn resolve(name: &str, status: &BoxStatus) -> Result<UnitName, String> {
    let unit: UnitName = name
        .parse()
        .map_err(|_| format!("{name:?} is no name of a service."))?;
    let known = status
        .roles
        .iter()
        .chain(&status.services)
        .any(|info| info.unit == unit);
    let own = ["front", "init", "kernel", "logd", "manager"].contains(&name);
    if known || own || unit.service_id().is_some() {
        return Ok(unit);
    }
    UnitName::service(name).map_err(|_| format!("{name:?} is too long for a service."))
}

fn links(status: &BoxStatus) -> Vec<String> {
    let links = status.net.links.iter();
    links.map(|link| link.name.clone()).collect()
}

fn unit_names(status: &BoxStatus) -> Vec<String> {
    let named = |info: &supervise::unit::UnitInfo| {
        info.unit
            .service_id()
            .unwrap_or(info.unit.as_str())
            .to_owned()
    };
    status
        .roles
        .iter()
        .chain(&status.services)
        .map(named)
        .collect()
}

fn unknown(name: &str) -> String {
    let nearest = TABLE
        .iter()
        .map(|entry| (distance(name, entry.name), entry.name))
        .min();
    match nearest {
        Some((far, nearest)) if far <= 2 && far < nearest.len() => {
            format!("There is no command `{name}`. Is it `{nearest}`?")
        }
        _ => format!("There is no command `{name}`. `help` lists them."),
    }
}

/// How many characters must be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(MAX_COMPARED).collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                table[i][j] = i + j;
                continue;
            }
            let changed = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            table[i][j] = changed.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                table[i][j] = table[i][j].min(table[i - 2][j - 2] + 1);
            }
        }
    }
    table[a.len()][b.len()]
}

struct Entry {
    name: &'static str,
    arguments: &'static str,
    /// Words it takes at most.
    most: usize,
    about: &'static str,
}

const fn entry(
    name: &'static str,
    arguments: &'static str,
    most: usize,
    about: &'static str,
) -> Entry {
    Entry {
        name,
        arguments,
        most,
        about,
    }
}

const TABLE: &[Entry] = &[
    entry("help", "", 9, "this list"),
    entry("status", "", 0, "the box at a glance"),
    entry("services", "", 0, "services and the box's own processes"),
    entry(
        "logs",
        "[-f] [-n N] [unit]",
        4,
        "the last lines; -f goes on with new ones",
    ),
    entry(
        "net",
        "[status|set …]",
        net::MOST_WORDS,
        "the network; `net help` says what can be set",
    ),
    entry(
        "disks",
        "",
        0,
        "disks, partitions and where they are mounted",
    ),
    entry(
        "boot",
        "",
        0,
        "the steps of this boot and how long they took",
    ),
    entry(
        "guard",
        "",
        0,
        "who was silent, what its threads did, and what was done",
    ),
    entry("dmesg", "[-n N]", 2, "the kernel's last messages"),
    entry("start", "<service>", 1, "start a service"),
    entry("stop", "<service>", 1, "stop a service"),
    entry(
        "restart",
        "<service or role>",
        1,
        "end it and start it again",
    ),
    entry("reboot", "", 0, "stop everything and start the box again"),
    entry("poweroff", "", 0, "stop everything and switch the box off"),
    entry("halt", "", 0, "stop everything and stay powered"),
    entry("shell", "", 0, "a shell on this console"),
    entry(
        "setup-code",
        "",
        0,
        "the code that the set-up in the browser asks for",
    ),
    entry(
        "ca",
        "",
        0,
        "the certificate of the box's authority, to copy",
    ),
    entry("clear", "", 0, "clear the screen"),
    entry("version", "", 0, "what runs here"),
];

/// In characters; no command is nearly as long.
const MAX_COMPARED: usize = 32;
/// A screenful and a little more.
const LOG_LINES: u32 = 50;
/// More takes a serial line many seconds.
const KERNEL_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Command>, String> {
        parse(line, &BoxStatus::default())
    }

    #[test]
    fn every_command_of_the_table_is_understood() {
        for entry in TABLE {
            let argument = if entry.most == 1 { " demo" } else { "" };
            let command = parsed(&format!("{}{argument}", entry.name)).unwrap();
            assert_eq!(
                command == Some(Command::Help),
                entry.name == "help",
                "{}",
                entry.name
            );
        }
        assert_eq!(parsed("   "), Ok(None));
    }

    #[test]
    fn a_slip_of_the_finger_is_answered_with_the_command_meant() {
        for (typed, meant) in [
            ("stauts", "status"),
            ("log", "logs"),
            ("pweroff", "poweroff"),
        ] {
            assert!(
                parsed(typed).unwrap_err().contains(&format!("`{meant}`?")),
                "{typed}"
            );
        }
        assert!(parsed("xyzzy").unwrap_err().contains("`help` lists"));
    }

    #[test]
    fn logs_take_options_in_any_order() {
        let Ok(Some(Command::Logs(query))) = parsed("logs demo -n 7 -f") else {
            panic!("refused")
        };
        assert_eq!(query.unit, Some(UnitName::service("demo").unwrap()));
        assert_eq!((query.lines, query.follow), (7, true));
        let Ok(Some(Command::Logs(query))) = parsed("logs kernel") else {
            panic!("refused")
        };
        assert_eq!(query.unit.unwrap().as_str(), "kernel");
        for wrong in [
            "logs -n",
            "logs -n x",
            "logs -x",
            "logs a/b",
            "logs 1 2 3 4 5",
            "start",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn completion_knows_commands_and_units() {
        let status = BoxStatus::default();
        assert_eq!(complete("re", &status), ["reboot", "restart"]);
        assert_eq!(complete("logs k", &status), ["kernel"]);
        assert_eq!(complete("status x", &status), Vec::<String>::new());
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("stauts", "status"), 1);
        assert_eq!(distance("same", "same"), 0);
    }
}
