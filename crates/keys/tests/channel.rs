//! Handshakes in memory: the right keys meet, and nobody else does.

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls::client::{ResolvesClientCert, danger::ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, Error, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use testudo_core::PublicKey;
use testudo_keys::channel::{ALPN, Refused, client_config, server_config, server_name};
use testudo_keys::{Accepts, SigningKey, peer_key, peer_of};

fn key(secret: u8) -> SigningKey {
    SigningKey::from_secret(&[secret; 32])
}

fn only(key: PublicKey) -> Accepts {
    Arc::new(move |other| *other == key)
}

fn anyone() -> Accepts {
    Arc::new(|_| true)
}

/// Everything that one end has to say, taken in by the other.
fn transfer<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).expect("memory takes all");
    }
    let mut rest = &wire[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory gives all");
        to.process_new_packets()?;
    }
    Ok(())
}

/// What each end makes of the other.
struct Met {
    client: ClientConnection,
    server: ServerConnection,
    refused_by_client: Option<Error>,
    refused_by_server: Option<Error>,
}

impl Met {
    fn new(client: ClientConfig, server: ServerConfig) -> Self {
        let client = ClientConnection::new(Arc::new(client), server_name()).expect("configured");
        let server = ServerConnection::new(Arc::new(server)).expect("configured");
        let mut met = Self { client, server, refused_by_client: None, refused_by_server: None };
        for _ in 0..4 {
            let Self { client, server, refused_by_client, refused_by_server } = &mut met;
            if let Err(error) = transfer(client, server) {
                refused_by_server.get_or_insert(error);
            }
            if let Err(error) = transfer(server, client) {
                refused_by_client.get_or_insert(error);
            }
        }
        met
    }

    fn stands(&self) -> bool {
        self.refused_by_client.is_none()
            && self.refused_by_server.is_none()
            && !self.client.is_handshaking()
            && !self.server.is_handshaking()
    }
}

fn sentence(refused: Option<&Error>) -> String {
    let error = refused.expect("refused");
    Refused::of(error).map_or_else(|| error.to_string(), |refused| refused.to_string())
}

