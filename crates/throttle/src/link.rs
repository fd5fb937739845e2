//! The connection to Redis, and whether limits are shared through it.
//!
//! Owns the mode. A call that fails or is late gives the connection up and puts the worker in [`Mode::Local`]: no later
//! call pays for the outage. Only the heartbeat brings it back, on a connection that has proven itself. That is why this
//! is not redis-rs's connection manager, which lets every caller wait for its reconnecting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, ScriptInvocation,
};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Settings;

/// Requests that may wait to be written; the default of 50 makes bursts queue behind each other.
const PIPELINE_BUFFER: usize = 1024;

/// Where limits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For all workers together, through Redis.
    Shared,
    /// For this worker alone, which keeps to its share.
    Local,
}

/// Redis failed or was late, and is now given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away;

/// A connection, and which one it is: a late failure must not close its successor.
#[derive(Clone)]
pub(crate) struct Line {
    connection: MultiplexedConnection,
    generation: u64,
}

pub(crate) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    deadline: Duration,
    connect_timeout: Duration,
    state: Mutex<State>,
    mode: watch::Sender<Mode>,
}

#[derive(Default)]
struct State {
    line: Option<Line>,
    dialled: u64,
    /// Whether the log says that Redis is away.
    mourned: bool,
}

impl Link {
    pub(crate) fn open(url: &str, settings: &Settings) -> Result<Self, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.deadline))
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        Ok(Self {
            client: Client::open(url)?,
            config,
            deadline: settings.deadline,
            connect_timeout: settings.connect_timeout,
            state: Mutex::default(),
            mode: watch::Sender::new(Mode::Local),
        })
    }

    pub(crate) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    pub(crate) fn watch_mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// The connection, in [`Mode::Shared`].
    pub(crate) fn line(&self) -> Option<Line> {
        self.state().line.clone()
    }

    /// Runs a script, within the deadline.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        line: &Line,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Away> {
        let mut connection = line.connection.clone();
        let answer = timeout(self.deadline, script.invoke_async(&mut connection)).await;
        self.judge(line, answer)
    }

    /// Runs commands that need no answer, within the deadline.
    pub(crate) async fn tell(&self, line: &Line, commands: &Pipeline) -> Result<(), Away> {
        let mut connection = line.connection.clone();
        let answer = timeout(self.deadline, commands.exec_async(&mut connection)).await;
        self.judge(line, answer)
    }

    fn judge<T>(
        &self,
        line: &Line,
        answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, Away> {
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.give_up(line, &error)),
            Err(elapsed) => Err(self.give_up(line, &elapsed)),
        }
    }

    /// A new connection, not yet in use.
    pub(crate) async fn dial(&self) -> Result<Line, Away> {
        let dialled = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config);
        let connection = match timeout(self.connect_timeout, dialled).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.mourn(&mut self.state(), &error)),
            Err(elapsed) => return Err(self.mourn(&mut self.state(), &elapsed)),
        };
        let mut state = self.state();
        state.dialled += 1;
        Ok(Line {
            connection,
            generation: state.dialled,
        })
    }

    /// Whether the log says that Redis is away, so that its return is a return.
    pub(crate) fn was_away(&self) -> bool {
        self.state().mourned
    }

    /// Puts `line` in use.
    pub(crate) fn restore(&self, line: Line) {
        let mut state = self.state();
        state.line = Some(line);
        match std::mem::take(&mut state.mourned) {
            true => tracing::info!("redis is back, throttling together again"),
            false => tracing::info!("throttling together with other workers"),
        }
        self.mode.send_replace(Mode::Shared);
    }

    /// Stops using `line`, unless that happened already.
    pub(crate) fn give_up(&self, line: &Line, cause: &dyn std::error::Error) -> Away {
        let mut state = self.state();
        match &state.line {
            Some(current) if current.generation != line.generation => Away,
            Some(_) => {
                state.line = None;
                self.mode.send_replace(Mode::Local);
                self.mourn(&mut state, cause)
            }
            None => self.mourn(&mut state, cause),
        }
    }

    fn mourn(&self, state: &mut State, cause: &dyn std::error::Error) -> Away {
        if !std::mem::replace(&mut state.mourned, true) {
            tracing::warn!(error = %cause, "redis is away, throttling by local share");
        }
        Away
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("mode", &self.mode())
            .finish_non_exhaustive()
    }
}
