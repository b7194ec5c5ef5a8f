//! `docs/keys.md` and the plugins name the same keys.
//!
//! A plugin that reads a key refuses a value of the wrong type; one that does not know it answers as
//! if it were not there. So each word in the sources that could be a key is given to each plugin, in
//! each object of its configuration, with values of several types. A key that is read cannot hide:
//! its name stands in the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context as _;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use serde_json::{Value, json};

/// No key takes all of these.
fn values() -> [Value; 5] {
    [json!(7), json!("§"), json!(true), json!([7]), json!({"§": 7})]
}

/// Keys of the specification that every plugin reads, and those that the runtime fills in.
const COMMON: [&str; 4] = ["cniVersion", "name", "type", "prevResult"];

/// An object of a configuration, and where it stands.
struct Place {
    prefix: &'static str,
    /// The configuration with these keys in the object.
    conf: fn(Value) -> Value,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files of ours below a folder; those with nothing but tests if they are wanted, too.
fn sources(folder: &Path, tests: bool, texts: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            sources(&path, tests, texts)?;
        } else if (tests || name != "tests.rs")
            && path.extension().is_some_and(|extension| extension == "rs")
        {
            texts.push(fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The words in quotation marks that could be keys, in lower case: keys match without regard to it.
fn words(folders: &[&str]) -> std::io::Result<BTreeSet<String>> {
    let mut texts = Vec::new();
    for folder in folders {
        sources(&root().join(folder), false, &mut texts)?;
    }
    let is_word = |text: &&str| {
        (2..30).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let quoted = texts.iter().flat_map(|text| text.lines()).flat_map(|line| line.split('"'));
    Ok(quoted.filter(is_word).map(str::to_lowercase).collect())
}

fn tables() -> Result<String> {
    let file = root().join("docs/keys.md");
    fs::read_to_string(&file).context(|| format!("read {}", file.display()))
}

/// The plugins that have a table.
fn plugins() -> Result<Vec<String>> {
    Ok(tables()?.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect())
}

/// The keys of a plugin's table, in lower case, and the tests that it names.
fn table(plugin: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let text = tables()?;
    let heading = format!("## {plugin}\n");
    let section = text.split_once(&heading).map(|(_, rest)| rest);
    let section = section.ok_or_else(|| LabError::Wrong(format!("no table of {plugin}")))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let (mut keys, mut tests) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        keys.insert(cells[1].to_lowercase());
        tests.insert(cells[4].to_owned());
    }
    Ok((keys, tests))
}

/// What a plugin answers, without what differs from call to call.
fn answer(host: &Node, plugin: &str, conf: &Value) -> Result<String> {
    let id = format!("c{}", next_container());
    let call = Call::new(bins::plugin(plugin)?, "ADD")
        .env("CNI_CONTAINERID", &id)
        .env("CNI_NETNS", "/nonexistent")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", bins::plugin_dir()?.to_string_lossy())
        .stdin_json(conf);
    let answer = call.run(host)?;
    Ok(match answer.failure() {
        Some(error) => format!("{} {}", error.code, error.msg),
        None => "success".to_owned(),
    })
}

/// A container of its own for each call: an address is given to each only once.
fn next_container() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn merge(mut conf: Value, keys: &Value) -> Value {
    let common = json!({"cniVersion": "1.1.0", "name": "n"});
    for more in [&common, keys] {
        for (key, value) in more.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
    }
    conf
}

/// The keys that a plugin reads, among these words, in each place.
fn read(
    host: &Node,
    plugin: &str,
    places: &[Place],
    words: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for place in places {
        let conf = |keys: Value| {
            let mut conf = merge((place.conf)(keys), &json!({"type": plugin}));
            let is_ipam = matches!(plugin, "host-local" | "static");
            if let Some(ipam) =
                conf.get_mut("ipam").and_then(Value::as_object_mut).filter(|_| is_ipam)
            {
                ipam.entry("type").or_insert_with(|| json!(plugin));
                ipam.entry("dataDir").or_insert_with(|| json!(host.data_dir()));
            }
            conf
        };
        let unread = answer(host, plugin, &conf(json!({})))?;
        for word in words {
            let is_common = COMMON.iter().any(|key| key.eq_ignore_ascii_case(word));
            if is_common && place.prefix.is_empty() {
                continue;
            }
            for value in values() {
                if answer(host, plugin, &conf(json!({word: value})))? != unread {
                    keys.insert(format!("{}{word}", place.prefix));
                    break;
                }
            }
        }
    }
    Ok(keys)
}

/// These keys, and those of the others that are not among them.
fn beside(keys: &Value, others: &Value) -> Value {
    let mut all = keys.clone();
    for (key, value) in others.as_object().into_iter().flatten() {
        let is_there = |own: &String| own.eq_ignore_ascii_case(key);
        if !all.as_object().is_some_and(|all| all.keys().any(is_there)) {
            all[key] = value.clone();
        }
    }
    all
}

/// What makes a configuration whole in which an interface plugin would find no other fault.
fn whole(keys: &Value) -> Value {
    beside(keys, &json!({"master": "up0", "device": "dev0", "ipam": {"type": "host-local"}}))
}

const SUBNET: &str = "10.0.0.0/8";

fn bridge() -> Vec<Place> {
    vec![
        Place { prefix: "", conf: |keys| keys },
        Place { prefix: "vlanTrunk[].", conf: |keys| json!({"vlanTrunk": [keys]}) },
        Place { prefix: "runtimeConfig.", conf: |keys| json!({"runtimeConfig": keys}) },
        Place { prefix: "args.cni.", conf: |keys| json!({"args": {"cni": keys}}) },
        Place { prefix: "dns.", conf: |keys| json!({"dns": keys}) },
    ]
}

fn interface() -> Vec<Place> {
    vec![
        Place { prefix: "", conf: |keys| whole(&keys) },
        Place {
            prefix: "ipam.",
            conf: |keys| whole(&json!({"ipam": beside(&keys, &json!({"type": "host-local"}))})),
        },
        Place { prefix: "runtimeConfig.", conf: |keys| whole(&json!({"runtimeConfig": keys})) },
        Place { prefix: "args.cni.", conf: |keys| whole(&json!({"args": {"cni": keys}})) },
        Place { prefix: "dns.", conf: |keys| whole(&json!({"dns": keys})) },
    ]
}

fn portmap() -> Vec<Place> {
    fn mapping(keys: &Value) -> Value {
        let whole = beside(keys, &json!({"hostPort": 80, "containerPort": 80}));
        json!({"runtimeConfig": {"portMappings": [whole]}})
    }
    vec![
        Place { prefix: "", conf: |keys| keys },
        Place { prefix: "runtimeConfig.", conf: |keys| json!({"runtimeConfig": keys}) },
        Place { prefix: "runtimeConfig.portMappings[].", conf: |keys| mapping(&keys) },
    ]
}

fn interface_reads_the_keys_of_its_table(plugin: &str) -> Outcome {
    let own = format!("plugins/{plugin}/src");
    same_keys(plugin, &[&own, "plugins/interface/src", "cni-conf/src"], &interface())
}

fn chained() -> Vec<Place> {
    vec![
        Place { prefix: "", conf: |keys| keys },
        Place { prefix: "runtimeConfig.", conf: |keys| json!({"runtimeConfig": keys}) },
        Place { prefix: "args.cni.", conf: |keys| json!({"args": {"cni": keys}}) },
    ]
}

#[test]
fn bandwidth_reads_the_keys_of_its_table() -> Outcome {
    let places = [
        Place { prefix: "", conf: |keys| keys },
        Place { prefix: "runtimeConfig.", conf: |keys| json!({"runtimeConfig": keys}) },
        Place {
            prefix: "runtimeConfig.bandwidth.",
            conf: |keys| json!({"runtimeConfig": {"bandwidth": keys}}),
        },
    ];
    same_keys("bandwidth", &["plugins/bandwidth/src", "cni-conf/src"], &places)
}

#[test]
fn tuning_reads_the_keys_of_its_table() -> Outcome {
    same_keys(
        "tuning",
        &["plugins/tuning/src", "plugins/interface/src", "cni-conf/src"],
        &chained(),
    )
}

fn host_local() -> Vec<Place> {
    vec![
        Place {
            prefix: "ipam.",
            conf: |keys| json!({"ipam": beside(&keys, &json!({"subnet": SUBNET}))}),
        },
        Place {
            prefix: "ipam.ranges[][].",
            conf: |keys| json!({"ipam": {"ranges": [[beside(&keys, &json!({"subnet": SUBNET}))]]}}),
        },
        Place {
            prefix: "runtimeConfig.",
            conf: |keys| json!({"ipam": {"subnet": SUBNET}, "runtimeConfig": keys}),
        },
        Place {
            prefix: "args.cni.",
            conf: |keys| json!({"ipam": {"subnet": SUBNET}, "args": {"cni": keys}}),
        },
    ]
}

fn static_ipam() -> Vec<Place> {
    fn own() -> Value {
        json!({"addresses": [{"address": "10.0.0.2/8"}]})
    }
    vec![
        Place { prefix: "ipam.", conf: |keys| json!({"ipam": beside(&keys, &own())}) },
        Place {
            prefix: "ipam.addresses[].",
            conf: |keys| json!({"ipam": {"addresses": [beside(&keys, &json!({"address": "10.0.0.2/8"}))]}}),
        },
        Place {
            prefix: "ipam.dns.",
            conf: |keys| json!({"ipam": beside(&json!({"dns": keys}), &own())}),
        },
        Place {
            prefix: "runtimeConfig.",
            conf: |keys| json!({"ipam": own(), "runtimeConfig": keys}),
        },
        Place { prefix: "args.cni.", conf: |keys| json!({"ipam": own(), "args": {"cni": keys}}) },
    ]
}

fn same_keys(plugin: &str, folders: &[&str], places: &[Place]) -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let host = Node::create("host")?;
    let (told, _) = table(plugin)?;
    let read = read(&host, plugin, places, &words(folders)?)?;
    let is_probed = |key: &&String| {
        let prefix = key.rfind('.').map_or("", |dot| &key[..=dot]);
        places.iter().any(|place| place.prefix.eq_ignore_ascii_case(prefix))
    };
    let told: BTreeSet<_> = told.iter().filter(is_probed).cloned().collect();
    let read: BTreeSet<_> = read.iter().map(|key| key.to_lowercase()).collect();
    let untold: Vec<_> = read.difference(&told).collect();
    let unread: Vec<_> = told.difference(&read).collect();
    assert!(
        untold.is_empty() && unread.is_empty(),
        "not in the table: {untold:?}; not read: {unread:?}"
    );
    Ok(())
}

#[test]
fn bridge_reads_the_keys_of_its_table() -> Outcome {
    same_keys("bridge", &["plugins/bridge/src", "plugins/interface/src", "cni-conf/src"], &bridge())
}

/// The test of each plugin whose keys are in the places of [`interface`].
macro_rules! interfaces {
    ($($test:ident: $plugin:expr;)*) => {$(
        #[test]
        fn $test() -> Outcome {
            interface_reads_the_keys_of_its_table($plugin)
        }
    )*};
}

interfaces! {
    ptp_reads_the_keys_of_its_table: "ptp";
    dummy_reads_the_keys_of_its_table: "dummy";
    macvlan_reads_the_keys_of_its_table: "macvlan";
    ipvlan_reads_the_keys_of_its_table: "ipvlan";
    vlan_reads_the_keys_of_its_table: "vlan";
    tap_reads_the_keys_of_its_table: "tap";
    host_device_reads_the_keys_of_its_table: "host-device";
}

#[test]
fn portmap_reads_the_keys_of_its_table() -> Outcome {
    same_keys("portmap", &["plugins/portmap/src", "cni-conf/src"], &portmap())
}

#[test]
fn vrf_reads_the_keys_of_its_table() -> Outcome {
    let conf =
        |keys| beside(&keys, &json!({"vrfname": "blue", "prevResult": {"cniVersion": "1.1.0"}}));
    let places = [Place { prefix: "", conf }];
    same_keys("vrf", &["plugins/vrf/src", "plugins/interface/src", "cni-conf/src"], &places)
}

#[test]
fn loopback_reads_no_keys() -> Outcome {
    let places = [Place { prefix: "", conf: |keys| keys }];
    same_keys("loopback", &["plugins/loopback/src", "cni-conf/src"], &places)
}

#[test]
fn firewall_reads_the_keys_of_its_table() -> Outcome {
    let places = [Place { prefix: "", conf: |keys| keys }];
    same_keys("firewall", &["plugins/firewall/src", "cni-conf/src"], &places)
}

#[test]
fn sbr_reads_the_keys_of_its_table() -> Outcome {
    let places = [Place { prefix: "", conf: |keys| keys }];
    same_keys("sbr", &["plugins/sbr/src", "cni-conf/src"], &places)
}

#[test]
fn host_local_reads_the_keys_of_its_table() -> Outcome {
    same_keys("host-local", &["ipam/src", "cni-conf/src"], &host_local())
}

#[test]
fn static_reads_the_keys_of_its_table() -> Outcome {
    same_keys("static", &["ipam/src", "cni-conf/src"], &static_ipam())
}

#[test]
fn the_tests_that_the_tables_name_exist() -> Outcome {
    let mut texts = Vec::new();
    for folder in ["plugins", "ipam/src", "kernel/src", "tests/tests"] {
        sources(&root().join(folder), true, &mut texts)?;
    }
    let all = texts.concat();
    for plugin in plugins()? {
        for test in table(&plugin)?.1 {
            assert!(all.contains(&format!("fn {test}()")), "{plugin}: there is no test {test:?}");
        }
    }
    Ok(())
}
