//! Why there is no route.

use hickory_resolver::net::NetError;
use model::{BounceClass, EnhancedCode, Permanence};

/// Why mail for a domain has nowhere to go, or a host nowhere to connect to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RouteError {
    /// The domain says that it takes no mail (RFC 7505).
    #[error("{domain} accepts no mail (null MX)")]
    NullMx {
        /// The domain asked for.
        domain: String,
    },
    /// There is no such domain (NXDOMAIN).
    #[error("{domain} does not exist")]
    NoSuchDomain {
        /// The domain asked for.
        domain: String,
    },
    /// The domain exists, but has neither a mail exchanger nor an address.
    #[error("{domain} has neither a mail exchanger nor an address")]
    NoMailHost {
        /// The domain asked for.
        domain: String,
    },
    /// None of the domain's mail exchangers is the name of a host.
    #[error("no mail exchanger of {domain} is a host name")]
    NoUsableExchanger {
        /// The domain asked for.
        domain: String,
    },
    /// We are the domain's most preferred mail exchanger.
    #[error("mail for {domain} would come back to this system")]
    LoopsBack {
        /// The domain asked for.
        domain: String,
    },
    /// A mail exchanger has no address. Another one of the same domain may have.
    #[error("{host} has no address")]
    NoAddress {
        /// The host asked for.
        host: String,
    },
    /// The answer holds nothing, but no proof (SOA, RFC 2308) that there is nothing: a lame server, a referral, an
    /// endless CNAME chain.
    #[error("DNS neither gave records for {name} nor said that there are none")]
    Unconfirmed {
        /// The name asked for.
        name: String,
    },
    /// DNS failed: SERVFAIL, refused, unreachable.
    #[error("DNS gave no answer for {name}")]
    Unanswered {
        /// The name asked for.
        name: String,
        /// What went wrong.
        source: NetError,
    },
    /// DNS did not answer in time.
    #[error("DNS did not answer for {name} in time")]
    TimedOut {
        /// The name asked for.
        name: String,
    },
}

impl RouteError {
    /// Whether trying again can help.
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::NullMx { .. }
            | Self::NoSuchDomain { .. }
            | Self::NoMailHost { .. }
            | Self::NoUsableExchanger { .. }
            | Self::LoopsBack { .. } => Permanence::Hard,
            Self::NoAddress { .. }
            | Self::Unconfirmed { .. }
            | Self::Unanswered { .. }
            | Self::TimedOut { .. } => Permanence::Soft,
        }
    }

    /// What the failure says.
    pub fn bounce_class(&self) -> BounceClass {
        match self {
            Self::NullMx { .. } | Self::NoSuchDomain { .. } | Self::NoMailHost { .. } => {
                BounceClass::BadDomain
            }
            Self::NoUsableExchanger { .. }
            | Self::LoopsBack { .. }
            | Self::NoAddress { .. }
            | Self::Unconfirmed { .. }
            | Self::Unanswered { .. }
            | Self::TimedOut { .. } => BounceClass::Dns,
        }
    }

    /// The reply code and enhanced code (RFC 3463, RFC 7505) that a server would give for it.
    pub fn codes(&self) -> (u16, EnhancedCode) {
        match self {
            Self::NullMx { .. } => (556, EnhancedCode(5, 1, 10)),
            Self::NoSuchDomain { .. } | Self::NoMailHost { .. } => (550, EnhancedCode(5, 1, 2)),
            Self::NoUsableExchanger { .. } => (550, EnhancedCode(5, 4, 4)),
            Self::LoopsBack { .. } => (550, EnhancedCode(5, 4, 6)),
            Self::NoAddress { .. } => (450, EnhancedCode(4, 4, 4)),
            Self::Unconfirmed { .. } | Self::Unanswered { .. } | Self::TimedOut { .. } => {
                (450, EnhancedCode(4, 4, 3))
            }
        }
    }

    /// Whether DNS said so, as opposed to saying nothing that could be relied on.
    pub(crate) fn is_an_answer(&self) -> bool {
        match self {
            Self::NullMx { .. }
            | Self::NoSuchDomain { .. }
            | Self::NoMailHost { .. }
            | Self::NoUsableExchanger { .. }
            | Self::LoopsBack { .. }
            | Self::NoAddress { .. } => true,
            Self::Unconfirmed { .. } | Self::Unanswered { .. } | Self::TimedOut { .. } => false,
        }
    }
}
