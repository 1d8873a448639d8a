//! What surrounds a request: who asks (context), how it is answered (response), who answers (control queue).

pub(crate) mod context;
pub(crate) mod control_queue;
pub(crate) mod response;
