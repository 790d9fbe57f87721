//! A loopback TCP port that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

/// A port of 127.0.0.1 that was free a moment ago.
///
/// The port is *not* reserved: between this call and the use, anybody may take it, an outgoing
/// connection of this very process included. Where a server can listen on port 0 and say which port
/// it got, prefer that; else be ready to try again with another port.
///
/// # Errors
/// Where no port can be bound at all.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a loopback port")?;
    Ok(listener.local_addr().context("read the port that was bound")?.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::free_port;

    #[test]
    fn the_port_can_be_bound() {
        let port = free_port().expect("port");
        TcpListener::bind(("127.0.0.1", port)).expect("bind");
    }
}
