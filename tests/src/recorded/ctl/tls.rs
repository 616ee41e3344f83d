//! TLS in front of a server that speaks none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::case::TlsFront;
use super::stub::Acceptor;
use crate::{Check, Context};

/// Terminates TLS until it is dropped.
#[derive(Debug)]
pub struct TlsTerminator {
    _acceptor: Acceptor,
}

impl TlsTerminator {
    /// Listens on `port` with a certificate of the folder `certs`, and passes on to `target`.
    ///
    /// # Errors
    /// When a certificate cannot be read, or the port is taken.
    pub fn start(port: u16, target: u16, certs: &Path, front: &TlsFront) -> Check<Self> {
        let config = Arc::new(config(certs, front)?);
        let acceptor = Acceptor::start(port, move |stream| {
            // A client that does not trust us, or that we do not trust, is what some steps are about.
            drop(serve(&config, &stream, target));
            let _ = stream.shutdown(Shutdown::Both);
        })?;
        Ok(TlsTerminator { _acceptor: acceptor })
    }
}

fn config(certs: &Path, front: &TlsFront) -> Check<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let chain = certificates(&certs.join(format!("{}.crt", front.cert)))?;
    let key = certs.join(format!("{}.key", front.cert));
    let key = PrivateKeyDer::from_pem_file(&key).context(key.display())?;
    let builder = if front.client_auth {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&certs.join("ca.crt"))? {
            roots.add(certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.context("client certificates")?)
    } else {
        builder.with_no_client_auth()
    };
    Ok(builder.with_single_cert(chain, key)?)
}

fn certificates(path: &Path) -> Check<Vec<CertificateDer<'static>>> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).context(path.display())? {
        chain.push(certificate.context(path.display())?);
    }
    Ok(chain)
}

/// One connection: this thread carries what the client sends, another what the server answers.
fn serve(config: &Arc<ServerConfig>, outside: &TcpStream, target: u16) -> Check {
    let tls = Arc::new(Mutex::new(ServerConnection::new(config.clone())?));
    let inside = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    let answers = {
        let (tls, inside, outside) = (tls.clone(), inside.try_clone()?, outside.try_clone()?);
        thread::spawn(move || drop(carry_answers(&tls, &inside, &outside)))
    };
    let result = carry_requests(&tls, outside, &inside);
    let _ = inside.shutdown(Shutdown::Both);
    let _ = answers.join();
    result
}

fn carry_requests(tls: &Mutex<ServerConnection>, mut outside: &TcpStream, mut inside: &TcpStream) -> Check {
    let mut sealed = vec![0; 16_384];
    loop {
        let read = outside.read(&mut sealed)?;
        if read == 0 {
            return Ok(());
        }
        let mut plain = Vec::new();
        {
            let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rest = &sealed[..read];
            while !rest.is_empty() {
                tls.read_tls(&mut rest)?;
                let processed = tls.process_new_packets();
                // Also the alert that tells the other side why it was refused.
                while tls.wants_write() {
                    tls.write_tls(&mut outside)?;
                }
                processed?;
                match tls.reader().read_to_end(&mut plain) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    result => drop(result?),
                }
            }
        }
        inside.write_all(&plain)?;
    }
}

fn carry_answers(tls: &Mutex<ServerConnection>, mut inside: &TcpStream, mut outside: &TcpStream) -> Check {
    let mut plain = vec![0; 16_384];
    loop {
        let read = inside.read(&mut plain)?;
        let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
        if read == 0 {
            tls.send_close_notify();
        } else {
            tls.writer().write_all(&plain[..read])?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut outside)?;
        }
        if read == 0 {
            return Ok(outside.shutdown(Shutdown::Write)?);
        }
    }
}
