//! Both sides of real TLS connections, with certificates made for the occasion.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const TIME: Duration = Duration::from_secs(20);
/// Signed with SHA-1 and of version 1, by an authority of their own; nothing that makes them in Rust is left.
const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata");

type Pair = (PathBuf, PathBuf);

#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
fn write(path: &Path, text: &str) {
    // As those do who replace certificates: at once.
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// An authority with a folder for what it makes.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    cert: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let mut params = params(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = dir.path().join("ca.pem");
        write(&cert, &params.self_signed(&key).unwrap().pem());
        Authority { dir, issuer: Issuer::new(params, key), cert }
    }

    /// For servers and clients, valid for `localhost` and 127.0.0.1.
    fn issue(&self, name: &str) -> Pair {
        self.issue_as(name, params(&["localhost", "127.0.0.1"], name))
    }

    fn issue_as(&self, file: &str, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.dir.path().join(format!("{file}.{end}"));
        write(&path("crt"), &cert.pem());
        write(&path("key"), &key.serialize_pem());
        (path("crt"), path("key"))
    }

    fn issue_for(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = params(&["localhost"], name);
        params.extended_key_usages = vec![usage];
        self.issue_as(name, params)
    }

    /// Serves with this pair; clients must show a certificate if `asks`.
    fn acceptor(&self, pair: &Pair, asks: bool) -> Acceptor {
        let ca = if asks { vec![self.cert.clone()] } else { Vec::new() };
        Acceptor::tls(&server_files(pair, &ca, asks)).unwrap()
    }

    /// Trusts this authority, and shows this pair.
    fn dialer(&self, pair: Option<&Pair>) -> Dialer {
        Dialer::new(&client_files(pair, &self.cert)).unwrap()
    }
}

fn server_files(pair: &Pair, ca: &[PathBuf], asks: bool) -> ServerTlsFiles {
    ServerTlsFiles {
        cert: Some(pair.0.clone()),
        key: Some(pair.1.clone()),
        ca: ca.to_vec(),
        client_cert_auth: asks,
        role: Role::Clients,
    }
}

fn client_files(pair: Option<&Pair>, ca: &Path) -> ClientTlsFiles {
    ClientTlsFiles {
        cert: pair.map(|pair| pair.0.clone()),
        key: pair.map(|pair| pair.1.clone()),
        ca: vec![ca.to_owned()],
        ..ClientTlsFiles::default()
    }
}

/// What came of a connection, on both sides.
#[derive(Debug)]
struct Outcome {
    dialled: Result<String, String>,
    accepted: Result<(), String>,
}

impl Outcome {
    fn assert_talked(&self) {
        assert_eq!(self.dialled.as_deref(), Ok("hello"), "{self:?}");
        assert!(self.accepted.is_ok(), "{self:?}");
    }

    /// What the two sides say of their failure.
    fn failures(self) -> (String, String) {
        (self.dialled.unwrap_err(), self.accepted.unwrap_err())
    }
}

/// Dials `https://HOST`, and waits for a word.
async fn talk(acceptor: &Acceptor, dialer: &Dialer, host: &str) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(socket).await.map_err(|error| error.to_string())?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())
    };
    let dial = async {
        let target = Target { tls: true, host: host.to_owned(), port };
        let mut stream = dialer.connect(&target, TIME).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        let read = stream.read_to_string(&mut text).await;
        read.map_err(|error| error.to_string())?;
        Ok(text)
    };
    let (accepted, dialled) = tokio::join!(accept, dial);
    Outcome { dialled, accepted }
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn both_sides_trust_each_other() {
    let ca = Authority::new("ca");
    let (server, client) = (ca.issue("server"), ca.issue("client"));
    for host in ["localhost", "127.0.0.1"] {
        talk(&ca.acceptor(&server, false), &ca.dialer(None), host).await.assert_talked();
        talk(&ca.acceptor(&server, true), &ca.dialer(Some(&client)), host).await.assert_talked();
    }
}

