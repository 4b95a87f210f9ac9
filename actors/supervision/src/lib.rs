//! What actix does not give: metered mailboxes, contained panics and a restart budget.
