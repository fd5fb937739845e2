//! Every answer DNS can give, and what becomes of the mail (RFC 5321 section 5.1, RFC 7505).

use std::fmt::Write;
use std::time::Duration;

use crate::support::{Dns, Fault, TestClock, domain};
use expect_test::{Expect, expect};
use hickory_proto::op::ResponseCode;
use routing::{Route, RouteError, Routing, Settings};

const ZONE: &str = "
two             IN MX 20 backup.two
two             IN MX 10 mx.two
mx.two          IN A 192.0.2.1
mixed           IN MX 10 MX.Mixed
bare            IN A 192.0.2.2
bare6           IN AAAA 2001:db8::2
empty           IN TXT \"no mail here\"
null            IN MX 0 .
null            IN A 192.0.2.3
halfnull        IN MX 0 .
halfnull        IN MX 10 mx.two
literal         IN MX 10 192.0.2.4.
literal         IN A 192.0.2.4
single          IN MX 10 localhost.
alias           IN CNAME two
alias2          IN CNAME bare
deadend         IN CNAME nowhere
loop            IN CNAME pool
pool            IN CNAME loop
ours            IN MX 10 mx.two
ours            IN MX 20 mx.ours
ours            IN MX 30 backup.two
onlyours        IN MX 10 mx.ours
mx.ours         IN A 192.0.2.5
dual            IN A 192.0.2.10
dual            IN A 192.0.2.11
dual            IN AAAA 2001:db8::10
dual            IN AAAA 2001:db8::11
cname.mx        IN CNAME dual
";

async fn server() -> Dns {
    let dns = Dns::serving(ZONE).await;
    dns.fail("servfail.test", Fault::Code(ResponseCode::ServFail));
    dns.fail("refused.test", Fault::Code(ResponseCode::Refused));
    dns.fail("lame.test", Fault::Code(ResponseCode::NoError));
    dns
}

fn show(route: &Route) -> String {
    let hosts = route.exchangers().iter();
    let hosts: Vec<_> = hosts
        .map(|e| format!("{} {}", e.preference, e.host))
        .collect();
    format!("{} via {}", route.provider(), hosts.join(", "))
}

fn show_error(error: &RouteError) -> String {
    let (code, enhanced) = error.codes();
    let permanence = error.permanence();
    let class = error.bounce_class();
    format!("{permanence:?} {class:?} {code} {enhanced} {error}")
}

async fn check(routing: &Routing, names: &[&str], expected: Expect) {
    let mut table = String::new();
    for name in names {
        let shown = match routing.resolve(&domain(name)).await {
            Ok(route) => show(&route),
            Err(error) => show_error(&error),
        };
        writeln!(table, "{name:13} {shown}").unwrap();
    }
    expected.assert_eq(&table);
}

