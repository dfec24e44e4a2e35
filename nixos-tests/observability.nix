# Prometheus and Grafana see what the nodes do, with the project's dashboards.
{ network, lib, ... }:
network.test {
  name = "observability";
  extra =
    id:
    lib.optionalAttrs (id == 0) {
      virtualisation.memorySize = lib.mkForce 2048;
      services.${network.service}.monitoring.enable = true;
    };
  script = ''
    def ask(path):
        return json.loads(node0.succeed(f"curl --silent --show-error --fail '{path}'"))

    with subtest("Prometheus sees every node"):
        ready()
        node0.wait_for_unit("prometheus.service")
        node0.wait_for_open_port(9090)
        node0.wait_until_succeeds(
            "curl --silent 'http://127.0.0.1:9090/api/v1/query?query=sum(up)' | grep '\"3\"'", timeout=300
        )

    with subtest("the queries of the dashboards have data"):
        delivered_all(measure())
        for query in ["sum(receive_message_count)", "sum(broadcast_message_count)", "sum(network_connected_peers)"]:
            answer = ask(f"http://127.0.0.1:9090/api/v1/query?query={query}")
            assert answer["data"]["result"], answer
        rules = ask("http://127.0.0.1:9090/api/v1/rules")
        assert all(rule["health"] in ("ok", "unknown") for group in rules["data"]["groups"] for rule in group["rules"]), rules

    with subtest("Grafana serves the dashboards"):
        node0.wait_for_unit("grafana.service")
        node0.wait_for_open_port(3000)
        for uid in ["apollo-overview", "apollo-nodes"]:
            dashboard = ask(f"http://127.0.0.1:3000/api/dashboards/uid/{uid}")
            assert dashboard["meta"]["provisioned"], dashboard["meta"]
        sources = ask("http://127.0.0.1:3000/api/frontend/settings")["datasources"]
        assert sources["Prometheus"]["uid"] == "apollo-prometheus", sources
  '';
}
