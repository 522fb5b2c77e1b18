//! `ControllerService`: the answers to other controllers.

use sextant_proto::{
    NodeName, convert,
    v1::{self, controller_service_server::ControllerService},
};
use tonic::{Request, Response, Status};

use super::{Services, questions::unanswered, status::malformed};
use crate::{
    acks::Acks,
    health::{CONTROLLER_TIMEOUT, Health},
    questions::Questions,
    sessions::Sessions,
    unregistered::RefusedClaims,
};

pub(super) struct Controllers {
    acks: Acks,
    questions: Questions,
    sessions: Sessions,
    health: Health,
    refused_claims: RefusedClaims,
}

impl Controllers {
    pub(super) fn new(services: &Services) -> Self {
        let Services { acks, questions, sessions, health, refused_claims, .. } = services.clone();
        Self { acks, questions, sessions, health, refused_claims }
    }
}

#[tonic::async_trait]
impl ControllerService for Controllers {
    async fn acks(&self, request: Request<v1::AcksRequest>) -> Result<Response<v1::AcksResponse>, Status> {
        let local = self.acks.local();
        let by_node = local.iter().map(|(node, applied)| (node.to_string(), applied.into())).collect();
        let duplicates = self.sessions.duplicates().into_iter();
        let duplicates = duplicates.map(|(node, from)| (node.to_string(), from)).collect();
        let problems = match request.get_ref().state {
            true => self.health.check(CONTROLLER_TIMEOUT).await.problems.iter().map(Into::into).collect(),
            false => Vec::new(),
        };
        let controller = self.sessions.identity().id.clone();
        let unregistered = self.refused_claims.list().iter().map(Into::into).collect();
        Ok(Response::new(v1::AcksResponse { by_node, duplicates, controller, problems, unregistered }))
    }

    async fn ask(&self, request: Request<v1::AskRequest>) -> Result<Response<v1::AskResponse>, Status> {
        let v1::AskRequest { node, question } = request.into_inner();
        let node: NodeName = convert::parse("node", &node).map_err(malformed)?;
        let about = question.and_then(|question| question.about);
        let about =
            about.ok_or_else(|| Status::unimplemented("this controller does not support the question"))?;
        let answer = self.questions.ask(&node, about).await;
        Ok(Response::new(v1::AskResponse { answer: Some(answer.map_err(|why| unanswered(&node, why))?) }))
    }
}