#[tokio::test]
async fn a_domain_is_routed_by_its_mx_or_else_by_its_address() {
    let dns = server().await;
    let names = [
        "two.test",
        "mixed.test",
        "alias.test",
        "alias2.test",
        "bare.test",
        "bare6.test",
        "halfnull.test",
    ];
    check(
        &dns.routing(),
        &names,
        expect![[r#"
            two.test      two.test via 10 mx.two.test, 20 backup.two.test
            mixed.test    mx.mixed.test via 10 mx.mixed.test
            alias.test    two.test via 10 mx.two.test, 20 backup.two.test
            alias2.test   alias2.test via 0 alias2.test
            bare.test     bare.test via 0 bare.test
            bare6.test    bare6.test via 0 bare6.test
            halfnull.test mx.two.test via 10 mx.two.test
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_dns_denies_is_final() {
    let dns = server().await;
    let names = ["null.test", "nowhere.test", "deadend.test", "empty.test"];
    check(&dns.routing(), &names, expect![[r#"
        null.test     Hard BadDomain 556 5.1.10 null.test accepts no mail (null MX)
        nowhere.test  Hard BadDomain 550 5.1.2 nowhere.test does not exist
        deadend.test  Hard BadDomain 550 5.1.2 deadend.test does not exist
        empty.test    Hard BadDomain 550 5.1.2 empty.test has neither a mail exchanger nor an address
    "#]]).await;
}

#[tokio::test]
async fn an_mx_that_cannot_be_used_is_not_replaced_by_the_address() {
    let dns = server().await;
    check(
        &dns.routing(),
        &["literal.test", "single.test"],
        expect![[r#"
            literal.test  Hard Dns 550 5.4.4 no mail exchanger of literal.test is a host name
            single.test   Hard Dns 550 5.4.4 no mail exchanger of single.test is a host name
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_dns_does_not_say_is_no_reason_to_give_up() {
    let dns = server().await;
    let names = ["servfail.test", "refused.test", "lame.test", "loop.test"];
    check(&dns.routing(), &names, expect![[r#"
        servfail.test Soft Dns 450 4.4.3 DNS gave no answer for servfail.test
        refused.test  Soft Dns 450 4.4.3 DNS gave no answer for refused.test
        lame.test     Soft Dns 450 4.4.3 DNS neither gave records for lame.test nor said that there are none
        loop.test     Soft Dns 450 4.4.3 DNS neither gave records for loop.test nor said that there are none
    "#]]).await;
}

#[tokio::test]
async fn silence_is_no_reason_to_give_up() {
    let dns = server().await;
    dns.fail("silent.test", Fault::Silence);
    let settings = Settings {
        timeout: Duration::from_millis(150),
        ..dns.settings()
    };
    let routing = Routing::new(settings, TestClock::new()).unwrap();
    check(
        &routing,
        &["silent.test"],
        expect![[r#"
        silent.test   Soft Dns 450 4.4.3 DNS did not answer for silent.test in time
    "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_preferred_to_ourselves_is_not_tried() {
    let dns = server().await;
    let settings = Settings {
        own_hosts: vec!["MX.ours.test.".into()],
        ..dns.settings()
    };
    let routing = Routing::new(settings, TestClock::new()).unwrap();
    check(
        &routing,
        &["ours.test", "onlyours.test"],
        expect![[r#"
        ours.test     mx.two.test via 10 mx.two.test
        onlyours.test Hard Dns 550 5.4.6 mail for onlyours.test would come back to this system
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_hundred_exchangers_come_over_tcp_and_ten_are_kept() {
    let mut zone = String::new();
    for i in 0..100 {
        writeln!(
            zone,
            "many IN MX {i} a-rather-long-name-of-a-mail-exchanger-{i}.many"
        )
        .unwrap();
    }
    let dns = Dns::serving(&zone).await;
    let route = dns.routing().resolve(&domain("many.test")).await.unwrap();
    assert_eq!(route.exchangers().len(), 10);
    assert_eq!(route.exchangers()[9].preference, 9);
}

#[tokio::test]
async fn addresses_alternate_between_families_and_follow_aliases() {
    let dns = server().await;
    let routing = dns.routing();
    for host in ["dual.test", "cname.mx.test", "DUAL.test."] {
        let shown = routing.addresses(host).await.unwrap();
        let mut shown: Vec<_> = shown.iter().map(ToString::to_string).collect();
        assert!(
            shown[0].starts_with("192.0.2.") && shown[1].starts_with("2001:"),
            "{shown:?}"
        );
        shown.sort();
        assert_eq!(
            shown,
            ["192.0.2.10", "192.0.2.11", "2001:db8::10", "2001:db8::11"]
        );
    }
}

#[tokio::test]
async fn a_relay_given_as_an_address_needs_no_dns() {
    let dns = server().await;
    let addresses = dns.routing().addresses("192.0.2.77").await.unwrap();
    assert_eq!(
        addresses,
        ["192.0.2.77".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(dns.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn an_exchanger_without_an_address_is_told_from_one_dns_is_silent_about() {
    let dns = server().await;
    let routing = dns.routing();
    let mut table = String::new();
    for host in ["nowhere.test", "empty.test", "servfail.test", "lame.test"] {
        let error = routing.addresses(host).await.unwrap_err();
        writeln!(table, "{host:13} {}", show_error(&error)).unwrap();
    }
    expect![[r#"
        nowhere.test  Soft Dns 450 4.4.4 nowhere.test has no address
        empty.test    Soft Dns 450 4.4.4 empty.test has no address
        servfail.test Soft Dns 450 4.4.3 DNS gave no answer for servfail.test
        lame.test     Soft Dns 450 4.4.3 DNS neither gave records for lame.test nor said that there are none
    "#]].assert_eq(&table);
}
