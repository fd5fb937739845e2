//! For how long an answer holds, and how often it is asked for.

use std::time::Duration;

use crate::support::{Dns, Fault, TestClock, domain};
use hickory_proto::op::ResponseCode;
use model::{Domain, Permanence};
use routing::{RouteError, Routing};

const ZONE: &str = "
hour    3600 IN MX 10 mx.hour
zero       0 IN MX 10 mx.zero
year  604800 IN MX 10 mx.year
txt     3600 IN TXT \"no mail here\"
host    3600 IN A 192.0.2.1
";

const SERVFAIL: Fault = Fault::Code(ResponseCode::ServFail);

/// A server, routing that asks it, and the clock routing goes by.
struct Setup {
    dns: Dns,
    routing: Routing,
    clock: std::sync::Arc<TestClock>,
}

impl Setup {
    async fn new() -> Self {
        let dns = Dns::serving(ZONE).await;
        let clock = TestClock::new();
        let routing = Routing::new(dns.settings(), clock.clone()).unwrap();
        Self {
            dns,
            routing,
            clock,
        }
    }

    async fn resolve(&self, name: &str) -> Result<(), RouteError> {
        self.routing.resolve(&domain(name)).await.map(|_| ())
    }

    /// How many questions are asked when `name` is resolved now.
    async fn questions(&self, name: &str) -> usize {
        self.dns.asked();
        let _ = self.resolve(name).await;
        self.dns.asked().len()
    }

    fn pass(&self, seconds: u64) {
        self.clock.pass(Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn an_answer_is_asked_for_again_when_its_ttl_is_over_and_not_before() {
    let setup = Setup::new().await;
    assert_eq!(setup.questions("hour.test").await, 1);
    setup.pass(3599);
    assert_eq!(setup.questions("hour.test").await, 0);
    setup.pass(1);
    assert_eq!(setup.questions("hour.test").await, 1);
}

#[tokio::test]
async fn a_ttl_of_zero_holds_for_ten_seconds() {
    let setup = Setup::new().await;
    assert_eq!(setup.questions("zero.test").await, 1);
    setup.pass(9);
    assert_eq!(setup.questions("zero.test").await, 0);
    setup.pass(1);
    assert_eq!(setup.questions("zero.test").await, 1);
}

#[tokio::test]
async fn a_ttl_of_a_week_holds_for_a_day() {
    let setup = Setup::new().await;
    assert_eq!(setup.questions("year.test").await, 1);
    setup.pass(86_399);
    assert_eq!(setup.questions("year.test").await, 0);
    setup.pass(1);
    assert_eq!(setup.questions("year.test").await, 1);
}

#[tokio::test]
async fn a_denial_is_remembered_as_long_as_the_zone_says() {
    let setup = Setup::new().await;
    assert_eq!(setup.questions("nowhere.test").await, 1);
    setup.pass(59);
    assert_eq!(setup.questions("nowhere.test").await, 0);
    setup.pass(1);
    assert_eq!(setup.questions("nowhere.test").await, 1);
}

#[tokio::test]
async fn a_failure_is_remembered_for_ten_seconds_only() {
    let setup = Setup::new().await;
    setup.dns.fail("*", SERVFAIL);
    assert!(setup.questions("hour.test").await > 0);
    assert_eq!(setup.questions("hour.test").await, 0);
    setup.dns.heal();
    setup.pass(10);
    assert!(setup.resolve("hour.test").await.is_ok());
}

#[tokio::test]
async fn a_route_outlives_its_ttl_while_dns_fails_and_no_longer_than_allowed() {
    let setup = Setup::new().await;
    setup.resolve("hour.test").await.unwrap();
    setup.dns.fail("*", SERVFAIL);
    setup.pass(3600);
    setup.resolve("hour.test").await.unwrap();
    assert_eq!(
        setup.questions("hour.test").await,
        0,
        "asked for every job of an outage"
    );
    setup.pass(6 * 3600 - 1);
    setup.resolve("hour.test").await.unwrap();
    setup.pass(10);
    let error = setup.resolve("hour.test").await.unwrap_err();
    assert_eq!(error.permanence(), Permanence::Soft);
}

#[tokio::test]
async fn a_stale_route_gives_way_to_a_denial() {
    let setup = Setup::new().await;
    setup.resolve("hour.test").await.unwrap();
    setup.dns.fail("*", Fault::Code(ResponseCode::NXDomain));
    setup.pass(3600);
    let error = setup.resolve("hour.test").await.unwrap_err();
    assert!(matches!(error, RouteError::NoSuchDomain { .. }), "{error}");
}

#[tokio::test]
async fn a_stale_denial_does_not_outlive_its_ttl() {
    let setup = Setup::new().await;
    let denied = setup.resolve("nowhere.test").await.unwrap_err();
    assert_eq!(denied.permanence(), Permanence::Hard);
    setup.dns.fail("*", SERVFAIL);
    setup.pass(60);
    let failed = setup.resolve("nowhere.test").await.unwrap_err();
    assert_eq!(failed.permanence(), Permanence::Soft);
}

#[tokio::test]
async fn a_clock_set_back_makes_answers_old_rather_than_eternal() {
    let setup = Setup::new().await;
    setup.pass(7200);
    setup.resolve("hour.test").await.unwrap();
    setup.clock.set_back(Duration::from_secs(3600));
    assert_eq!(setup.questions("hour.test").await, 1);
}

#[tokio::test]
async fn many_who_want_to_know_ask_once() {
    let setup = Setup::new().await;
    let name: Domain = domain("hour.test");
    let all = futures_util::future::join_all((0..200).map(|_| setup.routing.resolve(&name))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(setup.dns.asked(), ["hour.test MX"]);
}

#[tokio::test]
async fn one_who_gives_up_waiting_does_not_leave_the_others_without_an_answer() {
    let setup = Setup::new().await;
    let name: Domain = domain("hour.test");
    let mut given_up = Box::pin(setup.routing.resolve(&name));
    assert!(futures_util::poll!(&mut given_up).is_pending());
    let waiting = setup.routing.resolve(&name);
    drop(given_up);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn an_implicit_route_and_the_connection_to_it_share_the_address_lookup() {
    let setup = Setup::new().await;
    setup.resolve("host.test").await.unwrap();
    let mut asked = setup.dns.asked();
    asked.sort();
    assert_eq!(asked, ["host.test A", "host.test AAAA", "host.test MX"]);
    setup.routing.addresses("host.test").await.unwrap();
    assert_eq!(setup.dns.asked(), Vec::<String>::new());
}
