//! Taking, keeping and giving back: every transaction that is written to etcd.

use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, Error as ClientError, GetOptions, LeaseTimeToLiveOptions, PutOptions,
    ResponseHeader, Txn, TxnOp, TxnOpResponse,
};

use super::client::{Etcd, stored};
use super::contents::Contents;
use super::error::EtcdError;
use super::key::Subnet;
use super::own;
use super::value::Identity;

impl Etcd {
    /// A new lease.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, EtcdError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let mut client = self.client.lease_client();
        Ok(self.ask(client.grant(seconds, None)).await?.id())
    }

    /// How long a sign of life counts for a lease; none if it is gone.
    pub(super) async fn granted(&self, lease: i64) -> Result<Option<Duration>, EtcdError> {
        let mut client = self.client.lease_client();
        let options = LeaseTimeToLiveOptions::new();
        let answer = self.ask(client.time_to_live(lease, Some(options))).await?;
        let granted = u64::try_from(answer.granted_ttl()).unwrap_or(0);
        Ok((answer.ttl() > 0).then(|| Duration::from_secs(granted)))
    }

    /// Keeps a lease alive.
    ///
    /// # Errors
    /// [`EtcdError::LeaseGone`] if there is no such lease any more.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<(), EtcdError> {
        let mut client = self.client.lease_client();
        let kept = async {
            match client.keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(ClientError::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if self.ask(kept).await? { Ok(()) } else { Err(EtcdError::LeaseGone) }
    }

    /// Gives up a lease that holds no key.
    pub(super) async fn revoke(&self, lease: i64) {
        let mut client = self.client.lease_client();
        // If that fails, it expires.
        let _ = self.ask(client.revoke(lease)).await;
    }

    /// Takes a subnet, unless somebody has one of the same IPv4 address: in one transaction.
    /// Returns whether it is ours; who has it is in `contents` now.
    pub(super) async fn take(
        &self,
        own: &Identity,
        subnet: Subnet,
        lease: i64,
        contents: &mut Contents,
    ) -> Result<bool, EtcdError> {
        let (name, value) = (subnet.to_string(), own.value());
        // Whatever the length of the prefix, and whatever the IPv6 range.
        let same = self.layout.lease(&format!("{}-", subnet.v4.ip()));
        let put = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([Compare::version(same.clone(), CompareOp::Equal, 0).with_prefix()])
            .and_then([
                TxnOp::put(self.layout.lease(&name), value.clone(), Some(put)),
                TxnOp::delete(self.layout.left(&name), None),
            ])
            .or_else([TxnOp::get(same, Some(GetOptions::new().with_prefix()))]);
        let answer = self.ask(self.client.kv_client().txn(txn)).await?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        if answer.succeeded() {
            let ours = super::contents::Stored { value: value.into(), revision, lease };
            contents.set(&self.layout, self.layout.lease(&name).as_bytes(), revision, Some(ours));
            contents.set(&self.layout, self.layout.left(&name).as_bytes(), revision, None);
            return Ok(true);
        }
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(found) = response {
                for kv in found.kvs() {
                    contents.set(&self.layout, kv.key(), kv.mod_revision(), Some(stored(kv)));
                }
            }
        }
        Ok(false)
    }

    /// Writes this node's value anew, if nobody has written since `revision`.
    pub(super) async fn rewrite(
        &self,
        own: &Identity,
        subnet: Subnet,
        lease: i64,
        revision: i64,
    ) -> Result<bool, EtcdError> {
        let key = self.layout.lease(&subnet.to_string());
        // A reservation is a key without a lease, and stays one.
        let put = (lease != 0).then(|| PutOptions::new().with_lease(lease));
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, revision)])
            .and_then([TxnOp::put(key, own.value(), put)]);
        Ok(self.ask(self.client.kv_client().txn(txn)).await?.succeeded())
    }

    /// Says that a node has left, and deletes its lease if there is one: others see both or
    /// nothing. Returns false if the lease has changed since it was read.
    pub(super) async fn sign_off(
        &self,
        identity: &Identity,
        subnet: Subnet,
        contents: &Contents,
        by_itself: bool,
    ) -> Result<bool, EtcdError> {
        let name = subnet.to_string();
        let key = self.layout.lease(&name);
        let revision = contents.leases.get(&name).map_or(0, |stored| stored.revision);
        let sign = own::sign(identity, by_itself);
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, revision)])
            .and_then([TxnOp::put(self.layout.left(&name), sign, None), TxnOp::delete(key, None)]);
        Ok(self.ask(self.client.kv_client().txn(txn)).await?.succeeded())
    }
}
