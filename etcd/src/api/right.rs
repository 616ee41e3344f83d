//! Whether somebody who watches still has the right to.

use std::sync::Arc;

use super::page::Context;
use crate::auth::{self, Access, Accounts, Caller};
use crate::backend::Backend;
use crate::transport::watch::{GoesOn, Right};

/// Whether a watch's right is still there.
pub(super) fn look<B: Backend>(right: &Right, context: Arc<Context<B>>) -> GoesOn {
    let (key, recursive) = (Box::<[u8]>::from(right.key()), right.is_recursive());
    let authorization = right.authorization().cloned().map(Box::new);
    Box::pin(async move {
        if !context.backend.auth().is_on() {
            return true;
        }
        let caller = Caller { authorization: authorization.as_deref(), ..Caller::default() };
        let accounts = Accounts::new(&context.auth, &context.backend, caller);
        auth::check_access(&accounts, Access { key: &key, writes: false, recursive }).await.is_ok()
    })
}
