//! The ways to hand messages in: one, many at once, or a stream of them. [`Acceptor`] does the work.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use api::v1::submission_server::Submission;
use api::v1::submit_result::Outcome;
use api::v1::{
    SubmitBatchRequest, SubmitBatchResponse, SubmitError, SubmitRequest, SubmitResponse,
    SubmitResult, SubmitStreamRequest, SubmitStreamResponse,
};
use futures_util::{Stream, StreamExt as _, future, stream};
use model::Tenant;
use runtime::{Shutdown, Tasks};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::accept::Acceptor;
use crate::auth::tenant_of;
use crate::violations::{Violations, status};

/// Messages of one batch or stream in hand at once.
const IN_HAND: usize = 256;
/// The most messages of one batch.
const BATCH_LIMIT: usize = 500;

/// The service `postrider.v1.Submission`.
pub(crate) struct SubmissionService {
    pub(crate) desk: Desk,
    pub(crate) shutdown: Shutdown,
}

/// Accepts each message in a task of its own. A call is polled only while its client reads and is connected, and others
/// may have their messages stored by whoever stores this one's.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) tasks: Tasks,
}

impl Desk {
    async fn accept(
        &self,
        tenant: &Tenant,
        request: SubmitRequest,
    ) -> Result<SubmitResponse, Status> {
        let (acceptor, tenant) = (Arc::clone(&self.acceptor), tenant.clone());
        let accepting =
            self.tasks.spawn(
                "accept",
                async move { acceptor.accept(&tenant, request).await },
            );
        accepting.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a message was not accepted");
            let problem = "the message could not be handled, and may be queued or not; repeat the call under the same \
                           idempotency key";
            Err(status(Code::Internal, "INTERNAL", problem))
        })
    }
}

type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<SubmitStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Submission for SubmissionService {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let tenant = tenant_of(&request)?;
        self.desk
            .accept(&tenant, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn submit_batch(
        &self,
        request: Request<SubmitBatchRequest>,
    ) -> Result<Response<SubmitBatchResponse>, Status> {
        let tenant = tenant_of(&request)?;
        let messages = request.into_inner().messages;
        check_batch(messages.len())?;
        let results = stream::iter(messages)
            .map(|message| accept(&self.desk, &tenant, message))
            .buffered(IN_HAND)
            .collect()
            .await;
        Ok(Response::new(SubmitBatchResponse { results }))
    }

    type SubmitStreamStream = SubmitStreamStream;

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitStreamRequest>>,
    ) -> Result<Response<SubmitStreamStream>, Status> {
        let tenant = tenant_of(&request)?;
        let desk = self.desk.clone();
        let broken = Arc::new(OnceLock::new());
        let noted = Arc::clone(&broken);
        let shutdown = self.shutdown.clone();
        let requested = async move { shutdown.requested().await };
        let messages = request
            .into_inner()
            .take_until(Box::pin(requested))
            // The first error ends the input; what was read before it is still answered.
            .scan((), move |(), message| {
                future::ready(message.map_err(|status| noted.set(status)).ok())
            });
        let answers = stream_answers(desk, tenant, messages);
        let ending = ending(broken, self.shutdown.clone());
        Ok(Response::new(Box::pin(answers.chain(ending))))
    }
}

/// The answer to each message, as it comes.
fn stream_answers(
    desk: Desk,
    tenant: Tenant,
    messages: impl Stream<Item = SubmitStreamRequest> + Send,
) -> impl Stream<Item = Result<SubmitStreamResponse, Status>> + Send {
    messages
        .map(move |message| {
            let (desk, tenant) = (desk.clone(), tenant.clone());
            async move {
                let SubmitStreamRequest { reference, message } = message;
                let result = accept(&desk, &tenant, message.unwrap_or_default()).await;
                Ok(SubmitStreamResponse {
                    reference,
                    result: Some(result),
                })
            }
        })
        .buffer_unordered(IN_HAND)
}

/// Why the stream ended, behind its last answer, where it was not the caller who ended it.
fn ending(
    broken: Arc<OnceLock<Status>>,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<SubmitStreamResponse, Status>> + Send {
    let reason = move || {
        let goodbye = || {
            let problem = "the server is shutting down; send what was not answered to another one";
            status(Code::Unavailable, "SHUTTING_DOWN", problem)
        };
        broken
            .get()
            .cloned()
            .or_else(|| shutdown.is_requested().then(goodbye))
    };
    stream::once(async move { reason() }).filter_map(|reason| future::ready(reason.map(Err)))
}

fn check_batch(count: usize) -> Result<(), Status> {
    let mut violations = Violations::default();
    if count == 0 {
        violations.add("messages", "is empty; give at least one message");
    }
    if count > BATCH_LIMIT {
        violations.add(
            "messages",
            format!("has {count} entries, more than {BATCH_LIMIT}; split the batch"),
        );
    }
    violations.finish(Some(()))
}

/// One message of several: its refusal is a result, and not the end of the call.
async fn accept(desk: &Desk, tenant: &Tenant, message: SubmitRequest) -> SubmitResult {
    let outcome = match desk.accept(tenant, message).await {
        Ok(accepted) => Outcome::Accepted(accepted),
        Err(refused) => Outcome::Refused(SubmitError {
            reason: refused
                .get_details_error_info()
                .map(|info| info.reason)
                .unwrap_or_default(),
            detail: refused.message().to_owned(),
            code: refused.code() as i32,
        }),
    };
    SubmitResult {
        outcome: Some(outcome),
    }
}
