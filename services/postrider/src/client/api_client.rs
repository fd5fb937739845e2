//! A connection to the API that carries the API key.

use std::process::ExitCode;

use anyhow::Context as _;
use api::v1::messages_client::MessagesClient;
use api::v1::submission_client::SubmissionClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::args::ServerArgs;

/// A call that was refused because of what it asked for.
const EXIT_REFUSED: u8 = 2;
/// A call that may succeed later.
const EXIT_LATER: u8 = 75;

/// Adds the API key to every call.
#[derive(Clone)]
pub struct WithKey(MetadataValue<Ascii>);

impl Interceptor for WithKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection to the API; cheap to clone.
#[derive(Clone)]
pub struct ApiClient {
    channel: Channel,
    key: WithKey,
}

impl ApiClient {
    /// Connects when the first call is made.
    pub fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(args.server.clone());
        let endpoint =
            endpoint.with_context(|| format!("--server {:?} is not a URL", args.server))?;
        let header = format!("Bearer {}", args.api_key.trim());
        let key = header
            .parse()
            .context("--api-key holds characters that a header cannot")?;
        Ok(Self {
            channel: endpoint.tcp_nodelay(true).connect_lazy(),
            key: WithKey(key),
        })
    }

    /// `postrider.v1.Submission`.
    pub fn submission(&self) -> SubmissionClient<InterceptedService<Channel, WithKey>> {
        SubmissionClient::with_interceptor(self.channel.clone(), self.key.clone())
    }

    /// `postrider.v1.Messages`.
    pub fn messages(&self) -> MessagesClient<InterceptedService<Channel, WithKey>> {
        MessagesClient::with_interceptor(self.channel.clone(), self.key.clone())
    }
}

/// Tells a person why a call failed; the exit code says whether to try again: 2 no, 75 later.
pub(crate) fn report(server: &str, status: &Status) -> ExitCode {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown
            if status.metadata().is_empty() =>
        {
            eprintln!("error: no answer from {server}: {}", status.message());
            eprintln!("  is it running? give its address with --server or POSTRIDER_SERVER");
            ExitCode::from(EXIT_LATER)
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
            eprintln!("not accepted, try again later: {}", status.message());
            ExitCode::from(EXIT_LATER)
        }
        _ => {
            eprintln!("refused: {}", status.message());
            ExitCode::from(EXIT_REFUSED)
        }
    }
}
