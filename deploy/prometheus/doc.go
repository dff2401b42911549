// Package prometheus holds what a Prometheus needs to watch a mesh: rules.yaml
// with the alerts, rules_test.yaml which tries them, and scrape.yaml. Its test
// holds them, and the dashboard in deploy/grafana, to the page of a real node.
package prometheus
