//! How much a replica may keep in memory, by a reckoning of the simulation's own.

use super::Replicated;
use testudo_core::limits;

impl<O, K, W, R, Q> Replicated<O, K, W, R, Q> {
    /// How many there may be of one of a replica's tables: a window of slots, so many bundles of each client, so many
    /// sessions, and so many answers for each that is open. None of what is not known here.
    pub(super) fn most(&self, table: &str, open: usize) -> Option<usize> {
        let (replicas, clients) = self.people;
        let window = 2 * self.interval as usize;
        let bundles = (replicas + clients) * limits::WAITING_BUNDLES_PER_CLIENT;
        let most = match table {
            "slots in the window" | "slots overtaken in" => window,
            "view changes" | "last words" => replicas,
            // Of what the log tells at a start a gap may hold up all that lies between two snapshots, twice, and what is
            // decided meanwhile.
            "batches to execute" | "batches without bodies" => 8 * window,
            // Each checkpoint of two windows, the one that is stable and the end of an epoch; and as many again that the log
            // tells of at a start.
            "slots of checkpoints" => 4 * window / self.interval as usize + 4,
            "states served" => 2 * limits::SERVED_CHECKPOINTS,
            "slots for learners" => limits::RECENT_SLOTS,
            "learners" => limits::FOLLOWERS.min(clients),
            "sessions" => clients * limits::SESSIONS_PER_CLIENT,
            // A session has an entry of its own, one by its name and one by its use; beside them are who may open any and
            // what each opened last, and who orders.
            "entries of sessions" => {
                open * (3 + limits::SESSION_WINDOW as usize) + 2 * clients + 8 * replicas + 8
            }
            "bodies" | "bodies that are lacking" | "bundles that wait" => bundles,
            _ => return None,
        };
        Some(most)
    }
}
