#!/usr/bin/env python3
"""Writes the dashboards beside this file: what they show stands here once, and how Grafana wants to be told it is added.

`python3 ops/grafana/make.py` writes them, `--check` fails if they are not what would be written. `cairn-chaos watch` asks
a live Prometheus every query of theirs.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, STAT_HEIGHT = 12, 8, 4

# Title, unit, then (query, legend) each. `stat` shows only the value now.
def graph(title, unit, *queries, stat=False, about=""):
    return {"title": title, "unit": unit, "queries": queries, "stat": stat, "about": about}


def stat(title, unit, *queries, about=""):
    return graph(title, unit, *queries, stat=True, about=about)


OF_NODES = 'node=~"$node"'

DASHBOARDS = {
    "overview": ("Cairn: overview", [
        stat("Missing fragments", "short", ("cairn:missing_fragments", "")),
        stat("Disks", "short", ("cairn:disks:by_state > 0", "{{state}}")),
        stat("Free", "percentunit", ("cairn:free_bytes / cairn:capacity_bytes", "")),
        stat("Nodes that answer", "short", ('count(up{job="cairn"} == 1)', "answer"), ('count(up{job="cairn"})', "of")),
        graph("Requests", "reqps", ("cairn:requests:rate5m", "{{operation}}")),
        graph("Requests that fail or are slowed", "percentunit",
              ("cairn:requests_failed:ratio5m", "fail"), ("cairn:requests_slowed:ratio5m", "503")),
        graph("Bytes of clients", "Bps",
              ("sum(rate(cairn_gateway_received_bytes_total[$__rate_interval]))", "received"),
              ("sum(rate(cairn_gateway_sent_bytes_total[$__rate_interval]))", "sent")),
        graph("p99 of requests", "s", ('cairn:request_seconds:p99_5m{operation=~"GetObject|PutObject|ListObjectsV2"}', "{{operation}}")),
        graph("Capacity", "bytes", ("cairn:capacity_bytes", "all"), ("cairn:free_bytes", "free")),
        graph("Processors used", "short", ("sum by (instance) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{instance}}")),
    ]),
    "repair": ("Cairn: repair and durability", [
        stat("Missing fragments", "short", ("cairn:missing_fragments", "")),
        stat("Time left", "s", ("max(cairn_repair_eta_seconds)", ""), about="-1: the ledger is not shrinking"),
        stat("Crowded groups", "short", ("max(cairn_groups_crowded)", "")),
        stat("Thin stripes", "short", ("max(cairn_thin_stripes)", "")),
        graph("Missing fragments, by how many more their stripes can lose", "short",
              ("cairn:missing_fragments:by_tolerance", "{{tolerance}} more"), ("cairn:missing_fragments", "all"),
              about="Below 0 a stripe cannot be read now."),
        graph("Made anew", "Bps", (f"sum by (node) (rate(cairn_repair_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{node}}")),
        graph("Fragments decoded and copied", "short",
              ("sum(rate(cairn_repair_fragments_total[$__rate_interval]))", "all"),
              ("sum(rate(cairn_repair_copied_fragments_total[$__rate_interval]))", "copied")),
        graph("Stripes that could not be repaired yet", "short", ("sum(increase(cairn_repair_failures_total[$__rate_interval]))", "")),
        graph("Members replaced", "short",
              ("sum(increase(cairn_group_members_replaced_total[$__rate_interval]))", "replaced"),
              ("max(cairn_group_members_unplaceable)", "no disk can stand in"),
              ("max(cairn_group_members_without_room)", "no disk has room")),
        graph("Moved by jobs", "Bps", (f"sum by (node) (rate(cairn_moved_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{node}}")),
        graph("Jobs, and what they have under way", "short",
              ("max by (state) (cairn_jobs)", "jobs {{state}}"), ("max(cairn_groups_moving)", "groups under way"),
              ("sum(increase(cairn_group_members_moved_total[$__rate_interval]))", "members moved")),
        graph("Disks by state", "short", ("cairn:disks:by_state", "{{state}}")),
        graph("Blobs that are not what was written", "short",
              ("sum by (node) (cairn_scrub_inconsistent_blobs)", "left, {{node}}"),
              ("sum(increase(cairn_get_wrong_blobs_total[$__rate_interval]))", "reads that met one"),
              ("sum(increase(cairn_get_unopened_total[$__rate_interval]))", "reads of encrypted bytes that were changed")),
        graph("Losses that are not given up", "short", ("max by (why) (cairn_membership_losses_held)", "{{why}}")),
        graph("Fragments absent at their commit", "short", ("sum(increase(cairn_put_fragments_absent_total[$__rate_interval]))", "")),
        graph("Reads rebuilt from other fragments", "short",
              ("sum(rate(cairn_get_reconstructions_total[$__rate_interval]))", "pieces a second"),
              ("sum(rate(cairn_get_hedges_total[$__rate_interval]))", "hedged")),
        graph("Verified by scrub", "Bps", (f"sum by (node) (rate(cairn_scrub_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{node}}")),
        graph("Oldest verification", "s", (f"max by (node) (cairn_scrub_oldest_seconds{{{OF_NODES}}})", "{{node}}"),
              about="-1: there was no whole pass yet"),
        graph("Found by scrub", "short", ("sum by (kind) (increase(cairn_scrub_findings_total[$__rate_interval]))", "{{kind}}")),
        graph("Reclaimed", "short",
              ("sum(rate(cairn_gc_blobs_total[$__rate_interval]))", "blobs"),
              ("sum(rate(cairn_gc_fragments_total[$__rate_interval]))", "fragments")),
    ]),
    "disks": ("Cairn: disks", [
        graph("Used", "percentunit",
              (f"1 - cairn_disk_free_bytes{{{OF_NODES}}} / cairn_disk_capacity_bytes{{{OF_NODES}}}", "{{node}} {{disk}}")),
        graph("Take writes", "short", (f"cairn_disk_writable{{{OF_NODES}}}", "{{node}} {{disk}}")),
        graph("Read", "Bps", (f"sum by (node, disk) (rate(cairn_disk_read_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{node}} {{disk}}")),
        graph("Written", "Bps", (f"sum by (node, disk) (rate(cairn_disk_written_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{node}} {{disk}}")),
        graph("p99 of a sync", "s",
              (f"histogram_quantile(0.99, sum by (node, disk, le) (rate(cairn_disk_sync_seconds_bucket{{{OF_NODES}}}[$__rate_interval])))", "{{node}} {{disk}}")),
        graph("p99 of a read", "s",
              (f"histogram_quantile(0.99, sum by (node, disk, le) (rate(cairn_disk_read_seconds_bucket{{{OF_NODES}}}[$__rate_interval])))", "{{node}} {{disk}}")),
        graph("Records made durable by one sync", "short",
              (f"sum by (node, disk) (rate(cairn_disk_batch_records_sum{{{OF_NODES}}}[$__rate_interval])) / sum by (node, disk) (rate(cairn_disk_batch_records_count{{{OF_NODES}}}[$__rate_interval]))", "{{node}} {{disk}}")),
        graph("Damaged and unreadable", "short",
              (f"sum by (node, disk) (increase(cairn_disk_checksum_failures_total{{{OF_NODES}}}[$__rate_interval]))", "damaged, {{node}} {{disk}}"),
              (f"sum by (node, disk) (increase(cairn_disk_unreadable_total{{{OF_NODES}}}[$__rate_interval]))", "unreadable, {{node}} {{disk}}")),
        graph("Dead bytes", "bytes", (f"cairn_disk_dead_bytes{{{OF_NODES}}}", "{{node}} {{disk}}")),
        graph("Moved by compaction", "Bps", (f"sum by (node, disk) (rate(cairn_disk_moved_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{node}} {{disk}}")),
        graph("Fragments", "short", (f"cairn_disk_fragments{{{OF_NODES}}}", "{{node}} {{disk}}")),
        graph("Checkpoints", "s",
              (f"sum by (node, disk) (rate(cairn_disk_checkpoint_seconds_sum{{{OF_NODES}}}[$__rate_interval]))", "{{node}} {{disk}}"),
              about="Seconds in each second."),
    ]),
    "s3": ("Cairn: S3", [
        graph("Requests", "reqps", ("cairn:requests:rate5m", "{{operation}}")),
        graph("Answers by status", "reqps", ("sum by (status) (rate(cairn_gateway_requests_total[$__rate_interval]))", "{{status}}")),
        graph("p50", "s", ("histogram_quantile(0.5, sum by (operation, le) (rate(cairn_gateway_request_seconds_bucket[$__rate_interval])))", "{{operation}}")),
        graph("p99", "s", ("cairn:request_seconds:p99_5m", "{{operation}}")),
        graph("In flight, and connections", "short",
              ("sum(cairn_gateway_requests_in_flight)", "requests"), ("sum(cairn_gateway_connections)", "connections")),
        graph("Refused because a bound was reached", "reqps",
              ("sum(rate(cairn_gateway_refused_requests_total[$__rate_interval]))", "requests"),
              ("sum by (limit) (rate(cairn_gateway_limited_requests_total[$__rate_interval]))", "limits: {{limit}}"),
              ("sum(rate(cairn_gateway_refused_connections_total[$__rate_interval]))", "connections")),
        graph("p99 of a body's way to its commit", "s",
              ("histogram_quantile(0.99, sum by (le) (rate(cairn_put_seconds_bucket[$__rate_interval])))", "put")),
        graph("p99 until the first bytes are verified", "s",
              ("histogram_quantile(0.99, sum by (le) (rate(cairn_get_first_piece_seconds_bucket[$__rate_interval])))", "get")),
        graph("Stripes", "short",
              ("sum(rate(cairn_put_stripes_total[$__rate_interval]))", "safe"),
              ("sum(rate(cairn_put_hedges_total[$__rate_interval]))", "sent to a second group"),
              ("sum(rate(cairn_put_stripe_retries_total[$__rate_interval]))", "written again")),
        graph("Bodies and reads, by how they went", "short",
              ("sum by (result) (rate(cairn_puts_total[$__rate_interval]))", "put {{result}}"),
              ("sum by (result) (rate(cairn_gets_total[$__rate_interval]))", "get {{result}}")),
        graph("Events that wait, or were given up", "short",
              ("max by (target) (cairn_events_waiting)", "wait for {{target}}"),
              ("max by (target) (cairn_events_dead)", "given up, {{target}}"),
              ("max by (target) (cairn_events_lost)", "lost, {{target}}")),
        graph("The event that waits longest", "s", ("max by (target) (cairn_events_oldest_seconds)", "{{target}}")),
        graph("Events told", "short",
              ("sum by (target) (rate(cairn_events_delivered_total[$__rate_interval]))", "taken by {{target}}"),
              ("sum by (target) (rate(cairn_events_failures_total[$__rate_interval]))", "not taken by {{target}}")),
    ]),
    "nodes": ("Cairn: nodes", [
        graph("Resident memory, as a part of its bound", "percentunit",
              ("process_resident_memory_bytes / cairn_memory_bound_bytes", "{{instance}}")),
        graph("Processors used", "short", ("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}")),
        graph("Open file handles", "percentunit", ("process_open_fds / process_max_fds", "{{instance}}")),
        graph("Threads", "short", ("process_threads", "{{instance}}")),
        graph("Between nodes", "Bps",
              (f"sum by (direction) (rate(cairn_transport_payload_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{direction}}")),
        graph("Calls to other nodes", "reqps",
              (f'sum by (kind, outcome) (rate(cairn_transport_requests_total{{side="client", {OF_NODES}}}[$__rate_interval]))', "{{kind}} {{outcome}}")),
        graph("p99 of calls to other nodes", "s",
              (f"histogram_quantile(0.99, sum by (kind, le) (rate(cairn_transport_request_seconds_bucket{{{OF_NODES}}}[$__rate_interval])))", "{{kind}}")),
        graph("Nodes that seem dead", "short", (f"cairn_membership_suspects{{{OF_NODES}}}", "to {{node}}")),
        graph("Steps of background workers", "short",
              (f"sum by (worker) (rate(cairn_worker_steps_total{{{OF_NODES}}}[$__rate_interval]))", "{{worker}}")),
        graph("Bytes of background workers", "Bps",
              (f"sum by (worker) (rate(cairn_worker_bytes_total{{{OF_NODES}}}[$__rate_interval]))", "{{worker}}")),
        graph("Policy and rates", "short",
              ("cairn_policy_generation", "policy, {{node}}"), ("cairn_rates_generation", "rates, {{node}}"),
              ("cairn_policy_differences", "fields of {{node}} that differ"),
              about="Generations differ for a second or two after a change."),
        graph("Versions", "short", ("count by (version) (cairn_build_info)", "{{version}}")),
    ]),
}


def panel(number, spec, place):
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": query, "legendFormat": legend or "__auto",
         "instant": spec["stat"], "range": not spec["stat"]}
        for at, (query, legend) in enumerate(spec["queries"])
    ]
    return {
        "id": number, "title": spec["title"], "description": spec["about"], "datasource": SOURCE, "gridPos": place,
        "type": "stat" if spec["stat"] else "timeseries", "targets": targets,
        "fieldConfig": {"defaults": {"unit": spec["unit"]}, "overrides": []},
    }


def variable(name, label, **more):
    return {"name": name, "label": label, "refresh": 1, "hide": 0, **more}


def dashboard(name, title, specs):
    panels, x, y, row = [], 0, 0, 0
    for number, spec in enumerate(specs, 1):
        width, height = (6, STAT_HEIGHT) if spec["stat"] else (WIDTH, HEIGHT)
        if x + width > 24 or (row and row != height):
            x, y = 0, y + row
        row = height
        panels.append(panel(number, spec, {"x": x, "y": y, "w": width, "h": height}))
        x += width
    variables = [variable("source", "Prometheus", type="datasource", query="prometheus")]
    if any("$node" in query for spec in specs for query, _ in spec["queries"]):
        variables.append(variable("node", "Node", type="query", datasource=SOURCE, query="label_values(cairn_disks, node)",
                                  multi=True, includeAll=True, allValue=".*", current={"text": "All", "value": "$__all"}))
    return {
        "uid": f"cairn-{name}", "title": title, "tags": ["cairn"], "schemaVersion": 38, "version": 1, "editable": True,
        "refresh": "30s", "time": {"from": "now-6h", "to": "now"}, "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["cairn"], "title": "Cairn", "asDropdown": True, "includeVars": True}],
        "templating": {"list": variables}, "panels": panels,
    }


def main():
    stale = []
    for name, (title, specs) in DASHBOARDS.items():
        text = json.dumps(dashboard(name, title, specs), indent=1) + "\n"
        path = HERE / f"{name}.json"
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
    if "--check" in sys.argv[1:] and stale:
        sys.exit(f"not what make.py writes: {', '.join(stale)}; run python3 ops/grafana/make.py")


if __name__ == "__main__":
    main()
