//! The front door between real clients and real services, over loopback.
//!
//! | module | what it shows |
//! |---|---|
//! | [`passing`] | requests and answers arrive whole, both ways, whatever their form |
//! | [`refusing`] | what is ambiguous, slow or too much is refused, and others are served |
//! | [`smuggling`] | no two servers are brought to disagree about where a message ends |
//! | [`failing`] | services that die, hang or lie cost their own requests only |
//! | [`http2`] | the same over HTTP/2, and what the standard says of clients that break it |
//! | [`changing`] | new routes and certificates, under load |

mod changing;
mod client;
mod failing;
mod http2;
mod open;
mod passing;
mod refusing;
mod smuggling;
mod upstream;
