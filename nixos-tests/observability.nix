# Prometheus and Grafana show the work of the nodes, with the project's dashboards.
{ network, lib, ... }:
network.test {
  name = "observability";
  extra =
    id:
    lib.optionalAttrs (id == 0) {
      virtualisation.memorySize = lib.mkForce 2048;
      services.${network.service}.monitoring.enable = true;
    };
  settingsOfRun.timeout = 90;
  script = ''
    import shlex

    def ask(path):
        return json.loads(node0.succeed(f"curl --silent --show-error --fail '{path}'"))

    with subtest("Prometheus sees every node"):
        ready()
        node0.wait_for_unit("prometheus.service")
        node0.wait_for_open_port(9090)
        node0.wait_until_succeeds(
            "curl --silent 'http://127.0.0.1:9090/api/v1/query?query=sum(up)' | grep '\"3\"'", timeout=300
        )

    def query(expression):
        """What Prometheus answers to a query of a dashboard."""
        for variable, value in [("$__rate_interval", "30s"), ("$__range", "600s"), ("$run", "nixos"), ("$node", ".*")]:
            expression = expression.replace(variable, value)
        words = shlex.quote("query=" + expression)
        answer = json.loads(node0.succeed(f"curl --silent http://127.0.0.1:9090/api/v1/query --data-urlencode {words}"))
        assert answer["status"] == "success", (expression, answer)
        return answer["data"]["result"]

    def expressions(value):
        """The queries in a dashboard."""
        if isinstance(value, dict):
            return [v for k, v in value.items() if k == "expr"] + [e for v in value.values() for e in expressions(v)]
        return [e for v in value for e in expressions(v)] if isinstance(value, list) else []

    with subtest("while a run goes on, the dashboards have data"):
        runner.succeed("systemctl start --no-block ${network.run}")
        node0.wait_until_succeeds(
            "curl --silent http://127.0.0.1:9090/api/v1/query"
            " --data-urlencode 'query=sum(rate(receive_message_count[30s])) > 0' | grep '\"value\"'",
            timeout=300,
        )
        asked = 0
        for file in ["${../dashboards/overview.json}", "${../dashboards/nodes.json}"]:
            with open(file) as dashboard:
                for expression in expressions(json.load(dashboard)):
                    query(expression)
                    asked += 1
        assert asked > 50, asked
        for essential in ["run:up:count", "run:nodes_ready:ratio", "run:delivery:ratio"]:
            assert query(essential + '{run="$run"}'), essential
        rules = ask("http://127.0.0.1:9090/api/v1/rules")
        assert all(rule["health"] == "ok" for group in rules["data"]["groups"] for rule in group["rules"]), rules

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
