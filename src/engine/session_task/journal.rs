//! Writes down what a later run of the controller must know.

use tokio::time::Instant;

use super::super::adoption::{self, Span};
use super::{BOOKS_PERIOD, Task};
use crate::flows::BooksFile;

impl Task {
    /// Writes down what is about to be done, before it is done.
    pub(super) async fn write_journal(&mut self) -> std::io::Result<()> {
        let span = Span { created: self.created, expires: self.term.expires(), max_idle: self.max_idle };
        let (standing, machine) = (&self.standing, &self.machine);
        let record = adoption::record(self.session, standing, machine, &self.listeners, &self.announced_targets, span);
        if let Some(record) = record
            && self.journal.says() != Some(&record)
        {
            let (path, mut journal) = (self.folder.places().path.clone(), std::mem::take(&mut self.journal));
            let write = tokio::task::spawn_blocking(move || {
                let outcome = journal.write(&path, record);
                (journal, outcome)
            });
            let (journal, outcome) = write.await.map_err(std::io::Error::other)?;
            self.journal = journal;
            return outcome;
        }
        Ok(())
    }

    /// Writes down what went through, from where a later run goes on.
    pub(super) async fn write_books(&mut self) {
        self.books_due = Instant::now() + BOOKS_PERIOD;
        let books = BooksFile::from(self.gauge.ledger().borrow().books());
        if books == self.books {
            return;
        }
        let (path, copy) = (self.folder.places().path.clone(), books.clone());
        let written = tokio::task::spawn_blocking(move || copy.write(&path)).await.map_err(std::io::Error::other);
        match written.and_then(|written| written) {
            Ok(()) => self.books = books,
            Err(e) => tracing::error!(session = %self.session, "cannot write down what went through: {e}"),
        }
    }
}