#[test]
fn the_right_keys_meet_and_know_each_other() {
    let (alice, bob) = (key(1), key(2));
    let mut met = Met::new(
        client_config(&alice, bob.public()).expect("configured"),
        server_config(&bob, only(alice.public())).expect("configured"),
    );
    assert!(met.stands());
    assert_eq!(peer_of(&met.client), Some(bob.public()));
    assert_eq!(peer_of(&met.server), Some(alice.public()));
    assert_eq!(met.client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(met.client.alpn_protocol(), Some(ALPN));

    met.client.writer().write_all(b"hello").expect("buffered");
    transfer(&mut met.client, &mut met.server).expect("accepted");
    let mut heard = [0; 5];
    met.server.reader().read_exact(&mut heard).expect("there");
    assert_eq!(&heard, b"hello");
}

#[test]
fn nobody_is_known_before_the_handshake_is_done() {
    let config = client_config(&key(1), key(2).public()).expect("configured");
    let client = ClientConnection::new(Arc::new(config), server_name()).expect("configured");
    assert_eq!(peer_of(&client), None);
}

#[test]
fn another_than_who_was_called_is_refused() {
    let (alice, bob, mallory) = (key(1), key(2), key(3));
    let met = Met::new(
        client_config(&alice, bob.public()).expect("configured"),
        server_config(&mallory, anyone()).expect("configured"),
    );
    assert!(!met.stands());
    assert!(sentence(met.refused_by_client.as_ref()).contains(&format!(
        "key {} was called, and key {} answered",
        bob.public(),
        mallory.public()
    )));
    assert_eq!(peer_of(&met.server), None);
}

#[test]
fn a_key_that_is_not_accepted_is_refused() {
    let (alice, bob, mallory) = (key(1), key(2), key(3));
    let met = Met::new(
        client_config(&mallory, bob.public()).expect("configured"),
        server_config(&bob, only(alice.public())).expect("configured"),
    );
    assert!(!met.stands());
    let expected = format!("key {} may not connect here", mallory.public());
    assert!(sentence(met.refused_by_server.as_ref()).contains(&expected));
    assert!(met.refused_by_client.is_some(), "the client learns of it");
    assert_eq!(peer_of(&met.server), None);
}

/// A client or server that is built by hand: any certificate, any key, whether or not they fit.
#[derive(Debug)]
struct Hand(Arc<CertifiedKey>);

impl ResolvesClientCert for Hand {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Hand {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Trusts whatever it sees.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn hand(certificates: Vec<CertificateDer<'static>>, pair: &KeyPair) -> Hand {
    let der = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
    let key = ring::default_provider().key_provider.load_private_key(der).expect("a key");
    Hand(Arc::new(CertifiedKey::new(certificates, key)))
}

fn certificate(pair: &KeyPair) -> CertificateDer<'static> {
    CertificateParams::default().self_signed(pair).expect("signed").der().clone()
}

fn gullible_client(
    hand: Option<Hand>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match hand {
        Some(hand) => builder.with_client_cert_resolver(Arc::new(hand)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

fn careless_server(hand: Hand) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(hand));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[test]
fn keys_of_another_kind_are_refused_at_both_ends() {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("generated");
    let met = Met::new(
        gullible_client(Some(hand(vec![certificate(&pair)], &pair)), TLS13),
        server_config(&key(2), anyone()).expect("configured"),
    );
    assert!(!met.stands());
    assert!(met.refused_by_client.is_some() || met.refused_by_server.is_some());
    assert_eq!(peer_of(&met.server), None);

    let met = Met::new(
        client_config(&key(1), key(2).public()).expect("configured"),
        careless_server(hand(vec![certificate(&pair)], &pair)),
    );
    assert!(!met.stands());
    assert_eq!(peer_of(&met.client), None);
    assert_eq!(peer_key(&[certificate(&pair)]), None);
}

#[test]
fn a_certificate_without_its_secret_is_refused_at_both_ends() {
    // Alice's certificate is public: anyone can show it, and none but her can use it.
    let alice = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
    let mallory = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
    let stolen = certificate(&alice);
    let known = peer_key(std::slice::from_ref(&stolen)).expect("an Ed25519 key");
    assert_eq!(known.0, alice.public_key_raw());

    let met = Met::new(
        gullible_client(Some(hand(vec![stolen.clone()], &mallory)), TLS13),
        server_config(&key(2), only(known)).expect("configured"),
    );
    assert!(sentence(met.refused_by_server.as_ref()).contains("BadSignature"));
    assert_eq!(peer_of(&met.server), None);

    let met = Met::new(
        client_config(&key(1), known).expect("configured"),
        careless_server(hand(vec![stolen], &mallory)),
    );
    assert!(sentence(met.refused_by_client.as_ref()).contains("BadSignature"));
    assert_eq!(peer_of(&met.client), None);
}

#[test]
fn no_certificate_or_several_are_refused() {
    let pair = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
    let met = Met::new(
        gullible_client(None, TLS13),
        server_config(&key(2), anyone()).expect("configured"),
    );
    assert!(met.refused_by_server.is_some() && !met.stands());

    let two = vec![certificate(&pair), certificate(&pair)];
    assert_eq!(peer_key(&two), None);
    let met = Met::new(
        gullible_client(Some(hand(two, &pair)), TLS13),
        server_config(&key(2), anyone()).expect("configured"),
    );
    let expected = "the peer did not show exactly one Ed25519 certificate";
    assert!(sentence(met.refused_by_server.as_ref()).contains(expected));
}

#[test]
fn older_tls_is_refused() {
    let pair = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
    let met = Met::new(
        gullible_client(Some(hand(vec![certificate(&pair)], &pair)), &[&rustls::version::TLS12]),
        server_config(&key(2), anyone()).expect("configured"),
    );
    assert!(met.refused_by_server.is_some() && !met.stands());
}

#[test]
fn who_speaks_another_protocol_is_nobody() {
    let pair = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
    let server = || server_config(&key(2), anyone()).expect("configured");
    let mut client = gullible_client(Some(hand(vec![certificate(&pair)], &pair)), TLS13);
    client.alpn_protocols = vec![b"h2".to_vec()];
    assert!(Met::new(client.clone(), server()).refused_by_server.is_some());
    client.alpn_protocols = Vec::new();
    let met = Met::new(client, server());
    assert_eq!(peer_of(&met.server), None);
    assert_eq!(peer_of(&met.client), None);
}

#[test]
fn sessions_are_not_resumed() {
    let (alice, bob) = (key(1), key(2));
    let client = client_config(&alice, bob.public()).expect("configured");
    let server = server_config(&bob, only(alice.public())).expect("configured");
    for _ in 0..2 {
        let met = Met::new(client.clone(), server.clone());
        assert!(met.stands());
        assert_eq!(met.server.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn garbage_is_no_key_and_no_panic(bytes: Vec<u8>) {
        prop_assert_eq!(peer_key(&[CertificateDer::from(bytes)]), None);
    }

    #[test]
    fn a_cut_certificate_is_no_key(cut in 0_usize..1000) {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(7), &PKCS_ED25519).expect("a key");
        let whole = certificate(&pair);
        let cut = cut % whole.len();
        prop_assert_eq!(peer_key(&[CertificateDer::from(whole[..cut].to_vec())]), None);
        let longer = [&whole[..], &[0]].concat();
        prop_assert_eq!(peer_key(&[CertificateDer::from(longer)]), None);
    }

    #[test]
    fn a_bent_certificate_does_not_panic(at in 0_usize..1000, bit in 0_u8..8) {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(7), &PKCS_ED25519).expect("a key");
        let mut bent = certificate(&pair).to_vec();
        let at = at % bent.len();
        bent[at] ^= 1 << bit;
        if let Some(key) = peer_key(&[CertificateDer::from(bent.clone())]) {
            prop_assert!(bent.windows(32).any(|window| window == key.0));
        }
    }

    #[test]
    fn garbage_ends_a_handshake_without_panic(bytes: Vec<u8>) {
        let config = server_config(&key(2), anyone()).expect("configured");
        let mut server = ServerConnection::new(Arc::new(config)).expect("configured");
        let mut rest = &bytes[..];
        while !rest.is_empty() && server.read_tls(&mut rest).is_ok() {
            if server.process_new_packets().is_err() {
                break;
            }
        }
        prop_assert!(server.is_handshaking());
        prop_assert_eq!(peer_of(&server), None);
    }
}

fn pkcs8(secret: u8) -> PrivatePkcs8KeyDer<'static> {
    let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    PrivatePkcs8KeyDer::from([&prefix[..], &[secret; 32]].concat())
}
