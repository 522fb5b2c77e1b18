//! Records a history, from any number of tasks.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use sextant_proto::{NodeId, NodeName};

use super::{Answer, Asked, Moment, Operation};

/// A history in the making.
#[derive(Debug, Default)]
pub struct Recorder {
    moments: AtomicU64,
    operations: Mutex<Vec<Operation>>,
}

impl Recorder {
    /// Records a request and its answer: the time before and after `asking` runs.
    pub async fn record(
        &self,
        (node, node_id): (&NodeName, NodeId),
        asked: Asked,
        asking: impl Future<Output = Answer>,
    ) -> Answer {
        let from = self.now();
        let answer = asking.await;
        let to = self.now();
        let operation = Operation { node: node.clone(), node_id, asked, from, to, answer: answer.clone() };
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
        answer
    }

    /// Takes the recorded history.
    pub fn history(&self) -> Vec<Operation> {
        std::mem::take(&mut self.operations.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> Moment {
        Moment(self.moments.fetch_add(1, Ordering::SeqCst))
    }
}
