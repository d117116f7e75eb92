//! The clock on the wall jumps by a day, forth and back: what lasts lasts as long
//! as before, and what counts counts on.

use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use scistream::client::{Ask, Gateway};
use scistream::session::{Role, Uid};

use crate::support::app::First;
use crate::support::hardship::Clock;
use crate::support::tunnel::ask;
use crate::support::{App, Talk, TestGateway, Tunnel, exchange, session};

/// Long enough for both jumps.
const LIFETIME: Duration = Duration::from_secs(12);
/// What a busy machine may add.
const LATE: Duration = Duration::from_secs(3);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn half(app: &App, lifetime: Duration) -> Ask {
    let uid = Uid::random().expect("randomness");
    let announced = vec![app.endpoint().parse().expect("an endpoint")];
    Ask { lifetime: Some(lifetime), ..ask(&uid, Role::Prod, 1, announced) }
}

/// How far a clock that shows `milliseconds` goes before the true one, rounded to hours.
fn hours_ahead(milliseconds: u64) -> f64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    ((Duration::from_millis(milliseconds).as_secs_f64() - now.as_secs_f64()) / HOUR.as_secs_f64()).round()
}

/// Everything that a session may be asked for works, and s2cs goes by the clock that it is shown.
async fn works(client: &Gateway, app: &App, old: &Tunnel, hours: f64) {
    let new = half(app, HOUR);
    new.open(client, None).await.unwrap_or_else(|e| panic!("a new session: {}", e.story()));
    let seen = client.get(&session::id(&new.uid, Role::Prod)).await.expect("it is there");
    assert_eq!(hours_ahead(seen.created_ms), hours, "s2cs does not see the clock jump");
    assert_eq!(hours_ahead(seen.expires_ms), hours + 1.0);
    client.release(&new.uid).await.expect("released");
    client.update(&old.uid, Role::Prod, vec![app.endpoint()]).await.expect("moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps() {
    let (app, other, clock) = (App::start().await, App::start().await, Clock::new());
    let mut gateway = TestGateway::start(&[]).await;
    gateway.end(Signal::SIGTERM).await;
    let variables = clock.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    gateway.run_in(&variables).await;
    let client = gateway.client().await;
    let mut events = client.watch(0, "").await.expect("watched");
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let (short, long) = (half(&app, LIFETIME), half(&app, HOUR));
    long.open(&client, None).await.expect("serving");
    let start = Instant::now();
    short.open(&client, None).await.expect("serving");

    for (offset, hours, target) in [("+1d", 24.0, &other), ("-1d", -24.0, &app), ("+1d", 24.0, &other)] {
        clock.move_by(offset);
        talk.goes_on().await;
        works(&client, target, &tunnel, hours).await;
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
        assert_eq!(session::all_well(&client).await.len(), 4, "{offset}: a session ended");
    }
    let jumped = start.elapsed();
    assert!(jumped < LIFETIME, "the jumps took {jumped:?}");
    let id = session::id(&short.uid, Role::Prod);
    let mut last = 0;
    let ended = session::event(&client, &mut events, |event| {
        assert!(event.sequence > last, "{} comes after {last}", event.sequence);
        last = event.sequence;
        event.what == "released" && event.session.as_ref().is_some_and(|session| session.id == id)
    })
    .await;
    let lasted = start.elapsed();
    println!("a lifetime of {LIFETIME:?} ended after {lasted:.3?} with 3 jumps of a day in it; sequence {last}");
    assert!(lasted >= LIFETIME && lasted < LIFETIME + LATE, "it lasted {lasted:?}");

    // Started again by a clock that shows a time before any of that.
    gateway.end(Signal::SIGKILL).await;
    clock.move_by("-1d");
    gateway.run_in(&variables).await;
    let client = gateway.client().await;
    assert_eq!(session::all_well(&client).await.len(), 3);
    let list = client.list().await.expect("listed");
    println!("started again two days before: {} sessions, sequence {}", list.sessions.len(), list.sequence);
    assert!(list.sequence > ended.sequence, "the feed counts from {} again", list.sequence);
    let seen = client.get(&session::id(&long.uid, Role::Prod)).await.expect("it is there");
    let left = seen.expires_ms.saturating_sub(u64::try_from((now() - DAY).as_millis()).expect("a time"));
    println!("of its lifetime of {HOUR:?}, a session has {left} ms");
    assert!(Duration::from_millis(left) <= HOUR && left > 0, "a lifetime of an hour has become {left} ms");
    talk.goes_on().await;

    // And by one that shows a time when its end is long over.
    gateway.end(Signal::SIGKILL).await;
    clock.move_by("+1d");
    gateway.run_in(&variables).await;
    let client = gateway.client().await;
    let before = list.sequence;
    let list = client.list().await.expect("listed");
    assert!(list.sequence > before, "the feed counts from {} again", list.sequence);
    crate::support::eventually("whose end is over ends", || gateway.processes().len() == 2).await;
    assert_eq!(session::all_well(&client).await.len(), 2, "sessions without an end have ended");
    works(&client, &other, &tunnel, 24.0).await;
    talk.goes_on().await;
    let bytes = talk.end().await;
    println!("0 of {bytes} bytes of a session without a lifetime lost or wrong");
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970")
}
