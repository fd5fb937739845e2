//! Host names as routing compares them.

/// `host` in lower case and without a trailing dot.
pub(crate) fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether `name` can be a mail server's: two labels or more, not an address written as a name, nothing to escape.
/// Underscores are no host name's (RFC 1123), yet servers that receive mail have them.
pub(crate) fn is_host_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
    let is_number = |label: &str| label.bytes().all(|c| c.is_ascii_digit());
    name.contains('.')
        && name.split('.').all(is_label)
        && !name.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_single_label_or_an_escape_is_no_host_name() {
        for name in ["", "mx", "192.0.2.1", "a..b", "a b.test", r"a\.b", "*.test"] {
            assert!(!is_host_name(name), "{name:?}");
        }
        for name in ["mx.test", "mx_1.example.test", "xn--bcher-kva.example"] {
            assert!(is_host_name(name), "{name:?}");
        }
    }
}
