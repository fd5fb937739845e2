//! Submits one message over gRPC with the generated bindings of the `api` crate.
//!
//! Reads the API key from the first argument: `cargo run --package postrider --example submit -- "$POSTRIDER_API_KEY"`.

use anyhow::Context as _;
use api::v1::submission_client::SubmissionClient;
use api::v1::submit_request::Content;
use api::v1::{Class, MessageParts, SubmitRequest};
use tonic::Request;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let key = std::env::args().nth(1).context("give the API key")?;
    let mut submission = SubmissionClient::connect("http://127.0.0.1:50051").await?;

    let mut request = Request::new(SubmitRequest {
        class: Class::Transactional.into(),
        recipients: vec!["success@gmail.example".into()],
        content: Some(Content::Parts(MessageParts {
            from: "Shop <orders@shop.example>".into(),
            subject: "Your receipt".into(),
            text: "Thank you for your order.".into(),
            ..MessageParts::default()
        })),
        ..SubmitRequest::default()
    });
    let header = format!("Bearer {key}").parse()?;
    request.metadata_mut().insert("authorization", header);

    let response = submission.submit(request).await?.into_inner();
    println!("accepted {}", response.message_id);
    Ok(())
}
