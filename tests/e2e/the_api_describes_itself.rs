//! A client that knows nothing but the address finds out whether the server serves, and what.

use anyhow::Context as _;
use futures_util::stream;
use tests::Setup;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::PROGRAM;

#[tokio::test]
async fn a_server_that_is_up_is_serving() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let mut health = HealthClient::new(cluster.anonymous()?.channel());
    for service in ["", "postrider.v1.Submission"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = health
            .check(request)
            .await
            .with_context(|| format!("health of {service:?}"))?;
        assert_eq!(
            answer.into_inner().status(),
            ServingStatus::Serving,
            "{service:?}"
        );
    }
    cluster.finish().await
}

#[tokio::test]
async fn reflection_lists_and_describes_the_services() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let mut reflection = ServerReflectionClient::new(cluster.anonymous()?.channel());
    let mut ask = async |question| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        let mut answers = reflection
            .server_reflection_info(stream::iter([request]))
            .await?
            .into_inner();
        let answer = answers.message().await?.context("no answer")?;
        answer.message_response.context("an empty answer")
    };
    let MessageResponse::ListServicesResponse(list) =
        ask(MessageRequest::ListServices(String::new())).await?
    else {
        panic!("not a list of services");
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for service in [
        "postrider.v1.Submission",
        "postrider.v1.Messages",
        "grpc.health.v1.Health",
    ] {
        assert!(
            names.contains(&service),
            "{service} is missing in {names:?}"
        );
        let described = ask(MessageRequest::FileContainingSymbol(service.into())).await?;
        assert!(
            matches!(described, MessageResponse::FileDescriptorResponse(_)),
            "{service}: {described:?}"
        );
    }
    cluster.finish().await
}
