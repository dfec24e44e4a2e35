//! Whole scenarios: values that are filled in, and values that are refused.

use super::{MessageSize, Protocol, Scenario, Senders, parse, to_toml};

fn read(_: &str) -> Result<String, String> {
    Err("No such file or directory (os error 2)".into())
}

fn resolved(text: &str) -> Result<Scenario, String> {
    let parsed = parse("x.toml", text, &mut read).map_err(|error| error.to_string())?;
    parsed.scenario.clone().resolve().map_err(|error| parsed.locate(&error).to_string())
}

#[test]
fn an_empty_file_is_the_scenario_without_flags() {
    let scenario = resolved("").unwrap();
    assert_eq!((scenario.nodes.count, scenario.measurement.window_seconds), (3, Some(20)));
    let [class] = &scenario.traffic[..] else { panic!("{:?}", scenario.traffic) };
    assert_eq!((class.name.as_str(), class.heartbeat_millis), ("default", Some(100)));
    assert_eq!(class.message_size_bytes, MessageSize::Fixed(1024));
    assert_eq!(class.topic.as_deref(), Some("stress_test_topic"));
}

const WHOLE: &str = r#"
name = "whole"
seed = 7
faults = ["5s kill 2", "every 6s restart random 1 down=2s"]
[nodes]
count = 6
[network]
protocol = "sqmr"
transport = "quic"
[topology]
kind = "random"
peers = 3
[measurement]
window_seconds = 30
[[group]]
name = "eu"
share = 0.5
region = "frankfurt"
link = "eip7870-full"
weight = 2
[[group]]
name = "us"
count = 3
region = "virginia"
validation_delay_millis = 5
[links]
matrix = { regions = ["frankfurt", "virginia"], latency = [[1, 44], [45, 1]] }
[[links.link]]
from = "eu"
to = "us"
loss = 0.5
[[traffic]]
name = "proposals"
senders = "turns"
turn_seconds = 3
heartbeat_millis = 1500
burst = 10
message_size_bytes = [{ bytes = 100, weight = 3 }, { bytes = 1000 }]
deadline_millis = 9100
protocol = "gossipsub"
[[traffic]]
name = "votes"
senders = "eu"
after = "proposals"
message_size_bytes = 155
topic = "consensus_votes"
protocol = "gossipsub"
[[traffic]]
name = "sync"
senders = [0, 1]
unicast = true
"#;

#[test]
fn values_that_follow_from_others_are_filled_in() {
    let scenario = resolved(WHOLE).unwrap();
    assert_eq!(scenario.groups[1].nodes.as_ref().unwrap().to_string(), "3-5");
    assert_eq!(scenario.traffic[1].senders, Senders::Nodes("0-2".parse().unwrap()));
    assert_eq!(scenario.traffic[0].topic.as_deref(), Some("stress_test_topic/proposals"));
    assert_eq!((scenario.traffic[2].protocol, &scenario.traffic[2].topic), (Some(Protocol::Sqmr), &None));
    let links = scenario.link_plan().unwrap();
    assert_eq!(links.effective_shape(0, 5).to_string(), "latency=44,loss=0.5,throughput=1875");
    assert_eq!(links.effective_shape(5, 0).to_string(), "latency=45,loss=0.5,throughput=6250");
}

#[test]
fn a_resolved_scenario_survives_its_text_and_resolves_to_itself() {
    for text in ["", WHOLE, "[explore]\nbroadcaster = 1", "[measurement]\ndrain_seconds = 0"] {
        let scenario = resolved(text).unwrap();
        let written = to_toml(&scenario).unwrap();
        assert_eq!(resolved(&written).unwrap(), scenario, "{written}");
    }
}

