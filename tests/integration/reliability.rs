//! What a stream outlives, in numbers: its controller's death, its proxies',
//! other sessions, a full disk, a clock that jumps. A module a promise.

mod churn;
mod clock;
mod controller_death;
mod hardship;
mod port_clash;
mod proxy_death;
mod retargeting;
