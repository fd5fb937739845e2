//! A client of the API that knows nothing but the wire.

use anyhow::Context as _;
use api::v1::messages_client::MessagesClient;
use api::v1::submission_client::SubmissionClient;
use api::v1::watch_request::Start;
use api::v1::{Event, GetRequest, GetResponse, SubmitRequest, SubmitResponse, WatchRequest};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Adds the API key to every call, where there is one.
#[derive(Clone)]
pub struct Key(Option<MetadataValue<Ascii>>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// One caller of one ingest service; cheap to clone.
#[derive(Clone)]
pub struct Api {
    channel: Channel,
    key: Key,
}

impl Api {
    /// A caller without a key.
    pub fn anonymous(url: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned()).context("read the URL")?;
        Ok(Self {
            channel: endpoint.tcp_nodelay(true).connect_lazy(),
            key: Key(None),
        })
    }

    /// The same caller with a key.
    pub fn with_key(mut self, key: &str) -> anyhow::Result<Self> {
        let header = format!("Bearer {key}");
        self.key = Key(Some(header.parse().context("put the key into a header")?));
        Ok(self)
    }

    /// The connection, for other services of the same server.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// `postrider.v1.Submission`.
    pub fn submission(&self) -> SubmissionClient<InterceptedService<Channel, Key>> {
        SubmissionClient::with_interceptor(self.channel.clone(), self.key.clone())
    }

    /// `postrider.v1.Messages`.
    pub fn messages(&self) -> MessagesClient<InterceptedService<Channel, Key>> {
        MessagesClient::with_interceptor(self.channel.clone(), self.key.clone())
    }

    /// Submits one message.
    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, Status> {
        let answered = self.submission().submit(request).await;
        answered.map(tonic::Response::into_inner)
    }

    /// What became of a message or of a job.
    pub async fn get(&self, id: &str) -> Result<GetResponse, Status> {
        let request = GetRequest { id: id.to_owned() };
        let answered = self.messages().get(request).await;
        answered.map(tonic::Response::into_inner)
    }

    /// Everything that ever happened and happens from now on.
    pub async fn events(
        &self,
    ) -> Result<impl Stream<Item = Result<Event, Status>> + Unpin + use<>, Status> {
        let request = WatchRequest {
            start: Some(Start::Since(api::timestamp_to_wire(
                jiff::Timestamp::UNIX_EPOCH,
            ))),
            ..WatchRequest::default()
        };
        let watched = self.messages().watch(request).await?.into_inner();
        Ok(watched
            .try_filter_map(|response| async { Ok(response.event) })
            .boxed())
    }
}
