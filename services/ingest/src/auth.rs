//! Whose call it is: the API key in the metadata names the tenant, and nothing in a request can.

use std::sync::Arc;

use model::Tenant;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::config::{ApiKeys, digest};
use crate::violations::status;

/// Puts the caller's [`Tenant`] into the request's extensions, or refuses the call.
#[derive(Clone)]
pub(crate) struct Authenticate {
    keys: Arc<ApiKeys>,
}

impl Authenticate {
    pub(crate) fn new(keys: ApiKeys) -> Self {
        Self {
            keys: Arc::new(keys),
        }
    }

    fn tenant(&self, request: &Request<()>) -> Result<Tenant, Status> {
        let refuse = |reason, problem: &str| Err(status(Code::Unauthenticated, reason, problem));
        let Some(header) = request.metadata().get("authorization") else {
            return refuse(
                "API_KEY_MISSING",
                "metadata authorization: no API key; send `authorization: Bearer <API key>`",
            );
        };
        let key = header
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "));
        let Some(key) = key else {
            return refuse(
                "API_KEY_INVALID",
                "metadata authorization: write it as `Bearer <API key>`",
            );
        };
        match self.keys.get(&digest(key.trim())) {
            Some(tenant) => Ok(tenant.clone()),
            None => refuse(
                "API_KEY_INVALID",
                "metadata authorization: unknown API key; use one that ingest.api_keys lists",
            ),
        }
    }
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let tenant = self.tenant(&request)?;
        request.extensions_mut().insert(tenant);
        Ok(request)
    }
}

/// The tenant that [`Authenticate`] found.
pub(crate) fn tenant_of<T>(request: &Request<T>) -> Result<Tenant, Status> {
    let tenant = request.extensions().get::<Tenant>().cloned();
    tenant.ok_or_else(|| {
        status(
            Code::Unauthenticated,
            "API_KEY_MISSING",
            "the call carries no API key",
        )
    })
}
