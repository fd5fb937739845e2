//! A redis-server of one test, on a socket of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Ends with the test.
pub(crate) struct RedisServer {
    directory: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let mut server = Self::absent();
        server.launch();
        server
    }

    /// An address at which nobody listens yet.
    pub(crate) fn absent() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            child: None,
        }
    }

    pub(crate) fn launch(&mut self) {
        let mut child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocket",
            ])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is not in PATH: run `make tools`");
        let log = BufReader::new(child.stdout.take().unwrap());
        let ready = log
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("eady to accept"));
        assert!(ready, "redis-server ended instead of starting");
        self.child = Some(child);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// It keeps its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(crate) async fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut parsed = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            parsed.arg(word);
        });
        parsed
            .query_async(&mut self.connection().await)
            .await
            .unwrap()
    }

    async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
