//! What the log says of an outage.

use std::cell::RefCell;
use std::io::Write;

use throttle::{Limits, Mode};

use crate::server::RedisServer;
use crate::worker::{Worker, path};

thread_local! {
    /// What this test's thread logged; the other tests have threads of their own.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_outage_is_one_warning_and_one_all_clear() {
    let format = tracing_subscriber::fmt()
        .with_writer(|| Log)
        .without_time()
        .with_target(false);
    format.with_ansi(false).init();

    let mut server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    server.kill();
    for _ in 0..10 {
        let _ = worker.open(&path("big"), &Limits::new(None, 1)).await;
    }
    worker.reach(Mode::Local).await;
    server.launch();
    worker.reach(Mode::Shared).await;

    let text = LOG.with_borrow(|log| String::from_utf8(log.clone()).unwrap());
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(lines[0], "INFO throttling together with other workers");
    assert!(
        lines[1].starts_with("WARN redis is away, throttling by local share"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "INFO redis is back, throttling together again");
}
