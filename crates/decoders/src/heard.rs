//! What nodes really say: the frames of a short simulated run with losses, crashes, a wiped disk and a change of the view.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;
use testudo_core::{Encode, Signed};
use testudo_pbft::{Message, Pbft};
use testudo_replication::ReplicaMessage;
use testudo_sim::conformance::Serving;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::seeded::Outcome;
use testudo_sim::service::Ask;
use testudo_sim::world::{Shape, World};
use testudo_sim::{Climate, Harm, Seeded, Trouble, Weather};

/// All that a node may say.
pub(crate) type Said = ReplicaMessage<Message>;

/// Frames that were heard, the first few of each kind.
pub(crate) static HEARD: LazyLock<Vec<Signed<Said>>> = LazyLock::new(listen);

/// Frames of each kind that are kept.
const OF_EACH: usize = 3;

fn listen() -> Vec<Signed<Said>> {
    let shape = Shape { learners: 1, ..Shape::byzantine(1, 2) };
    let world = World::asleep(Replicated::<Pbft, Lore>::default(), &shape, 5);
    let every = Duration::from_millis;
    let troubles = vec![
        (Trouble::Crash, every(900)),
        (Trouble::Harm(Harm::Wiped), every(1_500)),
        (Trouble::Harm(Harm::Memory), every(1_500)),
        (Trouble::Learner, every(1_000)),
    ];
    let weather = Weather { lost_per_mille: 150, ..Weather::calm() };
    let mut seeded = Seeded::new(world, 5, Climate { weather, troubles }, 1, false);
    seeded.world.start_all();
    (0..3).for_each(|client| seeded.call(Duration::from_millis(client), client));
    let (mut counts, mut heard, mut asked, mut last) = (BTreeMap::new(), Vec::new(), 0, 0);
    while seeded.world.now() < Duration::from_secs(20) {
        match seeded.step() {
            Outcome::Idle => break,
            Outcome::Happened => {}
            Outcome::Call(client) => {
                asked += 1;
                let ask = Ask::Append { key: "k".into(), token: format!("{asked},") };
                let client = client as usize;
                let input = seeded.world.system.submit(client, asked, ask.to_bytes());
                seeded.world.ask_client(client, input);
                seeded.call(Duration::from_millis(50), client as u64);
            }
        }
        while seeded.world.take_answer().is_some() {}
        let letters: Vec<(u64, &str)> = seeded
            .world
            .letters()
            .filter(|letter| letter.number >= last)
            .map(|letter| (letter.number, letter.name))
            .collect();
        for (number, name) in letters {
            last = last.max(number + 1);
            let count: &mut usize = counts.entry(name).or_default();
            *count += 1;
            if *count <= OF_EACH {
                heard.extend(seeded.world.frame(number));
            }
        }
    }
    heard
}
