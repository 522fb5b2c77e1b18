//! The edge to the engine: HTTP over a Unix socket, either one that systemd listens on, or one of this process.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixListener as StdListener},
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use listenfd::ListenFd;
use tokio::net::UnixListener;

use crate::{
    keeper::Handle,
    protocol::{CONTENT_TYPE, Request, fixed_answer, refused_answer},
};

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

/// A socket on which the engine asks.
#[derive(Debug)]
pub struct Socket(StdListener);

impl Socket {
    /// The one that systemd listens on for this process, if there is one. It is to be asked for once, at the start.
    pub fn inherited() -> Option<Self> {
        let mut inherited = ListenFd::from_env();
        let sockets = 0..inherited.len();
        sockets.into_iter().find_map(|at| inherited.take_unix_listener(at).ok().flatten()).map(Self)
    }

    /// Listens at `path`, which only root can use then. A socket of an earlier process is replaced. The directory is made if it does
    /// not exist, as `/run/sextant` does not after a boot.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn listen(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError { path: path.to_owned(), source };
        make_directory(path).map_err(failed)?;
        let next = path.with_extension("new");
        let _none_before = fs::remove_file(&next);
        let listener = StdListener::bind(&next).map_err(failed)?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&next, path).map_err(failed)?;
        Ok(Self(listener))
    }

    /// Serves the engine's requests from the keeper's leases.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn serve(self, keeper: Handle) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        let listener = UnixListener::from_std(self.0)?;
        axum::serve(listener, Router::new().fallback(answer).with_state(keeper)).await
    }
}

/// Makes the directory of a socket, but not the one above it. Others may look into it.
fn make_directory(socket: &Path) -> io::Result<()> {
    let Some(directory) = socket.parent() else { return Ok(()) };
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("make directory {}: {error}", directory.display())))
        }
        Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755)),
    }
}

async fn answer(State(keeper): State<Handle>, uri: Uri, body: Bytes) -> Response {
    let answer = match Request::read(uri.path(), &body) {
        Err(error) => refused_answer(&error),
        Ok(Request::Lease(request)) => match keeper.request(request.clone()).await {
            Ok(answer) => {
                tracing::debug!(?request, %answer, "IPAM request");
                answer
            }
            Err(error) => refused_answer(&error),
        },
        Ok(request) => fixed_answer(&request).unwrap_or_default(),
    };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], answer.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_made_and_one_that_exists_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mode) = (dir.path().join("sextant/docker-ipam.sock"), |path: &Path| {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        });
        let directory = socket.parent().unwrap();
        let _listener = Socket::listen(&socket).unwrap();
        assert_eq!((mode(directory), mode(&socket)), (0o755, 0o600));
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        let _listener = Socket::listen(&socket).unwrap();
        assert_eq!(mode(directory), 0o700);
        let deep = Socket::listen(&dir.path().join("a/b/socket")).unwrap_err().to_string();
        assert!(deep.contains("make directory") && deep.contains("a/b"), "{deep}");
    }
}
