//! The connection to Redis: dialled when needed, given up when it fails, never waited for.
//!
//! Owns the one connection all handles share. Any failure drops it, and for a pause every call fails at once, so that
//! an outage costs one caller per pause and not every caller a timeout. redis-rs has a manager that reconnects, but it
//! keeps an error other than I/O (a password being rotated, a replica being promoted) for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline};
use tokio::time::{Instant, timeout};

use crate::{HistoryError, Settings};

/// Requests that may wait to be written; the default of 50 makes bursts queue behind each other.
const PIPELINE_BUFFER: usize = 1024;

pub(crate) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    deadline: Duration,
    connect_timeout: Duration,
    pause: Duration,
    state: Mutex<State>,
    dialling: tokio::sync::Mutex<()>,
}

/// A connection, and which one it is: a late failure must not close its successor.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    generation: u64,
}

#[derive(Default)]
struct State {
    line: Option<Line>,
    generation: u64,
    away_until: Option<Instant>,
}

impl Link {
    pub(crate) fn open(url: &str, settings: &Settings) -> Result<Self, HistoryError> {
        let client = Client::open(url).map_err(HistoryError::Address)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.deadline))
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        Ok(Self {
            client,
            config,
            deadline: settings.deadline,
            connect_timeout: settings.connect_timeout,
            pause: settings.pause,
            state: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        })
    }

    /// Sends all commands in one write and waits for all answers, within the deadline.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<T, HistoryError> {
        let mut line = self.line().await?;
        let answer = timeout(self.deadline, commands.query_async(&mut line.connection)).await;
        let failure = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is_timeout() => HistoryError::Late,
            Ok(Err(error)) => HistoryError::Failed(error),
            Err(_elapsed) => HistoryError::Late,
        };
        self.give_up(line.generation, &failure);
        Err(failure)
    }

    async fn line(&self) -> Result<Line, HistoryError> {
        if let Some(line) = self.current()? {
            return Ok(line);
        }
        let _dialling = timeout(self.deadline, self.dialling.lock())
            .await
            .map_err(|_elapsed| HistoryError::Away)?;
        match self.current()? {
            Some(line) => Ok(line),
            None => self.dial().await,
        }
    }

    /// The connection there is; none where it is time to dial; an error where it is not.
    fn current(&self) -> Result<Option<Line>, HistoryError> {
        let state = self.state();
        if let Some(line) = &state.line {
            return Ok(Some(line.clone()));
        }
        match state.away_until {
            Some(until) if Instant::now() < until => Err(HistoryError::Away),
            Some(_) | None => Ok(None),
        }
    }

    async fn dial(&self) -> Result<Line, HistoryError> {
        let dialled = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config);
        let failure = match timeout(self.connect_timeout, dialled).await {
            Ok(Ok(connection)) => return Ok(self.keep(connection)),
            Ok(Err(error)) => HistoryError::Failed(error),
            Err(_elapsed) => HistoryError::Late,
        };
        let generation = self.state().generation;
        self.give_up(generation, &failure);
        Err(failure)
    }

    fn keep(&self, connection: MultiplexedConnection) -> Line {
        let mut state = self.state();
        state.generation += 1;
        if state.away_until.take().is_some() {
            tracing::info!("history is back");
        }
        let line = Line {
            connection,
            generation: state.generation,
        };
        state.line = Some(line.clone());
        line
    }

    /// Drops connection number `generation`, if it is still the one in use.
    fn give_up(&self, generation: u64, failure: &HistoryError) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        state.line = None;
        if state.away_until.is_none() {
            let cause = std::error::Error::source(failure).map(ToString::to_string);
            tracing::warn!(error = %failure, cause, "history is away, going on without");
        }
        state.away_until = Some(Instant::now() + self.pause);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
