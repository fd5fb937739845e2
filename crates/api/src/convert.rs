//! Small values: classes, times, replies, bounce classes.

use model::{BounceClass, Class, Reply, Timestamp};

use crate::v1;

/// The class a wire number stands for; unspecified is transactional, `None` is a number we do not know.
pub fn class_from_wire(number: i32) -> Option<Class> {
    match v1::Class::try_from(number).ok()? {
        v1::Class::Unspecified | v1::Class::Transactional => Some(Class::Transactional),
        v1::Class::Bulk => Some(Class::Bulk),
    }
}

/// The wire's word for a class.
pub fn class_to_wire(class: Class) -> v1::Class {
    match class {
        Class::Transactional => v1::Class::Transactional,
        Class::Bulk => v1::Class::Bulk,
    }
}

/// The wire's form of a time.
pub fn timestamp_to_wire(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// The time on the wire; `None` where it is out of range.
pub fn timestamp_from_wire(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

pub(crate) fn reply_to_wire(reply: &Reply) -> v1::Reply {
    v1::Reply {
        code: u32::from(reply.code()),
        enhanced_code: reply
            .enhanced()
            .map(|code| code.to_string())
            .unwrap_or_default(),
        text: reply.text().to_owned(),
    }
}

pub(crate) fn reply_from_wire(reply: &v1::Reply) -> Option<Reply> {
    let code = u16::try_from(reply.code).ok()?;
    Some(Reply::new(
        code,
        reply.enhanced_code.parse().ok(),
        &reply.text,
    ))
}

/// Both directions of the bounce classes from one table, so that they cannot drift apart.
macro_rules! bounce_classes {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn bounce_class_to_wire(class: BounceClass) -> v1::BounceClass {
            match class {
                $(BounceClass::$name => v1::BounceClass::$name,)*
            }
        }

        pub(crate) fn bounce_class_from_wire(number: i32) -> Option<BounceClass> {
            match v1::BounceClass::try_from(number).ok()? {
                v1::BounceClass::Unspecified => None,
                $(v1::BounceClass::$name => Some(BounceClass::$name),)*
            }
        }
    };
}

bounce_classes!(
    InvalidRecipient,
    InactiveMailbox,
    BadDomain,
    MailboxFull,
    AuthFailure,
    Reputation,
    RateLimited,
    Greylisted,
    Content,
    MessageTooLarge,
    Policy,
    Dns,
    Connect,
    Tls,
    Protocol,
    Timeout,
    RemoteSystem,
    Undetermined,
);
