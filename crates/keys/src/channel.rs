//! Channels that are bound to the identity keys at both ends.
//!
//! A channel is TLS 1.3, and both ends show a certificate that they made themselves with their identity key. Nothing
//! in it counts but the key: no name, no date, no issuer. Who connects pins the one key that it wants at the other
//! end; who is connected to learns the other's key and asks its own rule whether to accept it. That the other end has
//! the secret half, TLS proves by its signature on the handshake.
//!
//! Sessions are never resumed, as a resumed one would not ask that rule again. A client of TLS 1.3 may send before it
//! learns that it is refused; it learns so when it first reads.

use crate::ed25519::SigningKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use testudo_core::PublicKey;

/// What both ends say that they will speak. Ends that do not agree on it have no channel.
pub const ALPN: &[u8] = b"testudo/1";

/// Whether a key may connect. Asked once for each connection, on the thread that shakes hands.
pub type Accepts = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// An Ed25519 key in a certificate (RFC 8410, section 4): this, then its 32 bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

/// An Ed25519 secret as PKCS #8 (RFC 8410, section 7): this, then its 32 bytes.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why a configuration for channels could not be made.
#[derive(Debug)]
pub enum ChannelError {
    /// The certificate could not be made.
    Certificate(rcgen::Error),
    /// TLS refuses the certificate or key.
    Tls(Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => {
                write!(f, "no channel certificate could be made of the identity key: {error}")
            }
            Self::Tls(error) => write!(f, "TLS does not take the identity key: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {}

/// Why the other end of a channel was refused. It comes wrapped in a TLS error, from which [`Refused::of`] takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It showed no certificate of an Ed25519 key, or more than one.
    NoKey,
    /// Another is at that address than who was called.
    NotWhoWasCalled {
        /// The pinned key.
        called: PublicKey,
        /// The key of who answered.
        answered: PublicKey,
    },
    /// This key may not connect here.
    Unknown(PublicKey),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str("the peer did not show exactly one Ed25519 certificate"),
            Self::NotWhoWasCalled { called, answered } => {
                write!(f, "key {called} was called, and key {answered} answered")
            }
            Self::Unknown(key) => write!(f, "key {key} may not connect here"),
        }
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// Why this end refused the other, if that is what ended the handshake.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref().copied()
            }
            _ => None,
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

/// The configuration of an end that is connected to, by whoever `accepts` allows.
///
/// # Errors
/// When no certificate can be made of the key, which no well-formed key causes.
pub fn server_config(
    identity: &SigningKey,
    accepts: Accepts,
) -> Result<ServerConfig, ChannelError> {
    let provider = Arc::new(ring::default_provider());
    let (certificate, key) = certificate(identity)?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(ChannelError::Tls)?
        .with_client_cert_verifier(Arc::new(Pinned { provider, rule: Rule::Accepts(accepts) }))
        .with_single_cert(vec![certificate], key.into())
        .map_err(ChannelError::Tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The configuration of an end that connects, to the one that has the key `server`.
///
/// # Errors
/// When no certificate can be made of the key, which no well-formed key causes.
pub fn client_config(
    identity: &SigningKey,
    server: PublicKey,
) -> Result<ClientConfig, ChannelError> {
    let provider = Arc::new(ring::default_provider());
    let (certificate, key) = certificate(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(ChannelError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { provider, rule: Rule::Is(server) }))
        .with_client_auth_cert(vec![certificate], key.into())
        .map_err(ChannelError::Tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// A name to hand to TLS where it wants one of the server. Nothing depends on it.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())
}

/// The key that a peer's certificates prove: of exactly one, which is an Ed25519 key's.
#[must_use]
pub fn peer_key(certificates: &[CertificateDer<'_>]) -> Option<PublicKey> {
    let [certificate] = certificates else { return None };
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let spki = parsed.subject_public_key_info();
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    key.try_into().ok().map(PublicKey)
}

/// Who is at the other end of a connection whose handshake is done; `None` before that, and for a peer that does not
/// speak [`ALPN`], with whom there is nothing to talk about.
#[must_use]
pub fn peer_of(connection: &CommonState) -> Option<PublicKey> {
    if connection.is_handshaking() || connection.alpn_protocol() != Some(ALPN) {
        return None;
    }
    peer_key(connection.peer_certificates()?)
}

/// A certificate of the identity key, signed by itself, and the key in the form that TLS takes.
fn certificate(
    identity: &SigningKey,
) -> Result<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), ChannelError> {
    let pkcs8 = [&PKCS8_PREFIX[..], identity.secret()].concat();
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)
        .map_err(ChannelError::Certificate)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "testudo");
    let certificate = parameters.self_signed(&pair).map_err(ChannelError::Certificate)?;
    Ok((certificate.der().clone(), pkcs8))
}

/// Whose key is right at the other end.
enum Rule {
    /// This one's alone.
    Is(PublicKey),
    /// Any that this allows.
    Accepts(Accepts),
}

/// Judges the other end by its key alone.
struct Pinned {
    provider: Arc<CryptoProvider>,
    rule: Rule,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Is(key) => write!(f, "Pinned({key:?})"),
            Rule::Accepts(_) => f.write_str("Pinned(to a set)"),
        }
    }
}

impl Pinned {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
    ) -> Result<(), Refused> {
        let key = peer_key(std::slice::from_ref(certificate)).filter(|_| more.is_empty());
        match (key.ok_or(Refused::NoKey)?, &self.rule) {
            (key, Rule::Is(called)) if key == *called => Ok(()),
            (answered, Rule::Is(called)) => {
                Err(Refused::NotWhoWasCalled { called: *called, answered })
            }
            (key, Rule::Accepts(accepts)) if accepts(&key) => Ok(()),
            (key, Rule::Accepts(_)) => Err(Refused::Unknown(key)),
        }
    }

    /// That the other end has the secret half of the key in its certificate.
    fn prove(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }
}

/// TLS 1.2 is not offered; this is never asked.
const NO_TLS12: Error = Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(certificate, more)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(certificate, more)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
