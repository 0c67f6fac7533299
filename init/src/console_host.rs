//! The console's way to `main`: orders by the queue, answers with a deadline.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use supervise::status::BoxStatus;

use crate::{
    console::{self, Order},
    shared::{Board, Message, ToMain},
};

/// What the console sees of PID 1.
#[derive(Debug)]
pub struct Host {
    board: Arc<Board>,
    to_main: ToMain,
}

impl Host {
    /// Reads `board`, sends to `to_main`.
    pub fn new(board: Arc<Board>, to_main: ToMain) -> Self {
        Self { board, to_main }
    }

    fn ask<T>(&self, message: Message, answer: &Receiver<T>) -> Result<T, String> {
        self.to_main.send(message).map_err(|_| BUSY.to_owned())?;
        answer.recv_timeout(PATIENCE).map_err(|_| BUSY.to_owned())
    }
}

impl console::Host for Host {
    fn status(&self) -> Arc<BoxStatus> {
        self.board.status.get()
    }

    fn request(&self, order: Order) -> Result<String, String> {
        let (reply, answer) = sync_channel(1);
        self.ask(Message::Order(order, reply), &answer)?
    }

    fn setup_code(&self) -> Option<String> {
        (*self.board.setup_code.get()).clone()
    }

    fn ca_pem(&self) -> Option<String> {
        (*self.board.ca_pem.get()).clone()
    }

    fn shell(&self, tty: OwnedFd) -> Result<(), String> {
        let (reply, answer) = sync_channel(1);
        self.to_main
            .send(Message::Shell(tty, reply))
            .map_err(|_| BUSY.to_owned())?;
        // For as long as the shell is used; main answers when it has ended, however it did.
        answer.recv().map_err(|_| BUSY.to_owned())?
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const BUSY: &str = "PID 1's main thread does not answer";
