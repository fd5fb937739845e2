//! Which service extensions a session offers.

/// A service extension (RFC 5321 section 2.2). STARTTLS is not here: it is offered where there is a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// RFC 2920.
    Pipelining,
    /// RFC 1870.
    Size,
    /// RFC 6152.
    EightBitMime,
    /// RFC 6531.
    SmtpUtf8,
    /// RFC 2034.
    EnhancedStatusCodes,
    /// RFC 3030, without BINARYMIME.
    Chunking,
    /// RFC 3461.
    Dsn,
    /// RFC 8689; shown only once the session is encrypted.
    RequireTls,
}

impl Extension {
    const ALL: [Self; 8] = [
        Self::Pipelining,
        Self::Size,
        Self::EightBitMime,
        Self::SmtpUtf8,
        Self::EnhancedStatusCodes,
        Self::Chunking,
        Self::Dsn,
        Self::RequireTls,
    ];

    /// The keyword that EHLO shows.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Pipelining => "PIPELINING",
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Self::Chunking => "CHUNKING",
            Self::Dsn => "DSN",
            Self::RequireTls => "REQUIRETLS",
        }
    }
}

/// A set of extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions(u16);

impl Extensions {
    /// What a client that said HELO may use.
    pub const NONE: Self = Self(0);

    /// Every extension there is.
    pub fn all() -> Self {
        Extension::ALL.into_iter().collect()
    }

    /// Whether `extension` is in the set.
    pub fn offer(self, extension: Extension) -> bool {
        self.0 & bit(extension) != 0
    }

    /// The set without `extension`.
    #[must_use]
    pub fn without(self, extension: Extension) -> Self {
        Self(self.0 & !bit(extension))
    }

    /// Those in the set, in the order EHLO shows them.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::ALL
            .into_iter()
            .filter(move |extension| self.offer(*extension))
    }
}

impl FromIterator<Extension> for Extensions {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        Self(
            extensions
                .into_iter()
                .map(bit)
                .fold(0, |set, bit| set | bit),
        )
    }
}

fn bit(extension: Extension) -> u16 {
    1 << extension as u16
}
