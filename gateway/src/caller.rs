//! The limit of requests that one caller may have in the gateway.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;

/// Requests by caller. A caller without requests takes no room, so the table is bounded by the requests in the gateway.
#[derive(Clone)]
pub(crate) struct Callers {
    limit: u32,
    present: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// One request of a caller, until dropped.
pub(crate) struct CallerPermit {
    callers: Callers,
    caller: IpAddr,
}

impl Callers {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, present: Arc::default() }
    }

    pub(crate) fn admit(&self, caller: IpAddr) -> Result<CallerPermit, Error> {
        let mut present = self.present.lock();
        let count = present.entry(caller).or_insert(0);
        if *count >= self.limit {
            return Err(Error::CallerLimit { limit: self.limit });
        }
        *count += 1;
        Ok(CallerPermit { callers: self.clone(), caller })
    }
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut present = self.callers.present.lock();
        if let Some(count) = present.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_at_its_limit_is_refused_until_it_leaves() {
        let callers = Callers::new(1);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let permit = callers.admit(one).unwrap();
        assert_eq!(callers.admit(one).err(), Some(Error::CallerLimit { limit: 1 }));
        assert!(callers.admit(other).is_ok());
        drop(permit);
        assert!(callers.admit(one).is_ok());
        assert!(callers.present.lock().is_empty());
    }
}
