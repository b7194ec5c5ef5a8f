//! This node's own lease: taken, kept, corrected, or missed.

use std::time::Duration;

use tracing::{error, info};

use super::Keeper;
use crate::source::etcd::client::Etcd;
use crate::source::etcd::config::ConfigError;
use crate::source::etcd::contents::Contents;
use crate::source::etcd::error::EtcdError;
use crate::source::etcd::jitter::jitter;
use crate::source::etcd::key::Subnet;
use crate::source::etcd::own::{self, Lack, Own};
use crate::source::etcd::watch::Watch;

/// How long who lost the race for a subnet lets others go first, at most.
const RACE_WAIT: Duration = Duration::from_millis(50);

impl Keeper {
    /// Does what is to be done about this node's own lease.
    pub(super) async fn settle(
        &mut self,
        etcd: &Etcd,
        watch: &mut Watch,
        contents: &mut Contents,
    ) -> Result<(), EtcdError> {
        let mut granted = 0;
        let settled = self.take_or_keep(etcd, watch, contents, &mut granted).await;
        if granted != 0 && granted != self.lease {
            etcd.revoke(granted).await;
        }
        settled
    }

    /// `granted` is the lease that was asked for on the way; 0 for none.
    async fn take_or_keep(
        &mut self,
        etcd: &Etcd,
        watch: &mut Watch,
        contents: &mut Contents,
        granted: &mut i64,
    ) -> Result<(), EtcdError> {
        loop {
            match self.decide(contents) {
                Own::Has { subnet, .. } if self.looks_on => self.have(subnet, 0),
                Own::Take(subnet) if self.looks_on => info!("the subnet {subnet} would be taken"),
                Own::Has { subnet, lease, stale: None } => self.have(subnet, lease),
                Own::Has { subnet, lease, stale: Some(revision) } => {
                    self.correct(etcd, subnet, lease, revision).await?;
                }
                Own::Take(subnet) => {
                    if *granted == 0 {
                        *granted = etcd.grant(self.ttl).await?;
                    }
                    if !etcd.take(&self.own, subnet, *granted, contents).await? {
                        // Others look for one at the same time: what they have meanwhile is heard of.
                        watch.gather(etcd, contents, jitter(RACE_WAIT)).await?;
                        self.judge(contents, None);
                        continue;
                    }
                    info!("took the subnet {subnet}");
                    self.have(subnet, *granted);
                }
                Own::Lacks(lack) => self.miss(lack),
            }
            return Ok(());
        }
    }

    fn decide(&mut self, contents: &Contents) -> Own {
        if let Some(own) = self.state.own.filter(|&own| own::has_left(&self.own, own, contents)) {
            self.left = Some(own);
            self.state.own = None;
        }
        if let Some(left) = self.left {
            return Own::Lacks(Lack::Left(left));
        }
        let key = || Err(ConfigError::Missing { key: self.connection.layout.config() });
        let config = self.config.clone().unwrap_or_else(key);
        own::decide(&self.own, self.state.own, contents, &self.state.picture, &config)
    }

    /// Makes the value of the lease say who this node is, once a reading.
    async fn correct(
        &mut self,
        etcd: &Etcd,
        subnet: Subnet,
        lease: i64,
        revision: i64,
    ) -> Result<(), EtcdError> {
        if self.corrected {
            self.have(subnet, lease);
            self.lack = Some(Lack::Twin(subnet));
            return Ok(());
        }
        self.corrected = true;
        if !etcd.rewrite(&self.own, subnet, lease, revision).await? {
            return Err(EtcdError::Watch("this node's lease was written to".to_owned()));
        }
        self.have(subnet, lease);
        Ok(())
    }

    fn have(&mut self, subnet: Subnet, lease: i64) {
        self.state.own = Some(subnet);
        self.lease = lease;
        self.lack = None;
    }

    fn miss(&mut self, lack: Lack) {
        if self.lack.as_ref() != Some(&lack) {
            error!("{lack}");
        }
        self.lack = Some(lack);
        self.lease = 0;
    }
}
