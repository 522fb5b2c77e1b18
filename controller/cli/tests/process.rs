//! The process `sextant` against a gRPC server with canned answers: exit codes and messages.
//!
//! The lab tests run it with real controllers and agents.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, pin::Pin, process::Output};

use sextant_proto::v1::{
    self,
    admin_service_server::{AdminService, AdminServiceServer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, transport::Server};

type Progress = Pin<Box<dyn Stream<Item = Result<v1::WaitProgress, Status>> + Send>>;

/// Answers every call with this status, except `Wait` if there is a progress.
#[derive(Clone)]
struct Canned {
    status: Status,
    progress: Option<v1::WaitProgress>,
}

macro_rules! refuse {
    ($($call:ident($request:ident) -> $response:ident),+ $(,)?) => {
        #[tonic::async_trait]
        impl AdminService for Canned {
            type WaitStream = Progress;
            type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupPiece, Status>> + Send>>;
            type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

            $(async fn $call(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                Err(self.status.clone())
            })+

            async fn events(&self, _: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
                Err(self.status.clone())
            }

            async fn backup(&self, _: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
                Err(self.status.clone())
            }

            async fn restore(
                &self,
                _: Request<tonic::Streaming<v1::BackupPiece>>,
            ) -> Result<Response<v1::RestoreResponse>, Status> {
                Err(self.status.clone())
            }

            async fn wait(&self, _: Request<v1::WaitRequest>) -> Result<Response<Progress>, Status> {
                let progress = self.progress.clone().ok_or_else(|| self.status.clone())?;
                Ok(Response::new(Box::pin(tokio_stream::once(Ok(progress)))))
            }
        }
    };
}

refuse! {
    add_pool(AddPoolRequest) -> AddPoolResponse,
    revoke_node(RevokeNodeRequest) -> RevokeNodeResponse,
    revoke_member(RevokeMemberRequest) -> RevokeMemberResponse,
    list_revoked(ListRevokedRequest) -> ListRevokedResponse,
    plan_node(PlanNodeRequest) -> PlanNodeResponse,
    trace(TraceRequest) -> TraceResponse,
    list_pools(ListPoolsRequest) -> ListPoolsResponse,
    remove_pool(RemovePoolRequest) -> RemovePoolResponse,
    drain_pool(DrainPoolRequest) -> DrainPoolResponse,
    grow_pool(GrowPoolRequest) -> GrowPoolResponse,
    reserve(ReserveRequest) -> ReserveResponse,
    unreserve(UnreserveRequest) -> UnreserveResponse,
    list_reservations(ListReservationsRequest) -> ListReservationsResponse,
    list_nodes(ListNodesRequest) -> ListNodesResponse,
    node_containers(NodeContainersRequest) -> NodeContainersResponse,
    node_ndp(NodeNdpRequest) -> NodeNdpResponse,
    drain_node(DrainNodeRequest) -> DrainNodeResponse,
    undrain_node(UndrainNodeRequest) -> UndrainNodeResponse,
    forget_node(ForgetNodeRequest) -> ForgetNodeResponse,
    reassign_node(ReassignNodeRequest) -> ReassignNodeResponse,
    pause(PauseRequest) -> PauseResponse,
    resume(ResumeRequest) -> ResumeResponse,
    list_routes(ListRoutesRequest) -> ListRoutesResponse,
    status(StatusRequest) -> StatusResponse,
    undo_restore(UndoRestoreRequest) -> UndoRestoreResponse,
    finish_recovery(FinishRecoveryRequest) -> FinishRecoveryResponse,
    accept_unsigned(AcceptUnsignedRequest) -> AcceptUnsignedResponse,
    explain(ExplainRequest) -> ExplainResponse,
    who_am_i(WhoAmIRequest) -> WhoAmIResponse,
    create_token(CreateTokenRequest) -> CreateTokenResponse,
    list_tokens(ListTokensRequest) -> ListTokensResponse,
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse,
}

impl Canned {
    fn new(code: Code) -> Self {
        Self { status: Status::new(code, "object, value and fix"), progress: None }
    }

    fn with_progress(progress: v1::WaitProgress) -> Self {
        Self { progress: Some(progress), ..Self::new(Code::Internal) }
    }
}

/// The URL of a server that runs as long as the test.
async fn serve(canned: Canned) -> String {
    let (listener, url) = bind().await;
    let server = Server::builder().add_service(AdminServiceServer::new(canned));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}

async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    (listener, format!("http://{address}"))
}