#[tokio::test]
async fn an_unknown_authority_is_told_on_both_sides() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = ca.issue("server");
    let (dialled, accepted) =
        talk(&ca.acceptor(&server, false), &other.dialer(None), "localhost").await.failures();
    assert_eq!(
        dialled,
        "x509: certificate signed by unknown authority (the certificate CN=server is signed by CN=ca; see --ca-file)"
    );
    assert_has(&accepted, &["remote error: tls: unknown certificate authority", "CN=ca", "server.crt"]);

    let stranger = other.issue("mallory");
    let dialer = Dialer::new(&client_files(Some(&stranger), &ca.cert)).unwrap();
    let (dialled, accepted) = talk(&ca.acceptor(&server, true), &dialer, "localhost").await.failures();
    assert_eq!(
        accepted,
        "x509: certificate signed by unknown authority (the certificate CN=mallory is signed by CN=other; see \
         -trusted-ca-file)"
    );
    assert_has(&dialled, &["remote error: tls: unknown certificate authority", "CN=other", "mallory.crt"]);
}

#[tokio::test]
async fn who_shows_no_certificate_is_told_to() {
    let ca = Authority::new("ca");
    let server = ca.issue("server");
    let (dialled, accepted) =
        talk(&ca.acceptor(&server, true), &ca.dialer(None), "localhost").await.failures();
    assert_has(&dialled, &["remote error: tls: certificate required", "set --cert-file and --key-file"]);
    assert_has(&accepted, &["tls: client didn't provide a certificate", "-trusted-ca-file"]);
}

#[tokio::test]
async fn a_certificate_without_client_auth_is_refused_for_just_that() {
    let ca = Authority::new("ca");
    let server = ca.issue("server");
    let client = ca.issue_for("servers-only", ExtendedKeyUsagePurpose::ServerAuth);
    let (dialled, accepted) =
        talk(&ca.acceptor(&server, true), &ca.dialer(Some(&client)), "localhost").await.failures();
    let fault = "has no clientAuth in its extendedKeyUsage: make one with it";
    assert_has(
        &dialled,
        &["remote error: tls: unsupported certificate", "servers-only.crt: the certificate has no", fault],
    );
    assert_has(&accepted, &["incompatible key usage", "CN=servers-only has no", fault]);

    let server = ca.issue_for("clients-only", ExtendedKeyUsagePurpose::ClientAuth);
    let (dialled, accepted) =
        talk(&ca.acceptor(&server, false), &ca.dialer(None), "localhost").await.failures();
    assert_has(&dialled, &["incompatible key usage", "CN=clients-only", "no serverAuth"]);
    assert_has(&accepted, &["clients-only.crt", "no serverAuth"]);
}

#[tokio::test]
async fn certificates_have_their_time() {
    let ca = Authority::new("ca");
    let mut past = params(&["localhost"], "past");
    (past.not_before, past.not_after) = (date_time_ymd(2015, 1, 1), date_time_ymd(2016, 1, 1));
    let mut future = params(&["localhost"], "future");
    (future.not_before, future.not_after) = (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1));
    let server = ca.issue("server");
    for (params, name, date) in [(past, "past", "2016-01-01"), (future, "future", "3000-01-01")] {
        let pair = ca.issue_as(name, params);
        let (dialled, _) = talk(&ca.acceptor(&pair, false), &ca.dialer(None), "localhost").await.failures();
        assert_has(&dialled, &["x509: certificate has expired or is not yet valid", name, date]);
        let (dialled, accepted) =
            talk(&ca.acceptor(&server, true), &ca.dialer(Some(&pair)), "localhost").await.failures();
        assert_has(&accepted, &["x509: certificate has expired or is not yet valid", name, date]);
        assert_has(&dialled, &["remote error: tls: certificate expired", &format!("{name}.crt"), date]);
    }
}

#[tokio::test]
async fn a_name_must_be_in_the_certificate() {
    let ca = Authority::new("ca");
    let elsewhere = ca.issue_as("elsewhere", params(&["db.example", "10.0.0.1"], "elsewhere"));
    let named = ca.issue_as("named", params(&["localhost"], "named"));
    for (pair, host, text) in [
        (&elsewhere, "localhost", "x509: certificate is valid for db.example, 10.0.0.1, not localhost"),
        (&elsewhere, "127.0.0.1", "x509: certificate is valid for db.example, 10.0.0.1, not 127.0.0.1"),
        (
            &named,
            "127.0.0.1",
            "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs",
        ),
    ] {
        let (dialled, _) = talk(&ca.acceptor(pair, false), &ca.dialer(None), host).await.failures();
        assert_has(&dialled, &[text]);
    }
}

