//! Sorts more lines than memory holds: sorted runs in files of their own, which are merged while they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Lines, Write as _};

use anyhow::Context as _;

/// Octets of lines that are held in memory.
const RUN: usize = 64 << 20;

/// Takes lines in any order.
#[derive(Debug)]
pub(crate) struct Sorter {
    lines: Vec<String>,
    octets: usize,
    run: usize,
    runs: Vec<File>,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::with_runs_of(RUN)
    }
}

impl Sorter {
    fn with_runs_of(octets: usize) -> Self {
        Self {
            lines: Vec::new(),
            octets: 0,
            run: octets,
            runs: Vec::new(),
        }
    }

    /// Takes a line, which holds no line end.
    pub(crate) fn push(&mut self, line: String) -> anyhow::Result<()> {
        self.octets += line.len();
        self.lines.push(line);
        if self.octets >= self.run {
            self.spill().context("write lines to a temporary file")?;
        }
        Ok(())
    }

    /// All lines in order.
    pub(crate) fn finish(mut self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<String>>> {
        self.spill().context("write lines to a temporary file")?;
        let runs = self.runs.into_iter();
        let mut merge = Merge {
            runs: runs.map(|run| BufReader::new(run).lines()).collect(),
            heads: BinaryHeap::new(),
        };
        for run in 0..merge.runs.len() {
            merge.read(run)?;
        }
        Ok(merge)
    }

    fn spill(&mut self) -> std::io::Result<()> {
        use std::io::Seek as _;
        self.lines.sort_unstable();
        let mut file = BufWriter::new(tempfile::tempfile()?);
        for line in self.lines.drain(..) {
            writeln!(file, "{line}")?;
        }
        let mut file = file.into_inner()?;
        file.rewind()?;
        self.runs.push(file);
        self.octets = 0;
        Ok(())
    }
}

/// Reads runs side by side.
struct Merge {
    runs: Vec<Lines<BufReader<File>>>,
    /// The next line of each run, the first of all on top.
    heads: BinaryHeap<Reverse<(String, usize)>>,
}

impl Merge {
    fn read(&mut self, run: usize) -> anyhow::Result<()> {
        if let Some(line) = self.runs[run].next() {
            let line = line.context("read lines back from a temporary file")?;
            self.heads.push(Reverse((line, run)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = anyhow::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((line, run)) = self.heads.pop()?;
        Some(self.read(run).map(|()| line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_in_order_from_many_runs() {
        let mut sorter = Sorter::with_runs_of(10);
        for number in (0..1000).map(|number| number * 7919 % 1000) {
            sorter.push(format!("{number:04}")).unwrap();
        }
        assert!(sorter.runs.len() > 100);
        let sorted: Vec<String> = sorter.finish().unwrap().map(Result::unwrap).collect();
        let expected: Vec<String> = (0..1000).map(|number| format!("{number:04}")).collect();
        assert_eq!(sorted, expected);
    }
}
