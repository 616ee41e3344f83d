//! Addresses as in etcd 0.4: an IP address and a port, without a scheme.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `127.0.0.1:4001` or `[::1]:4001`. Keeps the original spelling: it becomes part of a URL, and URLs are compared as
/// text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IpPort {
    ip: String,
    port: u16,
}

/// Why a text is not a valid address; the texts are those of etcd 2.x and Go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("address {0}: missing port in address")]
    NoPort(String),
    #[error("address {0}: too many colons in address")]
    Colons(String),
    #[error("address {0}: missing ']' in address")]
    NoBracket(String),
    #[error("bad IP in address specification")]
    Ip,
    #[error("bad port in address specification")]
    Port,
}

impl IpPort {
    /// The same port on all addresses of the machine.
    pub(super) fn on_all_addresses(&self) -> IpPort {
        IpPort { ip: "::".to_owned(), port: self.port }
    }
}

impl FromStr for IpPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<IpPort, AddressError> {
        let text = text.trim();
        let (ip, port) = split(text)?;
        ip.parse::<IpAddr>().map_err(|_| AddressError::Ip)?;
        Ok(IpPort { ip: ip.to_owned(), port: port.parse().map_err(|_| AddressError::Port)? })
    }
}

fn split(text: &str) -> Result<(&str, &str), AddressError> {
    let whole = || text.to_owned();
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(|| AddressError::NoBracket(whole()))?;
        return match rest.strip_prefix(':') {
            Some(port) if port.contains(':') => Err(AddressError::Colons(whole())),
            Some(port) => Ok((ip, port)),
            None => Err(AddressError::NoPort(whole())),
        };
    }
    match text.split_once(':') {
        None => Err(AddressError::NoPort(whole())),
        Some((_, port)) if port.contains(':') => Err(AddressError::Colons(whole())),
        Some(parts) => Ok(parts),
    }
}

impl fmt::Display for IpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ip.contains(':') {
            write!(f, "[{}]:{}", self.ip, self.port)
        } else {
            write!(f, "{}:{}", self.ip, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_as_written() {
        for (text, printed) in [
            ("127.0.0.1:4001", "127.0.0.1:4001"),
            (" 127.0.0.1:4001 ", "127.0.0.1:4001"),
            ("[2001:db8::0001]:80", "[2001:db8::0001]:80"),
            ("[1.2.3.4]:1", "1.2.3.4:1"),
        ] {
            assert_eq!(text.parse::<IpPort>().unwrap().to_string(), printed);
        }
        assert_eq!("127.0.0.1:4001".parse::<IpPort>().unwrap().on_all_addresses().to_string(), "[::]:4001");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, reason) in [
            ("1.2.3.4", "address 1.2.3.4: missing port in address"),
            ("foo", "address foo: missing port in address"),
            ("", "address : missing port in address"),
            ("[::1]", "address [::1]: missing port in address"),
            ("[::1", "address [::1: missing ']' in address"),
            ("::1:1", "address ::1:1: too many colons in address"),
            ("[::1]:1:2", "address [::1]:1:2: too many colons in address"),
            ("localhost:1", "bad IP in address specification"),
            (":1", "bad IP in address specification"),
            ("127.0:1", "bad IP in address specification"),
            ("[fe80::1%eth0]:1", "bad IP in address specification"),
            ("1.2.3.4:", "bad port in address specification"),
            ("1.2.3.4:x", "bad port in address specification"),
            ("1.2.3.4:65536", "bad port in address specification"),
            ("http://1.2.3.4:1", "address http://1.2.3.4:1: too many colons in address"),
        ] {
            assert_eq!(text.parse::<IpPort>().unwrap_err().to_string(), reason);
        }
    }
}