#[tokio::test]
async fn a_common_name_counts_only_where_it_is_wanted() {
    let ca = Authority::new("ca");
    let pair = ca.issue_as("plain", params(&[], "localhost"));
    let acceptor = ca.acceptor(&pair, false);
    let (dialled, _) = talk(&acceptor, &ca.dialer(None), "localhost").await.failures();
    assert_has(&dialled, &["its common name alone does not count", "--tls-accept-common-name"]);

    let accepting = |ca: &Authority| {
        let files = client_files(None, &ca.cert);
        Dialer::new(&ClientTlsFiles { accept_common_name: true, ..files }).unwrap()
    };
    talk(&acceptor, &accepting(&ca), "localhost").await.assert_talked();
    // An address is no name, another name is another, and DNS names go before; all else must be well.
    let (dialled, _) = talk(&acceptor, &accepting(&ca), "127.0.0.1").await.failures();
    assert_has(&dialled, &["doesn't contain any IP SANs"]);
    let other_name = ca.issue_as("other", params(&[], "db.example"));
    assert!(talk(&ca.acceptor(&other_name, false), &accepting(&ca), "localhost").await.dialled.is_err());
    let with_names = ca.issue_as("names", params(&["db.example"], "localhost"));
    assert!(talk(&ca.acceptor(&with_names, false), &accepting(&ca), "localhost").await.dialled.is_err());
    let stranger = accepting(&Authority::new("other"));
    let (dialled, _) = talk(&acceptor, &stranger, "localhost").await.failures();
    assert_has(&dialled, &["unknown authority"]);
    let mut past = params(&[], "localhost");
    (past.not_before, past.not_after) = (date_time_ymd(2015, 1, 1), date_time_ymd(2016, 1, 1));
    let past = ca.issue_as("past", past);
    let (dialled, _) = talk(&ca.acceptor(&past, false), &accepting(&ca), "localhost").await.failures();
    assert_has(&dialled, &["expired"]);
}

#[tokio::test]
async fn an_authority_is_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = params(&["localhost"], "self");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pair = (dir.path().join("crt"), dir.path().join("key"));
    write(&pair.0, &params.self_signed(&key).unwrap().pem());
    write(&pair.1, &key.serialize_pem());
    let dialer = Dialer::new(&client_files(None, &pair.0)).unwrap();
    let acceptor = Acceptor::tls(&server_files(&pair, &[], false)).unwrap();
    let (dialled, _) = talk(&acceptor, &dialer, "localhost").await.failures();
    assert_has(&dialled, &["CN=self is an authority's own (CA:TRUE)"]);
}

#[tokio::test]
async fn who_is_no_authority_signs_nobody() {
    let ca = Authority::new("ca");
    let mut middle = params(&["localhost"], "middle");
    middle.is_ca = IsCa::ExplicitNoCa;
    let (key, own_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let chain = middle.signed_by(&key, &ca.issuer).unwrap().pem();
    let own = params(&["localhost"], "below").signed_by(&own_key, &Issuer::new(middle, key)).unwrap();
    let pair = (ca.dir.path().join("below.crt"), ca.dir.path().join("below.key"));
    write(&pair.0, &(own.pem() + &chain));
    write(&pair.1, &own_key.serialize_pem());
    let (dialled, _) = talk(&ca.acceptor(&pair, false), &ca.dialer(None), "localhost").await.failures();
    assert_has(&dialled, &["CN=below is signed by one that is no authority's (not CA:TRUE)"]);
}

#[tokio::test]
async fn a_failure_has_its_cause() {
    let (ca, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    let server = ca.issue("server");
    let cause = async |acceptor: Acceptor, dialer: Dialer| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target =
            Target { tls: true, host: "localhost".into(), port: listener.local_addr().unwrap().port() };
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(socket).await {
                let _ = stream.write_all(b"hello").await;
            }
        };
        let dial = async {
            match dialer.connect(&target, TIME).await {
                Ok(mut stream) => {
                    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
                    error.get_ref().unwrap().downcast_ref::<TlsFailure>().unwrap().cause()
                }
                Err(DialError::Tls(failure)) => failure.cause(),
                Err(error) => panic!("{error}"),
            }
        };
        tokio::join!(accept, dial).1
    };
    assert_eq!(cause(ca.acceptor(&server, false), stranger.dialer(None)).await, TlsCause::UnknownAuthority);
    assert_eq!(cause(ca.acceptor(&server, true), ca.dialer(None)).await, TlsCause::CertificateWanted);
    assert_eq!(cause(Acceptor::plain(), ca.dialer(None)).await, TlsCause::NotTls);
    let elsewhere = ca.issue_as("elsewhere", params(&["db.example"], "elsewhere"));
    assert_eq!(cause(ca.acceptor(&elsewhere, false), ca.dialer(None)).await, TlsCause::Other);
}

