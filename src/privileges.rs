//! What is given up for good of the privileges that a process was started with.

use std::io;

use nix::sys::prctl::set_no_new_privs;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// From here on no file that is executed gives any privilege, and of the capabilities
/// of this thread only `kept` stay; `passed_on` also to the programs that it starts.
///
/// # Errors
/// What the system says.
pub(crate) fn keep_only(kept: CapabilitySet, passed_on: CapabilitySet) -> io::Result<()> {
    set_no_new_privs()?;
    let have = capabilities(None)?;
    let permitted = have.permitted & kept;
    if have.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let sets = CapabilitySets { effective: have.effective & kept, permitted, inheritable: passed_on & permitted };
    // Who has none may be kept from the call itself (systemd's filter of @privileged).
    if sets != have {
        set_capabilities(None, sets)?;
    }
    for capability in (passed_on & permitted).iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
