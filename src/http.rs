//! What others may ask of the running service, over HTTP: metrics, health, readiness and a status.
//!
//! It runs on threads of its own with a runtime of its own, and it only reads: neither can a stuck actor hide, nor can
//! whoever asks hold up an actor. Nothing can be changed here, and no secret can be read.

mod connections;
mod hosts;
mod status;

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::{KeepAlive, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource, web};
use serde_json::json;

use crate::config::Http;
use crate::exit::Failure;
use crate::metrics::{self, Metrics};
use crate::observed::Observed;
use connections::{Connections, MAX_OPEN};
use hosts::Hosts;

/// Threads that answer.
const WORKERS: usize = 1;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// The longest that the head of a request may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// The longest that a connection's end may take.
const DISCONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The pause before a port that is taken is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Begins to answer at the configured address.
///
/// An address that the operator chose must be free. Where nobody chose one, and it is taken (by another bridge on the same
/// machine, most likely), the service goes without, says so, and takes it when it becomes free.
///
/// # Errors
/// When the chosen address cannot be listened at.
pub fn start(http: Http, observed: Arc<Observed>) -> Result<(), Failure> {
    let first = match bind(http.listen) {
        Ok(listener) => Some(listener),
        Err(error) if http.chosen => return Err(unusable(http.listen, &error)),
        Err(error) => {
            tracing::warn!(
                %error,
                "no metrics and no health at {}, the default; set http.listen to another address (port 0 takes any that is \
                 free). It is tried again",
                http.listen
            );
            None
        }
    };
    let threads = std::thread::Builder::new().name("http".to_owned());
    let serve = move || actix_web::rt::System::new().block_on(serve(http.listen, first, observed));
    threads.spawn(serve).map_err(|error| Failure::bug(format!("the thread for HTTP cannot be started: {error}")))?;
    Ok(())
}

fn unusable(listen: SocketAddr, error: &io::Error) -> Failure {
    let remedy = "choose another address (port 0 takes any that is free), or free this one";
    Failure::config(format!("http.listen: cannot listen at {listen}: {error}; {remedy}"))
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen as wait, socket_with, sockopt};
    let family = if listen.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // A restart finds connections of its predecessor that have not quite ended.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &listen)?;
    wait(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Serves until the process ends.
async fn serve(listen: SocketAddr, mut ready: Option<TcpListener>, observed: Arc<Observed>) {
    let listener = loop {
        match ready.take().map_or_else(|| bind(listen), Ok) {
            Ok(listener) => break listener,
            Err(_) => actix_web::rt::time::sleep(TRY_AGAIN).await,
        }
    };
    let address = listener.local_addr().unwrap_or(listen);
    let (observed, metrics) = (web::Data::from(Arc::clone(&observed)), web::Data::new(Metrics::new(observed)));
    let hosts = web::Data::new(Hosts::of(address));
    let app = move || {
        App::new()
            .wrap(from_fn(only_by_its_name))
            .app_data(hosts.clone())
            .app_data(observed.clone())
            .app_data(metrics.clone())
            .service(read_only("/metrics", exposition))
            .service(read_only("/healthz", alive))
            .service(read_only("/readyz", ready_or_why))
            .service(read_only("/status", status_page))
            .default_service(web::to(unknown))
    };
    let connections = Connections::default();
    let opened = move |stream: &dyn Any, data: &mut Extensions| {
        if let Some(stream) = stream.downcast_ref::<TcpStream>() {
            data.insert(connections.admit(stream));
        }
    };
    let server = HttpServer::new(app)
        .workers(WORKERS)
        .worker_max_blocking_threads(1)
        .on_connect(opened)
        // More than are kept open, so that a new one never waits until an old one has gone.
        .max_connections(2 * MAX_OPEN)
        .client_request_timeout(REQUEST_LIMIT)
        .client_disconnect_timeout(DISCONNECT_LIMIT)
        // One request a connection: so the oldest is the slowest, and none is held for nothing.
        .keep_alive(KeepAlive::Disabled)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener);
    match server {
        Ok(server) => {
            tracing::info!("http -> http://{address}");
            if let Err(error) = server.run().await {
                tracing::error!(%error, "HTTP has ended; the service goes on without");
            }
        }
        Err(error) => tracing::error!(%error, "HTTP cannot be served; the service goes on without"),
    }
}

/// Answers those who ask for this machine or the configured address. A page in a browser that has its own name lead here
/// is told nothing.
async fn only_by_its_name(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if request.app_data::<web::Data<Hosts>>().is_some_and(|hosts| hosts.are_asked_for(request.head())) {
        return next.call(request).await;
    }
    let error = "not asked for by this machine's own name or the configured address (http.listen)";
    Ok(request.into_response(HttpResponse::MisdirectedRequest().json(json!({ "error": error }))))
}

/// A page that can be read and nothing else.
fn read_only<F, R>(path: &str, page: F) -> Resource
where
    F: Fn(web::Data<Observed>, web::Data<Metrics>) -> R + Clone + 'static,
    R: Future<Output = HttpResponse> + 'static,
{
    let other_method = || async {
        let mut response = HttpResponse::MethodNotAllowed();
        response.insert_header((header::ALLOW, "GET, HEAD")).json(json!({ "error": "only GET and HEAD" }))
    };
    web::resource(path)
        .route(web::get().to(page.clone()))
        .route(web::head().to(page))
        .default_service(web::to(other_method))
}

async fn unknown(_request: HttpRequest) -> HttpResponse {
    let pages = ["/metrics", "/healthz", "/readyz", "/status"];
    HttpResponse::NotFound().json(json!({ "error": "no such page", "pages": pages }))
}

async fn exposition(_: web::Data<Observed>, metrics: web::Data<Metrics>) -> HttpResponse {
    match metrics.exposition() {
        Ok(text) => HttpResponse::Ok().content_type(metrics::MEDIA_TYPE).body(text),
        Err(error) => HttpResponse::InternalServerError().json(json!({ "error": error.to_string() })),
    }
}

/// That the process is alive: that it answers says it.
async fn alive(_: web::Data<Observed>, _: web::Data<Metrics>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "alive": true }))
}

async fn ready_or_why(observed: web::Data<Observed>, _: web::Data<Metrics>) -> HttpResponse {
    let reasons = observed.unready();
    let mut response = if reasons.is_empty() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response.json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))
}

async fn status_page(observed: web::Data<Observed>, _: web::Data<Metrics>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(status::Status::of(&observed))
}
