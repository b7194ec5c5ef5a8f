//! Calls under the tool that counts, on a host with a Pod that is there already: the first one makes
//! what all share.

use cbr0_tests::counts::Counts;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::strace::Strace;
use cbr0_tests::{LabError, Result, bins, require};
use serde_json::{Value, json};

use crate::cases::Case;

/// One host, its first Pod, and the tool.
pub(crate) struct Bench {
    case: &'static Case,
    host: Node,
    resident: Pod,
    strace: Strace,
}

impl Bench {
    /// `None` on a machine where it cannot be.
    pub(crate) fn new(case: &'static Case) -> Result<Option<Bench>> {
        let (Some(strace), true) = (Strace::find()?, require::root()?) else { return Ok(None) };
        let (host, resident) = (Node::create("host")?, Pod::create("resident")?);
        if !case.prepare(&host)? {
            return Ok(None);
        }
        let bench = Bench { case, host, resident, strace };
        bench.run("ADD", &bench.resident, &bench.before(&bench.resident)?)?;
        // What is freed rests for a while, which every later call looks at.
        let gone = Pod::create("gone")?;
        let before = bench.before(&gone)?;
        bench.run("ADD", &gone, &before)?;
        bench.run("DEL", &gone, &before)?;
        Ok(Some(bench))
    }

    /// What the plugin is given of the one before it in the list.
    fn before(&self, pod: &Pod) -> Result<Value> {
        if !self.case.is_chained {
            return Ok(json!({}));
        }
        let mut bridge = self.case.conf("bridge", &self.host);
        bridge["isDefaultGateway"] = json!(true);
        let list = json!({"name": "net", "cniVersion": "1.1.0", "plugins": [bridge]});
        let mut runtime = Runtime::new(&self.host, bins::plugin_dir()?);
        let result = runtime.add(&Network::from_value(&list)?, &pod.attachment())?;
        Ok(json!({"prevResult": result}))
    }

    fn call(&self, verb: &str, attachment: Option<&Attachment>, extra: &Value) -> Result<Call> {
        let mut conf = self.case.conf(self.case.plugin, &self.host);
        let keys: Value = serde_json::from_str(self.case.keys).map_err(wrong)?;
        for (key, value) in [&keys, extra].into_iter().filter_map(Value::as_object).flatten() {
            conf[key] = value.clone();
        }
        let plugins = bins::plugin_dir()?;
        let call = Call::new(bins::plugin(self.case.plugin)?, verb)
            .env("CNI_PATH", plugins.to_string_lossy());
        let Some(attachment) = attachment else { return Ok(call.stdin_json(&conf)) };
        self.case.adapt(&mut conf, attachment);
        Ok(call
            .stdin_json(&conf)
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_NETNS", &attachment.netns)
            .env("CNI_IFNAME", &attachment.ifname))
    }

    /// What the plugin answers.
    fn run(&self, verb: &str, pod: &Pod, extra: &Value) -> Result<String> {
        let answer = self.call(verb, Some(&pod.attachment()), extra)?.run(&self.host)?;
        match answer.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb}: {error}"))),
            None => Ok(answer.stdout),
        }
    }

    fn log(&self, verb: &str, pod: Option<&Pod>, extra: &Value) -> Result<(String, String)> {
        let attachment = pod.map(Pod::attachment);
        let call = self.call(verb, attachment.as_ref(), extra)?;
        let (answer, log) = self.strace.log(call, &self.host)?;
        match answer.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb} under strace: {error}"))),
            None => Ok((answer.stdout, log)),
        }
    }

    /// What an ADD of one more Pod costs.
    pub(crate) fn add(&self, pod: &Pod) -> Result<Counts> {
        Ok(self.add_behind(pod, &self.before(pod)?)?.1)
    }

    /// An ADD that found the kernel ready: on a busy machine some listen to events meanwhile, and
    /// ask again, as often as it takes. Its answer, and what it cost.
    fn add_behind(&self, pod: &Pod, before: &Value) -> Result<(String, Counts)> {
        for _ in 0..50 {
            let (answer, log) = self.log("ADD", Some(pod), before)?;
            if !log.contains("NETLINK_ADD_MEMBERSHIP") {
                return Ok((answer, Counts::of(&log)));
            }
            self.run("DEL", pod, before)?;
        }
        Err(LabError::Wrong("each of 50 ADDs had to wait for the kernel".to_owned()))
    }

    /// Every verb, for a Pod that comes and goes.
    pub(crate) fn costs(&self) -> Result<Vec<(&'static str, Counts)>> {
        let pod = Pod::create("pod")?;
        let cost = |verb, pod: Option<&Pod>, extra: &Value| {
            Ok::<_, LabError>(Counts::of(&self.log(verb, pod, extra)?.1))
        };
        let before = self.before(&pod)?;
        let (answer, add) = self.add_behind(&pod, &before)?;
        let result: Value = serde_json::from_str(&answer).map_err(wrong)?;
        let valid = [&pod, &self.resident].map(|pod| {
            let Attachment { container_id, ifname, .. } = pod.attachment();
            json!({"containerID": container_id, "ifname": ifname})
        });
        Ok(vec![
            ("ADD", add),
            ("CHECK", cost("CHECK", Some(&pod), &json!({"prevResult": result}))?),
            ("STATUS", cost("STATUS", None, &json!({}))?),
            ("GC", cost("GC", None, &json!({"cni.dev/valid-attachments": valid}))?),
            ("DEL", cost("DEL", Some(&pod), &before)?),
            ("DEL again", cost("DEL", Some(&pod), &before)?),
        ])
    }
}

fn wrong(error: impl std::fmt::Display) -> LabError {
    LabError::Wrong(error.to_string())
}
