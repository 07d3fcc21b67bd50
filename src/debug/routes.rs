//! Which path is answered by what.

use std::time::Duration;

use super::request::{Method, Refusal, Request};
use super::response::{BINARY, HTML, JSON, Response, TEXT};
use super::server::Shared;
use super::{json, json_calls, page};
use crate::cancel::CancelToken;
use crate::contain::contain;
use crate::diagnose::{Seconds, ThreadDump};
use crate::resilience::Bulkhead;

/// How long a request waits for the work of another.
const PATIENCE: Duration = Duration::from_secs(5);

const MISSING: &str = "404 Not Found";
const WRONG: &str = "400 Bad Request";

/// What there is to answer to `request`, and whether the answer is the head alone.
pub(super) fn answer(
    shared: &Shared,
    token: &CancelToken,
    request: &Result<Request, Refusal>,
) -> Option<(Response, bool)> {
    let request = match request {
        Ok(request) => request,
        Err(refusal) => return refused(refusal).map(|response| (response, false)),
    };
    let head_only = request.method == Method::Head;
    let response = if !shared.is_at_home(&request.host) {
        let why = "this Host is not one that the debug page is served under";
        Response::refusal("403 Forbidden", why)
    } else if request.method == Method::Other {
        Response::refusal("405 Method Not Allowed", "only GET and HEAD").with("Allow", "GET, HEAD")
    } else {
        route(shared, token, request)
    };
    Some((response, head_only))
}

/// Nothing for a client that has said nothing.
fn refused(refusal: &Refusal) -> Option<Response> {
    Some(match refusal {
        Refusal::Bad(why) => Response::refusal(WRONG, why),
        Refusal::TooLong => {
            let status = "431 Request Header Fields Too Large";
            Response::refusal(status, "the head of the request is too long")
        }
        Refusal::Version => Response::refusal("505 HTTP Version Not Supported", "HTTP/1.1"),
        Refusal::Lost(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Response::refusal("408 Request Timeout", "the request took too long")
        }
        Refusal::Lost(_) => return None,
    })
}

fn route(shared: &Shared, token: &CancelToken, request: &Request) -> Response {
    let watched = &shared.watched;
    match request.path.as_str() {
        "/" | "/debug" => {
            Response::refusal("307 Temporary Redirect", "/debug/").with("Location", "/debug/")
        }
        "/debug/" => Response::ok(HTML, page::HTML),
        "/debug/threads" | "/debug/threads.json" | "/debug/threads.pb.gz" | "/debug/state.json" => {
            one_at_a_time(&shared.dumps, token, || dump(shared, request))
        }
        "/debug/tokens" => Response::ok(TEXT, json::trees_as_text(&watched.trees())),
        "/debug/tokens.json" => Response::ok(JSON, json::tokens(&watched.trees())),
        "/debug/loops.json" => Response::ok(JSON, json::loops()),
        "/debug/pools.json" => Response::ok(JSON, json::pools()),
        "/debug/breakers.json" => Response::ok(JSON, json::breakers()),
        "/debug/groups.json" => Response::ok(JSON, json_calls::groups()),
        "/debug/supervisors.json" => Response::ok(JSON, json_calls::supervisors()),
        "/debug/bulkheads.json" => Response::ok(JSON, json_calls::bulkheads()),
        "/debug/limiters.json" => Response::ok(JSON, json_calls::limiters()),
        "/debug/deadlocks" => one_at_a_time(&shared.dumps, token, || {
            Response::ok(TEXT, json_calls::deadlocks_as_text())
        }),
        "/debug/tickers.json" => Response::ok(JSON, json::tickers()),
        "/debug/values.json" => one_at_a_time(&shared.renders, token, || {
            Response::ok(JSON, json::values(&watched.values()))
        }),
        "/metrics" => one_at_a_time(&shared.renders, token, || metrics(shared)),
        _ => Response::refusal(MISSING, "there is no such page: see /debug/"),
    }
}

/// So that many requests cost no more at a time than one.
fn one_at_a_time(
    door: &Bulkhead,
    token: &CancelToken,
    work: impl FnOnce() -> Response,
) -> Response {
    match door.acquire_timeout(token, PATIENCE) {
        Ok(_permit) => work(),
        Err(error) => {
            let why = format!("another request is being worked on: {error}");
            Response::refusal("503 Service Unavailable", &why).with("Retry-After", "1")
        }
    }
}

fn dump(shared: &Shared, request: &Request) -> Response {
    let Some(mut builder) = what_to_dump(request) else {
        let why =
            "debug is 1 or 2, stacks and signals are 0 or 1, and tid is a number of the kernel's";
        return Response::refusal(WRONG, why);
    };
    if request.parameter("signals") == Some("1") {
        let Some(signal) = shared.stack_signal else {
            let why = "the program does not allow signals to its threads";
            return Response::refusal("403 Forbidden", why);
        };
        builder = builder.signal(signal);
    }
    let dump = builder.capture();
    match (request.path.as_str(), request.parameter("debug")) {
        ("/debug/threads", Some("2")) => Response::ok(TEXT, dump.to_string()),
        ("/debug/threads", _) => Response::ok(TEXT, dump.grouped().to_string()),
        ("/debug/threads.pb.gz", _) => Response::ok(BINARY, dump.to_pprof()).with(
            "Content-Disposition",
            "attachment; filename=\"threads.pb.gz\"",
        ),
        ("/debug/state.json", _) => {
            let at = Seconds(shared.clock.now().duration_since(shared.since));
            Response::ok(JSON, json::state(at, &dump, &shared.watched.trees()))
        }
        _ => Response::ok(JSON, dump.to_json()),
    }
}

/// `None` if a parameter is none of those that there are.
fn what_to_dump(request: &Request) -> Option<crate::diagnose::DumpBuilder> {
    if !matches!(request.parameter("debug"), None | Some("1" | "2"))
        || !matches!(request.parameter("signals"), None | Some("0" | "1"))
    {
        return None;
    }
    // The page wants to know who is there every second, and the stack of those that are looked at.
    let light = request.path == "/debug/state.json";
    let stacks = match request.parameter("stacks") {
        None => !light,
        Some("0") => false,
        Some("1") => true,
        Some(_) => return None,
    };
    let builder = ThreadDump::builder().stacks(stacks);
    match request.parameter("tid") {
        None => Some(builder),
        Some(tid) => Some(builder.only([tid.parse().ok()?])),
    }
}

fn metrics(shared: &Shared) -> Response {
    let Some(render) = &shared.metrics else {
        return Response::refusal(MISSING, "no renderer of metrics was given");
    };
    match contain(render) {
        Some(text) => Response::ok("text/plain; version=0.0.4; charset=utf-8", text),
        None => {
            let why = "the renderer of the metrics panicked";
            Response::refusal("500 Internal Server Error", why)
        }
    }
}
