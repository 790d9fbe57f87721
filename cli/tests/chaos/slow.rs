//! A client on a slow link that breaks: it comes to its end by going on where it was, and costs no byte
//! twice.

use std::time::{Duration, Instant};

use tributary_core::codec;
use tributary_testing::SlowLink;

use crate::plan;
use crate::world::{World, spec};

/// 1 Mbit/s.
const BITS_PER_S: u64 = 1 << 20;
/// Far more than the minute that it takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a break may cost: the message that was on its way, and the requests of the next try.
const BREAK_BYTES: u64 = 192 << 10;

#[test]
fn a_slow_link_that_breaks_three_times_carries_no_update_twice() {
    let mut world = World::start(plan(0)).expect("a world");
    let link = SlowLink::to(world.port(0), BITS_PER_S).expect("a link");
    let route = |world: &mut World, port: u16| {
        world.client(0).expect("running").sigkill().expect("killed");
        world.route_client(0, port).expect("routed");
        world.start_client(0, &[]).expect("back");
    };
    route(&mut world, link.port());
    // One part that is not whole before the link breaks.
    let text = spec(1, 1)
        .replace("{ linear = 256 }", "{ linear = 1024 }, \"relu\", { linear = 512 }")
        .replace("lease_s = 2", "lease_s = 30");
    let slow = world.submit(&text, "slow").expect("submitted");
    let parameters = world.status(&slow).expect("status")["parameters"].as_u64().expect("a count");
    let update = codec::update_len(parameters as usize);
    assert!(update > 2 << 20 && codec::part_count(update) == 1, "{update} bytes");
    let cut_at = |carried: &dyn Fn() -> u64, bytes: u64| {
        let deadline = Instant::now() + PATIENCE;
        while carried() < bytes {
            assert!(Instant::now() < deadline, "{} of {bytes} bytes\n{}", carried(), world.logs());
            std::thread::sleep(Duration::from_millis(5));
        }
        link.cut();
    };
    // The checkpoint's way down is cut as well.
    cut_at(&|| link.received(), update / 2);
    let before = link.sent();
    for quarter in 1..=3 {
        cut_at(&|| link.sent(), before + quarter * update / 4);
    }
    world.finish(&slow).expect("completed");
    let (sent, received) = (link.sent() - before, link.received());
    assert!(sent >= update && sent < update + 3 * BREAK_BYTES, "{sent} bytes of {update}");
    assert!(received >= update && received < update + 3 * BREAK_BYTES, "{received} of {update}");
    let events = world.ask(&["events", &slow]).expect("events").to_string();
    assert!(!events.contains("task_lapsed"), "{events}");

    let direct = world.port(0);
    route(&mut world, direct);
    let fast = world.submit(&text, "fast").expect("submitted");
    world.finish(&fast).expect("completed");
    assert_eq!(world.digests(&slow).expect("digests"), world.digests(&fast).expect("digests"));
}
