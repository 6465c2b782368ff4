//! Everything has a limit, and past it something defined happens. What happens is said beside each.

use core::time::Duration;

/// The version of every format that leaves a process: frames, records and signed statements.
pub const FORMAT_VERSION: u8 = 1;

/// Bytes of one frame on a channel. A longer one ends the channel.
pub const FRAME_BYTES: usize = 48 << 20;

/// Bytes of one frame before the peer is known. A longer one ends the connection.
pub const GREETING_BYTES: usize = 4 << 10;

/// Bytes of one client operation. A longer one is refused by the client automaton.
pub const OPERATION_BYTES: usize = 2 << 20;

/// Operations in one bundle. More wait for the next one; a bundle that holds more is malformed.
pub const BUNDLE_OPERATIONS: usize = 1024;

/// Bytes of operations in one bundle. More wait for the next one; a bundle that holds more is malformed.
pub const BUNDLE_BYTES: usize = 4 << 20;

/// Bundles in one batch. More wait for the next slot; a batch that holds more is malformed.
pub const BATCH_BUNDLES: usize = 256;

/// Bundles that one client may have waiting at a replica. The newest beyond are dropped; the client sends them again.
pub const WAITING_BUNDLES_PER_CLIENT: usize = 64;

/// Bundles that a session may have outstanding, and replies that it remembers. An older one is answered `Stale`.
pub const SESSION_WINDOW: u64 = 8;

/// Bytes of replies that a session remembers, beside its latest. The oldest beyond are forgotten and answered `Stale`.
pub const SESSION_REPLY_BYTES: usize = 8 << 20;

/// Sessions that one client key may hold. A further one evicts that key's least recently used.
pub const SESSIONS_PER_CLIENT: usize = 16;

/// Bytes of evidence that is ordered. What is more convicts all the same, but whoever it convicts may come back.
pub const EVIDENCE_BYTES: usize = 16 << 20;

/// How often a replica may come back under a new voting key within [`READMISSION_PERIOD`] of agreed time.
pub const READMISSIONS: usize = 4;

/// See [`READMISSIONS`].
pub const READMISSION_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// Sessions in all. A further one evicts the least recently used.
pub const SESSIONS: usize = 4096;

/// Bytes of results of one bundle. The operations beyond are answered `TooLarge` and have no effect.
pub const RESULT_BYTES: usize = 32 << 20;

/// Slots between two checkpoints. At each one the whole state is hashed.
pub const CHECKPOINT_INTERVAL: u64 = 256;

/// Bytes that the log takes in before a snapshot is written, or as many as the state has: so what is executed again at a
/// restart is bounded, and what snapshots write is no more than what the log does.
pub const SNAPSHOT_BYTES: u64 = 16 << 20;

/// Slots that may be ordered beyond the last stable checkpoint. A proposal beyond is ignored. Half an interval is time
/// enough for a checkpoint to become stable while the order goes on.
pub const WINDOW: u64 = CHECKPOINT_INTERVAL + CHECKPOINT_INTERVAL / 2;

/// Slots that a primary keeps open at once before it lets requests gather into larger batches.
pub const OPEN_SLOTS: u64 = 2;

/// How far a proposer's clock may be from a voter's when the proposal is fresh. Beyond it the voter withholds its vote.
pub const CLOCK_BOUND: Duration = Duration::from_secs(1);

/// Digests or slots that one fetch may ask for. A longer list is malformed.
pub const FETCH_ITEMS: usize = 64;

/// Decided slots that a learner which lags is told at once. It asks on when it has them.
pub const FOLLOW_STEP: u64 = 64;

/// Bytes of bodies in one decided slot's message to a learner, which asks for the others.
pub const FEED_BYTES: usize = FRAME_BYTES / 4;

/// Learners that follow one replica. Further ones are not heard until one is silent for long.
pub const FOLLOWERS: usize = 128;

/// Executed slots that are remembered for learners that lag. Who lags further behind takes the state.
pub const RECENT_SLOTS: usize = 4096;

/// Bytes of bodies among them. Learners ask for the bodies of older ones, which are read from the log.
pub const RECENT_BYTES: usize = 8 << 20;

/// Stable checkpoints whose state is kept for those who fetch it: the newest, and older ones that somebody is fetching.
/// Beyond them that goes of which no part was asked for, or none for longest, and whoever was fetching it begins anew.
pub const SERVED_CHECKPOINTS: usize = 3;

/// Bytes of entries in one chunk of the state, unless one entry is larger.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Questions of one peer about what was decided or the state that are answered in one budget period. It asks again.
pub const QUESTIONS: usize = 128;

/// Questions of one peer for a claim that are answered in one budget period. It asks again.
pub const CLAIMS: usize = 2048;

/// Bodies that one peer is lent in one resend period. It asks again for what it did not get.
pub const LENT_ITEMS: usize = 8 * FETCH_ITEMS;

/// Bytes of bodies that one peer is lent in one resend period. It asks again for what it did not get.
pub const LENT_BYTES: usize = FRAME_BYTES / 2;

/// Bytes of bodies held for proposals though their clients have too many waiting. Beyond them such a proposal gets no
/// vote.
pub const EXTRA_BODY_BYTES: usize = 64 << 20;

/// Frames that wait for one peer before the oldest are dropped: protocols send again what still matters.
pub const PEER_QUEUE_FRAMES: usize = 4096;

/// Bytes that wait for one peer before the oldest frames are dropped.
pub const PEER_QUEUE_BYTES: usize = 64 << 20;

/// Verified messages that wait for one automaton, per sender, before the channel is read no further.
pub const INBOX_PER_PEER: usize = 1024;

/// Replicas in one membership. A larger one is refused: the message that begins a view holds what a quorum has prepared,
/// and must fit into a frame.
pub const REPLICAS: usize = 16;

/// Sets of evidence that a node keeps, per accused and offence. More prove nothing new and are dropped.
pub const EVIDENCE_PER_OFFENCE: usize = 1;