#[test]
fn the_schema_knows_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(Scenario)).unwrap();
    let keys = schema["properties"].as_object().unwrap();
    assert!(keys.contains_key("traffic") && keys.contains_key("group"), "{keys:?}");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn every_broken_scenario_is_refused_in_one_line_with_its_place() {
    let traffic = |line: &str| format!("[[traffic]]\n{line}");
    for (text, says) in [
        ("nodes = 5".to_owned(), "x.toml:1:9: invalid type: integer `5`, expected a table"),
        ("[nodes]\ncount = 0".into(), "x.toml:2:1: nodes.count 0: must be 1 to 10000"),
        ("[nodes]\ncuont = 4".into(), "x.toml:2:1: unknown field `cuont`, expected one of `count`"),
        ("[nodes]\ncuont = 4".into(), "is `count` meant?"),
        ("[nodes]\ncount = \"many\"".into(), "x.toml:2:9: invalid type: string"),
        ("[nodes]\ncount = -1".into(), "x.toml:2:9: invalid value: integer `-1`"),
        ("[nodes\ncount = 1".into(), "x.toml:1:7: "),
        ("[nodes]\nverbosity = 9".into(), "nodes.verbosity 9: must be 0 to 5"),
        ("[network]\nprotocol = \"gosipsub\"".into(), "unknown variant `gosipsub`, expected one of `gossipsub`"),
        ("[network]\ntransport = \"udp\"".into(), "unknown variant `udp`"),
        ("[network]\nqueue_bytes = 1".into(), "network.queue_bytes 1: must be 65536 to"),
        ("[network.gossipsub]\nmesh_n = 99".into(), "x.toml:2:1: network.gossipsub.mesh_n 99: "),
        ("[topology]\nkind = \"star\"".into(), "unknown variant `star`, expected one of `full`, `random`, `edges`"),
        ("[topology]\nkind = \"random\"".into(), "topology.peers: is missing"),
        ("[topology]\nkind = \"random\"\npeers = 3".into(), "x.toml:3:1: topology.peers: 3 is not possible"),
        ("[topology]\npeers = 2".into(), "belongs to kind = \"random\""),
        ("[topology]\nkind = \"edges\"\nedges = [\"0-1\"]".into(), "no path leads from node 0 to node 2"),
        ("[topology]\nkind = \"edges\"\nedges = [\"0-9\"]".into(), "topology.edges[0]: node 9 is outside"),
        ("[topology]\nkind = \"edges\"\nedges = [\"0+1\"]".into(), "'0+1' is no edge"),
        ("[measurement]\nwindow_seconds = 0".into(), "measurement.window_seconds 0: must be 1 to"),
        (traffic("heartbeat_millis = 0"), "x.toml:2:1: traffic[0].heartbeat_millis 0: must be 1 to"),
        (traffic("message_size_bytes = 35"), "traffic[0].message_size_bytes 35: must be 36 (the header) to 33554432"),
        (traffic("message_size_bytes = []"), "traffic[0].message_size_bytes: no size is given"),
        (traffic("message_size_bytes = [{ bytes = 99, weight = 0 }]"), "weight 0: must be a number above 0"),
        (traffic("message_size_bytes = \"none.csv\""), "message_size_bytes none.csv: No such file"),
        (traffic("message_size_bytes = true"), "expected a number of bytes, a list such as"),
        (traffic("senders = 3"), "traffic[0].senders 3 is outside of the network: its 3 nodes are 0 to 2"),
        (traffic("senders = \"everybody\""), "traffic[0].senders everybody is neither all nor turns"),
        (traffic("senders = \"2-1\""), "'2-1' is no set of nodes"),
        (traffic("turn_seconds = 3"), "belongs to senders = \"turns\""),
        (traffic("senders = \"turns\"\nturn_seconds = 1\nheartbeat_millis = 1500"), "some turns would be silent"),
        (traffic("burst = 0"), "traffic[0].burst 0: must be 1 to 10000 parts"),
        (traffic("burst = 10\nburst_spacing_millis = 20"), "10 parts take 180 ms, and heartbeat_millis is 100"),
        (traffic("after = \"proposal\""), "traffic[0].after proposal: no class has this name: there are default"),
        (traffic("after = \"default\""), "wait for each other in a circle"),
        (traffic("after = \"default\"\nheartbeat_millis = 5"), "leave out heartbeat_millis"),
        (traffic("unicast = true"), "gossipsub sends to all peers"),
        (traffic("protocol = \"sqmr\"\ntopic = \"x\""), "sqmr has no topics"),
        (traffic("name = \"Votes!\""), "traffic[0].name 'Votes!': give 1 to 40 lower-case letters"),
        (format!("{0}\n{0}", traffic("")), "x.toml:3:1: traffic[1].name default: another class has this name"),
        (format!("{}\n{}", traffic("name = \"a\"\ntopic = \"t\""), traffic("topic = \"t\"")), "class a has this topic"),
        (
            format!("{}\n{}", traffic("name = \"a\""), traffic("message_size_bytes = 60")),
            "must be 76 (the header and the class)",
        ),
        ("[explore]\nbroadcaster = 3".into(), "explore.broadcaster 3 is outside of the network"),
        (format!("[explore]\n{}", traffic("")), "give either it or traffic"),
        ("[[group]]\nname = \"a\"".into(), "group[0].name a: give exactly one of nodes, count and share"),
        ("[[group]]\nname = \"a\"\ncount = 4".into(), "group[0].count 4: only 3 nodes of 3"),
        ("[[group]]\nname = \"a\"\nshare = 1.5".into(), "group[0].share 1.5: must be 0 to 1"),
        ("[[group]]\nname = \"a\"\ncount = 1\n[[group]]\nname = \"b\"\nnodes = 0".into(), "node 0 is in another group"),
        ("[[group]]\nname = \"a\"\ncount = 1\nweight = -1".into(), "group[0].weight -1: must be a number, 0 or more"),
        (
            "[[group]]\nname = \"a\"\ncount = 1\nlink = \"dsl\"".into(),
            "group[0].link: 'dsl' is no link class: there are eip7870-full",
        ),
        ("[links.default]\nlatency = -1".into(), "links.default: latency -1"),
        ("[links]\nmatrix = \"none.csv\"".into(), "x.toml:2:1: links.matrix none.csv: No such file"),
        (
            "[links]\nmatrix = { regions = [\"a\"], latency = [] }".into(),
            "links.matrix.latency: latency must have 1 rows",
        ),
        ("[[links.link]]\nfrom = 0\nto = \"mars\"".into(), "links.link[0].to: 'mars' is no region"),
        ("[[links.link]]\nfrom = 0\nto = 1\nlatncy = 3".into(), "unknown field `latncy`"),
        ("[links.certificate]\nprobe_seconds = 0".into(), "links.certificate.probe_seconds 0: must be 1 to 300"),
        ("faults = [\"5s explode 2\"]".into(), "'explode' is none of"),
        ("faults = [\"5s kill 3\"]".into(), "faults[0]: fault '5s kill 3': node 3 is outside"),
        ("faults = [\"25s kill 1\"]".into(), "the measured window is over after 20 s"),
        ("faults = [\"5s degrade 0:1 loss=200\"]".into(), "loss 200"),
    ] {
        let error = resolved(&text).expect_err(&text);
        assert!(error.contains(says) && error.lines().count() == 1 && error.starts_with("x.toml:"), "{text}\n{error}");
    }
}

#[test]
fn every_shipped_scenario_is_good() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut number = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        number += 1;
        let mut read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = parse(&path.display().to_string(), &text, &mut read).unwrap_or_else(|error| panic!("{error}"));
        let scenario = parsed.scenario.clone().resolve().unwrap_or_else(|error| panic!("{}", parsed.locate(&error)));
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(scenario.name, stem, "a scenario has the name of its file");
    }
    assert!(number >= 13, "{number} scenarios");
}

#[test]
fn shipped_matrices_have_their_source_and_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/data");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("Source: ") && text.contains("licence"), "{}", path.display());
        let matrix = super::Matrix::from_csv(&text).unwrap();
        assert!(matrix.regions.len() >= 8, "{}", path.display());
    }
}