fn old(name: &str) -> PathBuf {
    Path::new(OLD).join(name)
}

#[tokio::test]
async fn what_is_signed_with_sha1_is_refused_for_just_that() {
    let pair = (old("sha1.pem"), old("sha1.key.pem"));
    let acceptor = Acceptor::tls(&server_files(&pair, &[], false)).unwrap();
    let dialer = Dialer::new(&client_files(None, &old("ca.pem"))).unwrap();
    let (dialled, accepted) = talk(&acceptor, &dialer, "localhost").await.failures();
    assert_has(&dialled, &["cannot verify signature", "CN=sha1", "SHA-1", "signed again with SHA-256"]);
    assert_has(&accepted, &["sha1.pem", "SHA-1"]);
}

#[tokio::test]
async fn what_is_of_version_1_is_refused_for_just_that() {
    let pair = (old("v1.pem"), old("v1.key.pem"));
    let of_peers = ServerTlsFiles { role: Role::Peers, ..server_files(&pair, &[], false) };
    let refusal = Acceptor::tls(&of_peers).unwrap_err().to_string();
    assert_has(&refusal, &["v1.pem", "CN=v1", "X.509 version 1", "make one of version 3"]);
    let refusal = Dialer::new(&client_files(Some(&pair), &old("ca.pem"))).unwrap_err().to_string();
    assert_has(&refusal, &["v1.pem", "X.509 version 1"]);
    let of_another = (pair.0.clone(), old("sha1.key.pem"));
    let refusal = Acceptor::tls(&server_files(&of_another, &[], false)).unwrap_err().to_string();
    assert_has(&refusal, &["sha1.key.pem", "is not the key of the certificate in", "v1.pem"]);

    // A server may show it to its clients: those that check it refuse it, others do not.
    let acceptor = Acceptor::tls(&server_files(&pair, &[], false)).unwrap();
    let dialer = Dialer::new(&client_files(None, &old("ca.pem"))).unwrap();
    let (dialled, _) = talk(&acceptor, &dialer, "localhost").await.failures();
    assert_has(&dialled, &["CN=v1", "X.509 version 1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        acceptor.accept(socket).await.map(drop).map_err(|error| error.to_string())
    };
    let port = listener.local_addr().unwrap().port();
    let target = Target { tls: true, host: "localhost".into(), port };
    let (accepted, shown) = tokio::join!(accept, peer_certificate(&target, TIME));
    assert_eq!((accepted, shown.unwrap().subject.as_str()), (Ok(()), "CN=v1"));
}

#[test]
fn an_error_names_the_file_and_the_fault() {
    let ca = Authority::new("ca");
    let (pair, other) = (ca.issue("one"), ca.issue("two"));
    let text = ca.dir.path().join("notes.txt");
    write(&text, "no PEM here");
    let damaged = ca.dir.path().join("damaged.crt");
    write(&damaged, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    let locked = ca.dir.path().join("locked.key");
    write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let short = ca.dir.path().join("short.key");
    write(&short, "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n");
    let missing = PathBuf::from("/nonexistent/x.pem");
    let gone = "open /nonexistent/x.pem: no such file or directory";
    let refusals = |cert: &Path, key: &Path, authority: &Path| {
        let pair = (cert.to_owned(), key.to_owned());
        let server = Acceptor::tls(&server_files(&pair, &[authority.to_owned()], false)).unwrap_err();
        assert_eq!(server, Dialer::new(&client_files(Some(&pair), authority)).unwrap_err());
        server.to_string()
    };
    let shown = |path: &Path| path.display().to_string();
    for (cert, key, authority, path, words) in [
        (&missing, &pair.1, &ca.cert, String::new(), gone),
        (&pair.0, &missing, &ca.cert, String::new(), gone),
        (&pair.0, &pair.1, &missing, String::new(), gone),
        (&text, &pair.1, &ca.cert, shown(&text), "no certificate in it (it must be PEM"),
        (&pair.1, &pair.0, &ca.cert, shown(&pair.1), "no certificate in it"),
        (&pair.0, &pair.0, &ca.cert, shown(&pair.0), "no private key in it"),
        (&pair.0, &pair.1, &text, shown(&text), "no certificate in it"),
        (&damaged, &pair.1, &ca.cert, shown(&damaged), "is damaged"),
        (&pair.0, &pair.1, &damaged, shown(&damaged), "is damaged"),
        (&pair.0, &short, &ca.cert, shown(&short), "damaged or of a kind"),
        (&pair.0, &locked, &ca.cert, shown(&locked), "is encrypted"),
        (
            &pair.0,
            &other.1,
            &ca.cert,
            shown(&other.1),
            "this private key is not the key of the certificate in",
        ),
    ] {
        let refusal = refusals(cert, key, authority);
        assert!(refusal.starts_with(&path) && refusal.contains(words), "{words}: {refusal}");
    }
    let half = ClientTlsFiles { cert: Some("a".into()), ..ClientTlsFiles::default() };
    let text = "KeyFile and CertFile must both be present[key: , cert: a]";
    assert_eq!(Dialer::new(&half).unwrap_err().to_string(), text);
    let text = "KeyFile and CertFile must both be present[key: , cert: ]";
    assert_eq!(Acceptor::tls(&ServerTlsFiles::default()).unwrap_err().to_string(), text);
}

#[tokio::test]
async fn changed_files_are_used_without_a_restart() {
    let (ca, next) = (Authority::new("ca"), Authority::new("next"));
    let (server, client) = (ca.issue("server"), ca.issue("client"));
    let (acceptor, dialer) = (ca.acceptor(&server, true), ca.dialer(Some(&client)));
    talk(&acceptor, &dialer, "localhost").await.assert_talked();

    let copy = |from: &Path, to: &Path| write(to, &std::fs::read_to_string(from).unwrap());
    let new = next.issue("server");
    copy(&new.0, &server.0);
    // A certificate without its key: the old pair stays.
    talk(&acceptor, &dialer, "localhost").await.assert_talked();
    copy(&new.1, &server.1);
    let (dialled, _) = talk(&acceptor, &dialer, "localhost").await.failures();
    assert_has(&dialled, &["signed by CN=next"]);
    copy(&next.cert, &ca.cert);
    // Now both sides know the new authority only.
    let (_, accepted) = talk(&acceptor, &dialer, "localhost").await.failures();
    assert_has(&accepted, &["CN=client is signed by CN=ca"]);
    let new = next.issue("client");
    copy(&new.0, &client.0);
    copy(&new.1, &client.1);
    talk(&acceptor, &dialer, "localhost").await.assert_talked();
    std::fs::remove_file(&ca.cert).unwrap();
    talk(&acceptor, &dialer, "localhost").await.assert_talked();
}

#[tokio::test]
async fn who_speaks_plainly_is_told() {
    let ca = Authority::new("ca");
    let acceptor = ca.acceptor(&ca.issue("server"), false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let ask = async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(b"GET /version HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        acceptor.accept(socket).await.map(drop).unwrap_err()
    };
    let (answer, refusal) = tokio::join!(ask, accept);
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    assert!(matches!(refusal, AcceptError::Plain));

    // And the other way round.
    let target = Target { tls: true, host: "localhost".into(), port: addr.port() };
    let answer = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let dialer = ca.dialer(None);
    let (dialled, ()) = tokio::join!(dialer.connect(&target, TIME), answer);
    assert_has(&dialled.unwrap_err().to_string(), &["does not look like a TLS handshake", "plain http"]);
}

#[tokio::test]
async fn whatever_a_server_presents_can_be_looked_at() {
    let authority = Authority::new("nobody knows me");
    let mut old = params(&["elsewhere.example"], "old");
    (old.not_before, old.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let old = authority.issue_as("old", old);
    for asks in [false, true] {
        let acceptor = authority.acceptor(&old, asks);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { return Vec::new() };
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
            said
        });
        let target = Target { tls: true, host: "127.0.0.1".to_owned(), port };
        let shown = peer_certificate(&target, TIME).await.unwrap();
        assert!(shown.subject.contains("CN=old") && shown.issuer.contains("CN=nobody knows me"), "{shown:?}");
        assert_eq!(shown.ends(), "2002-01-01T00:00:00Z", "asks: {asks}");
        assert!(server.await.unwrap().is_empty(), "something was said to a server that nobody trusts");
    }
    let seen = certificates_in(&old.0).unwrap();
    assert_eq!((seen.len(), seen[0].not_after), (1, 1_009_843_200));
    assert!(certificates_in(Path::new("/nowhere")).is_err());
    // A port that speaks no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
    });
    let target = Target { tls: false, host: "127.0.0.1".to_owned(), port };
    assert!(matches!(peer_certificate(&target, TIME).await, Err(DialError::Tls(_))));
}
