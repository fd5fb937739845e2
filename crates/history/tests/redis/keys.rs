//! Idempotency keys: what is known of a key when a request comes with it.

use history::Claim;

use crate::entries::{history, tenant};
use crate::server::RedisServer;

const KEY: &str = "receipt/4711";
const REQUEST: [u8; 32] = [7; 32];
const OTHER_REQUEST: [u8; 32] = [8; 32];

#[tokio::test]
async fn a_key_is_fresh_once_and_unfinished_until_it_is_completed() {
    let server = RedisServer::start();
    let (history, acme) = (history(&server), tenant("acme"));
    let claim = async || history.claim(&acme, KEY, &REQUEST).await.unwrap();
    assert_eq!(claim().await, Claim::Fresh);
    assert_eq!(claim().await, Claim::Unfinished);
    history.complete(&acme, KEY, &REQUEST).await.unwrap();
    assert_eq!(claim().await, Claim::Done);
    assert_eq!(claim().await, Claim::Done);
}

#[tokio::test]
async fn a_key_is_taken_for_every_other_request_and_stays_what_it_was() {
    let server = RedisServer::start();
    let (history, acme) = (history(&server), tenant("acme"));
    let claim = async |request| history.claim(&acme, KEY, request).await.unwrap();
    assert_eq!(claim(&REQUEST).await, Claim::Fresh);
    assert_eq!(claim(&OTHER_REQUEST).await, Claim::Taken);
    assert_eq!(claim(&REQUEST).await, Claim::Unfinished);
    history.complete(&acme, KEY, &REQUEST).await.unwrap();
    assert_eq!(claim(&OTHER_REQUEST).await, Claim::Taken);
    assert_eq!(claim(&REQUEST).await, Claim::Done);
}

#[tokio::test]
async fn tenants_do_not_share_keys() {
    let server = RedisServer::start();
    let history = history(&server);
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    history.complete(&acme, KEY, &REQUEST).await.unwrap();
    let claimed = history.claim(&globex, KEY, &OTHER_REQUEST).await.unwrap();
    assert_eq!(claimed, Claim::Fresh);
    let claimed = history.claim(&acme, KEY, &REQUEST).await.unwrap();
    assert_eq!(claimed, Claim::Done);
}

#[tokio::test]
async fn of_twenty_claims_at_once_one_is_first() {
    let server = RedisServer::start();
    let (history, acme) = (history(&server), tenant("acme"));
    let claims = (0..20).map(|_| history.claim(&acme, KEY, &REQUEST));
    let mut first = 0;
    for claim in futures_util::future::join_all(claims).await {
        match claim.unwrap() {
            Claim::Fresh => first += 1,
            Claim::Unfinished => {}
            claim @ (Claim::Done | Claim::Taken) => panic!("{claim:?}"),
        }
    }
    assert_eq!(first, 1);
}

#[tokio::test]
async fn a_key_is_remembered_for_a_day() {
    let server = RedisServer::start();
    let (history, acme) = (history(&server), tenant("acme"));
    let left = async || {
        let ask = format!("PTTL {{test}}:idem:acme:{KEY}");
        let left: u64 = server.run(&ask).await;
        left
    };
    let day = 24 * 3600 * 1000;
    history.claim(&acme, KEY, &REQUEST).await.unwrap();
    assert!((day - 60_000..=day).contains(&left().await));
    history.complete(&acme, KEY, &REQUEST).await.unwrap();
    assert!((day - 60_000..=day).contains(&left().await));
}
