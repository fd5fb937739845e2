//! What the log says of an outage.

use std::io::Write;
use std::sync::{Arc, Mutex};

use throttle::{Limits, Mode};

use crate::server::RedisServer;
use crate::worker::{Worker, path};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test]
async fn an_outage_is_one_warning_and_one_all_clear() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    server.kill();
    for _ in 0..10 {
        let _ = worker.open(&path("big"), &Limits::new(None, 1)).await;
    }
    worker.reach(Mode::Local).await;
    server.launch();
    worker.reach(Mode::Shared).await;

    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(lines[0], "INFO throttling together with other workers");
    assert!(
        lines[1].starts_with("WARN redis is away, throttling by local share"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "INFO redis is back, throttling together again");
}
