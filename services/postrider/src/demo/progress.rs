//! What a person watches while the demo runs.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::balance;
use super::world::NEIGHBOURS;
use crate::books::Books;

/// Cells of a bar.
const BAR: usize = 32;
/// How often a line is printed where nobody watches a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Draws the state of the books on standard error: a live table on a terminal, a line now and then elsewhere.
pub(crate) struct Progress {
    expected: usize,
    is_terminal: bool,
    began: Instant,
    drawn_lines: usize,
    last_line: Option<Instant>,
    notes: Vec<String>,
}

impl Progress {
    pub(crate) fn new(expected: usize, is_terminal: bool) -> Self {
        Self {
            expected,
            is_terminal,
            began: Instant::now(),
            drawn_lines: 0,
            last_line: None,
            notes: Vec::new(),
        }
    }

    /// Says something that stays on the screen.
    pub(crate) fn note(&mut self, text: &str) {
        let note = format!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64());
        if !self.is_terminal {
            eprintln!("{note}");
        }
        self.notes.push(note);
    }

    /// Draws the books as they stand.
    pub(crate) fn show(&mut self, books: &Books) {
        if self.is_terminal {
            self.draw(books);
        } else if self
            .last_line
            .is_none_or(|last| last.elapsed() >= LINE_EVERY)
        {
            self.last_line = Some(Instant::now());
            eprintln!("{}", self.summary(books));
        }
    }

    /// Draws them for the last time.
    pub(crate) fn finish(&mut self, books: &Books) {
        self.last_line = None;
        self.show(books);
    }

    fn summary(&self, books: &Books) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let (submitted, ended, expected) =
            (books.accepted_count(), books.ended_count(), self.expected);
        format!("{seconds:>6.1} s  accepted {submitted:>5}  ended {ended:>5}  of {expected}")
    }

    fn draw(&mut self, books: &Books) {
        let mut screen = String::new();
        if self.drawn_lines > 0 {
            // Back to the first line of the table; every line is cleared before it is drawn again.
            let _ = write!(screen, "\x1b[{}A", self.drawn_lines);
        }
        let mut lines = vec![self.summary(books)];
        for ((domain, line), neighbour) in balance::lines(books).into_iter().zip(&NEIGHBOURS) {
            let share = |part: usize| {
                (part * BAR)
                    .checked_div(line.accepted.max(1))
                    .unwrap_or(0)
                    .min(BAR)
            };
            let (good, bad) = (share(line.delivered), share(line.bounced + line.other));
            let rest = BAR.saturating_sub(good + bad);
            let bar = format!(
                "\x1b[32m{}\x1b[31m{}\x1b[90m{}\x1b[0m",
                "█".repeat(good),
                "█".repeat(bad),
                "░".repeat(rest)
            );
            lines.push(format!(
                "  {domain:<16} {bar} {:>5} delivered {:>5} waiting {:>5} bounced   {}",
                line.delivered, line.waiting, line.bounced, neighbour.manners
            ));
        }
        lines.extend(self.notes.iter().cloned());
        for line in &lines {
            let _ = writeln!(screen, "\x1b[2K{line}");
        }
        self.drawn_lines = lines.len();
        eprint!("{screen}");
    }
}
