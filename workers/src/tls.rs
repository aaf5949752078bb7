//! Looking at the certificate that a server shows for a name.

use crate::error::Result;
use entities::error::{Code, Error};
use entities::values::DomainName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes one certificate and no other, whoever has signed it, from a server that has its key.
#[derive(Debug)]
struct Exactly {
    certificate: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match shown.as_ref() == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General("it shows another certificate".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Fails unless the server shows this certificate, in DER form, to a client that asks for the host.
pub async fn expect_certificate(
    server: (IpAddr, u16),
    host: &DomainName,
    certificate: &[u8],
) -> Result<()> {
    let unseen = |cause: &dyn std::fmt::Display| {
        let (_, port) = server;
        let text =
            format!("The server does not show the certificate for {host} at port {port}: {cause}.");
        Error::refused(Code::CertificateUnseen, text)
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let exactly = Exactly { certificate: certificate.to_vec(), provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(exactly))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_string()).map_err(Error::internal)?;
    let looking = async {
        let stream = TcpStream::connect(SocketAddr::from(server)).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(_stream)) => Ok(()),
        Ok(Err(error)) => Err(unseen(&error)),
        Err(elapsed) => Err(unseen(&elapsed)),
    }
}
