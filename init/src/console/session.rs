//! One conversation on one terminal: reads keys, runs commands, says above the prompt what happens.

use std::{convert::Infallible, io, path::Path, sync::Arc, time::Duration};

use supervise::{control::Power, status::BoxStatus};

use super::{
    Host, Order,
    announce::Announcer,
    commands::{self, Command},
    disks, dmesg,
    editor::{self, Editor, Event},
    logs,
    terminal::Terminal,
    views,
};

/// A terminal with a prompt on it.
pub(crate) struct Session<'a> {
    terminal: Terminal,
    editor: Editor,
    announcer: Announcer,
    host: &'a dyn Host,
}

impl<'a> Session<'a> {
    /// Opens the terminal.
    pub(crate) fn open(path: &Path, host: &'a dyn Host) -> io::Result<Self> {
        let terminal = Terminal::open(path)?;
        let (editor, announcer) = (Editor::new(PROMPT), Announcer::default());
        Ok(Self {
            terminal,
            editor,
            announcer,
            host,
        })
    }

    /// Talks until the terminal fails.
    pub(crate) fn run(mut self) -> io::Result<Infallible> {
        self.terminal.print(&banner(&self.host.status()))?;
        self.prompt()?;
        loop {
            if let Some(byte) = self.terminal.read(TICK)? {
                self.typed(byte)?;
            }
            self.announce()?;
        }
    }

    fn prompt(&mut self) -> io::Result<()> {
        if let Some(width) = self.terminal.width() {
            self.editor.set_width(width);
        }
        let mut out = Vec::new();
        self.editor.show(&mut out);
        self.terminal.write(&out)
    }

    /// Writes what happened in the prompt's place and the prompt, with what was typed, below it.
    fn announce(&mut self) -> io::Result<()> {
        let lines = self.announcer.lines(&self.host.status());
        if lines.is_empty() {
            Ok(())
        } else {
            self.above_prompt(&(lines.join("\n") + "\n"))
        }
    }

    fn above_prompt(&mut self, text: &str) -> io::Result<()> {
        let mut out = Vec::new();
        self.editor.hide(&mut out);
        self.terminal.write(&out)?;
        self.terminal.print(text)?;
        self.prompt()
    }

    fn typed(&mut self, byte: u8) -> io::Result<()> {
        let mut out = Vec::new();
        let event = self.editor.feed(byte, &mut out);
        self.terminal.write(&out)?;
        match event {
            None | Some(Event::Cleared) => Ok(()),
            Some(Event::Complete) => self.complete(),
            Some(Event::EndOfInput) => {
                self.above_prompt("This console has no end; `help` says more.\n")
            }
            Some(Event::Interrupted) => self.prompt(),
            Some(Event::Line(line)) => {
                self.line(&line)?;
                self.prompt()
            }
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        let candidates = commands::complete(&self.editor.before_cursor(), &self.host.status());
        let mut out = Vec::new();
        let changed = self.editor.complete(&candidates, &mut out);
        self.terminal.write(&out)?;
        if changed || candidates.is_empty() {
            return Ok(());
        }
        self.above_prompt(&(candidates.join("  ") + "\n"))
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        match commands::parse(line, &self.host.status()) {
            Ok(None) => Ok(()),
            Ok(Some(command)) => self.run_command(command),
            Err(why) => self.terminal.print(&format!("{why}\n")),
        }
    }

    fn run_command(&mut self, command: Command) -> io::Result<()> {
        let status = self.host.status();
        match command {
            Command::Boot => self.show(&views::boot(&status)),
            Command::Ca => self.show(&self.ca()),
            Command::Clear => self.terminal.write(editor::CLEAR),
            Command::Disks => self.show(&disks::show()),
            Command::Dmesg { lines } => match dmesg::tail(lines) {
                Ok(text) => self.show(&text),
                Err(error) => self.show(&format!("The kernel's log can't be read: {error}.\n")),
            },
            Command::Help => self.show(&commands::help()),
            Command::Logs(query) => logs::show(
                &mut self.terminal,
                self.host.log_socket(),
                &query,
                &status.log,
            ),
            Command::Guard => self.show(&views::guard(&status)),
            Command::Net(view) => self.show(&views::net(&status, view)),
            Command::Order(order) => self.order(order),
            Command::Services => self.show(&views::services(&status)),
            Command::SetupCode => self.show(&self.setup_code()),
            Command::Shell => self.shell(),
            Command::Status => self.show(&views::status(&status)),
            Command::Version => self.show(&(views::version(&status) + "\n")),
        }
    }

    /// Line by line, so that Ctrl-C ends a long text also where it takes its time.
    fn show(&mut self, text: &str) -> io::Result<()> {
        for line in text.split_inclusive('\n') {
            if self.terminal.interrupted()? {
                return self.terminal.print("^C\n");
            }
            self.terminal.print(line)?;
        }
        Ok(())
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        if let Order::Power(power) = order {
            let way = match power {
                Power::Halt => "The box is going to halt.",
                Power::PowerOff => "The box is going to switch off.",
                Power::Reboot => "The box is going to start again.",
            };
            self.terminal.print(&format!("{way}\n"))?;
        }
        match self.host.request(order) {
            Ok(done) => self.terminal.print(&format!("{done}\n")),
            Err(why) => self.terminal.print(&format!("Not done: {why}\n")),
        }
    }

    fn shell(&mut self) -> io::Result<()> {
        self.terminal
            .print("A shell on this console; `exit` comes back here.\n")?;
        let outcome = self.host.shell(self.terminal.lend()?);
        // The end of the shell's session hangs its terminal up.
        self.terminal.reopen()?;
        match outcome {
            Ok(()) => self.terminal.print("\nBack from the shell.\n"),
            Err(why) => self.terminal.print(&format!("There is no shell: {why}\n")),
        }
    }

    fn ca(&self) -> String {
        let none = "The box has no certificate authority yet: it is made on data, by the manager, \
                    on first boot. See `status`.\n";
        self.host
            .ca_pem()
            .map_or_else(|| none.to_owned(), |pem| pem.trim_end().to_owned() + "\n")
    }

    fn setup_code(&self) -> String {
        match self.host.setup_code() {
            Some(code) => format!("{code}\nType it in the browser when the set-up asks for it.\n"),
            None => "There is no set-up code now: the box is set up, or the manager, which makes \
                     it, is not there. See `status`.\n"
                .to_owned(),
        }
    }
}

fn banner(status: &Arc<BoxStatus>) -> String {
    format!(
        "\n{}\nRecovery console: `help` lists the commands, `status` tells how the box is,\n\
         `setup-code` shows the code that the set-up in the browser asks for.\n",
        views::version(status)
    )
}

const PROMPT: &str = "pilotlight> ";
/// How late news may be said; short enough to feel immediate, long enough to cost nothing.
const TICK: Duration = Duration::from_millis(250);
