//! An agent that says what it likes, over gRPC.

use std::time::Duration;

use sextant_proto::{
    NodeId,
    v1::{
        AgentMessage, Announce, Claim, ClaimRequest, ControllerMessage, Hello, Keepalive,
        agent_message::Message, agent_service_client::AgentServiceClient, claim_response::Outcome,
        controller_message as from,
    },
};
use sextant_tests::Controller;
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

/// How long to wait for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The agent of a node, which holds a claim.
pub struct HostileNode {
    pub name: String,
    pub id: NodeId,
    pub claim: Claim,
    runtime: Runtime,
    client: AgentServiceClient<Channel>,
}

impl HostileNode {
    /// A node of this name, which claims a prefix of the only pool.
    pub fn new(controller: &Controller, name: &str) -> Self {
        Self::with_window(controller, name, None)
    }

    /// As [`Self::new`]; a stream may have so many octets in flight that it has not read (RFC 9113 §5.2).
    pub fn with_window(controller: &Controller, name: &str, window: Option<u32>) -> Self {
        let url = controller.url();
        let connect = || {
            // Its threads stay in the network namespace that they are created in.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let endpoint = Endpoint::from_shared(url)?.initial_stream_window_size(window);
            let channel = runtime.block_on(endpoint.connect())?;
            anyhow::Ok((runtime, channel))
        };
        let (runtime, channel) = controller.namespace().enter(connect).unwrap().unwrap();
        let (mut client, id) = (AgentServiceClient::new(channel), NodeId::random());
        let request = ClaimRequest { node: name.into(), node_id: id.into(), ..ClaimRequest::default() };
        let response = runtime.block_on(client.claim(request)).unwrap().into_inner();
        let Some(Outcome::Granted(claim)) = response.outcome else { panic!("no claim: {response:?}") };
        Self { name: name.into(), id, claim, runtime, client }
    }

    /// Asks for a claim.
    pub fn claim_with(&mut self, request: ClaimRequest) -> Result<Option<Outcome>, Status> {
        Ok(self.runtime.block_on(self.client.claim(request))?.into_inner().outcome)
    }

    /// Claims under its true name again, as an agent does whose hello was refused; without a word of the claim that it held.
    pub fn claim_again(&mut self) {
        let request =
            ClaimRequest { node: self.name.clone(), node_id: self.id.into(), ..ClaimRequest::default() };
        if let Ok(Some(Outcome::Granted(claim))) = self.claim_with(request) {
            self.claim = claim;
        }
    }

    /// Its true hello.
    pub fn hello(&self) -> Hello {
        Hello {
            node: self.name.clone(),
            node_id: self.id.into(),
            epoch: self.claim.epoch.clone(),
            version: "hostile".into(),
            instance: sextant_proto::InstanceId::random().into(),
            ..Hello::default()
        }
    }

    /// Opens a stream with this hello.
    pub fn open(&self, hello: Hello) -> Result<HostileStream<'_>, Status> {
        self.open_with(Some(Message::Hello(hello)))
    }

    /// Opens a stream with this message, or with none.
    pub fn open_with(&self, first: Option<Message>) -> Result<HostileStream<'_>, Status> {
        let (outgoing, to_send) = mpsc::channel(16);
        if let Some(message) = first {
            self.runtime.block_on(outgoing.send(AgentMessage { message: Some(message) })).unwrap();
        }
        let opened = self.runtime.block_on(self.client.clone().sync(ReceiverStream::new(to_send)))?;
        Ok(HostileStream { runtime: &self.runtime, outgoing, incoming: opened.into_inner() })
    }

    /// Opens a stream, announces this, and waits until the controller has taken or refused it.
    pub fn announce(&mut self, announce: Announce) -> Result<(), Status> {
        let hello = self.hello();
        let mut stream = self.open(hello)?;
        stream.expect(|message| matches!(message, from::Message::SnapshotBegin(_)))?;
        stream.say(Message::Announce(announce));
        stream.end()
    }
}

/// A stream of a hostile node.
pub struct HostileStream<'a> {
    runtime: &'a Runtime,
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<ControllerMessage>,
}

impl HostileStream<'_> {
    pub fn say(&self, message: Message) {
        // A controller that has ended the stream does not take it.
        let _ = self.runtime.block_on(self.outgoing.send(AgentMessage { message: Some(message) }));
    }

    /// Sends keepalives from now on, whatever comes back.
    pub fn keep_alive(&self) {
        let outgoing = self.outgoing.clone();
        self.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                let message = Some(Message::Keepalive(Keepalive::default()));
                if outgoing.send(AgentMessage { message }).await.is_err() {
                    return;
                }
            }
        });
    }

    /// The next message; `None` at the end of the stream.
    pub fn hear(&mut self) -> Result<Option<from::Message>, Status> {
        let next = self.runtime.block_on(async { timeout(ANSWERS_WITHIN, self.incoming.message()).await });
        Ok(next.expect("the controller is silent")?.and_then(|message| message.message))
    }

    /// Waits for such a message.
    pub fn expect(&mut self, is_it: impl Fn(&from::Message) -> bool) -> Result<from::Message, Status> {
        loop {
            match self.hear()? {
                Some(message) if is_it(&message) => return Ok(message),
                Some(_) => {}
                None => panic!("the stream ends without the expected message"),
            }
        }
    }

    /// Says no more, and waits until the controller has processed all and ends the stream.
    pub fn end(self) -> Result<(), Status> {
        let Self { runtime, outgoing, mut incoming } = self;
        drop(outgoing);
        let ended = async {
            while incoming.message().await?.is_some() {}
            Ok(())
        };
        runtime.block_on(async { timeout(ANSWERS_WITHIN, ended).await }).expect("the stream does not end")
    }
}
