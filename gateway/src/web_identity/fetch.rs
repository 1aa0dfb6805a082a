//! Documents of providers, fetched with bounds: over TLS, or over HTTP from this machine, and never from where an
//! answer points to.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::outbound;

/// Of discovery documents and key sets (BND-1). Those of large providers have some 20 KiB.
pub(super) const DOCUMENT_MAX_BYTES: usize = 256 << 10;
const URL_MAX_BYTES: usize = 2048;

/// How the documents of one provider are fetched. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetch {
    /// None: over HTTP, from this machine.
    tls: Option<Arc<TlsConnector>>,
}

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    /// As the header `Host` names it.
    authority: String,
    /// Path and query.
    path: String,
}

impl Fetch {
    /// For a provider at `url`, with the certificates of the authorities that are believed for it.
    pub(super) fn of(url: &str, ca_pem: Option<&str>) -> Result<Self, String> {
        let secure = url.starts_with("https://");
        let tls = match (secure, ca_pem) {
            (true, Some(ca)) => Some(Arc::new(outbound::connector(ca).map_err(|why| format!("the CA: {why}"))?)),
            (true, None) => return Err("an https issuer needs the CA that signed its certificate (ca)".to_owned()),
            (false, Some(_)) => return Err("a CA is of no use to an http issuer".to_owned()),
            (false, None) => None,
        };
        let fetch = Self { tls };
        fetch.place(url)?;
        Ok(fetch)
    }

    /// The document at `url`. Err says what stood in the way. Whoever calls has a deadline.
    pub(super) async fn document(&self, url: &str) -> Result<Bytes, String> {
        let place = self.place(url)?;
        let fetched = self.exchange(&place).await;
        fetched.map_err(|why| format!("{url}: {why}"))
    }

    /// The issuer's scheme holds for all that it names, so that nothing is asked for in the clear that is not here.
    fn place(&self, url: &str) -> Result<Place, String> {
        let wrong = || format!("{url:?} is no address of a provider");
        if url.len() > URL_MAX_BYTES || url.contains('#') {
            return Err(wrong());
        }
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let default_port = match (uri.scheme_str(), &self.tls) {
            (Some("https"), Some(_)) if !host.is_empty() => 443,
            (Some("http"), None) if outbound::is_here(&host) => 80,
            (Some("http"), None) => return Err(format!("{url:?}: http is only for this machine (a loopback address)")),
            _ => return Err(wrong()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Place { host, port: authority.port_u16().unwrap_or(default_port), authority: authority.to_string(), path })
    }

    async fn exchange(&self, place: &Place) -> Result<Bytes, String> {
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else { return get(stream, place).await };
        let name = ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
        get(tls.connect(name, stream).await.map_err(|error| error.to_string())?, place).await
    }
}

async fn get<S>(stream: S, place: &Place) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    // It ends with the exchange, whether that comes to its end or is given up.
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::builder()
        .method(Method::GET)
        .uri(place.path.as_str())
        .header(header::HOST, &place.authority)
        .header(header::USER_AGENT, "cairn")
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}, and only 200 is taken", response.status()));
    }
    let body = Limited::new(response.into_body(), DOCUMENT_MAX_BYTES).collect().await;
    Ok(body.map_err(|error| format!("{error}; at most {DOCUMENT_MAX_BYTES} bytes are read"))?.to_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_tls_leaves_this_machine() {
        let here = Fetch { tls: None };
        let place = here.place("http://127.0.0.1:8/a?b").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("127.0.0.1", 8, "/a?b"));
        assert_eq!(here.place("http://[::1]/").unwrap().host, "::1");
        for url in
            ["", "idp", "http://idp.example/", "https://127.0.0.1/", "http://u@127.0.0.1/", "http://127.0.0.1/#f"]
        {
            here.place(url).unwrap_err();
        }
        assert!(Fetch::of("https://idp.example", None).is_err_and(|why| why.contains("needs the CA")));
        assert!(Fetch::of("http://127.0.0.1", Some("x")).is_err_and(|why| why.contains("no use")));
        assert!(Fetch::of("https://idp.example", Some("x")).is_err_and(|why| why.contains("no certificate")));
    }
}
