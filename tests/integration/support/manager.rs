//! A service manager as far as a service sees it: the socket that it is told things on
//! (`sd_notify(3)`).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wait::eventually;

/// Listens, and keeps what it was told, in order.
pub struct Manager {
    socket: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// Its socket is in this folder.
    pub fn listen(folder: &Path) -> Self {
        let socket = folder.join("notify");
        let listener = UnixDatagram::bind(&socket).expect("a socket");
        let said = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&said);
        // Ends with the test's process.
        thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(length) = listener.recv(&mut datagram) {
                let text = String::from_utf8(datagram[..length].to_vec()).expect("text");
                all.lock().expect("no panic").extend(text.lines().map(str::to_owned));
            }
        });
        Self { socket, said }
    }

    /// What its service finds in its environment, with such a watchdog.
    pub fn environment(&self, watchdog_usec: &str) -> Vec<(String, String)> {
        let socket = self.socket.display().to_string();
        let mut all = vec![("NOTIFY_SOCKET".to_owned(), socket)];
        if !watchdog_usec.is_empty() {
            all.push(("WATCHDOG_USEC".into(), watchdog_usec.into()));
        }
        all
    }

    /// All that it was told.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("no panic").clone()
    }

    /// How often it was told this.
    pub fn times(&self, word: &str) -> usize {
        self.said().iter().filter(|said| *said == word).count()
    }

    /// The status that it shows.
    pub fn status(&self) -> String {
        let said = self.said();
        said.iter().rev().find_map(|word| word.strip_prefix("STATUS=")).unwrap_or_default().to_owned()
    }

    /// Waits until it has been told this so often.
    pub async fn hears(&self, word: &str, times: usize) {
        let what = format!("{word} is said {times} times; said was {:?}", self.said());
        eventually(&what, || self.times(word) >= times).await;
    }
}