/// A URL without a listener.
async fn closed_url() -> String {
    bind().await.1
}

async fn sextant(controllers: &str, words: &str) -> (i32, String, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_sextant"))
        .args(["--controller", controllers])
        .args(words.split_whitespace())
        .env_remove("SEXTANT_CONTROLLER")
        .env_remove("SEXTANT_INSECURE")
        .output();
    let Output { status, stdout, stderr } = ran.await.unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

const COMMANDS: [&str; 21] = [
    "pool add main 2001:db8:1::/48 --host-len 64",
    "pool list",
    "pool show main",
    "pool remove main",
    "node list",
    "node show host1",
    "node drain host1",
    "node undrain host1",
    "node forget host1",
    "route list",
    "status",
    "plan host1",
    "trace host1 host2",
    "events",
    "explain 2001:db8::1",
    "backup /tmp/there/is/no/such/directory",
    "restore --undo",
    "recover",
    "recover --finish",
    "recover --accept-unsigned",
    "wait",
];

#[tokio::test]
async fn every_command_ends_with_the_refusals_exit_code_and_text() {
    for (code, exit_code) in [
        (Code::InvalidArgument, 2),
        (Code::NotFound, 3),
        (Code::AlreadyExists, 4),
        (Code::FailedPrecondition, 4),
        (Code::Aborted, 4),
        (Code::DeadlineExceeded, 6),
        (Code::ResourceExhausted, 1),
        (Code::PermissionDenied, 1),
        (Code::Internal, 1),
    ] {
        let url = serve(Canned::new(code)).await;
        for command in COMMANDS {
            let expected = (exit_code, String::new(), "sextant: object, value and fix\n".to_owned());
            assert_eq!(sextant(&url, command).await, expected, "{command}: {code:?}");
        }
    }
}

#[tokio::test]
async fn a_controller_without_its_store_is_unavailable() {
    let url = serve(Canned::new(Code::Unavailable)).await;
    for command in COMMANDS {
        let expected = (5, String::new(), format!("sextant: controller {url}: object, value and fix\n"));
        assert_eq!(sextant(&url, command).await, expected, "{command}");
    }
}

#[tokio::test]
async fn a_read_goes_to_the_next_controller_a_change_only_if_it_was_not_received() {
    let (closed, without_store) = (closed_url().await, serve(Canned::new(Code::Unavailable)).await);
    let answering = serve(Canned::new(Code::NotFound)).await;

    let (code, _, error) = sextant(&format!("{closed},{without_store},{answering}"), "status").await;
    assert_eq!(code, 3, "{error}");
    let (code, _, error) = sextant(&format!("{closed},{answering}"), "pool remove main").await;
    assert_eq!(code, 3, "{error}");
    let (code, _, error) =
        sextant(&format!("{closed},{without_store},{answering}"), "pool remove main").await;
    assert_eq!(code, 5, "{error}");
    assert!(error.contains(&closed) && error.contains(&without_store), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_reported() {
    let url = closed_url().await;
    let (code, _, error) = sextant(&url, "status").await;
    assert_eq!(code, 5, "{error}");
    assert!(
        error.starts_with(&format!("sextant: controller {url}: cannot connect: Connection refused")),
        "{error}"
    );
}

#[track_caller]
fn is_no_controller((code, _, error): (i32, String, String)) {
    assert_eq!(code, 5, "{error}");
    assert!(error.contains("answers, but not as a sextant-controller ("), "{error}");
    assert!(error.ends_with("; check the address and port against its --listen\n"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn a_web_server_is_no_controller() {
    let (listener, url) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _read = stream.read(&mut [0; 1024]).await;
            let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _written = stream.write_all(answer.as_bytes()).await;
            // Closing with unread data would reset the connection, and the reset can overtake the answer.
            let _closed = stream.shutdown().await;
            let _rest = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    is_no_controller(sextant(&url, "status").await);
    is_no_controller(sextant(&url, "node drain host1").await);
}

#[tokio::test]
async fn another_grpc_server_is_no_controller() {
    let (listener, url) = bind().await;
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    is_no_controller(sextant(&url, "pool list").await);
    is_no_controller(sextant(&url, "pool remove main").await);
}

#[tokio::test]
async fn waiting_ends_done_or_with_the_laggards() {
    let mut progress =
        v1::WaitProgress { revision: 7, applied: 2, live: 2, done: true, laggards: Vec::new() };
    let url = serve(Canned::with_progress(progress.clone())).await;
    let done = "revision 7: applied by all 2 live agents\n".to_owned();
    assert_eq!(sextant(&url, "wait").await, (0, done, String::new()));

    (progress.applied, progress.done) = (1, false);
    progress.laggards = vec!["host2".into()];
    let url = serve(Canned::with_progress(progress)).await;
    let (code, output, error) = sextant(&url, "wait --timeout 2s").await;
    assert_eq!((code, output.as_str()), (6, ""), "{error}");
    assert!(
        error.starts_with("sextant: revision 7: applied by 1 of 2 live agents within 2s, not by host2; see"),
        "{error}"
    );
    let (code, output, _) = sextant(&url, "wait --timeout 2s -o json").await;
    let output: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &output["laggards"]), (6, &serde_json::json!(["host2"])));
}

#[tokio::test]
async fn an_invalid_command_line_is_a_usage_error() {
    let url = serve(Canned::new(Code::Internal)).await;
    for (command, fix) in [
        ("pool add main 2001:db8:1::1/48 --host-len 64", "the prefix is 2001:db8:1::/48"),
        ("pool add main 2001:db8:1::/48 --host-len 32", "give it 48 to 126"),
        ("pool add main 2001:db8:1::/48 --host-len 64 --container-len 60", "give it 64 to 126"),
        ("pool add main 2001:db8:1::/48", "--host-len"),
        ("pool show Main", "use lower-case letters"),
        ("node drain host/1", "use lower-case letters"),
        ("node drain host1 --timeout 30", "e.g. 500ms, 30s or 2m"),
        ("wait --revision 0", "--revision"),
        ("route list --node _", "use lower-case letters"),
        ("trace host1", "<TO>"),
        ("trace host1 host1", "both ends are \"host1\"; name two"),
        ("-o yaml status", "table"),
        ("fly", "fly"),
    ] {
        let (code, output, error) = sextant(&url, command).await;
        assert_eq!((code, output.as_str()), (2, ""), "{command}: {error}");
        assert!(error.contains(fix), "{command}: {error}");
    }
    let (code, _, error) = sextant("http://[2001:db8::c]:7300", "status").await;
    assert_eq!(code, 2, "{error}");
    assert!(error.starts_with("sextant: --controller [2001:db8::c] would carry plain text"), "{error}");
}

#[tokio::test]
async fn the_help_of_every_command_ends_in_an_example() {
    let mut left = vec![String::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let (code, help, error) = sextant("http://[::1]:7300", &format!("{command} --help")).await;
        assert_eq!(code, 0, "{command}: {error}");
        let last: Vec<_> = help.trim_end().lines().rev().take(2).collect();
        assert!(last[0].starts_with("  sextant ") && last[1] == "Example:", "{command}: {help}");
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty());
        let first_lines = commands.filter(|line| !line.starts_with("   "));
        let words = first_lines.filter_map(|line| line.split_whitespace().next());
        left.extend(words.map(|word| format!("{command} {word}")));
        seen += 1;
    }
    assert_eq!(seen, 1 + 4 + 19 + 7 + 7 + 2 + 3 + 3, "the number of commands has changed");
}
