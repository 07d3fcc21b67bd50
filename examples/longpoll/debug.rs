//! The debug page beside the service, with `--debug-port`; in a build without the feature
//! `debug-http` it cannot be had.
//!
//! It is there before everything else and goes after it, with a token that nobody cancels: a stop
//! that hangs is when it is wanted most.

use cleanbreak::CancelToken;

use super::service::Service;

#[derive(Default)]
pub(crate) struct DebugPage {
    #[cfg(feature = "debug-http")]
    server: Option<cleanbreak::debug::DebugServer>,
}

#[cfg(feature = "debug-http")]
impl DebugPage {
    pub(crate) fn start(port: Option<u16>, service: &Service) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        use cleanbreak::debug::DebugServer;

        let Some(port) = port else {
            return Ok(Self::default());
        };
        let server = DebugServer::builder().bind(("127.0.0.1", port));
        let server = server
            .start(&CancelToken::new())
            .with_context(|| format!("no debug page on port {port}"))?;
        let registry = service.registry.clone();
        server.watch_value("polls that wait", move || registry.polls().to_string());
        super::service::log(format_args!("debug page on {}", server.url()));
        let server = Some(server);
        Ok(Self { server })
    }

    /// Shows a token, and those below it.
    pub(crate) fn watch(&self, name: &str, token: &CancelToken) {
        if let Some(server) = &self.server {
            server.watch_token(name, token);
        }
    }
}

#[cfg(not(feature = "debug-http"))]
impl DebugPage {
    pub(crate) fn start(port: Option<u16>, _service: &Service) -> anyhow::Result<Self> {
        match port {
            None => Ok(Self::default()),
            Some(_) => anyhow::bail!(
                "there is no debug page in this build: it needs `--features debug-http`"
            ),
        }
    }

    pub(crate) fn watch(&self, _name: &str, _token: &CancelToken) {}
}
