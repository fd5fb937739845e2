//! The ways to hand messages in: one, many at once, or a stream of them. [`Acceptor`] does the work.

use std::pin::Pin;
use std::sync::Arc;

use api::v1::submission_server::Submission;
use api::v1::submit_result::Outcome;
use api::v1::{
    SubmitBatchRequest, SubmitBatchResponse, SubmitError, SubmitRequest, SubmitResponse,
    SubmitResult, SubmitStreamRequest, SubmitStreamResponse,
};
use futures_util::{Stream, StreamExt as _, future, stream};
use model::Tenant;
use runtime::Shutdown;
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
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) shutdown: Shutdown,
}

type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<SubmitStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Submission for SubmissionService {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let tenant = tenant_of(&request)?;
        self.acceptor
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
            .map(|message| accept(&self.acceptor, &tenant, message))
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
        let acceptor = Arc::clone(&self.acceptor);
        let answers = self
            .until_shutdown(request.into_inner())
            .map(move |message| answer(Arc::clone(&acceptor), tenant.clone(), message))
            .buffer_unordered(IN_HAND);
        Ok(Response::new(Box::pin(answers)))
    }
}

impl SubmissionService {
    /// What the caller sends, and behind it the reason for the end where shutdown is the reason.
    fn until_shutdown(
        &self,
        messages: Streaming<SubmitStreamRequest>,
    ) -> impl Stream<Item = Result<SubmitStreamRequest, Status>> + Send + use<> {
        let (shutdown, after) = (self.shutdown.clone(), self.shutdown.clone());
        let requested = async move { shutdown.requested().await };
        let goodbye = stream::once(async move {
            after.is_requested().then(|| {
                status(
                    Code::Unavailable,
                    "SHUTTING_DOWN",
                    "the server is shutting down; send what was not answered to another one",
                )
            })
        });
        messages
            .take_until(Box::pin(requested))
            .chain(goodbye.filter_map(|status| future::ready(status.map(Err))))
    }
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

async fn answer(
    acceptor: Arc<Acceptor>,
    tenant: Tenant,
    message: Result<SubmitStreamRequest, Status>,
) -> Result<SubmitStreamResponse, Status> {
    let SubmitStreamRequest { reference, message } = message?;
    let result = accept(&acceptor, &tenant, message.unwrap_or_default()).await;
    Ok(SubmitStreamResponse {
        reference,
        result: Some(result),
    })
}

/// One message of several: its refusal is a result, and not the end of the call.
async fn accept(acceptor: &Acceptor, tenant: &Tenant, message: SubmitRequest) -> SubmitResult {
    let outcome = match acceptor.accept(tenant, message).await {
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
