//! Content without 8-bit octets, for a peer without 8BITMIME (RFC 6152 section 3).
//!
//! Decides which parts are encoded anew and how: text as quoted-printable, everything else (and text that is mostly not
//! ASCII) as base64. What is ASCII already stays octet for octet, and so do the tree of parts, its boundaries and the
//! order of the fields.
//! Never guesses: where an encoding would change what the message says, or is forbidden, the answer is an [`Obstacle`].
//!
//! A signature that stands in the message (DKIM) is broken by this, and a broken one counts as none (RFC 6376 section
//! 6.1); who signs, signs behind it. A part that is signed from within (multipart/signed) must be 7-bit from the start
//! (RFC 1847 section 2.1), so one that is not is an obstacle.

mod encoding;
mod header;
mod multipart;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use encoding::Encoding;
use header::{Fields, MediaType};

/// Parts within parts that are followed.
const DEPTH_LIMIT: usize = 32;

/// Why 8-bit content cannot be made 7-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Raw UTF-8 in a header, of the message or of a part (RFC 6532): only SMTPUTF8 carries it.
    #[error("a header holds 8-bit octets; encode them (RFC 2047, RFC 2231)")]
    Header,
    /// Encoding it anew would break a signature, or what is encrypted.
    #[error("an 8-bit part is signed or encrypted; such parts must be 7-bit (RFC 1847)")]
    Sealed,
    /// A part says it is encoded, and is not.
    #[error("a part holds 8-bit octets although its Content-Transfer-Encoding excludes them")]
    Contradiction,
    /// A kind of part that must not be encoded (RFC 2046 section 5.2).
    #[error("a message/* part holds 8-bit octets and may not be encoded")]
    Kind,
    /// A multipart whose parts cannot be told apart.
    #[error("a multipart has no usable boundary")]
    Boundary,
    /// Parts within parts without end.
    #[error("parts are nested more than {DEPTH_LIMIT} deep")]
    Depth,
}

/// `message`, which is canonical, without 8-bit octets; borrowed where it has none.
pub fn to_seven_bit(message: &[u8]) -> Result<Cow<'_, [u8]>, Obstacle> {
    if message.is_ascii() {
        return Ok(Cow::Borrowed(message));
    }
    let mut out = Vec::with_capacity(message.len() + message.len() / 2);
    entity(message, Role::Message, DEPTH_LIMIT, &mut out)?;
    Ok(Cow::Owned(out))
}

/// Where an entity stands, which is what it is by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A whole message, which must say that it is MIME.
    Message,
    /// A part of a multipart: text.
    Part,
    /// A part of a multipart/digest: a message.
    Digested,
}

/// Writes one entity: its header and, in whichever form it takes, its body.
fn entity(entity: &[u8], role: Role, depth: usize, out: &mut Vec<u8>) -> Result<(), Obstacle> {
    if entity.is_ascii() {
        out.extend_from_slice(entity);
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or(Obstacle::Depth)?;
    let (head, body) = header::split(entity);
    if !head.is_ascii() {
        return Err(Obstacle::Header);
    }
    let fields = Fields::of(head);
    let kind = fields.media_type().unwrap_or(match role {
        Role::Message | Role::Part => MediaType::text(),
        Role::Digested => MediaType::message(),
    });
    if !fields.is_unencoded() {
        return Err(Obstacle::Contradiction);
    }
    match (kind.main(), kind.sub()) {
        ("multipart", "signed" | "encrypted") => Err(Obstacle::Sealed),
        ("multipart", sub) => {
            let role = if sub == "digest" {
                Role::Digested
            } else {
                Role::Part
            };
            fields.write(Encoding::SevenBit, out);
            let boundary = kind.boundary().ok_or(Obstacle::Boundary)?;
            multipart::rewrite(body, boundary, out, |part, out| {
                self::entity(part, role, depth, out)
            })
        }
        ("message", "rfc822") => {
            fields.write(Encoding::SevenBit, out);
            self::entity(body, Role::Message, depth, out)
        }
        ("message", "global" | "global-headers") => Err(Obstacle::Header),
        ("message", _) => Err(Obstacle::Kind),
        ("text", _) => leaf(&fields, Encoding::of_text(body), role, body, out),
        _ => leaf(&fields, Encoding::Base64, role, body, out),
    }
}

/// Writes a body that has no parts, encoded.
fn leaf(
    fields: &Fields<'_>,
    encoding: Encoding,
    role: Role,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Obstacle> {
    if role == Role::Message {
        fields.write_as_mime(encoding, body, out);
    } else {
        fields.write(encoding, out);
    }
    encoding.write(body, out);
    Ok(())
}
