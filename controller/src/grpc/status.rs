//! Errors as gRPC statuses: the code states what the caller can do, the message is the text of the error.

use sextant_proto::convert::MessageError;
use tonic::{Code, Status};

use crate::{
    backup::{RestoreError, UploadError},
    claims::{AcceptError, ClaimError, DrainError, ForgetError, HolderError},
    denials::{DenialError, Denied},
    limits::OverLimit,
    pools::PoolsError,
    registry::RegistryError,
    reservations::ReservationError,
    tokens::{TokensError, Unusable},
};

/// An invalid message.
pub(super) fn malformed(error: MessageError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn code_of(error: &RegistryError) -> Code {
    match error {
        RegistryError::Unavailable(_) | RegistryError::Unknown(_) | RegistryError::LeaseEnded(_) => {
            Code::Unavailable
        }
        RegistryError::Corrupt(_) => Code::Internal,
    }
}

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        Status::new(code_of(&error), error.to_string())
    }
}

impl From<ClaimError> for Status {
    fn from(error: ClaimError) -> Self {
        let code = match &error {
            ClaimError::NameTaken { .. }
            | ClaimError::Renamed { .. }
            | ClaimError::SameId { .. }
            | ClaimError::SameIdClaims { .. }
            | ClaimError::Copied(_) => Code::AlreadyExists,
            ClaimError::NoPool
            | ClaimError::Ambiguous(_)
            | ClaimError::Closed(_)
            | ClaimError::NotAccepted { .. }
            | ClaimError::Unproven { .. }
            | ClaimError::NoPlace { .. } => Code::FailedPrecondition,
            ClaimError::UnknownPool { .. } => Code::NotFound,
            ClaimError::Contended
            | ClaimError::JustNamed { .. }
            | ClaimError::Recovering
            | ClaimError::Unconfirmed => Code::Unavailable,
            ClaimError::HostLength { .. }
            | ClaimError::TooShort { .. }
            | ClaimError::Infrastructure { .. } => Code::InvalidArgument,
            ClaimError::Exhausted { .. } | ClaimError::TooMany { .. } => Code::ResourceExhausted,
            ClaimError::Registry(error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}

impl From<AcceptError> for Status {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Closed => Status::failed_precondition(error.to_string()),
            AcceptError::Registry(error) => error.into(),
        }
    }
}

impl From<HolderError> for Status {
    fn from(error: HolderError) -> Self {
        let code = match &error {
            HolderError::Fenced(_) => Code::FailedPrecondition,
            HolderError::Copied(_) => Code::AlreadyExists,
            HolderError::Outside { .. } => Code::InvalidArgument,
            HolderError::Contended(_) => Code::Unavailable,
            HolderError::Registry(error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}

impl From<DrainError> for Status {
    fn from(error: DrainError) -> Self {
        match error {
            DrainError::Unknown(_) => Status::not_found(error.to_string()),
            DrainError::State { .. } => Status::failed_precondition(error.to_string()),
            DrainError::Holder(error) => error.into(),
        }
    }
}

impl From<ForgetError> for Status {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Unknown(_) | ForgetError::NoClaim { .. } => Status::not_found(error.to_string()),
            ForgetError::Up { .. } | ForgetError::Forwarding { .. } | ForgetError::Brake { .. } => {
                Status::failed_precondition(error.to_string())
            }
            ForgetError::Miscounted { .. } => Status::invalid_argument(error.to_string()),
            ForgetError::Interrupted { ref cause, .. } => {
                Status::new(code_of_forget(cause), error.to_string())
            }
            ForgetError::Holder(error) => error.into(),
        }
    }
}

/// The code for an error after some of several nodes were forgotten.
fn code_of_forget(error: &ForgetError) -> Code {
    match error {
        ForgetError::Holder(HolderError::Registry(error)) => code_of(error),
        ForgetError::Holder(_) => Code::Unavailable,
        _ => Code::FailedPrecondition,
    }
}

impl From<RestoreError> for Status {
    fn from(error: RestoreError) -> Self {
        let code = match &error {
            RestoreError::File(_) => Code::InvalidArgument,
            RestoreError::Conflicts(_) => Code::AlreadyExists,
            RestoreError::Changed(_) => Code::Aborted,
            RestoreError::NothingToUndo => Code::FailedPrecondition,
            RestoreError::Registry(error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}

impl From<Denied> for Status {
    fn from(error: Denied) -> Self {
        Status::permission_denied(error.to_string())
    }
}

impl From<DenialError> for Status {
    fn from(error: DenialError) -> Self {
        let code = match &error {
            DenialError::NotDenied(_) => Code::NotFound,
            DenialError::Contended(_) => Code::Unavailable,
            DenialError::Registry(error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}

impl From<UploadError> for Status {
    fn from(error: UploadError) -> Self {
        let code = match &error {
            UploadError::Busy => Code::Aborted,
            UploadError::Large | UploadError::File(_) => Code::InvalidArgument,
            UploadError::Io { .. } => Code::ResourceExhausted,
        };
        Status::new(code, error.to_string())
    }
}

impl From<OverLimit> for Status {
    fn from(error: OverLimit) -> Self {
        Status::resource_exhausted(error.to_string())
    }
}

impl From<PoolsError> for Status {
    fn from(error: PoolsError) -> Self {
        let code = match &error {
            PoolsError::NameTaken(_) | PoolsError::Overlaps { .. } => Code::AlreadyExists,
            PoolsError::Unknown(_) => Code::NotFound,
            PoolsError::NotGrown { .. } | PoolsError::Infrastructure(_) | PoolsError::Pool(_) => {
                Code::InvalidArgument
            }
            PoolsError::InUse(..) | PoolsError::Stray(..) => Code::FailedPrecondition,
            PoolsError::Contended => Code::Unavailable,
            PoolsError::Registry(error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}

impl From<ReservationError> for Status {
    fn from(error: ReservationError) -> Self {
        let code = match error {
            ReservationError::Pools(error) => return (*error).into(),
            ReservationError::NoPool { .. } | ReservationError::Unknown(_) => Code::NotFound,
            ReservationError::TooLong(_) | ReservationError::Infrastructure { .. } => Code::InvalidArgument,
            ReservationError::Reserved { .. }
            | ReservationError::Claimed { .. }
            | ReservationError::HasOne { .. } => Code::AlreadyExists,
            ReservationError::Contended => Code::Unavailable,
            ReservationError::Registry(ref error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}

impl From<TokensError> for Status {
    fn from(error: TokensError) -> Self {
        let code = match &error {
            TokensError::Unknown(_) => Code::NotFound,
            TokensError::Unusable(Unusable::Spent { .. }) | TokensError::Exists(_) => {
                Code::FailedPrecondition
            }
            TokensError::Unusable(_) | TokensError::Superseded(_) => Code::PermissionDenied,
            TokensError::Count { .. } | TokensError::Life(_) => Code::InvalidArgument,
            TokensError::TooMany => Code::ResourceExhausted,
            TokensError::Token(_) => Code::Internal,
            TokensError::Contended => Code::Unavailable,
            TokensError::Registry(error) => code_of(error),
        };
        Status::new(code, error.to_string())
    }
}
